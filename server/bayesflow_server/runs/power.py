"""What a number of rows can tell: the smallest paired difference, and the width of an interval.

By the rule that reports use (`intervals.paired_gain`, 95 %), for workflows that disagree on three
rows in ten: about what two decent workflows for one task do. Two that disagree more are harder to
tell apart, so the figures are a guide, not a promise. `check.py` is the caller.
"""

from functools import lru_cache
from typing import Final

from bayesflow_server.evaluation.example import Split
from bayesflow_server.evaluation.intervals import paired_gain, score_interval

__all__ = ["half_width", "rows_to_tell", "size_warnings", "smallest_difference"]

_DISAGREEING: Final = 0.3
_WANTED: Final = 0.10
_WIDEST: Final = 0.15
_STEP: Final = 5
_MOST_ROWS: Final = 2_000


def size_warnings(sizes: dict[Split, int]) -> list[str]:
    """What is said of splits that are too small, a sentence each."""
    found: list[str] = []
    validation, test = sizes["validation"], sizes["test"]
    difference = smallest_difference(validation)
    if difference is None or difference > _WANTED:
        told = (
            "cannot tell any two workflows apart"
            if difference is None
            else f"tell two workflows apart only if their scores differ by {difference * 100:.0f} "
            "points or more"
        )
        found.append(
            f"{validation} validation rows {told} (95 %, paired, for two that disagree on "
            f"{_DISAGREEING:.0%} of rows); {rows_to_tell(_WANTED)} would tell "
            f"{_WANTED * 100:.0f} points."
        )
    width = half_width(test)
    if width > _WIDEST:
        rows = "row gives" if test == 1 else "rows give"
        found.append(
            f"{test} test {rows} the final score an interval of about ±{width * 100:.0f} "
            f"points; {_rows_for_width(_WIDEST)} would give ±{_WIDEST * 100:.0f}."
        )
    return found


@lru_cache(maxsize=256)
def smallest_difference(rows: int) -> float | None:
    """The smallest gain over so many rows whose interval lies above 0, in [0, 1]; None: none does.

    Args:
        rows: At least 1; scores are 0 or 1.
    """
    low, high = 1, rows  # in rows won more than lost
    if not _tells(rows, high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _tells(rows, middle) else (middle + 1, high)
    return low / rows


@lru_cache(maxsize=8)
def rows_to_tell(difference: float) -> int:
    """How many rows tell a difference in [0.05, 1], in steps of five."""
    for rows in range(_STEP, _MOST_ROWS, _STEP):
        found = smallest_difference(rows)
        if found is not None and found <= difference:
            return rows
    return _MOST_ROWS


def half_width(rows: int) -> float:
    """Half the interval of a score near one half over so many rows."""
    interval = score_interval([float(row % 2) for row in range(rows)])
    return (interval.high - interval.low) / 2


def _rows_for_width(width: float) -> int:
    return next(
        rows for rows in range(_STEP, _MOST_ROWS, _STEP) if half_width(rows + rows % 2) <= width
    )


def _tells(rows: int, won_more: int) -> bool:
    """Whether so many rows won more than lost are told from chance."""
    disagreeing = min(rows, max(won_more, round(_DISAGREEING * rows)))
    lost = (disagreeing - won_more) // 2
    won = lost + won_more
    ours = [1.0] * won + [0.0] * (rows - won)
    theirs = [0.0] * won + [1.0] * lost + [0.0] * (rows - won - lost)
    return paired_gain(ours, theirs).low > 0
