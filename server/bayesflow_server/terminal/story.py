"""What a run found beside its best workflow, and what happened to it: as lines, tables and JSON."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from bayesflow_server.runs.pool_view import FrontPoint, PoolView
from bayesflow_server.store.records import EventRecord
from bayesflow_server.terminal.screen import cell, date, make_table

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "events_json",
    "events_table",
    "evidence_json",
    "evidence_lines",
    "front_json",
    "front_table",
    "lineages_json",
]

_SHOWN_EVENTS: Final = 20
_SHOWN_FRONT: Final = 10
_DETAIL: Final = 300


def evidence_lines(pool: PoolView) -> Iterator[str]:
    """How much the posterior stands on, and what lineages are left."""
    posterior = pool.posterior
    if posterior is not None and math.isfinite(posterior.log_evidence):
        error = posterior.relative_error
        about = "" if error is None else f", relative error {error:.2f} by the islands"
        rounds = ", ".join(map(str, posterior.rounds))
        yield (
            f"Evidence: log Z = {posterior.log_evidence:.3f} at beta {pool.beta:g}{about}; "
            f"effective sample size at most {posterior.effective_sample_size:.1f}, from clean "
            f"draws of {'round' if len(posterior.rounds) == 1 else 'rounds'} {rounds}."
        )
    if pool.clean_share is not None:
        left = ", ".join(map(str, pool.lineages))
        yield (
            f"Lineages: {pool.clean_share:.0%} of the last round's particles have no refined "
            f"ancestor; particles of each round with descendants in the last: {left or 'none'}."
        )


def front_table(front: Sequence[FrontPoint]) -> "Table":
    """The workflows that no other beats in both accuracy and cost, cheapest first."""
    total = len(front)
    shown = f"first {_SHOWN_FRONT} of {total}" if total > _SHOWN_FRONT else f"{total}"
    table = make_table(
        f"Accuracy-cost front: {shown}, cheapest first",
        ["workflow"],
        ["accuracy (shrunk)", "USD a row", "tokens a row"],
    )
    for point in front[:_SHOWN_FRONT]:
        usd = "-" if point.usd is None else f"{point.usd:.6f}"
        table.add_row(point.workflow_id, f"{point.accuracy:.3f}", usd, f"{point.tokens:,.0f}")
    return table


def events_table(events: Sequence[EventRecord]) -> "Table":
    """What happened, and when; of a long story the end."""
    left_out = len(events) - _SHOWN_EVENTS
    more = f" (the last {_SHOWN_EVENTS} of {len(events)})" if left_out > 0 else ""
    table = make_table(f"What happened{more}", ["when", "what", "why"])
    for event in events[-_SHOWN_EVENTS:]:
        if event.kind == "round":
            told = (f"round {event.detail} finished", "")
        else:
            told = (event.kind.replace("_", " "), event.detail or "")
        table.add_row(date(event.created, exact=True), cell(told[0]), cell(told[1], _DETAIL))
    return table


def evidence_json(pool: PoolView) -> dict[str, object] | None:
    """The evidence for scripts; None where no clean draw is fully scored."""
    posterior = pool.posterior
    if posterior is None:
        return None
    return {
        "beta": pool.beta,
        "log_evidence": posterior.log_evidence,
        "relative_error": posterior.relative_error,
        "effective_sample_size": posterior.effective_sample_size,
        "rounds": list(posterior.rounds),
    }


def lineages_json(pool: PoolView) -> dict[str, object]:
    """The lineages for scripts."""
    return {
        "clean_share": pool.clean_share,
        "unique_ancestors": list(pool.lineages),
        "structures": pool.structures,
    }


def front_json(front: Sequence[FrontPoint]) -> list[dict[str, object]]:
    """The front for scripts."""
    return [
        {
            "workflow_id": point.workflow_id,
            "accuracy": point.accuracy,
            "usd_per_row": point.usd,
            "tokens_per_row": point.tokens,
        }
        for point in front
    ]


def events_json(events: Sequence[EventRecord]) -> list[dict[str, object]]:
    """The events for scripts."""
    return [
        {
            "position": event.position,
            "created": event.created,
            "kind": event.kind,
            "detail": event.detail,
        }
        for event in events
    ]
