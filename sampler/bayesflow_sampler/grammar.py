"""A probabilistic step grammar: a prior over workflows with exact p(s) and no LLM.

The grammar is right-linear: each production belongs to a state, writes one step, and names the next
state or ends the workflow. Within a state, production r is drawn with probability w_r / Σ w, so
p(s) is the product over the steps, and a completion's law is the product of later step laws (the
prior is *coherent*). Grammars are data, read by `grammar_file`; this module samples and enumerates.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bayesflow_sampler.errors import GrammarError
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.types import DrawKey, Step, Workflow

__all__ = ["PREAMBLE", "Grammar", "GrammarPrior", "Production"]

PREAMBLE: Final = '''\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        """Answers one problem; returns the answer and what it cost."""
'''


class Production(NamedTuple):
    """One way to write the step of a state.

    Attributes:
        step: The step it writes.
        probability: Its share of the state, in (0, 1].
        next: The state that follows, or None: the workflow ends here.
    """

    step: Step
    probability: float
    next: str | None


@dataclass(frozen=True)
class Grammar:
    """A right-linear probabilistic grammar over steps.

    Attributes:
        title: What the grammar is for.
        start: The first step's state.
        productions: The productions of each state; their probabilities sum to 1.
    """

    title: str
    start: str
    productions: Mapping[str, tuple[Production, ...]]
    _index: dict[tuple[str, Step], Production] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[tuple[str, Step], Production] = {}
        for state, choices in self.productions.items():
            for choice in choices:
                if (state, choice.step) in index:
                    raise GrammarError(
                        f"State {state!r} writes the step {choice.step.title!r} twice; "
                        "merge the two productions and add their weights."
                    )
                index[state, choice.step] = choice
        object.__setattr__(self, "_index", index)

    def state_after(self, steps: tuple[Step, ...]) -> str | None:
        """The state that follows these steps, or None if they are a whole workflow.

        Raises:
            GrammarError: The grammar does not write these steps.
        """
        state: str | None = self.start
        for step in steps:
            found = None if state is None else self._index.get((state, step))
            if found is None:
                raise GrammarError(f"The grammar does not write the step {step.title!r} here.")
            state = found.next
        return state

    def log_probability(self, workflow: Workflow) -> float:
        """Log p(s) of a workflow or of a prefix; -inf for what the grammar does not write."""
        state: str | None = self.start
        total = 0.0
        for step in workflow.steps:
            found = None if state is None else self._index.get((state, step))
            if found is None:
                return -math.inf
            total += math.log(found.probability)
            state = found.next
        return total

    def enumerate(self) -> Iterator[tuple[Workflow, float]]:
        """Every complete workflow with its probability; they sum to 1."""
        pending: list[tuple[tuple[Step, ...], str | None, float]] = [((), self.start, 1.0)]
        while pending:
            steps, state, probability = pending.pop()
            if state is None:
                yield Workflow(PREAMBLE, steps), probability
                continue
            pending.extend(
                ((*steps, choice.step), choice.next, probability * choice.probability)
                for choice in reversed(self.productions[state])
            )

    def choose(self, state: str, quantile: float) -> Production:
        """The production of `state` at `quantile`, a number in [0, 1)."""
        cumulative = 0.0
        choices = self.productions[state]
        for choice in choices:
            cumulative += choice.probability
            if quantile < cumulative:
                return choice
        return choices[-1]

    def complete(self, steps: tuple[Step, ...], seed: int, *path: str | int) -> Workflow:
        """A completion of these steps, drawn by the random numbers `uniform(seed, *path, n)`."""
        state = self.state_after(steps)
        while state is not None:
            choice = self.choose(state, uniform(seed, *path, len(steps)))
            steps, state = (*steps, choice.step), choice.next
        return Workflow(PREAMBLE, steps)


@dataclass(frozen=True)
class GrammarPrior:
    """The grammar as the sampler's prior. Every draw depends on the seed and its key alone.

    Attributes:
        grammar: The grammar.
        seed: The run's seed.
    """

    grammar: Grammar
    seed: int
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        """The empty prefix."""
        return Workflow(PREAMBLE, ())

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """One more step and a rollout: a complete workflow that begins with `prefix`."""
        return self.grammar.complete(prefix.steps, self.seed, *key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """A further rollout of `prefix`; the law is the same, for the grammar is coherent."""
        return self.grammar.complete(prefix.steps, self.seed, *key)
