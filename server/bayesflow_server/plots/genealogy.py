"""Who descends from whom: the particles of each round, with lines from parent to child.

A column is a round, a row a particle's place; islands stand apart, injected refinements below. Dark
lines lead to the last round, pale ones died out. Colour is the reward that selection saw.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_server.plots.style import BLACK, LIGHT, VERMILLION, picture, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

__all__ = ["Genealogy", "GenealogyRound", "Node", "draw_genealogy"]


# Markers below this size, in points, become dashes of this half-length, in rounds.
_LEAST_MARKER: Final = 3.0
_DASH: Final = 0.05
_LEAST_RANGE: Final = 0.05
_FEW: Final = 12


class Node(NamedTuple):
    """A particle, or an injected refinement, of one round.

    Attributes:
        place: In the round's selection pool: particles first, then what was injected.
        ancestor: Its parent's place in the pool of the round before, or None.
        reward: The reward that selection saw, or None where it was -inf.
        clean: No refined ancestor.
        alive: It has descendants in the last round, or is of that round.
    """

    place: int
    ancestor: int | None
    reward: float | None
    clean: bool
    alive: bool


class GenealogyRound(NamedTuple):
    """One round.

    Attributes:
        round: t.
        nodes: The particles and the injected refinements, by place.
        effective_sample_size: Of its particles.
        resampled: Whether its children were drawn; None where nothing follows yet.
    """

    round: int
    nodes: tuple[Node, ...]
    effective_sample_size: float
    resampled: bool | None


@dataclass(frozen=True, slots=True)
class Genealogy:
    """A whole run's particles.

    Attributes:
        rounds: In order; at least one.
        particles: N.
        islands: How many groups of equal size they are divided into.
    """

    rounds: tuple[GenealogyRound, ...]
    particles: int
    islands: int

    def height_of(self, place: int) -> float:
        """Where a node stands: islands and injected refinements have a gap above them."""
        gap = max(1.0, 0.05 * self.particles)
        island = min(self.islands, place * self.islands // self.particles)
        return place + gap * island

    @property
    def injected(self) -> int:
        """The most refinements that a round injected."""
        return max(len(one.nodes) for one in self.rounds) - self.particles


def draw_genealogy(genealogy: Genealogy, title: str) -> bytes:
    """The plot as a PNG; `title` may hold a user's text."""
    rows = genealogy.height_of(genealogy.particles + max(0, genealogy.injected) - 1) + 1
    height = min(8.0, max(5.0, 3.0 + 0.15 * rows))

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        size = max(1.6, min(9.0, 0.62 * 72 * 0.7 * height / rows))
        _draw_kept(axes, genealogy)
        _draw_lines(axes, genealogy, size)
        _draw_nodes(axes, genealogy, size)
        _label(axes, genealogy, rows)
        axes.set_title(plain(title, 80), parse_math=False)
        handles = _legend(genealogy, dashed=size < _LEAST_MARKER)
        figure.legend(handles=handles, loc="outside lower center", ncols=3)

    return picture(draw, height)


def _draw_kept(axes: "Axes", genealogy: Genealogy) -> None:
    for one in genealogy.rounds[:-1]:
        if one.resampled is False:
            axes.axvspan(one.round + 0.1, one.round + 0.9, color=LIGHT, alpha=0.45, linewidth=0)


def _draw_lines(axes: "Axes", genealogy: Genealogy, size: float) -> None:
    from matplotlib.collections import LineCollection  # with matplotlib, on use

    where = genealogy.height_of
    lines: dict[bool, list[tuple[tuple[float, float], tuple[float, float]]]] = {
        False: [],
        True: [],
    }
    for one in genealogy.rounds:
        for node in one.nodes:
            if node.ancestor is not None:
                start = (one.round - 1.0, where(node.ancestor))
                lines[node.alive].append((start, (float(one.round), where(node.place))))
    thin = max(0.25, min(1.3, size / 7))
    for alive, colour, width in ((False, "#BFBFBF", 0.8 * thin), (True, "#333333", 1.3 * thin)):
        axes.add_collection(
            LineCollection(
                lines[alive],
                colors=colour,
                linewidths=width,
                # A thousand smooth lines would be half a megabyte.
                antialiaseds=size >= _LEAST_MARKER,
                zorder=2,
            )
        )


def _shades(axes: "Axes", genealogy: Genealogy) -> "Callable[[Node], str]":
    """Draws the colour bar; returns each node's colour."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize, to_hex

    rewards = [
        node.reward for one in genealogy.rounds for node in one.nodes if node.reward is not None
    ]
    low, high = (min(rewards), max(rewards)) if rewards else (0.0, 1.0)
    if high - low < _LEAST_RANGE:
        low, high = low - _LEAST_RANGE, high + _LEAST_RANGE
    colours = colormaps["viridis"]
    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(low, high), colours), ax=axes, pad=0.02, aspect=30
    )
    bar.set_label("reward that selection saw")

    def shade(node: Node) -> str:
        if node.reward is None:
            return LIGHT
        return to_hex(colours((node.reward - low) / (high - low)))

    return shade


def _draw_nodes(axes: "Axes", genealogy: Genealogy, size: float) -> None:
    """Draws each kind of node with its own shape."""
    shade = _shades(axes, genealogy)
    if size < _LEAST_MARKER:
        _draw_dashes(axes, genealogy, size, shade)
        return
    for kind, (marker, edge, larger) in _KINDS.items():
        found = [
            (one.round, genealogy.height_of(node.place), shade(node))
            for one in genealogy.rounds
            for node in one.nodes
            if _kind(node, genealogy) == kind
        ]
        if found:
            axes.scatter(
                [x for x, _, _ in found],
                [y for _, y, _ in found],
                s=(larger * size) ** 2,
                c=[colour for _, _, colour in found],
                marker=marker,
                edgecolors=edge,
                linewidths=max(0.25, min(1.2, 0.14 * size)),
                zorder=3,
            )


def _draw_dashes(
    axes: "Axes", genealogy: Genealogy, size: float, shade: "Callable[[Node], str]"
) -> None:
    """Nodes too many for shapes: coloured dashes; those that refinement touched have a red end."""
    from matplotlib.collections import LineCollection

    nodes = [(one.round, node) for one in genealogy.rounds for node in one.nodes]
    refined = [(x, node) for x, node in nodes if _is_refined(node, genealogy)]

    def dashes(
        chosen: "Sequence[tuple[int, Node]]", left: float, right: float
    ) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        where = genealogy.height_of
        return [
            ((x + left, where(node.place)), (x + right, where(node.place))) for x, node in chosen
        ]

    width = 1.5 * size
    shades = [shade(node) for _, node in nodes]
    axes.add_collection(
        LineCollection(dashes(nodes, -_DASH, _DASH), colors=shades, linewidths=width, zorder=3)
    )
    axes.add_collection(
        LineCollection(
            dashes(refined, _DASH, 1.6 * _DASH), colors=VERMILLION, linewidths=width, zorder=3
        )
    )


def _is_refined(node: Node, genealogy: Genealogy) -> bool:
    return _kind(node, genealogy) != "clean lineage"


def _kind(node: Node, genealogy: Genealogy) -> str:
    if node.place >= genealogy.particles:
        return "injected refinement"
    return "clean lineage" if node.clean else "descends from a refinement"


def _label(axes: "Axes", genealogy: Genealogy, rows: float) -> None:
    """Names rounds, islands and the injected; the first particle is on top."""
    per_island = genealogy.particles / genealogy.islands
    ticks = {
        genealogy.height_of(round(island * per_island)) + (per_island - 1) / 2: (
            "particles" if genealogy.islands == 1 else f"island {island + 1}"
        )
        for island in range(genealogy.islands)
    }
    if genealogy.injected > 0:
        top = genealogy.height_of(genealogy.particles)
        ticks[top + (genealogy.injected - 1) / 2] = "injected"
    many = genealogy.islands > _FEW
    axes.set_yticks(
        list(ticks),
        list(ticks.values()),
        rotation=0 if many else 90,
        va="center",
        size=6 if many else 9,
    )
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(rows - 0.4, -0.6)
    numbers = [one.round for one in genealogy.rounds]
    axes.set_xlim(numbers[0] - 0.35, numbers[-1] + 0.35)
    axes.set_xticks(
        numbers,
        [f"{one.round}\n{_short(one.effective_sample_size)}" for one in genealogy.rounds],
        size=9.5 if len(numbers) <= _FEW else 7.5,
    )
    axes.set_xlabel(
        f"round, and below it the effective sample size (at most N = {genealogy.particles})"
    )
    axes.spines["left"].set_visible(False)


def _short(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) and value < 100 else f"{value:.0f}"


def _legend(genealogy: Genealogy, *, dashed: bool) -> "list[Line2D | Patch]":
    """What occurs, and nothing else."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    nodes = [node for one in genealogy.rounds for node in one.nodes]
    handles: list[Line2D | Patch] = [
        Line2D([], [], linestyle="", marker=marker, color=LIGHT, markeredgecolor=edge, label=kind)
        for kind, (marker, edge, _) in _KINDS.items()
        if not dashed and any(_kind(node, genealogy) == kind for node in nodes)
    ]
    if dashed and any(_is_refined(node, genealogy) for node in nodes):
        handles.append(Patch(color=VERMILLION, label="a refinement, or descends from one"))
    lines = [node.alive for node in nodes if node.ancestor is not None]
    last = genealogy.rounds[-1].round
    if True in lines:
        handles.append(Line2D([], [], color="#333333", label=f"leads to round {last}"))
    if False in lines:
        handles.append(Line2D([], [], color="#BFBFBF", label="died out"))
    if any(one.resampled is False for one in genealogy.rounds[:-1]):
        handles.append(Patch(color=LIGHT, alpha=0.45, label="no resampling: all kept"))
    return handles


# Kind: marker, edge, size beside a circle's.
_KINDS: Final = {
    "clean lineage": ("o", BLACK, 1.0),
    "descends from a refinement": ("D", VERMILLION, 0.85),
    "injected refinement": ("s", VERMILLION, 0.9),
}
