"""`wait` and `cancel`: runs that another process works on."""

import asyncio
import time
from typing import Final

from bayesflow_server.app import Application
from bayesflow_server.errors import InputError
from bayesflow_server.runs.lease import HEARTBEAT_SECONDS, worker_lives
from bayesflow_server.runs.service import RunService
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import RunRecord, RunStatus
from bayesflow_server.terminal.commands import find_run, resume_line, show_result
from bayesflow_server.terminal.exit_codes import DONE, TIMED_OUT, UNFINISHED
from bayesflow_server.terminal.live import follow
from bayesflow_server.terminal.result import load_result
from bayesflow_server.terminal.screen import open_console, say, write_json
from bayesflow_server.terminal.stopping import run_command

__all__ = ["cancel", "wait"]

_AT_WORK: Final[tuple[RunStatus, ...]] = ("queued", "running", "waiting_for_client")
_LOOK_SECONDS: Final = 1.0
# A server or a worker takes a run over so soon after its process's end.
_GRACE_SECONDS: Final = 2 * HEARTBEAT_SECONDS
_LET_GO_SECONDS: Final = 5.0


def wait(settings: Settings, asked: str, *, timeout: float | None, as_json: bool) -> int:
    """Follows a run to its end, or until nobody works on it, or for `timeout` seconds."""
    if timeout is not None and not timeout >= 0:
        raise InputError("--timeout takes seconds, 0 or more.")

    async def work() -> int:
        console = open_console(stderr=as_json)
        async with Application(settings) as application:
            service = await application.runs()
            run_id = await find_run(settings, service, asked)
            left = _until_left(service, run_id)
            try:
                async with asyncio.timeout(timeout):
                    await follow(console, service, run_id, left)
            except TimeoutError:
                pass
            except asyncio.CancelledError:
                say(console, f"You no longer wait; {run_id} goes on.")
                raise
            result = await load_result(service, run_id)
        at_work = result.status in _AT_WORK
        if as_json or not at_work:
            show_result(console, settings, result, as_json=as_json)
        if at_work:
            say(console, f"{run_id} goes on; {timeout:g} s are over.")
            return TIMED_OUT
        if result.status == "interrupted":
            say(
                console,
                "Nobody works on it: resume it here, or start `bayesflow-mcp worker` or a server.",
            )
        return DONE if result.status == "finished" else UNFINISHED

    return run_command(work())


async def _until_left(service: RunService, run_id: str) -> RunRecord:
    """The run once it has ended, or nobody works on it and nobody is expected to."""
    left_at: float | None = None
    expected = worker_lives(service.workplace.store.path)
    while True:
        record = await service.record(run_id)
        status = service.status(record)
        now = time.monotonic()
        if status in _AT_WORK:
            left_at, expected = None, True
        elif status != "interrupted" or not expected:
            return record
        else:
            left_at = left_at or now
            if now - left_at > _GRACE_SECONDS:
                return record
        await service.wait(run_id, since=record.revision, seconds=_LOOK_SECONDS)


def cancel(settings: Settings, asked: str, *, as_json: bool) -> int:
    """Stops a run, in whatever process; one that has ended stays as it is."""

    async def work() -> int:
        async with Application(settings) as application:
            service = await application.runs()
            run_id = await find_run(settings, service, asked)
            before = service.status(await service.record(run_id))
            record = await service.cancel(run_id)
            deadline = time.monotonic() + _LET_GO_SECONDS
            while before in _AT_WORK and record.owner and time.monotonic() < deadline:
                # Its process stops its calls, and then gives it back.
                await service.wait(run_id, since=record.revision, seconds=_LOOK_SECONDS / 4)
                record = await service.record(run_id)
            status, reason = service.status(record), service.reason(record)
        if as_json:
            write_json({"run_id": run_id, "before": before, "status": status, "reason": reason})
            return DONE
        console = open_console()
        if before == status:
            say(console, f"{run_id} is {status} already; nothing was to stop.")
        else:
            say(console, f"{run_id} was {before} and is {status}. Everything found is kept.")
            say(console, f"Go on with: {resume_line(settings, run_id)}", whole=True)
        return DONE

    return run_command(work())
