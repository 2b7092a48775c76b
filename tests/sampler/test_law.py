"""The law of the shipped engine at sizes that cannot be enumerated, by simulation.

Seeds are fixed, so a test that passes passes always; the rates given are of the seeds' choice.
Beside each claim stands a biased variant that must fail the same check.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.resampling import systematic
from bayesflow_sampler.types import Generation, Workflow
from bayesflow_sampler.weights import log_mean_exp, normalise
from fakes.search_ports import RowReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

pytestmark = pytest.mark.slow

REPLICATES = 8000
BETA = 2.0
SMALL = make_toy("ab", 3, seed=2, stop=True)
FEW = SearchOptions(particles=3, refinements=0, rounds=3, inverse_temperature=BETA, minibatch=None)


# --- the evidence -----------------------------------------------------------------------------


def z_score(estimates: Sequence[float], evidence: float) -> float:
    """How many standard errors the mean of the estimates lies from Z; |z| > 4 in 1 of 16,000."""
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    return (statistics.fmean(estimates) - evidence) / error


def clean_evidence(rows: int = 1) -> Callable[[Sequence[Generation]], float]:
    """Ẑ of the last round, as the archive reports it; no clean lineage is an estimate of zero."""

    def estimate(generations: Sequence[Generation]) -> float:
        archive = Archive(rows, pool_rounds=False)
        for generation in generations:
            archive.add(generation)
        posterior = archive.posterior(BETA)
        return 0.0 if posterior is None else math.exp(posterior.log_evidence)

    return estimate


def all_lineages(generations: Sequence[Generation]) -> float:
    """Refined lineages counted as if they were clean."""
    return math.exp(log_mean_exp([p.log_weight + p.score for p in generations[-1].particles]))


async def estimates(
    options: SearchOptions,
    *measures: Callable[[Sequence[Generation]], float],
    reward: RowReward | None = None,
    replicates: int = REPLICATES,
) -> list[list[float]]:
    """Each measure of each replicate of a search of the small toy."""
    found: list[list[float]] = [[] for _ in measures]
    for seed in range(replicates):
        refiner = GrammarRefiner(SMALL.grammar, seed)
        generations = await run(search_over(SMALL, options, seed, reward=reward, refiner=refiner))
        for values, measure in zip(found, measures, strict=True):
            values.append(measure(generations))
    return found


@pytest.mark.parametrize("rollouts", [1, 3])
async def test_the_evidence_is_unbiased_with_exact_weighting(rollouts: int) -> None:
    options = replace(FEW, rollouts=rollouts)
    (exact,) = await estimates(options, clean_evidence())

    assert abs(z_score(exact, SMALL.evidence(BETA))) < 4


async def test_the_evidence_is_unbiased_with_multinomial_resampling() -> None:
    (exact,) = await estimates(replace(FEW, resampling="multinomial"), clean_evidence())

    assert abs(z_score(exact, SMALL.evidence(BETA))) < 4


async def test_the_evidence_is_biased_with_paper_weighting() -> None:
    (paper,) = await estimates(replace(FEW, weighting="paper"), clean_evidence())

    assert z_score(paper, SMALL.evidence(BETA)) > 8


async def test_minibatch_rewards_leave_the_evidence_unbiased() -> None:
    """The control scores the last round on the minibatch too, with the value it was shrunk to."""
    reward = RowReward(SMALL.rewards, rows=6)
    full = math.fsum(
        leaf.probability * math.exp(BETA * reward.full(leaf.workflow.workflow_id))
        for leaf in SMALL.leaves
    )

    def on_a_minibatch(generations: Sequence[Generation]) -> float:
        return math.exp(
            log_mean_exp(
                [
                    p.log_weight + BETA * _first_two(p.rollouts[0].evaluation.scores)
                    for p in generations[-1].particles
                ]
            )
        )

    exact, noisy = await estimates(
        replace(FEW, minibatch=2), clean_evidence(rows=6), on_a_minibatch, reward=reward
    )

    assert abs(z_score(exact, full)) < 4
    assert abs(z_score(noisy, full)) > 8


def _first_two(scores: Sequence[float]) -> float:
    return statistics.fmean(scores[:2])


async def test_clean_lineages_are_unbiased_under_injection_and_all_lineages_are_not() -> None:
    options = replace(FEW, particles=4, refinements=2, refinement="inject")
    clean, everything = await estimates(options, clean_evidence(), all_lineages)

    assert abs(z_score(clean, SMALL.evidence(BETA))) < 4
    assert z_score(everything, SMALL.evidence(BETA)) > 20
    assert statistics.fmean(everything) > 1.2 * SMALL.evidence(BETA)


# --- the denominator --------------------------------------------------------------------------


@dataclass(frozen=True)
class Twin:
    """Textbook SMC over the toy: incremental weights V̂_t / V̂_t−1, Ẑ = Π mean weight.

    `fresh` re-estimates the denominator from another rollout instead of carrying the estimate the
    particle was selected by: the tempting variant that is biased.
    """

    fresh: bool

    def evidence(self, seed: int) -> float:
        draw = random.Random(seed)
        prefixes = [Workflow("", ())] * 3
        carried = [0.0] * 3
        log_evidence = 0.0
        for t in range(1, 4):
            wholes = [_drawn(prefix, draw) for prefix in prefixes]
            values = [BETA * SMALL.rewards[whole.workflow_id] for whole in wholes]
            paid = carried
            if self.fresh and t > 1:
                paid = [BETA * SMALL.rewards[_drawn(p, draw).workflow_id] for p in prefixes]
            gains = [value - owed for value, owed in zip(values, paid, strict=True)]
            log_evidence += log_mean_exp(gains)
            ancestors = systematic(normalise(gains), 3, draw.random())
            prefixes = [wholes[a].prefix(t) for a in ancestors]
            carried = [values[a] for a in ancestors]
        return math.exp(log_evidence)


def _drawn(prefix: Workflow, draw: random.Random) -> Workflow:
    return SMALL.grammar.complete(prefix.steps, draw.getrandbits(60))


def test_a_fresh_denominator_biases_the_evidence_and_the_carried_one_does_not() -> None:
    evidence = SMALL.evidence(BETA)
    carried = [Twin(fresh=False).evidence(seed) for seed in range(REPLICATES)]
    fresh = [Twin(fresh=True).evidence(seed) for seed in range(REPLICATES)]

    assert abs(z_score(carried, evidence)) < 4
    assert z_score(fresh, evidence) > 8
