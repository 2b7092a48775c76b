"""`run`, `resume`, `runs` and `show`: the server's own services, used in-process by a person."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from rich.console import Console
from rich.table import Table

from bayesflow_server.app import Application
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task_file import load_task_file
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.options import parse_options
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.live import follow
from bayesflow_server.terminal.result import (
    check_folder,
    load_result,
    print_result,
    result_json,
    write_files,
)

__all__ = ["RunArguments", "list_runs", "resume", "run", "show"]

_LISTED = 50


@dataclass(frozen=True)
class RunArguments:
    """What `bayesflow-mcp run` was given; None leaves the file's value."""

    task: Path
    seed: int | None
    executor: str | None
    options: tuple[str, ...]
    calls: int | None
    minutes: float | None
    out: str | None
    json: bool

    @classmethod
    def of(cls, options: argparse.Namespace) -> "RunArguments":
        """From parsed arguments."""
        return cls(
            task=Path(options.task),
            seed=options.seed,
            executor=options.executor,
            options=tuple(options.option),
            calls=options.calls,
            minutes=options.minutes,
            out=options.out,
            json=options.json,
        )


def run(settings: Settings, arguments: RunArguments) -> int:
    """Searches a workflow for a task file and shows what it found."""
    folder = check_folder(arguments.out)
    request = _request(arguments)

    async def work(service: RunService, console: Console) -> str:
        started = await service.start(request)
        sizes = {split: len(rows) for split, rows in _splits(request).items()}
        console.print(
            f"{started.record.run_id}: {request.name or 'run'}, executor {request.executor}, "
            f"rows {sizes}, at most {started.estimate.calls} calls and "
            f"{started.estimate.minutes:.0f} minutes if nothing repeats.",
            highlight=False,
        )
        for warning in started.warnings:
            console.print(f"warning: {warning}", highlight=False)
        return started.record.run_id

    return asyncio.run(_work(settings, work, folder, json_output=arguments.json))


def resume(settings: Settings, run_id: str, out: str | None, *, json_output: bool) -> int:
    """Goes on with a run and shows what it found."""
    folder = check_folder(out)

    async def work(service: RunService, console: Console) -> str:
        await service.resume(run_id)
        return run_id

    return asyncio.run(_work(settings, work, folder, json_output=json_output))


def show(settings: Settings, run_id: str, out: str | None, *, json_output: bool) -> int:
    """Shows a run as it stands."""
    folder = check_folder(out)

    async def work(service: RunService, console: Console) -> str:
        await service.record(run_id)
        return run_id

    return asyncio.run(_work(settings, work, folder, json_output=json_output))


def list_runs(settings: Settings, *, json_output: bool) -> int:
    """Lists the newest runs."""

    async def work() -> None:
        async with Application(settings) as application:
            service = await application.runs()
            records = await service.newest(_LISTED)
            if json_output:
                names = [[r.run_id, r.name, service.status(r), r.created] for r in records]
                sys.stdout.write(json.dumps(names) + "\n")
                return
            table = Table("run", "name", "status", "reason")
            for record in records:
                reason = service.reason(record) or ""
                table.add_row(record.run_id, record.name or "", service.status(record), reason)
            Console().print(table)

    asyncio.run(work())
    return 0


async def _work(
    settings: Settings,
    begin: Callable[[RunService, Console], Awaitable[str]],
    folder: Path | None,
    *,
    json_output: bool,
) -> int:
    """Begins something, follows it to its end, and shows the result."""
    console = Console(stderr=json_output)
    async with Application(settings) as application:
        service = await application.runs()
        run_id = await begin(service, console)
        await follow(console, service, run_id)
        result = await load_result(service, run_id)
    if json_output:
        sys.stdout.write(json.dumps(result_json(result)) + "\n")
    else:
        print_result(console, result)
    if folder is not None:
        for path in write_files(result, folder):
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)
    return 0 if result.status == "finished" else 1


def _request(arguments: RunArguments) -> RunRequest:
    loaded = load_task_file(arguments.task, seed=arguments.seed)
    settings = loaded.settings
    executor = arguments.executor or settings.executor
    if executor is None:
        raise InputError(
            f"The task file '{arguments.task}' names no `executor`; add one or pass --executor."
        )
    changes = {"calls": arguments.calls, "minutes": arguments.minutes}
    given = {name: value for name, value in changes.items() if value is not None}
    budget = BudgetLimits.model_validate({**(settings.budget or {}), **given})
    return RunRequest(
        task=loaded.task,
        executor=executor,
        optimizer=settings.optimizer,
        preset=settings.preset,
        options=parse_options(settings.options | _options(arguments.options)),
        budget=budget,
        seed=settings.seed,
        name=settings.name,
        grammar=loaded.grammar.text if loaded.grammar else None,
    )


def _options(pairs: Sequence[str]) -> dict[str, JsonValue]:
    """Options from NAME=VALUE; a value is JSON where it can be, otherwise text."""
    values: dict[str, JsonValue] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise InputError(f"--option {pair!r} is not NAME=VALUE, such as particles=20.")
        try:
            values[name] = json.loads(text)
        except json.JSONDecodeError:
            values[name] = text
    return values


def _splits(request: RunRequest) -> dict[str, tuple[object, ...]]:
    splits = request.task.splits
    return {
        "validation": splits.validation,
        "selection": splits.selection,
        "test": splits.test,
    }
