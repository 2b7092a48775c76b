"""Runs contenders over the same landscapes and rows, and compares them in pairs."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bench.efficiency.contenders import Contender, Outcome
from bench.efficiency.landscapes import KINDS, Kind, make_landscape
from bench.efficiency.rows import Answers

__all__ = [
    "MINIBATCH",
    "ROWS",
    "Estimate",
    "compare",
    "gain",
    "kind_of",
    "mean_of",
    "rmse",
    "trials",
]

ROWS: Final = 60
MINIBATCH: Final = 20


class Estimate(NamedTuple):
    """A mean with its standard error."""

    value: float
    error: float

    def points(self, *, signed: bool = False) -> str:
        """It in hundredths."""
        return f"{100 * self.value:{'+' if signed else ''}.1f} ± {100 * self.error:.1f}"


def kind_of(trial: int) -> Kind:
    """The kinds of landscape take turns."""
    return KINDS[trial % len(KINDS)]


def trials(count: int, seed: int, rows: int = ROWS) -> Iterator[Answers]:
    """Landscapes with their rows; of each kind every other one has a flat prior."""
    for trial in range(count):
        flat = trial // len(KINDS) % 2 == 0
        yield Answers(make_landscape(kind_of(trial), seed + trial, flat=flat), rows, seed + trial)


async def compare(
    contenders: Mapping[str, Contender],
    budget: float | None,
    count: int,
    seed: int,
    rows: int = ROWS,
) -> dict[str, list[Outcome]]:
    """Every contender on every landscape, in the same order.

    Args:
        contenders: By name.
        budget: Full evaluations; None: what the first contender has just spent on the landscape.
        count: How many landscapes.
        seed: Of the first; the others follow.
        rows: Validation rows.
    """
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contenders}
    for trial, answers in enumerate(trials(count, seed, rows)):
        granted = budget
        for name, contender in contenders.items():
            outcome = await contender(answers, seed + trial, granted or 0.0)
            granted = outcome.evaluations if granted is None else granted
            outcomes[name].append(outcome)
    return outcomes


def mean_of(outcomes: Sequence[Outcome], value: Callable[[Outcome], float]) -> Estimate:
    """The mean of a figure."""
    return _estimate([value(outcome) for outcome in outcomes])


def gain(
    outcomes: Sequence[Outcome], reference: Sequence[Outcome], value: Callable[[Outcome], float]
) -> Estimate:
    """The mean difference to the reference, landscape by landscape."""
    pairs = zip(outcomes, reference, strict=True)
    return _estimate([value(one) - value(other) for one, other in pairs])


def rmse(errors: Sequence[float | None]) -> Estimate | None:
    """Root mean square of the errors there are; None where an estimate is missing now and then."""
    squares = [error * error for error in errors if error is not None]
    if len(squares) < max(2, len(errors)):
        return None
    mean = _estimate(squares)
    root = math.sqrt(mean.value)
    return Estimate(root, mean.error / (2 * root))


def _estimate(values: Sequence[float]) -> Estimate:
    count = len(values)
    error = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(statistics.fmean(values), error)
