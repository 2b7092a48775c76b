"""The evidence of the shipped engine at sizes that cannot be enumerated, at 20,000 replicates.

Ẑ of the last round is averaged over independent searches of a toy and held against the enumerated
Z: a sound way to select must have |z| < 4. Beside the claims stand the variants that must fail:
the paper's weighting and a denominator that is estimated afresh. What recycles rollouts is in
`test_law_recycling.py`; islands, injection, minibatches and a fitted β are in `test_evidence.py`.

Seeds are fixed, so a test that passes passes always. |z| > 4 happens to a sound sampler for one
choice of seeds in 16,000; to any of the 26 such claims of the three files, in 600. The ways to
search share their first draws, so their z lean the same way.
"""

import asyncio
import functools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.resampling import systematic
from bayesflow_sampler.types import Workflow
from bayesflow_sampler.weights import log_mean_exp, normalise
from fakes.replicates import REPLICATES, archived, evidence, replicates, z_score
from fakes.toys import make_toy

pytestmark = pytest.mark.slow

BETA = 2.0
TOY = make_toy("ab", 3, seed=2, stop=True)
PLAIN = SearchOptions(
    particles=3, refinements=0, rounds=3, inverse_temperature=BETA, minibatch=None
)
WAYS = {
    "one rollout": PLAIN,
    "two rollouts": replace(PLAIN, rollouts=2),
    "stratified": replace(PLAIN, resampling="stratified"),
    "residual": replace(PLAIN, resampling="residual"),
    "multinomial": replace(PLAIN, resampling="multinomial"),
    "trigger": replace(PLAIN, ess_threshold=0.8),
    "tempering": replace(PLAIN, tempering=0.8),
    "paper": replace(PLAIN, weighting="paper"),
}
EXACT = [name for name in WAYS if name != "paper"]


@dataclass(frozen=True)
class Sample:
    """What the replicates of one way to search found.

    Attributes:
        last: Ẑ of the last round alone.
        excess: Ẑ·(Ê[R] − E_q[R]) of all rounds pooled: zero on average if both parts of the ratio
            that estimates E_q[R] are unbiased.
        resampled: For each replicate, whether each round drew its children.
    """

    last: Sequence[float]
    excess: Sequence[float]
    resampled: Sequence[tuple[bool, ...]]


@functools.cache
def sample(way: str) -> Sample:
    """All replicates of one way to search: several claims share them."""
    return asyncio.run(_sampled(WAYS[way]))


async def _sampled(options: SearchOptions) -> Sample:
    target = TOY.posterior(BETA)
    mean = math.fsum(share * TOY.rewards[name] for name, share in target.items())
    last: list[float] = []
    excess: list[float] = []
    resampled: list[tuple[bool, ...]] = []
    async for generations in replicates(TOY, options):
        last.append(evidence(archived(generations[-1:]).posterior(BETA)))
        pooled = archived(generations, pool_rounds=True).posterior(BETA)
        assert pooled is not None
        found = math.fsum(pr * TOY.rewards[name] for name, pr in pooled.probability.items())
        excess.append(evidence(pooled) * (found - mean))
        resampled.append(tuple(generation.resampled for generation in generations))
    return Sample(last, excess, resampled)


@pytest.mark.parametrize("way", EXACT)
def test_the_evidence_is_unbiased_with_exact_weighting(way: str) -> None:
    z = z_score(sample(way).last, TOY.evidence(BETA))

    assert abs(z) < 4


def test_the_evidence_is_overrated_with_paper_weighting() -> None:
    """The control: Ẑ is 15 % too large and z about 60."""
    z = z_score(sample("paper").last, TOY.evidence(BETA))

    assert z > 20


@pytest.mark.parametrize("way", EXACT)
def test_pooled_rounds_estimate_the_mean_reward_under_q(way: str) -> None:
    z = z_score(sample(way).excess, 0.0)

    assert abs(z) < 4


def test_pooled_rounds_of_paper_weighting_do_not() -> None:
    """The control: z is near 34."""
    z = z_score(sample("paper").excess, 0.0)

    assert z > 20


def test_each_way_to_search_selected_in_a_way_of_its_own() -> None:
    """So that no claim above holds because its option did nothing."""
    assert len({tuple(sample(way).last) for way in WAYS}) == len(WAYS)
    drawn = [drawn for replicate in sample("trigger").resampled for drawn in replicate[:-1]]
    assert 0.05 < sum(drawn) / len(drawn) < 0.95
    assert set(sample("one rollout").resampled) == {(True, True, False)}


# --- the denominator --------------------------------------------------------------------------


@dataclass(frozen=True)
class Textbook:
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
            values = [BETA * TOY.rewards[whole.workflow_id] for whole in wholes]
            paid = carried
            if self.fresh and t > 1:
                paid = [BETA * TOY.rewards[_drawn(p, draw).workflow_id] for p in prefixes]
            gains = [value - owed for value, owed in zip(values, paid, strict=True)]
            log_evidence += log_mean_exp(gains)
            ancestors = systematic(normalise(gains), 3, draw.random())
            prefixes = [wholes[a].prefix(t) for a in ancestors]
            carried = [values[a] for a in ancestors]
        return math.exp(log_evidence)


def _drawn(prefix: Workflow, draw: random.Random) -> Workflow:
    return TOY.grammar.complete(prefix.steps, draw.getrandbits(60))


def test_a_fresh_denominator_biases_the_evidence_and_the_carried_one_does_not() -> None:
    truth = TOY.evidence(BETA)
    carried = [Textbook(fresh=False).evidence(seed) for seed in range(REPLICATES)]
    fresh = [Textbook(fresh=True).evidence(seed) for seed in range(REPLICATES)]

    assert abs(z_score(carried, truth)) < 4
    assert z_score(fresh, truth) > 20
