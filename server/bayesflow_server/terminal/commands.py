"""`run`, `resume` and `show`: the server's own services, used in-process by a person."""

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayesflow_server.app import Application
from bayesflow_server.errors import NotFoundError
from bayesflow_server.runs.service import RunService
from bayesflow_server.settings import Settings, read_settings
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.live import follow
from bayesflow_server.terminal.request import RunArguments, budget_of, request_of
from bayesflow_server.terminal.result import (
    RunResult,
    check_folder,
    load_result,
    print_result,
    result_json,
    write_files,
)
from bayesflow_server.terminal.screen import open_console, say, write_json
from bayesflow_server.terminal.stopping import run_command

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "find_run", "resume", "resume_line", "run", "show", "show_result"]

# Names the newest run wherever a run is asked for.
_LATEST: Final = "latest"


@dataclass(frozen=True)
class Output:
    """Where a command's result goes.

    Attributes:
        folder: For the best workflow, the report and the plot; or None.
        json: JSON on stdout, and everything else on stderr.
    """

    folder: str | None
    json: bool


def run(settings: Settings, arguments: RunArguments, output: Output) -> int:
    """Searches a workflow for a task file and shows what it found."""
    request = request_of(arguments)

    async def begin(service: RunService, console: "Console") -> str:
        started = await service.start(request)
        splits, estimate = request.task.splits, started.estimate
        say(
            console,
            f"{started.record.run_id}: {request.name or request.executor}, "
            f"{len(splits.validation)} validation, {len(splits.selection)} selection and "
            f"{len(splits.test)} test rows, executor {request.executor}, optimizer "
            f"{started.spec.optimizer}; about "
            f"{estimate.calls} calls{_money(estimate.usd)} and {estimate.minutes:.0f} minutes at "
            "most, less what repeats.",
        )
        for warning in started.warnings:
            say(console, f"warning: {warning}", "yellow")
        return started.record.run_id

    return run_command(_work(settings, begin, output))


def resume(
    settings: Settings, asked: str, output: Output, budget_flags: Mapping[str, float | None]
) -> int:
    """Goes on with a run and shows what it found."""
    budget = budget_of({}, budget_flags)

    async def begin(service: RunService, console: "Console") -> str:
        run_id = await find_run(settings, service, asked)
        await service.resume(run_id, budget)
        return run_id

    return run_command(_work(settings, begin, output))


def show(settings: Settings, asked: str, output: Output) -> int:
    """Shows a run as it stands."""

    async def look() -> int:
        folder = check_folder(output.folder)
        console = open_console(stderr=output.json)
        async with Application(settings) as application:
            service = await application.runs()
            result = await load_result(service, await find_run(settings, service, asked))
        show_result(console, settings, result, as_json=output.json, story=True)
        _write(console, result, folder)
        return DONE

    return run_command(look())


async def find_run(settings: Settings, service: RunService, asked: str) -> str:
    """The id of the run that a person means: an id, or `latest`.

    Raises:
        NotFoundError: There is no such run.
    """
    if asked == _LATEST:
        newest = await service.newest(1)
        if not newest:
            raise NotFoundError(
                f"There are no runs in {settings.db}; `bayesflow-mcp run TASK` begins one."
            )
        return newest[0].run_id
    try:
        return (await service.record(asked)).run_id
    except NotFoundError:
        raise NotFoundError(
            f"There is no such run in {settings.db}; `bayesflow-mcp runs` lists those that are."
        ) from None


async def _work(
    settings: Settings, begin: "Callable[[RunService, Console], Awaitable[str]]", output: Output
) -> int:
    """Begins something, follows it to its end, and shows the result."""
    folder = check_folder(output.folder)
    console = open_console(stderr=output.json)
    run_id = None
    try:
        async with Application(settings) as application:
            service = await application.runs()
            run_id = await begin(service, console)
            try:
                await follow(console, service, run_id)
            except asyncio.CancelledError:
                await service.pause(run_id)  # else a server on the same file would go on with it
                raise
            result = await load_result(service, run_id)
    except asyncio.CancelledError:
        if run_id is not None:
            line = resume_line(settings, run_id)
            say(console, f"Stopped. Everything found is kept; go on with: {line}", whole=True)
        raise
    show_result(console, settings, result, as_json=output.json)
    _write(console, result, folder)
    return DONE if result.status == "finished" else UNFINISHED


def show_result(
    console: "Console",
    settings: Settings,
    result: RunResult,
    *,
    as_json: bool,
    story: bool = False,
) -> None:
    """Prints a run's result, and how to go on where it stopped."""
    if as_json:
        write_json(result_json(result))
        return
    print_result(console, result, story=story)
    if result.status not in ("finished", "queued", "running", "waiting_for_client"):
        line = resume_line(settings, result.record.run_id)
        more = (
            " --usd, --calls, --tokens or --minutes N (the new total)"
            if "budget" in (result.reason or "")
            else ""
        )
        say(console, f"Go on with: {line}{more}", whole=True)


def _write(console: "Console", result: RunResult, folder: Path | None) -> None:
    if folder is not None:
        for path in write_files(result, folder):
            say(console, f"wrote {path}", whole=True)


def resume_line(settings: Settings, run_id: str) -> str:
    """The command that goes on with a run, for this database, these endpoints and scorers."""
    usual = read_settings()
    place = [] if usual.db == settings.db else ["--db", str(settings.db)]
    for endpoint in settings.endpoints:
        place += [] if endpoint in usual.endpoints else ["--endpoint", endpoint]
    for scorer in settings.scorers:
        place += [] if scorer in usual.scorers else ["--scorer-file", scorer]
    return shlex.join(["bayesflow-mcp", *place, "resume", run_id])


def _money(usd: float | None) -> str:
    return f", {usd:.2f} USD" if usd else ""
