"""Divides rows into demonstration, validation, selection and test.

Without other wishes 50 : 20 : 30, capped at 200 / 200 / 500; below 40 rows validation 60 : test 40;
the paper's rule is validation 1 : test 4 without caps. A row that names its split keeps it. Rows
of one group, and rows with the same input, never part. Each choice depends on the seed and the
rows' ids or groups only, not on their order. `task.py` is the caller.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Literal

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import SPLITS, Row, Split
from bayesflow_server.excerpt import quoted

__all__ = ["SplitRule", "Splits", "split_rows"]

SplitRule = Literal["three", "paper"]

_THREE: Mapping[Split, float] = {"validation": 0.5, "selection": 0.2, "test": 0.3}
_CAPS: Mapping[Split, int] = {"validation": 200, "selection": 200, "test": 500}
_TWO: Mapping[Split, float] = {"validation": 0.6, "test": 0.4}
_PAPER: Mapping[Split, float] = {"validation": 0.2, "test": 0.8}
_SELECTION_ONLY: Mapping[Split, float] = {"selection": 1.0}
_FEWEST_FOR_THREE = 40


@dataclass(frozen=True, slots=True)
class Splits:
    """Disjoint rows, each split in a random order that the seed fixes.

    Attributes:
        demonstration: Rows that prompts may show; may be empty.
        validation: Rows that the search scores on; never empty.
        selection: Rows that choose among finalists; empty where there are too few rows.
        test: Rows that only the winner and the baseline see; never empty.
        unused: How many rows are in no split.
        warnings: One sentence for each thing that is odd but usable.
    """

    demonstration: tuple[Row, ...]
    validation: tuple[Row, ...]
    selection: tuple[Row, ...]
    test: tuple[Row, ...]
    unused: int
    warnings: tuple[str, ...]

    def of(self, split: Split) -> tuple[Row, ...]:
        """The rows of one split."""
        return {
            "demonstration": self.demonstration,
            "validation": self.validation,
            "selection": self.selection,
            "test": self.test,
        }[split]

    def sizes(self) -> dict[Split, int]:
        """How many rows each split has."""
        return {split: len(self.of(split)) for split in SPLITS}


@dataclass(frozen=True, slots=True)
class _Plan:
    """What each split should get of the rows that name none.

    Attributes:
        quotas: Rows each open split is filled to; whole groups may overshoot it.
        limits: Rows a split holds at most; what overshoots is left unused.
    """

    quotas: Mapping[Split, int]
    limits: Mapping[Split, int]


def split_rows(
    rows: Sequence[Row],
    *,
    sizes: Mapping[str, int | float] | None = None,
    rule: SplitRule = "three",
    seed: int = 0,
) -> Splits:
    """Divides the rows.

    Args:
        rows: Rows with unique ids.
        sizes: Split → how many rows (whole numbers) or which share of the rows that name no split
            (fractions up to 1). Splits that are left out get only rows that name them.
        rule: What holds where `sizes` is None.
        seed: Chooses among the equally good divisions.

    Raises:
        InputError: The sizes make no sense, or validation or test would be empty.
    """
    wanted = _checked(sizes)
    warnings: list[str] = []
    if only := _only_split(rows):
        warnings.append(
            f"All rows name the split {quoted(only)}, so it was ignored and they were divided."
        )
        rows = [replace(row, split=None) for row in rows]
    ordered = sorted(rows, key=lambda row: (_draw(seed, row.id), row.id))
    chosen: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    for row in ordered:
        if row.split is not None:
            chosen[row.split].append(row)
    free = [row for row in ordered if row.split is None]
    free = _follow(free, chosen)
    named: list[Split] = [split for split in SPLITS if chosen[split]]
    plan = _plan(len(free), named, wanted, rule)
    _fill(chosen, _groups(free, seed), plan)
    for split, limit in plan.limits.items():
        del chosen[split][limit:]
    _check_counts(chosen, wanted)
    _check_filled(chosen, len(rows))
    used = sum(len(split) for split in chosen.values())
    return Splits(
        demonstration=tuple(chosen["demonstration"]),
        validation=tuple(chosen["validation"]),
        selection=tuple(chosen["selection"]),
        test=tuple(chosen["test"]),
        unused=len(rows) - used,
        warnings=(*warnings, *_warnings(chosen, wanted, named, rule)),
    )


def _checked(sizes: Mapping[str, int | float] | None) -> dict[Split, int | float] | None:
    """The sizes with known names, all counts or all shares."""
    if sizes is None:
        return None
    for name, size in sizes.items():
        if name not in SPLITS:
            raise InputError(f"`splits` names {quoted(name)}: use {', '.join(SPLITS)}.")
        if isinstance(size, bool) or not (size >= 0 and (isinstance(size, int) or size <= 1)):
            raise InputError(
                f"`splits` gives {name} the size {size}: use a whole number of rows, or a share "
                "between 0 and 1."
            )
    shares = [size for size in sizes.values() if isinstance(size, float)]
    if shares and any(isinstance(size, int) and size > 0 for size in sizes.values()):
        raise InputError("`splits` mixes numbers of rows and shares: use one of the two.")
    if sum(shares) > 1 + 1e-9:
        raise InputError(f"The shares in `splits` add up to {sum(shares):g}: use at most 1.")
    return {split: sizes[split] for split in SPLITS if split in sizes}


def _only_split(rows: Sequence[Row]) -> Split | None:
    """The split that every row names, if it is one and the same: it cannot tell rows apart."""
    splits: set[Split | None] = {row.split for row in rows}
    return splits.pop() if len(splits) == 1 else None


def _draw(seed: int, key: str) -> int:
    return int.from_bytes(blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big")


def _key(row: Row) -> str:
    """Rows with equal keys never part."""
    return f"group\0{row.group}" if row.group is not None else f"input\0{row.problem}"


def _follow(free: Iterable[Row], chosen: Mapping[Split, list[Row]]) -> list[Row]:
    """Sends rows after those of their group that name a split; returns the others."""
    home: dict[str, Split] = {}
    for split in SPLITS:
        for row in chosen[split]:
            home.setdefault(_key(row), split)
    if not home:
        return list(free)
    others: list[Row] = []
    for row in free:
        followed = home.get(_key(row))
        (others if followed is None else chosen[followed]).append(row)
    return others


def _groups(rows: Iterable[Row], seed: int) -> list[list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[_key(row)].append(row)
    return [groups[key] for key in sorted(groups, key=lambda key: (_draw(seed, key), key))]


def _plan(
    free: int,
    named: Sequence[Split],
    wanted: Mapping[Split, int | float] | None,
    rule: SplitRule,
) -> _Plan:
    if wanted is None:
        return _default_plan(free, named, rule)
    if any(isinstance(size, float) for size in wanted.values()):
        if clash := [split for split in named if wanted.get(split)]:
            raise InputError(
                f"`splits` gives a share to {clash[0]}, which rows name as their split already: "
                "give numbers of rows, or leave that split out."
            )
        return _Plan(_largest_remainders(free, wanted), {})
    limits: dict[Split, int] = {split: int(size) for split, size in wanted.items()}
    quotas: dict[Split, int] = {split: n for split, n in limits.items() if split not in named}
    return _Plan(quotas, limits)


def _default_plan(free: int, named: Sequence[Split], rule: SplitRule) -> _Plan:
    """Shares for the splits that no row names, in the proportions of the rule."""
    weights = _PAPER
    if rule == "three":
        weights = _THREE if free >= _FEWEST_FOR_THREE else _TWO
    if rule == "three" and {"validation", "test"} <= set(named):
        weights = _SELECTION_ONLY
    shares: dict[Split, float] = dict(weights)
    for split in named:
        shares.pop(split, None)
    if free and not shares:
        raise InputError(
            f"{free} rows name no split while others name all of them: name the split of every "
            "row, or of none."
        )
    total = sum(shares.values())
    quotas = _largest_remainders(free, {split: part / total for split, part in shares.items()})
    if rule == "paper":
        return _Plan(quotas, {})
    capped: dict[Split, int] = {split: min(n, _CAPS[split]) for split, n in quotas.items()}
    limits: dict[Split, int] = {split: _CAPS[split] for split in quotas}
    return _Plan(capped, limits)


def _largest_remainders(count: int, shares: Mapping[Split, float]) -> dict[Split, int]:
    """Whole numbers closest to the shares; none of them 0 while there are rows for all."""
    exact: dict[Split, float] = {split: count * part for split, part in shares.items() if part > 0}
    sizes: dict[Split, int] = {split: int(size) for split, size in exact.items()}
    spare = round(sum(exact.values())) - sum(sizes.values())
    for split in sorted(exact, key=lambda split: sizes[split] - exact[split])[:spare]:
        sizes[split] += 1
    for split in sizes:
        largest = max(sizes, key=lambda other: sizes[other])
        if sizes[split] == 0 and sizes[largest] > 1:
            sizes[split], sizes[largest] = 1, sizes[largest] - 1
    return sizes


def _fill(chosen: Mapping[Split, list[Row]], groups: Iterable[list[Row]], plan: _Plan) -> None:
    """Gives each group whole to the split that lacks most."""
    lacking = dict(plan.quotas)
    for group in groups:
        split = max(lacking, key=lambda split: lacking[split], default=None)
        if split is None or lacking[split] <= 0:
            return
        chosen[split].extend(group)
        lacking[split] -= len(group)


def _check_counts(
    chosen: Mapping[Split, list[Row]], wanted: Mapping[Split, int | float] | None
) -> None:
    for split, size in (wanted or {}).items():
        if isinstance(size, int) and len(chosen[split]) < size:
            raise InputError(
                f"`splits` asks for {size} {split} rows, but only {len(chosen[split])} are left "
                "for it: ask for fewer, or add rows."
            )


def _check_filled(chosen: Mapping[Split, list[Row]], rows: int) -> None:
    needed: tuple[Split, ...] = ("validation", "test")
    for split in needed:
        if not chosen[split]:
            raise InputError(
                f"No row is left for the {split} split (of {rows} rows in all): add rows, name the "
                "split of each row, or give sizes in `splits`; rows of one group, or with the same "
                "input, stay together."
            )


def _warnings(
    chosen: Mapping[Split, list[Row]],
    wanted: Mapping[Split, int | float] | None,
    named: Sequence[Split],
    rule: SplitRule,
) -> Iterable[str]:
    inputs: defaultdict[str, set[Split]] = defaultdict(set)
    groups: defaultdict[str, set[Split]] = defaultdict(set)
    for split in SPLITS:
        for row in chosen[split]:
            inputs[row.problem].add(split)
            if row.group is not None:
                groups[row.group].add(split)
    if leaks := [splits for splits in inputs.values() if len(splits) > 1]:
        where = ", ".join(split for split in SPLITS if any(split in leak for leak in leaks))
        yield (
            f"{len(leaks)} inputs occur in more than one split ({where}): scores on them flatter; "
            "keep each input in one split."
        )
    if parted := [group for group, splits in groups.items() if len(splits) > 1]:
        yield (
            f"The rows of group '{parted[0][:60]}' name different splits; the rows' word was "
            "followed."
        )
    evaluated = len(chosen["validation"]) + len(chosen["test"])
    expected = rule == "three" and wanted is None and (named or evaluated >= _FEWEST_FOR_THREE)
    if expected and not chosen["selection"]:
        yield (
            "There is no selection split: the winner is picked by validation alone; its test score "
            "stays honest."
        )
