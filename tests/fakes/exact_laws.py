"""The shipped engine, run once for every outcome of all its randomness.

Every draw of the prior, every outcome of the resampling and every order of recycled rollouts is
read from a tape, so that the expectation of whatever a search reports is exact to rounding.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from bayesflow_sampler import selection, succession
from bayesflow_sampler.archive import Archive, Posterior
from bayesflow_sampler.errors import WeightError
from bayesflow_sampler.grammar import PREAMBLE, Grammar, Production
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Refiner, Reward, Suggestions
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import DrawKey, Generation, Workflow
from fakes.approx import approx
from fakes.enumeration import Tape, enumerated_resample, enumerated_shuffles, every_tape
from fakes.search_ports import NoJournal, NoRefiner, TableReward
from fakes.searches import run
from fakes.toys import Leaf, Toy, letter, workflow_of

__all__ = [
    "Enumeration",
    "Handed",
    "Measure",
    "TapePrior",
    "expected",
    "posterior_of",
    "shipped",
    "target",
    "toy_of",
]

Measure = Mapping[str, float]


@dataclass(frozen=True)
class TapePrior:
    """The grammar, with every choice read from a tape."""

    grammar: Grammar
    tape: Tape
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return Workflow(PREAMBLE, ())

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return self._finish(prefix)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return self._finish(prefix)

    def _finish(self, prefix: Workflow) -> Workflow:
        steps, state = prefix.steps, self.grammar.state_after(prefix.steps)
        while state is not None:
            choices = self.grammar.productions[state]
            certain = len(choices) == 1
            index = 0 if certain else self.tape.choose([choice.probability for choice in choices])
            steps, state = (*steps, choices[index].step), choices[index].next
        return Workflow(PREAMBLE, steps)


@dataclass(frozen=True)
class Handed:
    """Workflows that someone hands in before the rounds that are named."""

    by_round: Mapping[int, Sequence[Workflow]]

    async def take(self, number: int) -> Sequence[Workflow]:
        return self.by_round.get(number, ())


@dataclass(frozen=True)
class Enumeration:
    """What is searched, and with what.

    Attributes:
        toy: The grammar and its rewards.
        options: The search's settings.
        reward: None takes the toy's rewards, on one row.
        refiner: Made anew for every tape.
        suggestions: Hands workflows in.
        warm: Workflows to start with.
        coherent: Whether the prior says that it is.
        may_end: A search may end because no particle has a weight; it has no generations then.
    """

    toy: Toy
    options: SearchOptions
    reward: Reward | None = None
    refiner: Callable[[], Refiner] = NoRefiner
    suggestions: Suggestions | None = None
    warm: Sequence[Workflow] = ()
    coherent: bool = True
    may_end: bool = False

    async def expect(
        self,
        monkeypatch: pytest.MonkeyPatch,
        measure: Callable[[Sequence[Generation]], Measure],
    ) -> dict[str, float]:
        """E of a measure over all randomness of the engine."""
        total: dict[str, float] = {}
        mass = 0.0
        for tape in every_tape():
            monkeypatch.setattr(selection, "resample", enumerated_resample(tape))
            monkeypatch.setattr(succession, "uniform", enumerated_shuffles(tape))
            for name, weight in measure(await self._run(tape)).items():
                total[name] = total.get(name, 0.0) + tape.probability * weight
            mass += tape.probability
        assert mass == approx(1.0, abs=1e-12)
        return total

    async def _run(self, tape: Tape) -> list[Generation]:
        try:
            return await run(self._search(tape))
        except* WeightError:
            if not self.may_end:
                raise
        return []

    def _search(self, tape: Tape) -> Search:
        return Search(
            TapePrior(self.toy.grammar, tape, self.coherent),
            self.reward or TableReward(self.toy.rewards),
            self.refiner(),
            NoJournal(),
            self.options,
            0,
            suggestions=self.suggestions,
            warm=self.warm,
        )


async def expected(
    monkeypatch: pytest.MonkeyPatch,
    toy: Toy,
    options: SearchOptions,
    measure: Callable[[Sequence[Generation]], Measure],
) -> dict[str, float]:
    """E of a measure where nothing but the toy and the options is special."""
    return await Enumeration(toy, options).expect(monkeypatch, measure)


def posterior_of(
    generations: Sequence[Generation],
    beta: float,
    *,
    rows: int = 1,
    pool_rounds: bool = False,
    islands: int = 1,
) -> Posterior | None:
    """What the shipped archive reports."""
    archive = Archive(rows, pool_rounds=pool_rounds, islands=islands)
    for generation in generations:
        archive.add(generation)
    return archive.posterior(beta)


def shipped(
    beta: float, *, rows: int = 1, pool_rounds: bool = False
) -> Callable[[Sequence[Generation]], Measure]:
    """Ẑ·q̂ as the shipped archive reports them; no posterior counts as zero."""

    def measure(generations: Sequence[Generation]) -> Measure:
        posterior = posterior_of(generations, beta, rows=rows, pool_rounds=pool_rounds)
        if posterior is None:
            return {}
        evidence = math.exp(posterior.log_evidence)
        return {name: evidence * share for name, share in posterior.probability.items()}

    return measure


def target(toy: Toy, beta: float, rewards: Mapping[str, float] | None = None) -> dict[str, float]:
    """p(s)·exp(β·R(s)), whose sum is Z."""
    rewards = rewards or toy.rewards
    return {
        leaf.workflow.workflow_id: leaf.probability
        * math.exp(beta * rewards[leaf.workflow.workflow_id])
        for leaf in toy.leaves
    }


def toy_of(words: Mapping[str, tuple[float, float]]) -> Toy:
    """A toy of hand-picked words, each with its probability and its reward.

    No word may be the beginning of another.
    """
    productions: dict[str, tuple[Production, ...]] = {}

    def grow(prefix: str) -> None:
        inside = {word: one for word, (one, _) in words.items() if word.startswith(prefix)}
        mass = math.fsum(inside.values())
        followers = sorted({word[: len(prefix) + 1] for word in inside})
        productions["^" + prefix] = tuple(
            Production(
                letter(longer[-1], len(prefix)),
                math.fsum(one for word, one in inside.items() if word.startswith(longer)) / mass,
                None if longer in words else "^" + longer,
            )
            for longer in followers
        )
        for longer in followers:
            if longer not in words:
                grow(longer)

    grow("")
    leaves = tuple(
        Leaf(workflow_of(word), probability, reward)
        for word, (probability, reward) in words.items()
    )
    return Toy(Grammar("toy", "^", productions), leaves)
