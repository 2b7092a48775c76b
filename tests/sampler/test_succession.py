"""A round's children: island by island, and refined lineages held back where they must be."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.controller import held_back, held_to
from bayesflow_sampler.errors import WeightError
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.selection import select
from bayesflow_sampler.succession import succession
from bayesflow_sampler.types import Candidate, Evaluation, Generation, Particle, RowSet
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.search_ports import TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("abc", 4, seed=3)
OPTIONS = SearchOptions(
    particles=4, refinements=0, rounds=3, inverse_temperature=1.0, minibatch=None
)
INF = math.inf


def particle(
    score: float,
    *,
    log_weight: float = 0.0,
    clean: bool = True,
    island: int = 0,
    terminal: bool = False,
) -> Particle:
    workflow = workflow_of("abc")
    evaluation = Evaluation(workflow.workflow_id, RowSet("validation", (0,)), (score,))
    return Particle(
        prefix=workflow if terminal else workflow.prefix(1),
        log_weight=log_weight,
        score=score,
        value=score,
        rollouts=(Candidate(workflow, evaluation, 1, "prior", clean=clean),),
        clean=clean,
        ancestor=-1,
        terminal=terminal,
        island=island,
    )


FOUR = [particle(score) for score in (0.1, 0.9, 0.4, 0.7)]


# --- holding back -----------------------------------------------------------------------------

finite = st.floats(min_value=-50, max_value=50)
entries = st.lists(st.tuples(finite, finite, st.booleans()), min_size=1, max_size=12)
floors = st.floats(min_value=0.01, max_value=0.99)


def share_of_clean(log_weights: list[float], scores: list[float], clean: list[bool]) -> float:
    shares = normalise([a + b for a, b in zip(log_weights, scores, strict=True)])
    return math.fsum(share for share, good in zip(shares, clean, strict=True) if good)


@given(entries, floors)
def test_clean_entries_get_their_floor_exactly_or_more_of_their_own(
    pool: list[tuple[float, float, bool]], floor: float
) -> None:
    log_weights, scores, clean = (list(column) for column in zip(*pool, strict=True))
    held, share = held_back(log_weights, scores, clean, floor)

    assert share == approx(share_of_clean(log_weights, scores, clean), rel=1e-9, abs=1e-12)
    if all(clean) or not any(clean) or share >= floor:
        assert held == scores
    else:
        assert share_of_clean(log_weights, held, clean) == approx(floor, rel=1e-6)


@given(entries, floors)
def test_only_refined_entries_lose_and_all_of_them_the_same(
    pool: list[tuple[float, float, bool]], floor: float
) -> None:
    log_weights, scores, clean = (list(column) for column in zip(*pool, strict=True))
    held, _ = held_back(log_weights, scores, clean, floor)
    lost = [before - after for before, after in zip(scores, held, strict=True)]

    assert all(loss == 0 for loss, good in zip(lost, clean, strict=True) if good)
    refined = [loss for loss, good in zip(lost, clean, strict=True) if not good]
    assert all(loss >= -1e-9 for loss in refined)
    assert not refined or max(refined) - min(refined) < 1e-9


def test_without_a_clean_entry_or_without_a_refined_one_nothing_is_held_back() -> None:
    assert held_back([0.0, 0.0], [1.0, 2.0], [False, False], 0.5) == ([1.0, 2.0], 0.0)
    assert held_back([0.0, 0.0], [1.0, 2.0], [True, True], 0.5) == ([1.0, 2.0], 1.0)
    assert held_back([0.0, 0.0], [-INF, 2.0], [True, False], 0.5) == ([-INF, 2.0], 0.0)
    assert held_back([0.0, 0.0], [1.0, -INF], [True, False], 0.5) == ([1.0, -INF], 1.0)


def test_scores_that_are_far_apart_overflow_nothing() -> None:
    held, share = held_back([0.0, 0.0], [0.0, 5000.0], [True, False], 0.25)

    assert 0 <= share < 1e-300
    assert held == [0.0, approx(math.log(3))]


def test_a_weight_that_was_carried_counts_as_much_as_a_score() -> None:
    assert held_back([2.0, 1.0], [0.0, 1.0], [True, False], 0.6)[1] == approx(0.5)


def test_the_decision_says_what_is_given_and_what_would_have_been() -> None:
    assert held_to(3, 0.4, 0.07).sentence == (
        "refined lineages get 60% of round 3's selection: otherwise 7% of the particles would be "
        "expected to stay without a refined ancestor, and the posterior rests on those; held back "
        "alike, they are paid back in the weights, so no estimate is moved."
    )


LOVED = [particle(6.0, clean=False), particle(5.0, clean=False)]


def test_a_selection_holds_refined_lineages_back_and_pays_them_back() -> None:
    options = replace(OPTIONS, refinement="inject", clean_floor=0.5, particles=400)
    pool = [particle(0.1 * (index % 7)) for index in range(400)]
    found = succession(1, pool, [particle(60.0, clean=False)], options, 3, last=False)
    held, share = held_back(
        [0.0] * 401, [entry.score for entry in pool] + [60.0], [True] * 400 + [False], 0.5
    )
    shares = normalise(held)

    assert sum(child.clean for child in found.children) in range(199, 202)
    assert found.decisions == (held_to(1, 0.5, share),)
    for child in found.children:
        assert child.log_weight == approx(-math.log(400 * shares[child.ancestor]))


@pytest.mark.parametrize(
    "options",
    [
        replace(OPTIONS, refinement="inject"),
        replace(OPTIONS, refinement="inject", clean_floor=0.5, weighting="paper"),
    ],
)
def test_without_a_floor_or_in_paper_weighting_nothing_is_held_back(
    options: SearchOptions,
) -> None:
    found = succession(1, FOUR, LOVED, options, 0, last=False)

    assert found.decisions == ()
    assert {child.ancestor for child in found.children} <= {4, 5}


def test_where_the_clean_have_their_share_there_is_nothing_to_decide() -> None:
    options = replace(OPTIONS, refinement="inject", clean_floor=0.2)
    dull = [replace(one, score=0.1) for one in LOVED]

    assert succession(1, FOUR, dull, options, 0, last=False).decisions == ()


async def injected(floor: float, seeds: int) -> tuple[float, float]:
    """Mean clean share and mean Ẑ/Z of last rounds, with refinements that are loved too much."""
    options = SearchOptions(
        particles=8,
        refinements=4,
        rounds=3,
        inverse_temperature=3.0,
        minibatch=None,
        refinement="inject",
        clean_floor=floor,
    )
    shares: list[float] = []
    estimates: list[float] = []
    for seed in range(seeds):
        last: Generation = (
            await run(search_over(TOY, options, seed, refiner=GrammarRefiner(TOY.grammar, seed)))
        )[-1]
        shares.append(sum(one.clean for one in last.particles) / 8)
        weights = [math.exp(one.log_weight + one.score) for one in last.particles if one.clean]
        estimates.append(math.fsum(weights) / 8 / TOY.evidence(3.0))
    return math.fsum(shares) / seeds, math.fsum(estimates) / seeds


@pytest.mark.slow
async def test_the_floor_is_kept_to_the_end_and_moves_no_estimate() -> None:
    """300 searches; standard errors are below .02 and .06, so false alarm below 1 in 10,000."""
    free, _ = await injected(0.0, 300)
    share, evidence = await injected(0.6, 300)

    assert free < 0.5
    assert share > 0.6 - 0.05
    assert abs(evidence - 1) < 0.25


# --- islands ----------------------------------------------------------------------------------

APART = [
    particle(0.1 * place, log_weight=0.2 * (place % 3), island=island)
    for island in (0, 1)
    for place in range(8)
]


def numbers(island: int) -> Callable[[int], float]:
    return lambda j: uniform(9, "select", 2, island, j)


def test_each_island_selects_among_its_own_by_random_numbers_of_its_own() -> None:
    options = replace(OPTIONS, islands=2, particles=16, resampling="multinomial")
    found = succession(2, APART, (), options, 9, last=False)
    mine = APART[:8]

    assert [child.island for child in found.children] == [0] * 8 + [1] * 8
    for island in (0, 1):
        alone = select(
            [one.log_weight for one in mine],
            [one.score for one in mine],
            8,
            numbers(island),
            resampling="multinomial",
        )
        children = found.children[8 * island : 8 * island + 8]
        assert [child.ancestor - 8 * island for child in children] == list(alone.ancestors)
        assert [child.log_weight for child in children] == list(alone.log_weights)


EVEN = [particle(1.0, island=index // 2) for index in range(4)]


def test_what_is_injected_may_be_selected_on_every_island() -> None:
    options = replace(OPTIONS, islands=2, refinement="inject")
    found = succession(1, EVEN, [particle(50.0, clean=False)], options, 0, last=False)

    assert [child.ancestor for child in found.children] == [4, 4, 4, 4]
    assert [child.island for child in found.children] == [0, 0, 1, 1]


def test_it_resampled_if_any_island_did() -> None:
    options = replace(OPTIONS, islands=2, ess_threshold=0.9)
    uneven = [particle(score, island=index // 2) for index, score in enumerate([0, 9, 1, 1])]

    assert succession(1, uneven, (), options, 0, last=False).resampled
    left = succession(1, EVEN, (), options, 0, last=False)
    assert not left.resampled
    assert [child.ancestor for child in left.children] == [0, 1, 2, 3]


# --- what a child takes along -----------------------------------------------------------------


def test_a_child_takes_its_parents_prefix_value_and_cleanness() -> None:
    pool = [replace(one, clean=index != 1) for index, one in enumerate(FOUR)]
    found = succession(1, pool, (), OPTIONS, 0, last=False)

    for child in found.children:
        parent = pool[child.ancestor]
        assert (child.prefix, child.value, child.clean) == (
            parent.prefix,
            parent.value,
            parent.clean,
        )
        assert child.whole is None
        assert child.recycled is None


def test_a_child_of_a_whole_workflow_is_that_workflow() -> None:
    found = succession(1, [particle(1.0, terminal=True)] * 4, (), OPTIONS, 0, last=False)

    assert all(child.whole == particle(1.0).rollouts[0] for child in found.children)


def test_only_a_prefix_gives_its_rollouts_to_its_children() -> None:
    options = replace(OPTIONS, recycle=True, rollouts=2)
    pool = [particle(1.0, terminal=index % 2 == 0) for index in range(4)]
    found = succession(1, pool, (), options, 0, last=False)

    assert [child.ancestor for child in found.children] == [0, 1, 2, 3]
    assert [child.recycled is None for child in found.children] == [True, False, True, False]


def test_nothing_follows_the_last_round() -> None:
    assert succession(3, FOUR, (), OPTIONS, 0, last=True) == ((), (), False)


def test_without_look_ahead_everyone_stays_with_its_weight() -> None:
    options = replace(OPTIONS, lookahead=False, refinements=1)
    pool = [replace(one, log_weight=0.3 * index) for index, one in enumerate(FOUR)]
    found = succession(1, pool, (), options, 0, last=False)

    assert [child.ancestor for child in found.children] == [0, 1, 2, 3]
    assert [child.log_weight for child in found.children] == [one.log_weight for one in pool]
    assert not found.resampled


def test_where_nobody_has_a_weight_it_says_so() -> None:
    dead = [particle(-INF, terminal=True)] * 4
    with pytest.raises(WeightError, match=r"No particle of round 2 .* every reward is -inf"):
        succession(2, dead, (), OPTIONS, 0, last=False)


async def test_a_search_with_a_floor_tells_the_run_of_each_round_it_held_back_in() -> None:
    options = replace(
        OPTIONS, refinements=4, refinement="inject", clean_floor=0.9, inverse_temperature=3.0
    )
    generations = await run(
        search_over(
            TOY, options, reward=TableReward(TOY.rewards), refiner=GrammarRefiner(TOY.grammar, 0)
        )
    )
    told = [[note for note in one.notes if note.startswith("refined")] for one in generations]

    assert [len(notes) for notes in told] == [1, 1, 0]
    assert told[1][0].startswith("refined lineages get 10% of round 2's selection: otherwise ")


async def test_the_islands_of_a_search_keep_to_themselves() -> None:
    """Neighbours share an island, and no child leaves its parent's."""
    options = replace(OPTIONS, particles=6, islands=3, inverse_temperature=9.0)
    generations = await run(search_over(TOY, options))

    for generation in generations:
        assert [one.island for one in generation.particles] == [0, 0, 1, 1, 2, 2]
    for generation in generations[:-1]:
        assert [ancestor // 2 for ancestor in generation.ancestors] == [0, 0, 1, 1, 2, 2]
