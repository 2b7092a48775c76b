"""Accuracy against cost: every workflow of a pool, the front that none beats, winner and baseline.

Points are of validation rows, shrunk towards the pool's mean; winner and baseline are also shown
where the test rows put them, with the interval there.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from bayesflow_server.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    picture,
    plain,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["AccuracyCost", "FinalPoint", "Point", "Unit", "draw_accuracy_cost"]

Unit = Literal["usd", "tokens"]
_WIDE_RANGE: Final = 15.0


class Point(NamedTuple):
    """A workflow on the validation rows.

    Attributes:
        workflow_id: Which.
        accuracy: Shrunk; no penalty taken off.
        cost: Tokens a row, or US dollars for 1,000 rows.
        origin: Who wrote it.
        failed: It does not run.
    """

    workflow_id: str
    accuracy: float
    cost: float
    origin: str
    failed: bool


class FinalPoint(NamedTuple):
    """The winner or the baseline on the test rows, with the accuracy's 95 % interval."""

    label: str
    workflow_id: str
    accuracy: float
    low: float
    high: float
    cost: float


@dataclass(frozen=True, slots=True)
class AccuracyCost:
    """A pool by accuracy and cost.

    Attributes:
        points: Every scored workflow; at least one.
        front: Ids of those that no other beats in both, cheapest first.
        tests: Winner and baseline, labelled `best` and `baseline`; none before the end.
        unit: What all costs are counted in: US dollars where every price is known and not all are
            0.
    """

    points: tuple[Point, ...]
    front: tuple[str, ...]
    tests: tuple[FinalPoint, ...]
    unit: Unit

    @property
    def front_points(self) -> tuple[Point, ...]:
        """The front, cheapest first."""
        known = {point.workflow_id: point for point in self.points}
        return tuple(known[name] for name in self.front)


def draw_accuracy_cost(found: AccuracyCost, title: str) -> bytes:
    """The plot as a PNG; `title` may hold a user's text."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        left = _scale(axes, found)
        _draw_points(axes, found.points, left)
        if found.front:
            _draw_front(axes, found.front_points)
        _draw_tests(axes, found.tests)
        axes.set_ylim(min(-0.03, axes.get_ylim()[0]), 1.03)
        dollars = "US dollars per 1,000 examples, at list price"
        axes.set_xlabel(dollars if found.unit == "usd" else "tokens per example")
        axes.set_ylabel("accuracy")
        axes.set_title(plain(title, 90), parse_math=False)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3)

    return picture(draw)


def _scale(axes: "Axes", found: AccuracyCost) -> float:
    """Sets what the cost axis spans, by decades where that is much; returns its lower end."""
    from matplotlib.ticker import MaxNLocator  # with matplotlib, on use

    costs = [test.cost for test in found.tests]
    # A workflow that does not run may have cost nothing; that sets no scale.
    costs += [point.cost for point in found.points if not point.failed]
    low, high = min(costs, default=0.0), max(costs, default=0.0)
    if low > 0 and high / low > _WIDE_RANGE:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.4, high * 1.4)
        return low / 1.25
    axes.set_xlim(-0.02 * high, 1.06 * high or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(7))
    return 0.0


def _draw_points(axes: "Axes", points: Sequence[Point], left: float) -> None:
    size = max(14.0, min(34.0, 2400 / len(points)))
    for kind, (label, colour, marker) in _KINDS.items():
        chosen = [point for point in points if _kind(point) == kind]
        if chosen:
            axes.scatter(
                [max(left, point.cost) for point in chosen],
                [point.accuracy for point in chosen],
                s=size,
                color=colour,
                marker=marker,
                alpha=0.75,
                linewidths=1.0 if marker == "x" else 0.0,
                label=f"{label} ({len(chosen)})",
                zorder=3,
            )


def _draw_front(axes: "Axes", front: Sequence[Point]) -> None:
    axes.step(
        [point.cost for point in front],
        [point.accuracy for point in front],
        where="post",
        color=GREEN,
        linewidth=1.6,
        marker="o",
        markersize=9,
        markerfacecolor="none",
        markeredgewidth=1.6,
        label="no other is better and cheaper",
        zorder=4,
    )


def _draw_tests(axes: "Axes", tests: Sequence[FinalPoint]) -> None:
    for test in tests:
        colour, marker, size, width = _TESTS[test.label]
        # A thin interval over a thick one: both are seen where costs are the same.
        axes.errorbar(
            test.cost,
            test.accuracy,
            yerr=[[max(0.0, test.accuracy - test.low)], [max(0.0, test.high - test.accuracy)]],
            fmt=marker,
            markersize=size,
            capsize=4,
            elinewidth=width,
            color=colour,
            label=f"{test.label} (test rows, 95 %)",
            zorder=5,
        )


def _kind(point: Point) -> str:
    return "failed" if point.failed else point.origin


# Kind: words, colour, shape.
_KINDS: Final = {
    "prior": ("drawn from the prior", BLUE, "o"),
    "refined": ("refined", ORANGE, "D"),
    "submitted": ("submitted", PURPLE, "^"),
    "warm": ("given at the start", PURPLE, "v"),
    "baseline": ("baseline (validation)", BLACK, "s"),
    "failed": ("does not run", GREY, "x"),
}
# Label: colour, shape, size, width of the interval.
_TESTS: Final = {"best": (VERMILLION, "*", 13.0, 3.0), "baseline": (BLACK, "s", 6.0, 1.0)}
