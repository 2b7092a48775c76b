"""Rollouts that are used again: who gets which, who gets none, and what it saves."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.recycling import recycled
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import DrawKey, Generation
from fakes.search_ports import CountingPrior, RowReward, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

TOY = make_toy("abc", 5, seed=3)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
OPTIONS = SearchOptions(
    particles=8,
    rollouts=2,
    refinements=0,
    rounds=4,
    inverse_temperature=6.0,
    minibatch=None,
    recycle=True,
)


def keyed(seed: int, *path: str | int) -> Callable[[int, int], float]:
    return lambda parent, k: uniform(seed, *path, parent, k)


# --- the rule ---------------------------------------------------------------------------------


def test_siblings_walk_one_permutation_of_their_parents_rollouts_and_begin_again() -> None:
    keys = {(4, 0): 0.7, (4, 1): 0.2, (4, 2): 0.5}
    taken = recycled([4, 4, 4, 4, 4], [0, 0, 0, 0, 3], lambda parent, k: keys[parent, k])

    assert taken == [1, 2, 0, 1, 2]


def test_each_parent_has_a_permutation_of_its_own_however_its_children_lie() -> None:
    keys = {(0, 0): 0.9, (0, 1): 0.1, (1, 0): 0.1, (1, 1): 0.9}
    taken = recycled([0, 1, 0, 1, 0], [2, 2], lambda parent, k: keys[parent, k])

    assert taken == [1, 0, 0, 1, 1]


def test_a_parent_with_nothing_to_give_gives_nothing() -> None:
    assert recycled([0, 1, 0], [0, 1], lambda parent, k: 0.5) == [None, 0, None]
    assert recycled([], [2], lambda parent, k: 0.5) == []


@given(
    st.lists(st.integers(min_value=0, max_value=4), max_size=20),
    st.lists(st.integers(min_value=0, max_value=5), min_size=5, max_size=5),
    st.integers(min_value=0, max_value=99),
)
def test_no_rollout_is_taken_twice_before_its_siblings_are_taken_once(
    ancestors: list[int], rollouts: list[int], seed: int
) -> None:
    taken = recycled(ancestors, rollouts, lambda parent, k: uniform(seed, parent, k))
    for parent in range(5):
        mine = [k for k, ancestor in zip(taken, ancestors, strict=True) if ancestor == parent]
        if not rollouts[parent]:
            assert set(mine) <= {None}
            continue
        used = Counter(dict.fromkeys(range(rollouts[parent]), 0))
        used.update(k for k in mine if k is not None)
        assert sum(used.values()) == len(mine)
        assert max(used.values()) - min(used.values()) <= 1
        assert set(used) == set(range(rollouts[parent]))


def test_every_child_is_as_likely_to_get_any_of_the_rollouts() -> None:
    """Chi-square with 2 degrees of freedom over 3,000 seeds, for each of 4 siblings.

    18.4 is the 0.01 % point: false alarm 4 in 10,000. The control, a fixed order, fails.
    """

    def worst(draws: list[list[int | None]]) -> float:
        children = [Counter(taken[child] for taken in draws) for child in range(4)]
        return max(sum((counts[k] - 1000) ** 2 / 1000 for k in range(3)) for counts in children)

    shuffled = [recycled([0] * 4, [3], keyed(seed)) for seed in range(3000)]
    fixed = [recycled([0] * 4, [3], lambda parent, k: k / 3) for _ in range(3000)]

    assert worst(shuffled) < 18.4
    assert worst(fixed) > 1000


# --- in a search ------------------------------------------------------------------------------


def pairs(generations: list[Generation]) -> list[tuple[Generation, Generation]]:
    return list(itertools.pairwise(generations))


@pytest.mark.parametrize("refinement", ["archive", "inject"])
async def test_each_child_goes_on_with_the_rollout_that_the_rule_gives_it(refinement: str) -> None:
    options = replace(
        OPTIONS, refinements=2, refinement="inject" if refinement == "inject" else "archive"
    )
    generations = await run(search_over(TOY, options, 5, refiner=GrammarRefiner(TOY.grammar, 0)))
    fresh = 0
    for earlier, later in pairs(generations):
        given = [
            0 if particle.terminal else len(particle.rollouts) for particle in earlier.particles
        ] + [0] * len(earlier.injected)
        taken = recycled(earlier.ancestors, given, keyed(5, "recycle", earlier.round))
        for particle, k in zip(later.particles, taken, strict=True):
            if k is None:
                fresh += 1
                continue
            source = earlier.particles[particle.ancestor].rollouts[k]
            first = particle.rollouts[0]
            assert first.workflow == source.workflow
            assert (first.round, first.clean) == (source.round, particle.clean)
            if later.round == later.rounds:
                assert particle.prefix == source.workflow
            else:
                assert particle.prefix == source.workflow.prefix(later.round)
                assert len(particle.rollouts) == 2
    assert (fresh > 0) == (refinement == "inject")


async def test_it_takes_32_calls_for_56() -> None:
    """N=8, K=2, T=4: N·K + N·(K−1)·(T−2) for N·K·(T−1) + N."""
    counts: list[int] = []
    for options in (replace(OPTIONS, recycle=False), OPTIONS):
        prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
        await run(search_over(TOY, options, prior=prior))
        counts.append(len(prior.asked))

    assert counts == [56, 32]


async def test_only_the_first_round_extends_and_the_last_draws_nothing() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    await run(search_over(TOY, OPTIONS, prior=prior))
    rounds = Counter((key.kind, key.round) for key, _ in prior.asked)

    assert rounds == {
        ("extend", 1): 8,
        ("complete", 1): 8,
        ("complete", 2): 8,
        ("complete", 3): 8,
    }


async def test_a_recycled_rollout_is_scored_again_on_the_rounds_own_rows() -> None:
    reward = RowReward(TOY.rewards, rows=12)
    generations = await run(search_over(TOY, replace(OPTIONS, minibatch=3), reward=reward))

    for generation in generations:
        for particle in generation.particles:
            assert {rollout.evaluation.rows for rollout in particle.rollouts} == {generation.rows}


async def test_a_whole_workflow_gives_no_rollout_away() -> None:
    prior = CountingPrior(GrammarPrior(STOPPING.grammar, 1))
    options = replace(OPTIONS, particles=12)
    generations = await run(search_over(STOPPING, options, 1, prior=prior))
    asked = {key.text for key, _ in prior.asked}
    stopped = [
        (later.round, index)
        for earlier, later in pairs(generations)
        for index, ancestor in enumerate(earlier.ancestors)
        if earlier.particles[ancestor].terminal
    ]

    assert stopped
    for number, index in stopped:
        particle = generations[number - 1].particles[index]
        assert particle.terminal
        assert len(particle.rollouts) == 1
        assert DrawKey("complete", number, index, 1).text not in asked


async def test_a_child_of_an_injected_workflow_draws_afresh() -> None:
    best = max(TOY.leaves, key=lambda leaf: leaf.reward).workflow
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    reward = TableReward({**TOY.rewards, best.workflow_id: 400.0})
    made = search_over(
        TOY,
        replace(OPTIONS, refinements=4, refinement="inject", particles=4),
        prior=prior,
        reward=reward,
        refiner=GrammarRefiner(TOY.grammar, 0),
    )
    generations = await run(made)
    fresh = {
        DrawKey("extend", later.round, index).text
        for earlier, later in pairs(generations)
        for index, ancestor in enumerate(earlier.ancestors)
        if ancestor >= 4
    }

    assert fresh
    assert {key.text for key, _ in prior.asked if key.kind == "extend" and key.round > 1} == fresh


def test_with_one_rollout_there_is_nothing_to_recycle() -> None:
    with pytest.raises(OptionsError, match="set `rollouts` to 2 or more"):
        replace(OPTIONS, rollouts=1)


class Chatty(CountingPrior):
    @property
    def coherent(self) -> bool:
        return False


def test_a_prior_that_is_not_coherent_does_not_recycle() -> None:
    prior = Chatty(GrammarPrior(TOY.grammar, 0))
    with pytest.raises(OptionsError, match="leave `recycle` out"):
        search_over(TOY, OPTIONS, prior=prior)
    assert search_over(TOY, replace(OPTIONS, recycle=False), prior=prior).options.rollouts == 2
