"""The contenders: the shipped search under one set of options or another, and the baselines.

A search cannot stop anywhere, so its size is chosen before it runs; `Sized` keeps its average cost
at the budget from landscape to landscape. A baseline stops where its budget ends. All of them end
with the shipped final pick; what it asks for is paid as well.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from bayesflow_sampler.archive import Archive, weigh
from bayesflow_sampler.final_pick import choose
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import DrawKey, Generation
from bayesflow_sampler.weights import normalise
from bench.efficiency.baselines import Explorer, linear_search, prior_draws, tree_search
from bench.efficiency.edits import refiner_of
from bench.efficiency.landscapes import words
from bench.efficiency.rows import Answers, MeteredReward

__all__ = ["BETA", "Baseline", "Contender", "Outcome", "Sized", "baselines", "searched"]

# q is compared at this β whatever β steered the search: the archive answers for any.
BETA: Final = 10.0
_LARGEST: Final = 200
_REPAY: Final = 10
_CALLS_PER_EDIT: Final = 2


class Outcome(NamedTuple):
    """What one search came to.

    Attributes:
        truth: True accuracy of the shipped final pick.
        maximum_truth: True accuracy of the workflow with the largest full validation mean that the
            search itself knew.
        error: Estimate of E_q[R] less its value, all rounds pooled; None if it makes none.
        last_error: The same from the last round alone.
        evaluations: Spent, in full evaluations.
        calls: Calls to the optimizer's model: draws, and two an edit.
    """

    truth: float
    maximum_truth: float
    error: float | None
    last_error: float | None
    evaluations: float
    calls: int


# Answers, seed and budget in full evaluations, to what came of them.
Contender = Callable[[Answers, int, float], Awaitable[Outcome]]


@dataclass
class Sized:
    """A search whose size follows its budget.

    Attributes:
        options: The settings at a size.
        size: The size to begin with, a real number; what a search runs with is one of the two
            integers around it, at random.
        steady: The size is kept, whatever it costs.
        informed: Edits prefer steps of well-scored workflows.
        spent: Full evaluations so far.
        granted: Those that it should have spent.
    """

    options: Callable[[int], SearchOptions]
    size: float
    steady: bool = False
    informed: bool = True
    spent: float = field(default=0.0, init=False)
    granted: float = field(default=0.0, init=False)
    _sizes: int = field(default=0, init=False)

    async def __call__(self, answers: Answers, seed: int, budget: float) -> Outcome:
        """One search; its size repays what the ones before spent too much or too little."""
        if self._sizes and not self.steady:
            wanted = budget + (self.granted - self.spent) / _REPAY
            self.size = min(max(wanted * self._sizes / self.spent, 1.0), _LARGEST)
        below = math.floor(self.size)
        size = below + (uniform(seed, "size") < self.size - below)
        outcome = await searched(self.options(size), answers, seed, informed=self.informed)
        self._sizes += size
        self.spent += outcome.evaluations
        self.granted += budget
        return outcome


async def searched(
    options: SearchOptions, answers: Answers, seed: int, *, informed: bool = True
) -> Outcome:
    """One search as shipped, on a prior without a model."""
    reward = MeteredReward(answers)
    grammar = answers.landscape.grammar
    journal = _Counter()
    refiner = refiner_of(grammar, seed, informed=informed)
    search = Search(GrammarPrior(grammar, seed), reward, refiner, journal, options, seed)
    archive = Archive(answers.rows, islands=options.islands)
    generations: list[Generation] = []
    async for generation in search.generations():
        archive.add(generation)
        generations.append(generation)
    pooled, last = _estimates(options, archive, generations)
    return await _outcome(archive, reward, (pooled, last), journal.calls)


def _estimates(
    options: SearchOptions, archive: Archive, generations: Sequence[Generation]
) -> tuple[float | None, float | None]:
    """E_q[R] from the pooled archive, and from the last round; paper weighting has only that."""
    if not options.lookahead:
        return None, None
    if options.weighting == "paper":
        rewards = [particle.rollouts[0].evaluation.mean for particle in generations[-1].particles]
        return None, _mean(rewards, [BETA * reward for reward in rewards])
    found: list[float | None] = []
    for pool_rounds in (True, False):
        full = {draw.workflow_id: archive.full_reward(draw.workflow_id) for draw in archive.draws}
        posterior = weigh(archive.draws, full, BETA, pool_rounds=pool_rounds)
        found.append(
            None
            if posterior is None
            else math.fsum(p * (full[name] or 0.0) for name, p in posterior.probability.items())
        )
    return found[0], found[1]


@dataclass(frozen=True)
class Baseline:
    """One of the baselines.

    Attributes:
        explore: Spends the budget.
        weighs: Its prior draws, fully scored, estimate E_q[R].
        informed: Edits prefer steps of well-scored workflows.
    """

    explore: Callable[[Explorer, float], Awaitable[None]]
    weighs: bool = False
    informed: bool = True

    async def __call__(self, answers: Answers, seed: int, budget: float) -> Outcome:
        """One search within the budget."""
        reward = MeteredReward(answers)
        explorer = Explorer(reward, seed, self.informed)
        await self.explore(explorer, budget)
        estimate: float | None = None
        if self.weighs:
            rewards = [explorer.pool[name].evaluation.mean for name in explorer.drawn]
            estimate = _mean(rewards, [BETA * one for one in rewards])
        return await _outcome(explorer.archive, reward, (estimate, None), explorer.calls)


def baselines(minibatch: int, *, informed: bool) -> dict[str, Contender]:
    """The baselines by name; one of them scores its draws on a minibatch first."""
    return {
        "prior draws": Baseline(prior_draws, weighs=True),
        "prior draws, screened": Baseline(partial(prior_draws, rows=minibatch)),
        "tree of edits, one chain (AFlow)": Baseline(tree_search, informed=informed),
        "line of designs (ADAS)": Baseline(linear_search, informed=informed),
    }


def _mean(values: Sequence[float], log_weights: Sequence[float]) -> float:
    shares = normalise(log_weights)
    return math.fsum(value * share for value, share in zip(values, shares, strict=True))


async def _outcome(
    archive: Archive,
    reward: MeteredReward,
    estimates: tuple[float | None, float | None],
    calls: int,
) -> Outcome:
    answers = reward.answers
    known = {
        name: mean for name in archive.entries if (mean := archive.full_reward(name)) is not None
    }
    maximum = max(known, key=lambda name: known[name]) if known else None
    picked = (await choose(archive, reward))[0].workflow.workflow_id
    expectation = answers.expectation(BETA)
    truth, places = answers.landscape.truth, words().places
    pooled, last = (None if one is None else one - expectation for one in estimates)
    return Outcome(
        float(truth[places[picked]]),
        float(truth[places[maximum or picked]]),
        pooled,
        last,
        reward.evaluations,
        calls,
    )


class _Counter:
    """A journal that counts the calls that the draws would have been."""

    def __init__(self) -> None:
        self.calls = 0

    async def recall(self, key: DrawKey) -> str | None:
        return None

    async def record(self, key: DrawKey, draw: str) -> None:
        self.calls += _CALLS_PER_EDIT if key.kind == "refine" else 1
