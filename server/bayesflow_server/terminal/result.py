"""A run's result: printed as tables, written as files, or given as JSON.

The files of `--out`: `best_workflow.py`, `report.json` and, where matplotlib is installed, a run's
four plots.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.report import FinalReport, TestScore
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.plots.plot import draw_plot
from bayesflow_server.plots.rewards import RoundRewards
from bayesflow_server.plots.source import PlotSource, read_source, round_rewards
from bayesflow_server.plots.style import has_matplotlib
from bayesflow_server.runs.pool_view import PoolItem, PoolView, view_pool
from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import EventRecord, RunRecord, RunStatus, UsageRecord
from bayesflow_server.terminal.screen import WIDE, cell, json_text, make_table, printable, say
from bayesflow_server.terminal.story import (
    events_json,
    events_table,
    evidence_json,
    evidence_lines,
    front_json,
    front_table,
    lineages_json,
)

__all__ = [
    "PLOTS",
    "RunResult",
    "check_folder",
    "load_result",
    "print_result",
    "result_json",
    "write_files",
]

_SHOWN = 10
_STEPS = 200
_ERROR = 300
# The plots of a run, and the names of their files.
PLOTS: Final[dict[PlotKind, str]] = {
    "rewards": "reward_per_round.png",
    "genealogy": "genealogy.png",
    "posterior": "posterior.png",
    "accuracy_cost": "accuracy_cost.png",
}


@dataclass(frozen=True)
class RunResult:
    """What is shown of a run, finished or not.

    Attributes:
        record: The run.
        status: Its status, interruptions seen.
        reason: Why, for a person; or None.
        report: The final report, or None.
        pool: Its ranked pool.
        rounds: Rewards of each round.
        usage: What it used.
        roles: The same, for each role and model.
        phase: Its last phase: what was noted, what failed most.
        best_source: Source of the best workflow, or None.
        events: What happened to it, in order.
        plotted: What its plots are drawn from.
    """

    record: RunRecord
    status: RunStatus
    reason: str | None
    report: FinalReport | None
    pool: PoolView
    rounds: tuple[RoundRewards, ...]
    usage: UsageTotals
    roles: tuple[UsageRecord, ...]
    phase: Phase
    best_source: str | None
    events: tuple[EventRecord, ...]
    plotted: PlotSource


async def load_result(service: RunService, run_id: str) -> RunResult:
    """Reads a run's result from the store."""
    record = await service.record(run_id)
    plotted = await read_source(service, run_id)
    report = FinalReport.model_validate_json(record.outcome) if record.outcome else None
    view = view_pool(plotted.pool, sort="validation")
    source = None
    if report is not None:
        source = (await service.workflow(report.best[0].workflow_id)).source
    elif view.items:
        source = (await service.workflow(view.items[0].row.entry.workflow_id)).source
    roles = tuple(await service.usage_by_role(run_id))
    return RunResult(
        record=record,
        status=service.status(record),
        reason=service.reason(record),
        report=report,
        pool=view,
        rounds=round_rewards(plotted.pool.rounds),
        usage=UsageTotals.of(roles),
        roles=roles,
        phase=Phase.model_validate_json(record.phase) if record.phase else Phase(),
        best_source=source,
        events=tuple(await service.workplace.store.events(run_id)),
        plotted=plotted,
    )


def print_result(console: Console, result: RunResult, *, story: bool = False) -> None:
    """Prints the rounds, the pool, the best workflow's steps, the scores and what to do next.

    Args:
        console: Where to.
        result: What there is.
        story: Also the accuracy-cost front, and what happened when.
    """
    if result.rounds:
        console.print(_rounds_table(result.rounds))
    if result.pool.items:
        console.print(_pool_table(result.pool, wide=console.width >= WIDE))
    for line in evidence_lines(result.pool):
        say(console, line)
    if story and result.pool.front:
        console.print(front_table(result.pool.front))
    report = result.report
    if report is not None:
        _print_steps(console, report)
        console.print(_scores_table(report))
    _print_remarks(console, result.phase)
    if story and result.events:
        console.print(events_table(result.events))
    _print_ending(console, result)


def _print_ending(console: Console, result: RunResult) -> None:
    """What it cost, and how it came out."""
    used, report = result.usage, result.report
    money = f"{used.usd:.4f} USD, " if used.usd else ""
    search = "" if report is None else f", {report.search_seconds:.0f} s of them the search"
    say(
        console,
        f"Spent {used.calls} calls ({used.cached} more were answered from the cache), "
        f"{used.tokens} tokens, {money}{result.record.active_seconds:.0f} s{search}.",
    )
    if report is not None:
        say(console, _verdict(report), "bold")
    else:
        reason = f" {result.reason}" if result.reason else ""
        say(console, f"{result.record.run_id} is {result.status}.{reason}", "bold")


def write_files(result: RunResult, folder: Path) -> list[Path]:
    """Writes the best workflow, the report and the plots; returns what was written.

    Raises:
        InputError: The folder cannot be written any more.
    """
    try:
        return _write_files(result, folder)
    except OSError as error:
        raise InputError(
            f"The folder '{folder}' cannot be written ({error.strerror}); the run is kept: "
            f"bayesflow-mcp show {result.record.run_id} --out ANOTHER_FOLDER writes it again."
        ) from None


def _write_files(result: RunResult, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.json"]
    written[0].write_text(json_text(result_json(result), indent=2), encoding="utf-8")
    if result.best_source is not None:
        written.append(folder / "best_workflow.py")
        written[-1].write_text(result.best_source, encoding="utf-8")
    if result.rounds and has_matplotlib():
        for kind, name in PLOTS.items():
            written.append(folder / name)
            written[-1].write_bytes(draw_plot(result.plotted, kind).png)
    return written


def check_folder(folder: str | None) -> Path | None:
    """The output folder, made now, so that a run does not end in an error.

    Raises:
        InputError: It cannot be made or written.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".bayesflow-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"The folder '{folder}' cannot be written ({error.strerror}); name another with --out."
        ) from None
    return path


def result_json(result: RunResult) -> dict[str, object]:
    """The result for scripts."""
    return {
        "run_id": result.record.run_id,
        "name": result.record.name,
        "status": result.status,
        "reason": result.reason,
        "report": None if result.report is None else json.loads(result.report.model_dump_json()),
        "rounds": [one._asdict() for one in result.rounds],
        "calls": result.usage.calls,
        "cached_calls": result.usage.cached,
        "needed_calls": result.usage.needed,
        "tokens": result.usage.tokens,
        "usd": result.usage.usd,
        "roles": [_role_json(one) for one in result.roles],
        "notes": list(result.phase.notes),
        "top_errors": list(result.phase.top_errors),
        "seconds": round(result.record.active_seconds, 1),
        "distinct_workflows": len(result.pool.items),
        "evidence": evidence_json(result.pool),
        "lineages": lineages_json(result.pool),
        "front": front_json(result.pool.front),
        "events": events_json(result.events),
    }


def _role_json(usage: UsageRecord) -> dict[str, object]:
    return {
        "role": usage.role,
        "model": usage.model,
        "calls": usage.calls,
        "cached_calls": usage.cached_calls,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "usd": usage.cost_usd,
    }


def _rounds_table(rounds: Sequence[RoundRewards]) -> Table:
    figures = ("round", "rows", "minimum", "mean", "maximum")
    table = make_table("Reward per round (validation rows)", (), figures)
    for one in rounds:
        table.add_row(
            str(one.round),
            str(one.rows),
            f"{one.minimum:.2f}",
            f"{one.mean:.2f}",
            f"{one.maximum:.2f}",
        )
    return table


def _pool_table(pool: PoolView, *, wide: bool) -> Table:
    total = len(pool.items)
    table = Table(
        title=f"Pool: best {min(_SHOWN, total)} of {total} by shrunk validation score",
        title_justify="left",
        expand=wide,
    )
    for name in ("workflow", "score", "rows", "shrunk", "posterior", "round", "origin"):
        table.add_column(
            name, justify="left" if name in ("workflow", "origin") else "right", no_wrap=True
        )
    if wide:
        # What the figures leave: long titles must not press them out.
        table.add_column("steps", no_wrap=True, overflow="ellipsis", ratio=1)
    for item in pool.items[:_SHOWN]:
        row = _pool_row(item)
        table.add_row(*(row if wide else row[:-1]))
    return table


def _pool_row(item: PoolItem) -> tuple[str, ...]:
    entry, summary = item.row.entry, item.row.validation
    return (
        entry.workflow_id,
        "-" if summary is None else f"{summary.mean:.2f}",
        "-" if summary is None else str(summary.rows),
        "-" if item.shrunk is None else f"{item.shrunk:.2f}",
        "-" if item.posterior is None else f"{item.posterior:.3f}",
        str(entry.round),
        entry.origin,
        cell(" > ".join(json.loads(item.row.steps)), _STEPS),
    )


def _print_steps(console: Console, report: FinalReport) -> None:
    """The best workflow's steps, by the titles in its comments."""
    best = report.best[0]
    say(console, f"The steps of {best.workflow_id}:")
    for number, title in enumerate(best.step_titles, start=1):
        say(console, f"  {number}. {printable(title, _STEPS)}")


def _print_remarks(console: Console, phase: Phase) -> None:
    """What was decided or left out, and what failed most."""
    for note in phase.notes:
        say(console, f"note: {note}")
    if phase.top_errors:
        say(console, "Failures of workflows, the most frequent:")
        for error in phase.top_errors:
            say(console, f"  {printable(error, _ERROR)}", "dim")


def _scores_table(report: FinalReport) -> Table:
    table = make_table("Test rows, measured once", [""], ["score", "95 % interval", "rows"])
    table.add_column("method", no_wrap=True)
    name = "baseline" if report.baseline.own else "baseline (zero-shot)"
    if report.baseline.test is not None:
        table.add_row(name, *_score_row(report.baseline.test))
    table.add_row("best workflow", *_score_row(report.test))
    return table


def _verdict(report: FinalReport) -> str:
    words = {
        "yes": "beats the baseline",
        "no": "does not beat the baseline",
        "unclear": "cannot be told from the baseline on these rows",
    }
    gain = report.gain
    return (
        f"The best workflow {words[report.beats_baseline]}: paired gain {gain.delta:+.3f}, "
        f"95 % interval {gain.low:+.3f} to {gain.high:+.3f}."
    )


def _score_row(score: TestScore) -> tuple[str, ...]:
    interval = f"{score.low:.3f} to {score.high:.3f}"
    return (f"{score.score:.3f}", interval, str(score.rows), score.method)
