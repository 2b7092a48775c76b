"""`runs`: the newest runs in a table."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from bayesflow_server.app import Application
from bayesflow_server.errors import InputError
from bayesflow_server.runs.service import RunService
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import RunCursor, RunRecord
from bayesflow_server.terminal.screen import (
    WIDE,
    cell,
    date,
    open_console,
    printable,
    say,
    write_json,
)
from bayesflow_server.terminal.stopping import run_command

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["list_runs"]

_PAGE: Final = 100
_TEXT: Final = 200
_BORDER: Final = 3  # columns that a table spends on each of its own: a line and two blanks
_STYLES: Final = {
    "finished": "green",
    "running": "cyan",
    "waiting_for_client": "cyan",
    "failed": "red",
    "paused": "yellow",
    "interrupted": "yellow",
}


def list_runs(
    settings: Settings, *, limit: int, statuses: Sequence[str] | None, as_json: bool
) -> int:
    """Lists the newest runs, of some statuses or of all."""
    if limit < 1:
        raise InputError("--limit takes a number of runs, 1 or more.")

    async def work() -> int:
        async with Application(settings) as application:
            service = await application.runs()
            found = await _newest(service, limit + 1, statuses)
            listed = [_listed(record, service) for record in islice(found, limit)]
        if as_json:
            write_json(listed)
            return 0
        console = open_console()
        if not listed:
            of = f" that are {' or '.join(statuses)}" if statuses else ""
            say(console, f"There are no runs{of} in {settings.db}.")
        else:
            console.print(_table(listed, console.width))
        if len(found) > limit:
            say(console, f"There are more: --limit {10 * limit} shows them.", "dim")
        return 0

    return run_command(work())


async def _newest(
    service: RunService, limit: int, statuses: Sequence[str] | None
) -> list[RunRecord]:
    """The newest runs; whether one is interrupted only the service can say."""
    found: list[RunRecord] = []
    cursor = None
    while len(found) < limit:
        page = await service.newest(_PAGE, cursor)
        found += [one for one in page if statuses is None or service.status(one) in statuses]
        if len(page) < _PAGE:
            break
        cursor = RunCursor(page[-1].created, page[-1].run_id)
    return found[:limit]


def _listed(record: RunRecord, service: RunService) -> dict[str, object]:
    outcome = json.loads(record.outcome) if record.outcome else None
    return {
        "run_id": record.run_id,
        "name": record.name,
        "status": service.status(record),
        "reason": service.reason(record),
        "executor": json.loads(record.request)["executor"],
        "created": record.created,
        "updated": record.updated,
        "test_score": outcome["test"]["score"] if outcome else None,
    }


def _table(listed: Sequence[dict[str, object]], width: int) -> "Table":
    from rich.table import Table

    wide = width >= WIDE
    table = Table()
    rows = [_figures(one, wide=wide) for one in listed]
    texts = [_texts(one, wide=wide) for one in listed]
    heads, tails = ("run", "begun", "status", "test"), _text_columns(wide=wide)
    for name in heads:
        table.add_column(name, no_wrap=True, justify="right" if name == "test" else "left")
    taken = sum(_widths(heads, rows)) + _BORDER * len(heads + tails) + 1
    # A line for each run: what does not fit is told by `show`.
    for name, most in zip(tails, _shared(_widths(tails, texts), width - taken), strict=True):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=most)
    for one, (run_id, begun, status, test), text in zip(listed, rows, texts, strict=True):
        told = cell(status, style=_STYLES.get(str(one["status"]), ""))
        table.add_row(cell(run_id), begun, told, test, *map(cell, text))
    return table


def _text_columns(*, wide: bool) -> tuple[str, ...]:
    return ("executor", "name", "reason") if wide else ("name",)


def _figures(one: dict[str, object], *, wide: bool) -> tuple[str, str, str, str]:
    """What is never cut: id, time, status and score."""
    score = one["test_score"]
    return (
        str(one["run_id"]),
        date(float(str(one["created"])))[0 if wide else 5 :],
        str(one["status"]).replace("waiting_for_client", "waiting"),
        "" if score is None else f"{score:.3f}",
    )


def _texts(one: dict[str, object], *, wide: bool) -> tuple[str, ...]:
    if wide:
        texts = [one["executor"], one["name"] or "", one["reason"] or ""]
    else:
        texts = [one["name"] or one["executor"]]
    return tuple(printable(str(text), _TEXT) for text in texts)


def _widths(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """How wide each column would be on a terminal."""
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(heads, *rows, strict=True)]


def _shared(wanted: Sequence[int], room: int) -> list[int]:
    """Widths that fit into the room: the widest give way first."""
    widths = list(wanted)
    while sum(widths) > max(room, len(widths)):
        widths[widths.index(max(widths))] -= 1
    return widths
