"""What the sampler needs from outside: a prior, a reward, a refiner and a journal.

The server implements these over models, a sandbox and SQLite; the tests over enumerable toys.
An implementation that cannot go on for reasons outside the workflow (budget spent, provider down)
raises; the search ends with that error, and a later run with the same journal repeats nothing.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow

__all__ = ["Edit", "Journal", "Prior", "Refiner", "Reward"]


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
