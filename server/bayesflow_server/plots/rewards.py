"""Reward per round: minimum, mean and maximum, as the paper's Figure 2, and the test scores."""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_server.plots.style import BLACK, BLUE, GREEN, GREY, VERMILLION, picture, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FinalScore", "RoundRewards", "draw_rewards"]


class RoundRewards(NamedTuple):
    """Rewards of one round's complete workflows, on the rows that round was scored on."""

    round: int
    minimum: float
    mean: float
    maximum: float
    rows: int


class FinalScore(NamedTuple):
    """A score on the test rows with its interval, drawn at the right edge."""

    label: str
    score: float
    low: float
    high: float


def draw_rewards(rounds: Sequence[RoundRewards], tests: Sequence[FinalScore], title: str) -> bytes:
    """The plot as a PNG.

    Args:
        rounds: In order; at least one.
        tests: Labelled `best` or `baseline`; none before a run has finished.
        title: May hold a user's text.
    """

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator  # with matplotlib, on use

        axes = figure.subplots()
        numbers = [one.round for one in rounds]
        curves = {name: [_finite(getattr(one, name)) for one in rounds] for name in _MARKERS}
        axes.fill_between(
            numbers, curves["minimum"], curves["maximum"], color=BLUE, alpha=0.12, linewidth=0
        )
        for name, values in curves.items():
            axes.plot(
                numbers, values, _MARKERS[name], color=_COLOURS[name], label=f"{name} (validation)"
            )
        unit = max(1.0, len(rounds) / 8)
        place = numbers[-1] + 0.6 * unit
        for offset, test in enumerate(tests):
            axes.errorbar(
                place + 0.2 * unit * offset,
                test.score,
                yerr=[[test.score - test.low], [test.high - test.score]],
                fmt=_TEST_MARKERS[test.label],
                capsize=4,
                color=_COLOURS[test.label],
                label=f"{test.label} (test, 95 %)",
            )
        labels = [f"{one.round}\n{one.rows}" for one in rounds]
        end = {place + 0.1 * unit: "test"} if tests else {}
        axes.set_xticks([*numbers, *end], [*labels, *end.values()])
        axes.yaxis.set_major_locator(MaxNLocator(6))
        # A cost penalty can take a reward below 0.
        axes.set_ylim(min(-0.02, axes.get_ylim()[0]), max(1.02, axes.get_ylim()[1]))
        axes.set_xlim(numbers[0] - 0.4, place + 0.5 * unit if tests else numbers[-1] + 0.4)
        axes.set_xlabel("round, and below it the validation rows it was scored on")
        axes.set_ylabel("reward")
        axes.set_title(plain(title, 90), parse_math=False)
        axes.grid(alpha=0.3)
        figure.legend(loc="outside lower center", ncols=3)

    return picture(draw)


def _finite(value: float) -> float:
    """The value, or a gap: a round may hold a reward of -inf."""
    return value if math.isfinite(value) else math.nan


_MARKERS: Final = {"maximum": "^-", "mean": "o-", "minimum": "v-"}
_TEST_MARKERS: Final = {"best": "*", "baseline": "s"}
_COLOURS: Final = {
    "minimum": VERMILLION,
    "mean": BLUE,
    "maximum": GREEN,
    "best": BLACK,
    "baseline": GREY,
}
