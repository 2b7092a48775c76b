"""Rollout recycling in the shipped engine: what it saves, and that it leaves the evidence unbiased.

Replicates and rates as in `test_law.py`. Beside the claims stand the two rules that look alike and
are biased. They are put in the shipped one's place and must fail at the same replicates.
"""

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from unittest import mock

import pytest

from bayesflow_sampler import succession
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.recycling import recycled
from bayesflow_sampler.resampling import Resampling
from fakes.replicates import archived, evidence, replicates, z_score
from fakes.search_ports import CountingPrior
from fakes.searches import run, search_over
from fakes.toys import make_toy

BETA = 4.0
TOY = make_toy("abc", 3, seed=4)
RECYCLING = SearchOptions(
    particles=4,
    rollouts=2,
    refinements=0,
    rounds=3,
    inverse_temperature=BETA,
    minibatch=None,
    recycle=True,
)

Rule = Callable[[Sequence[int], Sequence[int], Callable[[int, int], float]], list[int | None]]


def first_copy_keeps(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """A parent's first child goes on with its rollout; the others draw afresh."""
    return [
        0 if rollouts[parent] and parent not in ancestors[:place] else None
        for place, parent in enumerate(ancestors)
    ]


def in_fixed_order(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """A parent's children take its rollouts in turn, from the first."""
    copies: Counter[int] = Counter()
    taken: list[int | None] = []
    for parent in ancestors:
        taken.append(copies[parent] % rollouts[parent] if rollouts[parent] else None)
        copies[parent] += 1
    return taken


async def _estimates(options: SearchOptions, rule: Rule) -> list[float]:
    with mock.patch.object(succession, "recycled", rule):
        return [
            evidence(archived(generations[-1:]).posterior(BETA))
            async for generations in replicates(TOY, options)
        ]


@functools.cache
def z_of(rule: Rule, options: SearchOptions = RECYCLING) -> float:
    """How far Ẑ lies from Z with a rule to hand rollouts on."""
    return z_score(asyncio.run(_estimates(options, rule)), TOY.evidence(BETA))


@pytest.mark.slow
@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_recycled_rollouts_leave_the_evidence_unbiased(resampling: Resampling) -> None:
    assert abs(z_of(recycled, replace(RECYCLING, resampling=resampling))) < 4


@pytest.mark.slow
def test_first_copy_recycling_underrates_the_evidence() -> None:
    """A child's step depends on how many siblings it has, and that on the scores."""
    assert z_of(first_copy_keeps) < -20


@pytest.mark.slow
def test_recycling_in_a_fixed_order_overrates_the_evidence() -> None:
    """From round 2 on the first is one that an earlier selection has scored; it goes on too often.

    With two rounds there is no such rollout and no bias.
    """
    assert z_of(in_fixed_order) > 4


async def test_recycling_asks_the_optimizer_32_times_in_place_of_56() -> None:
    """N·K + N·(K−1)·(T−2) in place of N·K·(T−1) + N, for N = 8, K = 2, T = 4."""
    toy = make_toy("ab", 4, seed=3)
    calls: dict[bool, int] = {}
    for recycle in (True, False):
        prior = CountingPrior(GrammarPrior(toy.grammar, 0))
        options = replace(RECYCLING, particles=8, rounds=4, recycle=recycle)
        await run(search_over(toy, options, prior=prior))
        calls[recycle] = len(prior.asked)

    assert calls == {True: 32, False: 56}
