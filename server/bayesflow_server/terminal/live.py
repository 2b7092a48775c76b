"""A run's progress on a terminal: what is happening, what it has cost, how long is left.

On a terminal it is a bar and a line of figures, live; into a file or a pipe a line each 15 seconds
and whenever something else begins.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import RunRecord
from bayesflow_server.terminal.screen import printable, say

__all__ = ["follow"]

_LINE_SECONDS: Final = 15.0
_STEP_SECONDS: Final = 0.5
_SHORT: Final = 120.0


async def follow(
    console: Console,
    service: RunService,
    run_id: str,
    settled: "Awaitable[RunRecord] | None" = None,
) -> RunRecord:
    """Shows the run's progress until it settles.

    Args:
        console: Where to.
        service: Knows the run.
        run_id: Which.
        settled: Ends when the run has settled; None: when no sitting of this process works on it.
    """
    ending = asyncio.ensure_future(settled or service.wait_until_settled(run_id))
    try:
        if console.is_terminal:
            await _follow_live(console, service, run_id, ending)
        else:
            await _follow_lines(console, service, run_id, ending)
        return await ending
    finally:
        ending.cancel()


async def _follow_live(
    console: Console, service: RunService, run_id: str, settled: "asyncio.Future[RunRecord]"
) -> None:
    bar = Progress(
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
    )
    task = bar.add_task("", total=1.0, left="")
    doing = Text("starting", style="bold", no_wrap=True, overflow="ellipsis")
    figures = Text("", style="dim")
    with Live(Group(doing, bar, figures), console=console, transient=True):
        while not settled.done():
            phase = _phase(await service.record(run_id))
            doing.plain = printable(phase.doing)
            bar.update(
                task,
                total=max(phase.executions_planned, 1),
                completed=phase.executions_done,
                left=_left(phase),
            )
            figures.plain = await _figures(service, run_id, phase)
            await asyncio.wait([settled], timeout=_STEP_SECONDS)


async def _follow_lines(
    console: Console, service: RunService, run_id: str, settled: "asyncio.Future[RunRecord]"
) -> None:
    printed, doing = 0.0, ""
    started = time.monotonic()
    while not settled.done():
        phase = _phase(await service.record(run_id))
        now = time.monotonic()
        if phase.doing != doing or now - printed >= _LINE_SECONDS:
            printed, doing = now, phase.doing
            share = phase.executions_done / max(phase.executions_planned, 1)
            figures = await _figures(service, run_id, phase)
            told = ", ".join(part for part in (figures, _left(phase)) if part)
            say(console, f"{now - started:6.0f} s  {share:4.0%}  {phase.doing}: {told}")
        await asyncio.wait([settled], timeout=_STEP_SECONDS)


def _phase(record: RunRecord) -> Phase:
    return Phase.model_validate_json(record.phase) if record.phase else Phase()


async def _figures(service: RunService, run_id: str, phase: Phase) -> str:
    """What was used and found so far, in one line."""
    usage = await service.usage(run_id)
    parts = [f"{usage.calls} calls", f"{usage.cached} more from the cache"]
    if usage.usd:
        parts.append(f"{usage.usd:.2f} USD")
    if phase.pool.distinct:
        parts.append(f"{phase.pool.distinct} workflows")
    if phase.best_so_far is not None:
        parts.append(f"best so far {phase.best_so_far.shrunk:.2f} (validation, shrunk)")
    return ", ".join(parts)


def _left(phase: Phase) -> str:
    seconds = phase.eta_seconds
    if seconds is None or phase.doing == "finished":
        return ""
    if seconds < _SHORT:
        return f"at most {seconds:.0f} s left"
    return f"at most {seconds / 60:.0f} min left"
