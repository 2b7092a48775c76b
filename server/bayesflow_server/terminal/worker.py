"""`worker`: a process that owns runs outside any host, and says a line for each."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from bayesflow_server.app import Application
from bayesflow_server.errors import ServerError
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.worker import work
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.exit_codes import DONE, UNFINISHED
from bayesflow_server.terminal.screen import open_console, say, write_json
from bayesflow_server.terminal.stopping import run_command

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["worker"]

_STYLES: Final = {"finished": "green", "failed": "red", "running": "cyan"}


def worker(settings: Settings, *, once: bool, as_json: bool) -> int:
    """Works on runs until it is stopped, or none is left; 1 if one of them did not finish."""

    async def working() -> int:
        console = open_console(stderr=as_json)
        told: asyncio.Queue[str] = asyncio.Queue()
        taken: dict[str, None] = {}
        try:
            async with Application(settings) as application:
                service = await application.runs()
                say(console, f"working on the runs of {settings.db}; Ctrl-C gives them back")
                telling = asyncio.create_task(_tell(console, service, told, taken))
                try:
                    await work(service, once=once, told=told.put_nowait)
                    await told.join()
                finally:
                    telling.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await telling
                ended = [await _standing(service, run_id) for run_id in taken]
        except asyncio.CancelledError:
            say(console, "Stopped. What was not finished is kept; a worker or a server goes on.")
            raise
        if as_json:
            write_json({"runs": ended})
        elif not ended:
            say(console, "Nothing is left to work on.")
        return DONE if all(one["status"] == "finished" for one in ended) else UNFINISHED

    return run_command(working())


async def _tell(
    console: "Console",
    service: RunService,
    told: "asyncio.Queue[str]",
    taken: dict[str, None],
) -> None:
    """Prints what the worker tells, and with it how the run stands."""
    while True:
        sentence = await told.get()
        run_id = sentence.partition(":")[0]
        taken[run_id] = None
        try:
            one = await _standing(service, run_id)
            reason = f" ({one['reason']})" if one["reason"] else ""
            named = f" ({one['name']})" if one["name"] else ""
            line = f"{sentence}{named}: {one['status']}{reason}"
            say(console, line, _STYLES.get(str(one["status"]), "yellow"))
        except ServerError as error:
            say(console, f"{sentence} ({error})", "yellow")
        finally:
            told.task_done()


async def _standing(service: RunService, run_id: str) -> dict[str, object]:
    record = await service.record(run_id)
    return {
        "run_id": run_id,
        "name": record.name,
        "status": service.status(record),
        "reason": service.reason(record),
    }
