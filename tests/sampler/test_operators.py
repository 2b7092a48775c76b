"""Which workflow each search operator edits."""

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.operators import TOURNAMENT, Operator, pick, pick_parent, quantile_index
from bayesflow_sampler.types import Candidate, Evaluation, Origin, RowSet
from fakes.toys import word_of, workflow_of

OPERATORS: tuple[Operator, ...] = get_args(Operator)


def candidate(
    word: str, reward: float, origin: Origin = "prior", parent: str | None = None
) -> Candidate:
    workflow = workflow_of(word)
    evaluation = Evaluation(workflow.workflow_id, RowSet("validation", (0,)), (reward,))
    parent_id = None if parent is None else workflow_of(parent).workflow_id
    return Candidate(workflow, evaluation, 1, origin, parent_id)


def edit(word: str, reward: float, parent: str) -> Candidate:
    return candidate(word, reward, "refined", parent)


def words(picked: Sequence[Candidate]) -> list[str]:
    return [word_of(one.workflow) for one in picked]


def chosen(operator: Operator, pool: Sequence[Candidate], *path: str | int) -> str:
    return word_of(pick(operator, pool, 0, *path)[0].workflow)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_pool_of_one_is_picked_from_as_it_is(operator: Operator) -> None:
    lone = candidate("a", 0.0)

    assert pick(operator, [lone], 0, "x") == (lone,)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_pick_depends_on_the_pool_the_seed_and_the_path_alone(operator: Operator) -> None:
    pool = [candidate(word, 0.1 * place) for place, word in enumerate("abcdefgh")]

    first = [pick(operator, pool, 3, "refine", m) for m in range(20)]
    assert first == [pick(operator, pool, 3, "refine", m) for m in range(20)]


@given(
    rewards=st.lists(st.floats(0, 1), min_size=1, max_size=12),
    seed=st.integers(0, 2**32),
    operator=st.sampled_from(OPERATORS),
)
def test_every_operator_picks_one_or_two_different_members_of_any_pool(
    rewards: list[float], seed: int, operator: Operator
) -> None:
    draw = random.Random(seed)
    pool: list[Candidate] = []
    for place, reward in enumerate(rewards):
        parent = draw.choice([None, *"abcdefghijkl"[: place + 2]])
        pool.append(
            candidate("abcdefghijkl"[place], reward, "refined" if parent else "prior", parent)
        )
    picked = pick(operator, pool, seed, "x")

    assert all(one in pool for one in picked)
    assert len(set(words(picked))) == len(picked)
    assert len(picked) == (2 if operator == "evolutionary" and len(pool) > 1 else 1)


def test_best_is_the_papers_softmax_over_the_best_three() -> None:
    pool = [
        candidate(word, reward) for word, reward in zip("abcd", (0.1, 0.9, 0.8, 0.85), strict=True)
    ]
    picks = Counter(chosen("best", pool, m) for m in range(400))

    assert set(picks) == {"b", "c", "d"}
    assert picks["b"] > picks["d"] > picks["c"]
    assert word_of(pick_parent(pool, 0.0).workflow) == "b"


def test_linear_starts_from_the_best_workflow_and_goes_on_from_the_latest_refinement() -> None:
    pool = [candidate("a", 0.2), candidate("b", 0.9), candidate("c", 0.4)]

    assert chosen("linear", pool) == "b"
    pool.append(edit("d", 0.1, "b"))
    assert chosen("linear", pool) == "d"
    pool.append(edit("e", 0.0, "d"))
    assert chosen("linear", pool) == "e"
    pool.append(candidate("f", 0.0, "submitted"))
    assert chosen("linear", pool) == "f"


def test_evolutionary_crosses_the_winners_of_two_tournaments_the_better_first() -> None:
    pool = [candidate(word, 0.1 * place) for place, word in enumerate("abcdefghij")]
    pairs = [words(pick("evolutionary", pool, 0, m)) for m in range(300)]
    firsts = Counter(first for first, _ in pairs)

    assert all(first > second for first, second in pairs)
    # The best wins whenever it enters: 6 of 10 places; 5 standard errors, false alarm 6e-7.
    assert abs(firsts["j"] / 300 - 2 * TOURNAMENT / 10) < 5 * (0.24 / 300) ** 0.5
    # A winner beat two others, a second one lost to at most the other winner.
    assert min(second for _, second in pairs) >= "c"


def test_evolutionary_halves_a_small_pool_between_the_tournaments() -> None:
    pool = [candidate("a", 0.1), candidate("b", 0.2), candidate("c", 0.3)]

    for m in range(50):
        first, second = words(pick("evolutionary", pool, 0, m))
        assert first == "c"
        assert second in "ab"


def test_tree_edits_the_best_root_first() -> None:
    pool = [candidate("a", 0.2), candidate("b", 0.7), candidate("c", 0.6)]

    assert chosen("tree", pool) == "b"


def test_tree_goes_down_where_an_edit_helped_and_leaves_where_it_did_not() -> None:
    roots = [candidate("a", 0.2), candidate("b", 0.5)]

    assert chosen("tree", [*roots, edit("c", 0.9, "b")]) == "c"
    failed = [*roots, *(edit(word, 0.0, "b") for word in "cdefg")]
    assert chosen("tree", failed) == "a"


def test_tree_comes_back_to_a_workflow_that_was_edited_less() -> None:
    """Rewards all equal, so only the visits speak: the ten next edits are spread over the roots."""
    pool = [candidate("a", 0.5), candidate("b", 0.5)]
    for word in "cdefghijkl":
        pool.append(edit(word, 0.5, chosen("tree", pool)))
    below = Counter[str]()
    top = {word_of(one.workflow): word_of(one.workflow) for one in pool[:2]}
    by_id = {one.workflow.workflow_id: word_of(one.workflow) for one in pool}
    for one in pool[2:]:
        assert one.parent_id is not None
        root = top[by_id[one.parent_id]]
        top[word_of(one.workflow)] = root
        below[root] += 1

    assert set(below.values()) == {5}


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        # Root a (0.5) has the edit b. Stop: 0.5 + 0.2·√(ln 3 / 2) = 0.648;
        # descend: R(b) + 0.2·√(ln 3 / 1) = R(b) + 0.210, equal at R(b) = 0.4386.
        (0.43, "a"),
        (0.45, "b"),
    ],
)
def test_tree_weighs_a_workflow_by_its_edits_against_the_edit(reward: float, wanted: str) -> None:
    assert chosen("tree", [candidate("a", 0.5), edit("b", reward, "a")]) == wanted


def test_tree_edits_the_workflow_itself_where_its_edits_promise_as_much() -> None:
    """Two visits against two: equal bounds."""
    pool = [candidate("a", 0.5), edit("b", 0.5, "a"), edit("c", 0.5, "b")]

    assert chosen("tree", pool) == "a"


def test_tree_survives_a_workflow_that_is_its_own_parent_and_a_long_chain() -> None:
    assert chosen("tree", [candidate("a", 0.5, "refined", "a")]) == "a"
    names = [format(number, "011b").translate({48: "a", 49: "b"}) for number in range(1500)]
    chain = [candidate(names[0], 0.5)]
    chain += [edit(name, 0.5, parent) for parent, name in itertools.pairwise(names)]
    assert len(pick("tree", chain, 0)) == 1


def test_a_workflow_whose_parent_is_not_in_the_pool_is_a_root() -> None:
    orphan = edit("b", 0.9, "z")

    assert pick("tree", [candidate("a", 0.1), orphan], 0) == (orphan,)


def test_quantiles_fall_into_the_weight_that_covers_them() -> None:
    assert [quantile_index([0.5, 0.25, 0.25], q) for q in (0.0, 0.5, 0.74, 0.75)] == [0, 1, 1, 2]
    assert quantile_index([0.3, 0.3, 0.3], 0.999) == 2
