"""The most probable workflows: posterior beside prior, and their shrunk scores with intervals.

Where there is no posterior, the scores alone, and why.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_server.plots.style import BLACK, BLUE, GREY, picture, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Evidence", "RankedWorkflow", "RankedWorkflows", "draw_posterior"]

_LABEL: Final = 36
_BAR: Final = 0.38


class RankedWorkflow(NamedTuple):
    """One workflow.

    Attributes:
        workflow_id: Which.
        steps: Its step titles, which a model may have written.
        posterior: Its probability, or None.
        prior: The prior's probability as the same draws estimate it, or None.
        shrunk: Validation reward shrunk towards the pool's, or None while it is not scored.
        low: Lower end of the 95 % interval around it.
        high: Upper end.
    """

    workflow_id: str
    steps: tuple[str, ...]
    posterior: float | None
    prior: float | None
    shrunk: float | None
    low: float | None
    high: float | None


class Evidence(NamedTuple):
    """What the posterior rests on.

    Attributes:
        log_evidence: log Ẑ.
        evidence_error: Standard error of Ẑ over Ẑ; None with one island.
        effective_sample_size: Of the pooled draws.
        information_bits: Divergence of the posterior from the prior.
    """

    log_evidence: float
    evidence_error: float | None
    effective_sample_size: float
    information_bits: float


@dataclass(frozen=True, slots=True)
class RankedWorkflows:
    """The best of a pool.

    Attributes:
        shown: Best first; at least one.
        others: How many more there are.
        beta: The inverse temperature.
        evidence: None where there is no posterior.
        reason: Why there is none.
        winner: The final answer's workflow, or None.
    """

    shown: tuple[RankedWorkflow, ...]
    others: int
    beta: float
    evidence: Evidence | None
    reason: str | None
    winner: str | None

    @property
    def mass_of_others(self) -> float:
        """Posterior probability of what is not shown."""
        return max(0.0, 1.0 - sum(one.posterior or 0.0 for one in self.shown))


def draw_posterior(ranked: RankedWorkflows, title: str) -> bytes:
    """The plot as a PNG; `title` may hold a user's text."""
    rows = len(ranked.shown) + (ranked.evidence is not None and ranked.others > 0)

    def draw(figure: "Figure") -> None:
        places = [float(row) for row in range(len(ranked.shown))]
        if ranked.evidence is None:
            scores = figure.subplots()
            labelled = scores
        else:
            bars, scores = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
            _draw_bars(bars, ranked, places)
            scores.tick_params(axis="y", length=0)
            labelled = bars
        _draw_scores(scores, ranked, places)
        if ranked.winner is not None:
            scores.plot([], [], "*", color=BLACK, label="final answer")
        names = [_name(one, ranked.winner) for one in ranked.shown]
        if rows > len(places):
            names.append(f"{ranked.others} others")
        labelled.set_yticks(list(range(rows)), names, parse_math=False, size=8)
        labelled.set_ylim(max(rows, 3) - 0.4, -0.6)
        figure.suptitle(f"{plain(title, 80)}\n{_subtitle(ranked)}", parse_math=False, size=10)
        figure.legend(loc="outside lower center", ncols=4)

    return picture(draw, min(8.0, max(3.6, 2.0 + 0.36 * rows)))


def _draw_bars(axes: "Axes", ranked: RankedWorkflows, places: "Sequence[float]") -> None:
    posterior = [one.posterior or 0.0 for one in ranked.shown]
    prior = [one.prior or 0.0 for one in ranked.shown]
    axes.barh([y - _BAR / 2 for y in places], posterior, _BAR, color=BLUE, label="posterior")
    axes.barh([y + _BAR / 2 for y in places], prior, _BAR, color="#BFBFBF", label="prior")
    if ranked.others:
        left = max(0.0, 1.0 - sum(prior))
        axes.barh(len(places) - _BAR / 2, ranked.mass_of_others, _BAR, color=BLUE)
        axes.barh(len(places) + _BAR / 2, left, _BAR, color="#BFBFBF")
    axes.set_xlim(left=0.0)
    axes.set_xlabel("probability")
    axes.grid(axis="x", alpha=0.3)


def _draw_scores(axes: "Axes", ranked: RankedWorkflows, places: "Sequence[float]") -> None:
    scored = [
        (y, one.shrunk, one.low, one.high)
        for y, one in zip(places, ranked.shown, strict=True)
        if one.shrunk is not None and one.low is not None and one.high is not None
    ]
    axes.errorbar(
        [middle for _, middle, _, _ in scored],
        [y for y, _, _, _ in scored],
        xerr=(
            [max(0.0, middle - low) for _, middle, low, _ in scored],
            [max(0.0, high - middle) for _, middle, _, high in scored],
        ),
        fmt="o",
        markersize=4.5,
        capsize=2.5,
        color=BLACK,
        ecolor=GREY,
        label="validation, shrunk, 95 %",
    )
    low, high = axes.get_xlim()
    axes.set_xlim(min(-0.04, low), max(1.04, high))
    axes.set_xlabel("reward")
    axes.grid(axis="x", alpha=0.3)


def _name(one: RankedWorkflow, winner: str | None) -> str:
    mark = "★ " if one.workflow_id == winner else ""
    steps = plain(" › ".join(one.steps), _LABEL)
    return f"{mark}{one.workflow_id[:9]}  {steps}"


def _subtitle(ranked: RankedWorkflows) -> str:
    found = ranked.evidence
    if found is None:
        return f"No posterior: {ranked.reason}."
    error = "" if found.evidence_error is None else f" (Z ± {100 * found.evidence_error:.0f} %)"
    return (
        f"β = {ranked.beta:.3g}   ·   log-evidence {found.log_evidence:.3g}{error}   ·   "
        f"effective sample size {found.effective_sample_size:.1f}   ·   "
        f"{found.information_bits:.2f} bits from prior to posterior"
    )
