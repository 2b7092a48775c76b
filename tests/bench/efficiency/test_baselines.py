import math
from collections.abc import Awaitable, Callable

import pytest

from bench.efficiency.baselines import (
    Explorer,
    linear_search,
    mixed_shares,
    prior_draws,
    tree_search,
)
from bench.efficiency.contenders import BETA
from bench.efficiency.landscapes import make_landscape, words
from bench.efficiency.rows import Answers, MeteredReward
from fakes.toys import word_of

Explore = Callable[[Explorer, float], Awaitable[None]]


def _explorer(seed: int) -> Explorer:
    answers = Answers(make_landscape("smooth", seed, flat=True), 60, seed)
    return Explorer(MeteredReward(answers), seed)


@pytest.mark.parametrize("explore", [prior_draws, tree_search, linear_search])
@pytest.mark.parametrize("budget", [1, 10, 37])
async def test_a_baseline_spends_its_budget_and_no_more(explore: Explore, budget: float) -> None:
    explorer = _explorer(4)
    await explore(explorer, budget)
    assert explorer.reward.evaluations == len(explorer.pool) == budget


async def test_screening_keeps_back_what_the_final_pick_may_need() -> None:
    explorer = _explorer(4)
    await prior_draws(explorer, 40, rows=20)
    assert 32.5 < explorer.reward.evaluations <= 40 - 10 * 2 / 3
    assert all(len(one.evaluation.scores) == 20 for one in explorer.pool.values())


async def test_a_search_that_finds_nothing_new_ends() -> None:
    explorer = _explorer(4)
    await tree_search(explorer, 1e9)
    assert 60 < len(explorer.pool) < 3125


async def test_every_edit_changes_one_letter_of_a_workflow_that_was_there() -> None:
    explorer = _explorer(2)
    await tree_search(explorer, 30)
    seen: dict[str, str] = {}
    for name, candidate in explorer.pool.items():
        word = word_of(candidate.workflow)
        if candidate.parent_id is not None:
            parent = seen[candidate.parent_id]
            assert sum(a != b for a, b in zip(word, parent, strict=True)) == 1
        seen[name] = word
    assert [one.parent_id for one in explorer.pool.values()].count(None) == 1


async def test_each_design_of_the_line_changes_the_one_before() -> None:
    explorer = _explorer(2)
    await linear_search(explorer, 20)
    names = list(explorer.pool)
    parents = [candidate.parent_id for candidate in explorer.pool.values()]
    assert parents[:5] == [None] * 5
    assert parents[5:] == names[4:-1]


def test_the_tree_edits_the_first_and_the_best_alone() -> None:
    shares = mixed_shares([0.1, 0.5, 0.2, 0.6, 0.55], 3)
    assert shares[2] == 0.0
    assert math.isclose(sum(shares), 1.0)
    assert shares[3] > shares[4] > shares[1] > shares[0] > 0.05
    assert mixed_shares([0.4], 3) == [1.0]
    assert mixed_shares([0.1, 0.5, 0.2, 0.6, 0.55], 4)[2] > 0


def _estimate(explorer: Explorer, beta: float) -> float:
    rewards = [explorer.pool[name].evaluation.mean for name in explorer.drawn]
    weights = [math.exp(beta * reward) for reward in rewards]
    return sum(w * r for w, r in zip(weights, rewards, strict=True)) / sum(weights)


async def test_weighted_prior_draws_estimate_the_posterior_and_bare_ones_do_not() -> None:
    # 15 landscapes of 400 draws: the mean error has a standard error near 0.003.
    weighted, bare = 0.0, 0.0
    for seed in range(15):
        explorer = _explorer(seed)
        await prior_draws(explorer, 400)
        expectation = explorer.reward.answers.expectation(BETA)
        weighted += (_estimate(explorer, BETA) - expectation) / 15
        bare += (_estimate(explorer, 0.0) - expectation) / 15
    assert abs(weighted) < 0.02
    assert bare < -0.08


async def _best_truth(explore: Explore, seed: int) -> float:
    explorer = _explorer(seed)
    await explore(explorer, 30)
    best = max(explorer.pool.values(), key=lambda one: one.evaluation.mean)
    truth = explorer.reward.answers.landscape.truth
    return float(truth[words().places[best.workflow.workflow_id]])


@pytest.mark.parametrize("explore", [tree_search, linear_search])
async def test_edits_climb_a_smooth_landscape_where_draws_do_not(explore: Explore) -> None:
    # Over 40 landscapes the difference is 0.04 to 0.05 with a standard error near 0.012.
    climbed = sum([await _best_truth(explore, seed) for seed in range(40)]) / 40
    drawn = sum([await _best_truth(prior_draws, seed) for seed in range(40)]) / 40
    assert climbed > drawn + 0.01
