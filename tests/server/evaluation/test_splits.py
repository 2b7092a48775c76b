import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import SPLITS, Row, Split
from bayesflow_server.evaluation.splits import Splits, split_rows


def rows_of(count: int, *, split: Split | None = None, prefix: str = "r") -> list[Row]:
    return [
        Row(id=f"{prefix}{n}", problem=f"{prefix} {n}", target=n, split=split) for n in range(count)
    ]


def counts(splits: Splits) -> tuple[int, int, int, int]:
    sizes = splits.sizes()
    return (*(sizes[split] for split in SPLITS[1:]), splits.unused)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (2, (1, 0, 1, 0)),
        (5, (3, 0, 2, 0)),
        (39, (23, 0, 16, 0)),
        (40, (20, 8, 12, 0)),
        (100, (50, 20, 30, 0)),
        (1000, (200, 200, 300, 300)),
        (10000, (200, 200, 500, 9100)),
    ],
)
def test_decision_16_default_sizes(rows: int, expected: tuple[int, int, int, int]) -> None:
    assert counts(split_rows(rows_of(rows))) == expected


@pytest.mark.parametrize(("rows", "expected"), [(2, (1, 0, 1, 0)), (1000, (200, 0, 800, 0))])
def test_the_paper_rule_is_one_to_four_without_caps(
    rows: int, expected: tuple[int, int, int, int]
) -> None:
    assert counts(split_rows(rows_of(rows), rule="paper")) == expected


@given(st.integers(2, 300), st.integers(0, 5), st.randoms(use_true_random=False))
def test_splits_are_disjoint_and_do_not_depend_on_row_order(
    count: int, seed: int, shuffler: random.Random
) -> None:
    rows = rows_of(count)
    splits = split_rows(rows, seed=seed)
    ids = [row.id for split in SPLITS for row in splits.of(split)]
    assert len(ids) == len(set(ids)) == count - splits.unused
    shuffler.shuffle(rows)
    assert split_rows(rows, seed=seed) == splits


def test_another_seed_divides_otherwise() -> None:
    assert split_rows(rows_of(100), seed=1).test != split_rows(rows_of(100), seed=2).test


def test_rows_that_name_their_split_keep_it() -> None:
    rows = (
        rows_of(3, split="demonstration", prefix="d")
        + rows_of(5, split="validation", prefix="v")
        + rows_of(4, split="selection", prefix="s")
        + rows_of(600, split="test", prefix="t")
    )
    splits = split_rows(rows)
    assert splits.sizes() == {"demonstration": 3, "validation": 5, "selection": 4, "test": 600}
    assert all(row.split == split for split in SPLITS for row in splits.of(split))


def test_rows_without_a_split_fill_the_splits_that_nobody_named() -> None:
    named = rows_of(50, split="test", prefix="t") + rows_of(4, split="demonstration", prefix="d")
    splits = split_rows(named + rows_of(70))
    assert counts(splits) == (50, 20, 50, 0)
    assert len(splits.demonstration) == 4


def test_rows_without_a_split_become_selection_beside_named_validation_and_test() -> None:
    named = rows_of(9, split="test", prefix="t") + rows_of(9, split="validation", prefix="v")
    assert counts(split_rows(named + rows_of(7))) == (9, 7, 9, 0)


def test_rows_without_a_split_are_refused_where_others_name_all() -> None:
    named = [row for split in SPLITS for row in rows_of(2, split=split, prefix=split)]
    with pytest.raises(InputError, match="name no split while others"):
        split_rows(named + rows_of(1))


def test_one_split_named_by_every_row_is_ignored_with_a_warning() -> None:
    splits = split_rows(rows_of(100, split="demonstration"))
    assert counts(splits) == (50, 20, 30, 0)
    assert "ignored" in splits.warnings[0]


def test_explicit_counts_are_met_exactly() -> None:
    splits = split_rows(rows_of(200), sizes={"validation": 40, "selection": 30, "test": 100})
    assert counts(splits) == (40, 30, 100, 30)


def test_explicit_shares_are_met() -> None:
    sizes = {"demonstration": 0.1, "validation": 0.4, "test": 0.3}
    splits = split_rows(rows_of(100), sizes=sizes)
    assert splits.sizes() == {"demonstration": 10, "validation": 40, "selection": 0, "test": 30}
    assert splits.unused == 20


def test_a_count_below_a_named_split_takes_part_of_it() -> None:
    named = rows_of(50, split="test", prefix="t") + rows_of(50, split="validation", prefix="v")
    assert counts(split_rows(named, sizes={"validation": 20, "test": 30})) == (20, 0, 30, 50)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"train": 10}, "names 'train'"),
        ({"validation": -1, "test": 5}, "the size -1"),
        ({"validation": 1.5, "test": 0.5}, "the size 1.5"),
        ({"validation": float("nan"), "test": 0.5}, "the size nan"),
        ({"validation": True, "test": 5}, "the size True"),
        ({"validation": 0.5, "test": 5}, "mixes"),
        ({"validation": 0.8, "test": 0.4}, "add up to 1.2"),
        ({"validation": 50, "test": 60}, "only"),
        ({"validation": 50}, "No row is left for the test split"),
        ({"validation": 0, "test": 9}, "No row is left for the validation split"),
        ({}, "No row is left for the validation split"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_rows(rows_of(100), sizes=sizes)


def test_a_share_of_a_named_split_is_refused() -> None:
    rows = rows_of(10) + rows_of(10, split="test", prefix="t")
    with pytest.raises(InputError, match="gives a share to test"):
        split_rows(rows, sizes={"validation": 0.5, "test": 0.5})


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_rows_are_refused(count: int) -> None:
    with pytest.raises(InputError, match="No row is left"):
        split_rows(rows_of(count))


@given(st.lists(st.integers(1, 12), min_size=8, max_size=30), st.integers(0, 3), st.booleans())
def test_a_group_never_parts(group_sizes: list[int], seed: int, counted: bool) -> None:
    rows = [
        Row(id=f"{g}-{n}", problem=f"{g} {n}", group=f"g{g}")
        for g, size in enumerate(group_sizes)
        for n in range(size)
    ]
    sizes = {"validation": 2, "test": 2} if counted else None
    try:
        splits = split_rows(rows, sizes=sizes, seed=seed)
    except InputError:
        assert counted  # a whole group of one may be all that a split got
        return
    homes = {(row.group, split) for split in SPLITS for row in splits.of(split)}
    assert max(Counter(group for group, _ in homes).values()) == 1


def test_equal_groups_fill_the_default_sizes() -> None:
    rows = [
        Row(id=f"{g}-{n}", problem=f"{g} {n}", group=str(g)) for g in range(10) for n in range(8)
    ]
    assert counts(split_rows(rows)) == (40, 16, 24, 0)


def test_one_single_group_cannot_be_divided() -> None:
    rows = [Row(id=str(n), problem=str(n), group="g") for n in range(50)]
    with pytest.raises(InputError, match="stay together"):
        split_rows(rows)


def test_rows_follow_the_members_of_their_group_that_name_a_split() -> None:
    named = [Row(id="d", problem="shown", group="g", split="demonstration")]
    twin = [Row(id=f"m{n}", problem=f"like {n}", group="g") for n in range(3)]
    splits = split_rows(named + twin + rows_of(50))
    assert {row.id for row in splits.demonstration} == {"d", "m0", "m1", "m2"}


def test_equal_inputs_stay_together() -> None:
    rows = [Row(id=f"{n}-{copy}", problem=str(n)) for n in range(50) for copy in range(2)]
    splits = split_rows(rows)
    assert not splits.warnings
    homes = {(row.problem, split) for split in SPLITS for row in splits.of(split)}
    assert len(homes) == 50


def test_the_same_input_in_two_named_splits_is_a_warning() -> None:
    rows = rows_of(5, split="validation", prefix="v") + rows_of(5, split="test", prefix="t")
    leak = [Row(id="leak", problem="v 0", split="test")]
    assert any("1 inputs occur in more" in text for text in split_rows(rows + leak).warnings)
    assert not any("occur in more" in text for text in split_rows(rows).warnings)


def test_a_group_that_names_two_splits_is_a_warning() -> None:
    rows = [
        Row(id=str(n), problem=str(n), group="g", split="test" if n % 2 else "validation")
        for n in range(6)
    ]
    assert any("group 'g'" in text for text in split_rows(rows).warnings)


def test_a_missing_selection_split_is_said() -> None:
    rows = rows_of(50, split="validation", prefix="v") + rows_of(50, split="test", prefix="t")
    assert any("no selection split" in text for text in split_rows(rows).warnings)
