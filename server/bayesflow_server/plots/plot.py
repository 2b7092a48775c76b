"""A run's plot of one kind: the picture, two sentences that say what is in it, and its numbers.

The sentences are made of our words and numbers alone; text of users and models is in the picture,
where it names things, and nowhere else.
"""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic import JsonValue

from bayesflow_server.plots.accuracy_cost import AccuracyCost, FinalPoint, Unit, draw_accuracy_cost
from bayesflow_server.plots.genealogy import Genealogy, draw_genealogy
from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.plots.posterior import RankedWorkflows, draw_posterior
from bayesflow_server.plots.rewards import FinalScore, draw_rewards
from bayesflow_server.plots.source import (
    PlotSource,
    accuracy_cost,
    final_scores,
    genealogy,
    ranked_workflows,
    round_rewards,
)

__all__ = ["Plot", "draw_plot"]

_Figures = dict[str, JsonValue]
_MOST_FRONT: Final = 20
_UNITS: Final[dict[Unit, str]] = {
    "usd": "US dollars per 1,000 examples",
    "tokens": "tokens per example",
}


class Plot(NamedTuple):
    """A picture and what it shows.

    Attributes:
        png: The picture.
        caption: Two sentences.
        figures: The numbers drawn.
    """

    png: bytes
    caption: str
    figures: dict[str, JsonValue]


def draw_plot(source: PlotSource, kind: PlotKind) -> Plot:
    """Draws a run that has finished a round at least; takes some tenths of a second."""
    match kind:
        case "rewards":
            return _rewards(source)
        case "genealogy":
            return _genealogy(source)
        case "posterior":
            return _posterior(source)
        case "accuracy_cost":
            return _accuracy_cost(source)


# --- rewards ----------------------------------------------------------------------------------


def _rewards(source: PlotSource) -> Plot:
    rounds, scores = round_rewards(source.pool.rounds), final_scores(source.report)
    first, last = rounds[0], rounds[-1]
    later = f", {last.mean:.3g} in round {last.round}" if last is not first else ""
    seen = (
        "Least, mean and largest validation reward of each round's workflows: the mean is "
        f"{first.mean:.3g} in round {first.round}{later}, the largest of all "
        f"{max(one.maximum for one in rounds):.3g}."
    )
    return Plot(
        draw_rewards(rounds, scores, f"Reward per round: {source.called}"),
        f"{seen} {_tested(source, scores)}",
        {
            "rounds": [_numbers(one._asdict()) for one in rounds],
            "test": [_numbers(one._asdict()) for one in scores],
        },
    )


def _tested(source: PlotSource, scores: tuple[FinalScore, ...]) -> str:
    if not scores:
        return f"The run is {_status(source)}, so no test score is drawn."
    said = [
        f"the {one.label} workflow {one.score:.3g} ({one.low:.3g} to {one.high:.3g})"
        for one in scores
    ]
    return f"On the test rows, with 95 % intervals: {', '.join(said)}."


def _status(source: PlotSource) -> str:
    return source.status.replace("_", " ")


# --- genealogy --------------------------------------------------------------------------------


def _genealogy(source: PlotSource) -> Plot:
    found = genealogy(source)
    return Plot(
        draw_genealogy(found, f"Genealogy of the particles: {source.called}"),
        f"{_descent(found)} {_health(found)}",
        {"particles": found.particles, "islands": found.islands, "rounds": _lineages(found)},
    )


def _descent(found: Genealogy) -> str:
    first, last = found.rounds[0].round, found.rounds[-1].round
    alive = sum(node.alive for node in found.rounds[0].nodes[: found.particles])
    islands = f", in {found.islands} islands" if found.islands > 1 else ""
    if first == last:
        return f"The particles of round {first}{islands}, coloured by reward: {found.particles}."
    return (
        f"Particles of rounds {first} to {last}{islands}, lines from parent to child, coloured by "
        f"the reward that selection saw: {alive} of the {found.particles} in round {first} have "
        f"descendants in round {last}."
    )


def _health(found: Genealogy) -> str:
    kept = [str(one.round) for one in found.rounds if one.resampled is False]
    clean = sum(node.clean for node in found.rounds[-1].nodes[: found.particles])
    rounds = "round" if len(kept) == 1 else "rounds"
    left_out = f"; nothing was resampled after {rounds} {', '.join(kept)}" if kept else ""
    return (
        f"No refined ancestor: {clean} of the {found.particles} particles of the last "
        f"round{left_out}."
    )


def _lineages(found: Genealogy) -> JsonValue:
    return [
        {
            "round": one.round,
            "effective_sample_size": round(one.effective_sample_size, 3),
            "resampled": one.resampled,
            "with_descendants": sum(node.alive for node in one.nodes[: found.particles]),
            "clean": sum(node.clean for node in one.nodes[: found.particles]),
            "injected": max(0, len(one.nodes) - found.particles),
        }
        for one in found.rounds
    ]


# --- posterior --------------------------------------------------------------------------------


def _posterior(source: PlotSource) -> Plot:
    found = ranked_workflows(source)
    title = "Posterior" if found.evidence else "Shrunk validation scores"
    return Plot(
        draw_posterior(found, f"{title} of the workflows: {source.called}"),
        _ranks(found, independent=source.prior_independent),
        _ranked_figures(found),
    )


def _ranks(found: RankedWorkflows, *, independent: bool) -> str:
    facts = found.evidence
    if facts is None:
        return (
            f"There is no posterior: {found.reason}. The best {len(found.shown)} of "
            f"{len(found.shown) + found.others} workflows are shown by validation reward, shrunk "
            "towards the pool's mean, with 95 % intervals."
        )
    weighed = [one.workflow_id for one in found.shown if one.posterior is not None]
    held = "" if independent else "; one agent wrote them, so this ranks without a guarantee"
    if found.winner is not None and found.winner not in weighed:
        held += "; the final answer, last, is no draw of the prior and has none"
    return (
        f"The best {len(weighed)} of {len(weighed) + found.others} workflows that have a "
        f"posterior, at beta {found.beta:.3g}, beside the prior's probability and the shrunk "
        "validation reward with its 95 % interval. From prior to posterior "
        f"{facts.information_bits:.2f} bits, log-evidence {facts.log_evidence:.3g}, effective "
        f"sample size {facts.effective_sample_size:.1f}{held}."
    )


def _ranked_figures(found: RankedWorkflows) -> _Figures:
    facts = {} if found.evidence is None else found.evidence._asdict()
    ranks = [one._asdict() for one in found.shown]
    for rank in ranks:
        del rank["steps"]  # a model's words
    return {
        "beta": _rounded(found.beta),
        **_numbers(facts),
        "workflows": [_numbers(rank) for rank in ranks],
        "others": found.others,
    }


# --- accuracy and cost ------------------------------------------------------------------------


def _accuracy_cost(source: PlotSource) -> Plot:
    found = accuracy_cost(source)
    front = [(one.workflow_id, one.accuracy, one.cost) for one in found.front_points]
    return Plot(
        draw_accuracy_cost(found, f"Accuracy and cost: {source.called}"),
        f"{_front(found)} {_told(source, found.tests)}",
        {
            "cost_in": _UNITS[found.unit],
            "workflows": len(found.points),
            "front": [
                _numbers({"workflow_id": name, "accuracy": accuracy, "cost": cost})
                for name, accuracy, cost in front[:_MOST_FRONT]
            ],
            "test": [_numbers(test._asdict()) for test in found.tests],
        },
    )


def _front(found: AccuracyCost) -> str:
    shown = (
        f"Shrunk validation accuracy against {_UNITS[found.unit]}, {len(found.points)} "
        f"{'workflow' if len(found.points) == 1 else 'workflows'}: "
    )
    front = found.front_points
    if not front:
        return f"{shown}none of them runs."
    ends = " to ".join(
        f"{one.accuracy:.3g} at {one.cost:.3g}" for one in front[:: len(front) - 1 or 1]
    )
    return f"{shown}{len(front)} on the front where no other is better and cheaper, {ends}."


def _told(source: PlotSource, tests: tuple[FinalPoint, ...]) -> str:
    if not tests:
        return f"The run is {_status(source)}, so winner and baseline are not marked."
    said = [f"the {one.label} workflow {one.accuracy:.3g} at {one.cost:.3g}" for one in tests]
    return f"On the test rows: {', '.join(said)}."


# --- numbers ----------------------------------------------------------------------------------


def _numbers(values: Mapping[str, object]) -> _Figures:
    """The values to four significant digits; what is not finite is null."""
    return {name: _rounded(value) for name, value in values.items()}


def _rounded(value: object) -> JsonValue:
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None
