"""What the sampler needs from outside: a prior, a reward, a refiner, a journal, a model of text.

The server implements these over models, a sandbox and SQLite; the tests over enumerable toys.
An implementation that cannot go on for reasons outside the workflow (budget spent, provider down)
raises; the search ends with that error, and a later run with the same journal repeats nothing.
"""

from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, Protocol

from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow

__all__ = [
    "Checker",
    "Edit",
    "Journal",
    "Prior",
    "Prompt",
    "PromptKind",
    "Purse",
    "Refiner",
    "Reply",
    "ReplyEnding",
    "Reward",
    "Suggestions",
    "TextModel",
]

PromptKind = Literal["extend", "complete", "repair", "critique", "edit"]
ReplyEnding = Literal["end", "truncated", "refused", "overflow"]


class Prior(Protocol):
    """p(s): writes workflows step by step.

    Attributes:
        root: The empty prefix that every workflow of this prior begins with.
        coherent: A completion's law is the product of later step laws (a grammar; not a chat).
    """

    @property
    def root(self) -> Workflow:
        """The empty prefix."""
        ...

    @property
    def coherent(self) -> bool:
        """Whether completions have the law of later steps."""
        ...

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """Draws step t and a rollout at once: a complete workflow that begins with `prefix`."""
        ...

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """Draws a further rollout: another complete workflow that begins with `prefix`."""
        ...


class Reward(Protocol):
    """R(s): runs a workflow on rows and scores its answers."""

    def size(self, split: str) -> int:
        """How many rows the split has."""
        ...

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        """Scores on exactly these rows; rows already scored are not run again."""
        ...


class Edit(NamedTuple):
    """A refined workflow and the workflow it was made from."""

    workflow: Workflow
    parent_id: str


class Refiner(Protocol):
    """G: proposes one complete workflow from the pool of scored ones (paper §4.2)."""

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        """Edits one workflow of the pool.

        Args:
            pool: This round's complete workflows and the refinements so far, each once.
            seen: Ids of all workflows of the run; an edit that is not among them is wanted.
            key: Names the draw.
        """
        ...


class Journal(Protocol):
    """Remembers draws across a crash: what is recorded is recalled, never drawn again."""

    async def recall(self, key: DrawKey) -> str | None:
        """What was recorded under the key, or None."""
        ...

    async def record(self, key: DrawKey, draw: str) -> None:
        """Keeps the draw; returns once it is safe."""
        ...


class Suggestions(Protocol):
    """Whole workflows that someone outside puts into a search that is under way."""

    async def take(self, number: int) -> Sequence[Workflow]:
        """The workflows handed in since the round before, in order; each is given out once.

        Args:
            number: Round t, from 1. The search journals what it is given.
        """
        ...


class Purse(Protocol):
    """What a search may still spend."""

    async def refuses(self, number: int) -> str | None:
        """Why round `number` and what follows the search cannot be paid, or None if they can.

        Args:
            number: The round that would begin next, from 2. The search journals the answer.
        """
        ...


class Prompt(NamedTuple):
    """What a model of text is asked.

    Attributes:
        name: Names this question within the run, e.g. `extend/2/7/0/repair-1`; two questions of a
            run never share one, and a run that is repeated asks under the same names.
        kind: What is wanted.
        shared: The task and the rules: the same for every question of the run, worth caching.
        question: What is wanted this time.
    """

    name: str
    kind: PromptKind
    shared: str
    question: str


class Reply(NamedTuple):
    """What it answered.

    Attributes:
        text: The answer, perhaps empty.
        ending: `end`, or why the answer is not whole.
    """

    text: str
    ending: ReplyEnding = "end"


class TextModel(Protocol):
    """An LLM, or an agent, that writes workflows."""

    async def write(self, prompt: Prompt) -> Reply:
        """Answers the prompt. Under a name that was answered before, gives the same answer.

        Raises:
            Exception: For reasons outside the prompt (outage, budget): the search ends with it.
        """
        ...


class Checker(Protocol):
    """Finds out whether a workflow runs at all, before it is scored."""

    async def check(self, workflow: Workflow) -> str | None:
        """Why it does not run, with line and step; None if it does.

        The static policy first, then a smoke run on one to three validation rows. An outage is
        raised, never returned.
        """
        ...
