"""A run's progress on a terminal: what is happening, what it has cost, how long is left.

On a terminal it is one live line with a bar; into a file or a pipe it is a line each half minute.
"""

import asyncio
import time
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import RunRecord

__all__ = ["follow"]

_LINE_SECONDS: Final = 15.0
_STEP_SECONDS: Final = 0.5


async def follow(console: Console, service: RunService, run_id: str) -> RunRecord:
    """Shows the run's progress until no sitting of this process works on it."""
    settled = asyncio.ensure_future(service.wait_until_settled(run_id))
    try:
        if console.is_terminal:
            await _follow_live(console, service, run_id, settled)
        else:
            await _follow_lines(console, service, run_id, settled)
        return await settled
    finally:
        settled.cancel()


async def _follow_live(
    console: Console, service: RunService, run_id: str, settled: "asyncio.Future[RunRecord]"
) -> None:
    columns = (
        TextColumn("[bold]{task.fields[where]}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[spent]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, where="starting", spent="", left="")
        while not settled.done():
            await _update(bar, task, service, run_id)
            await asyncio.wait([settled], timeout=_STEP_SECONDS)


async def _update(bar: Progress, task: TaskID, service: RunService, run_id: str) -> None:
    phase = _phase(await service.record(run_id))
    bar.update(
        task,
        total=max(phase.executions_planned, 1),
        completed=phase.executions_done,
        where=phase.doing,
        spent=await _spent(service, run_id),
        left=_left(phase),
    )


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
            console.print(
                f"{now - started:6.0f} s  {share:4.0%}  {doing}; "
                f"{await _spent(service, run_id)} {_left(phase)}",
                highlight=False,
            )
        await asyncio.wait([settled], timeout=_STEP_SECONDS)


def _phase(record: RunRecord) -> Phase:
    return Phase.model_validate_json(record.phase) if record.phase else Phase()


async def _spent(service: RunService, run_id: str) -> str:
    usage = await service.usage(run_id)
    costs = [one.cost_usd for one in usage]
    money = "" if None in costs else f", {sum(cost or 0 for cost in costs):.2f} USD"
    calls = sum(one.calls for one in usage)
    cached = sum(one.cached_calls for one in usage)
    return f"{calls} calls + {cached} cached{money}"


def _left(phase: Phase) -> str:
    best = "" if phase.best_so_far is None else f", best so far {phase.best_so_far.shrunk:.2f}"
    if phase.eta_seconds is None:
        return best.lstrip(", ")
    return f"at most {phase.eta_seconds:.0f} s left{best}"
