"""The evidence and its standard error: islands, injection, noisy rewards, a fitted β.

Replicates and rates as in `test_law.py`. Every claim is of Ẑ as the archive reports it, and beside
it stands what must fail: all lineages under injection, islands left out where they are extinct,
noise in the rewards of the last round, the β that was fitted to the same rewards.
"""

import asyncio
import functools
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest

from bayesflow_sampler.archive import draws_of, weigh
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Reward
from bayesflow_sampler.types import Evaluation, Generation, RowSet, Workflow
from bayesflow_sampler.weights import log_mean_exp
from fakes.replicates import archived, evidence, replicates, z_score
from fakes.search_ports import RowReward, TableReward
from fakes.toys import Toy, make_toy, word_of

pytestmark = pytest.mark.slow

BETA = 2.0
TOY = make_toy("ab", 3, seed=2, stop=True)
# A fitted β stops at 50; with rewards this small it never selects so hard that Ẑ has heavy tails.
FLAT = replace(TOY, leaves=tuple(leaf._replace(reward=0.15 * leaf.reward) for leaf in TOY.leaves))
ROWS = RowReward(TOY.rewards, rows=6)
ROUGH = replace(
    TOY,
    leaves=tuple(leaf._replace(reward=ROWS.full(leaf.workflow.workflow_id)) for leaf in TOY.leaves),
)
PLAIN = SearchOptions(
    particles=4, refinements=0, rounds=3, inverse_temperature=BETA, minibatch=None, islands=2
)


class Estimate(NamedTuple):
    """What one replicate says of Z, all in units of Z.

    Attributes:
        whole: Ẑ.
        apart: Ẑ of each of two islands.
        error: The standard error that comes with it.
        spread: What the particles' own spread would give in its place.
        biased: Another estimate of Z from the same search, one that must fail.
    """

    whole: float
    apart: tuple[float, float]
    error: float
    spread: float
    biased: float

    def surplus(self, error: float) -> float:
        """What a squared error says too much: zero on average if it is unbiased."""
        return error**2 - (self.whole - 1) ** 2


def estimate(
    generations: Sequence[Generation], toy: Toy, beta: float, rows: int, biased: float
) -> Estimate:
    """The last round as the archive reports it."""
    last, truth = generations[-1], toy.evidence(beta)
    archive = archived([last], rows=rows, islands=2)
    posterior = archive.posterior(beta)
    if posterior is None:
        return Estimate(0.0, (0.0, 0.0), 0.0, 0.0, biased / truth)
    first, second = (math.exp(each) / truth for each in posterior.island_evidence)
    relative, whole = posterior.relative_error, evidence(posterior) / truth
    assert relative is not None
    count = len(last.particles)
    weights = [
        count * math.exp(draw.log_share + beta * toy.rewards[draw.workflow_id]) / truth
        for draw in archive.draws
    ]
    weights += [0.0] * (count - len(weights))
    spread = statistics.stdev(weights) / math.sqrt(count)
    return Estimate(whole, (first, second), relative * whole, spread, biased / truth)


# --- estimates that must fail -----------------------------------------------------------------


def nothing(generations: Sequence[Generation]) -> float:
    """For cases whose controls are elsewhere."""
    return 0.0


def all_lineages(generations: Sequence[Generation]) -> float:
    """Refined lineages counted as if they were clean."""
    return math.exp(log_mean_exp([p.log_weight + p.score for p in generations[-1].particles]))


def on_two_rows(generations: Sequence[Generation]) -> float:
    """The last round on a minibatch, too."""
    return math.exp(
        log_mean_exp(
            [
                p.log_weight + BETA * statistics.fmean(p.rollouts[0].evaluation.scores[:2])
                for p in generations[-1].particles
            ]
        )
    )


# --- cases ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A search by islands, and what steers them in common."""

    toy: Toy
    options: SearchOptions
    biased: Callable[[Sequence[Generation]], float] = nothing
    reward: Reward | None = None
    rows: int = 1
    beta: float = BETA


CASES = {
    "two rollouts": Case(TOY, replace(PLAIN, rollouts=2)),
    "minibatches": Case(ROUGH, replace(PLAIN, minibatch=2), on_two_rows, ROWS, rows=6),
    "injected refinements": Case(
        TOY, replace(PLAIN, refinement="inject", refinements=1, clean_floor=0.2), all_lineages
    ),
    "a fitted beta": Case(FLAT, replace(PLAIN, particles=6, inverse_temperature=None), beta=20.0),
}


class Found(NamedTuple):
    """All replicates of a case, at its own β and at the β that each search used last."""

    chosen: list[Estimate]
    used: list[Estimate]


@functools.cache
def found(name: str) -> Found:
    """All replicates of a case: several claims share them."""
    return asyncio.run(_found(CASES[name]))


async def _found(case: Case) -> Found:
    chosen: list[Estimate] = []
    used: list[Estimate] = []
    async for generations in replicates(case.toy, case.options, reward=case.reward):
        biased = case.biased(generations)
        chosen.append(estimate(generations, case.toy, case.beta, case.rows, biased))
        beta = generations[-1].inverse_temperature
        if beta != case.beta:
            first = evidence(archived(generations[:1], rows=case.rows).posterior(beta))
            used.append(estimate(generations, case.toy, beta, case.rows, first))
    return Found(chosen, used)


@pytest.mark.parametrize("name", CASES)
def test_the_evidence_is_unbiased_whatever_steers_the_islands_in_common(name: str) -> None:
    """Two rollouts, noisy minibatches, injection with a clean floor, one's own β after a fit."""
    assert abs(z_score([each.whole for each in found(name).chosen], 1.0)) < 4


@pytest.mark.parametrize("name", CASES)
def test_the_square_of_the_standard_error_is_the_variance_of_the_evidence(name: str) -> None:
    """So the islands are uncorrelated: (a − b)²/4 less (a + b − 2)²/4 is −(a − 1)·(b − 1)."""
    assert abs(z_score([each.surplus(each.error) for each in found(name).chosen], 0.0)) < 4


@pytest.mark.parametrize("name", CASES)
def test_the_particles_own_spread_is_no_standard_error(name: str) -> None:
    """The control: it is 56 to 79 % of the variance; under injection some 140 %."""
    assert abs(z_score([each.surplus(each.spread) for each in found(name).chosen], 0.0)) > 8


def test_an_island_without_clean_lineages_estimates_zero() -> None:
    """Nearly a quarter of them do; to leave those out overrates Z by 30 %."""
    apart = [each for one in found("injected refinements").chosen for each in one.apart]
    alive = [each for each in apart if each > 0]

    assert 0.1 < 1 - len(alive) / len(apart) < 0.4
    assert abs(z_score(apart, 1.0)) < 5.7  # 4, for the two of a search are not independent
    assert z_score(alive, 1.0) > 20


def test_all_lineages_overrate_the_evidence_under_injection() -> None:
    biased = [each.biased for each in found("injected refinements").chosen]

    assert z_score(biased, 1.0) > 20
    assert statistics.fmean(biased) > 2


def test_a_minibatch_in_the_last_round_moves_the_evidence() -> None:
    assert z_score([each.biased for each in found("minibatches").chosen], 1.0) > 20


def test_the_rewards_that_beta_was_fitted_to_underrate_the_evidence_at_that_beta() -> None:
    """The control of one's own β: round 1 at the β that its own rewards chose."""
    assert z_score([each.biased for each in found("a fitted beta").used], 1.0) < -20


# --- which rounds are pooled ------------------------------------------------------------------


async def test_rounds_are_pooled_by_plan_and_not_because_their_workflows_were_all_scored() -> None:
    """Small populations of few words: a minibatch round is often scored in full by a later one.

    The control pools such rounds and underrates Z by 6 %: which they are, the rewards decide.
    """
    words = make_toy("ab", 3, seed=1)
    leaves = [
        leaf._replace(reward=float(word_of(leaf.workflow).endswith("b"))) for leaf in words.leaves
    ]
    toy = replace(words, leaves=tuple(leaves))
    options = replace(PLAIN, particles=2, islands=1, minibatch=2)
    planned: list[float] = []
    lucky: list[float] = []
    pooled = 0
    async for generations in replicates(toy, options, reward=TableReward(toy.rewards, rows=6)):
        planned.append(evidence(archived(generations, rows=6, pool_rounds=True).posterior(BETA)))
        counted = [replace(generation, counts=True) for generation in generations]
        posterior = archived(counted, rows=6, pool_rounds=True).posterior(BETA)
        assert posterior is not None
        lucky.append(evidence(posterior))
        pooled += posterior.rounds != (3,)

    truth = toy.evidence(BETA)
    assert 0.3 < pooled / len(lucky) < 0.9
    assert abs(z_score(planned, truth)) < 4
    assert z_score(lucky, truth) < -6


# --- noise ------------------------------------------------------------------------------------


@dataclass
class NoisyReward:
    """R(s) with fresh normal noise on every row, each time it is asked."""

    toy: Toy
    deviation: float
    rows: int = 4
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def size(self, split: str) -> int:
        return self.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        reward = self.toy.rewards[workflow.workflow_id]
        scores = tuple(self.draw.gauss(reward, self.deviation) for _ in rows.positions)
        return Evaluation(workflow.workflow_id, rows, scores)


async def test_noise_steers_without_moving_the_law_unless_it_is_in_the_last_reward() -> None:
    """Every reward is noisy; the last round is weighted by the true one and, beside it, by that.

    The control overrates Z by exp(β²σ²/2) = 13 %, σ = .25 for the mean of four rows.
    """
    reward = NoisyReward(TOY, deviation=0.5)
    options = replace(PLAIN, particles=3, islands=1, minibatch=2)
    exact: list[float] = []
    noisy: list[float] = []
    async for generations in replicates(TOY, options, reward=reward):
        exact.append(evidence(weigh(draws_of(generations[-1]), TOY.rewards, BETA)))
        noisy.append(all_lineages(generations))

    truth = TOY.evidence(BETA)
    assert abs(z_score(exact, truth)) < 4
    assert z_score(noisy, truth) > 20
    assert statistics.fmean(noisy) / truth > 1.1
