"""Recycled rollouts, enumerated: a shuffle of the parent's rollouts is exact, short cuts are not.

Every draw, every selection and every order of a parent's two rollouts, on the shipped engine.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler import succession
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.recycling import recycled
from bayesflow_sampler.resampling import Resampling
from fakes.approx import approx
from fakes.enumeration import enumerated_shuffles, every_tape
from fakes.exact_laws import Enumeration, expected, shipped, target, toy_of
from fakes.search_ports import RowReward, ScriptedRefiner
from fakes.searches import run, search_over
from fakes.toys import Toy, make_toy

BETA = 2.0
TOY = make_toy("ab", 2, seed=6)
STOPPING = make_toy("ab", 2, seed=10, stop=True)
# Three rounds, few words: what is biased only from the second recycling on shows itself here.
LONGER = toy_of({"ab": (0.4, 0.5), "acd": (0.25, 1.0), "ace": (0.35, 0.0)})
RECYCLE = SearchOptions(
    particles=2,
    rollouts=2,
    refinements=0,
    rounds=2,
    inverse_temperature=BETA,
    minibatch=None,
    recycle=True,
)
Rule = Callable[[Sequence[int], Sequence[int], Callable[[int, int], float]], list[int | None]]


def first_copy_keeps(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """The first child of each parent takes a rollout, its siblings draw afresh."""
    taken = recycled(ancestors, rollouts, draw)
    return [
        k if ancestor not in ancestors[:place] else None
        for place, (ancestor, k) in enumerate(zip(ancestors, taken, strict=True))
    ]


def fixed_order(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """The first child takes rollout 1, the second rollout 2, and so on."""
    return recycled(ancestors, rollouts, lambda _, k: k / 100)


def same_for_all(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """All siblings take the same rollout at random: wasteful, but no bias."""
    taken = recycled(ancestors, rollouts, draw)
    return [taken[ancestors.index(ancestor)] for ancestor in ancestors]


@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "short words too"])
@pytest.mark.parametrize("resampling", ["systematic", "stratified", "residual", "multinomial"])
async def test_recycling_is_properly_weighted_to_rounding(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, resampling: Resampling
) -> None:
    """Both rounds pooled; the first recycles nothing and is exact by itself, so the second is."""
    options = replace(RECYCLE, resampling=resampling)

    found = await expected(monkeypatch, toy, options, shipped(BETA, pool_rounds=True))

    assert found == approx(target(toy, BETA), abs=1e-12)


@pytest.mark.slow
async def test_rollouts_recycled_twice_are_properly_weighted_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = replace(RECYCLE, rounds=3)

    found = await expected(monkeypatch, LONGER, options, shipped(BETA))

    assert found == approx(target(LONGER, BETA), abs=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        replace(RECYCLE, ess_threshold=0.9),
        replace(RECYCLE, tempering=0.9),
        replace(RECYCLE, refinement="inject", refinements=1, clean_floor=0.5),
    ],
    ids=["trigger", "tempering", "injection"],
)
async def test_recycling_goes_with_what_else_steers_selection(
    monkeypatch: pytest.MonkeyPatch, options: SearchOptions
) -> None:
    best = max(TOY.leaves, key=lambda leaf: leaf.reward).workflow
    case = Enumeration(TOY, options, refiner=lambda: ScriptedRefiner([best]))

    found = await case.expect(monkeypatch, shipped(BETA, pool_rounds=True))

    assert found == approx(target(TOY, BETA), abs=1e-12)


async def test_minibatches_score_recycled_rollouts_again_and_bend_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reward = RowReward(TOY.rewards, rows=5, seed=7)
    case = Enumeration(TOY, replace(RECYCLE, minibatch=2), reward)

    found = await case.expect(monkeypatch, shipped(BETA, rows=5))

    full = {name: reward.full(name) for name in TOY.rewards}
    assert len(set(full.values())) > 2
    assert found == approx(target(TOY, BETA, full), abs=1e-12)


async def test_siblings_that_share_one_random_rollout_are_unbiased(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What counts is that each child's rollout is uniform, not that siblings differ."""
    monkeypatch.setattr(succession, "recycled", same_for_all)

    found = await expected(monkeypatch, TOY, RECYCLE, shipped(BETA))

    assert found == approx(target(TOY, BETA), abs=1e-12)


async def test_a_recycled_rollout_is_as_clean_as_the_lineage_that_takes_it() -> None:
    """Refined workflows themselves give nothing: no prior drew what they go on with."""
    toy = make_toy("ab", 4, seed=1)
    best = max(toy.leaves, key=lambda leaf: leaf.reward).workflow
    options = replace(RECYCLE, particles=6, rounds=4, refinement="inject", refinements=2)
    kinds: set[bool] = set()
    for seed in range(5):
        search = search_over(toy, options, seed, refiner=ScriptedRefiner([best]))
        for generation in await run(search):
            for particle in generation.particles:
                kinds.add(particle.clean)
                assert all(rollout.clean == particle.clean for rollout in particle.rollouts)

    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("toy", "rounds", "rule", "error"),
    [
        (TOY, 2, first_copy_keeps, -0.00215401),
        (STOPPING, 2, first_copy_keeps, -0.00056786),
        pytest.param(LONGER, 3, first_copy_keeps, -0.04785304, marks=pytest.mark.slow),
        (LONGER, 3, fixed_order, 0.04275359),
    ],
)
async def test_short_cuts_are_biased(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, rounds: int, rule: Rule, error: float
) -> None:
    """The negative controls: -0.2 % after one recycling, -4.8 % and +4.3 % after two."""
    monkeypatch.setattr(succession, "recycled", rule)
    options = replace(RECYCLE, rounds=rounds)

    found = await expected(monkeypatch, toy, options, shipped(BETA))

    assert math.fsum(found.values()) / toy.evidence(BETA) - 1 == approx(error, abs=1e-8)


async def test_a_fixed_order_is_exact_while_rollouts_are_recycled_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fresh rollouts are exchangeable. One that was recycled was selected, and stands first."""
    monkeypatch.setattr(succession, "recycled", fixed_order)

    found = await expected(monkeypatch, TOY, RECYCLE, shipped(BETA))

    assert found == approx(target(TOY, BETA), abs=1e-12)


def test_each_child_takes_either_rollout_of_its_parent_with_probability_one_half() -> None:
    """Three children of one parent, two of another, one that has nothing to give."""
    chances: dict[tuple[int, int | None], float] = {}
    mass = 0.0
    for tape in every_tape():
        keys = functools.partial(enumerated_shuffles(tape), 0, "recycle", 1)
        taken = recycled([0, 0, 0, 1, 2, 2], [2, 0, 2], keys)
        assert taken[0] == taken[2] != taken[1]
        for chance in enumerate(taken):
            chances[chance] = chances.get(chance, 0.0) + tape.probability
        mass += tape.probability

    assert mass == 1.0
    assert chances[3, None] == 1.0
    assert all(chances[child, k] == 0.5 for child in (0, 1, 2, 4, 5) for k in (0, 1))
