"""Our server with the conformance suite's fixtures, over streamable HTTP on the loopback.

python tests/conformance/fixture_server.py DATABASE: says its port on the first line of stdout, and
serves until it is ended.
"""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any, TypeAlias

import uvicorn
from mcp.server.context import ServerRequestContext
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import (
    EmptyResult,
    JSONRPCMessage,
    SetLevelRequestParams,
)

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.tasks_extension import TasksExtension
from bayesflow_server.settings import Settings
from conformance.asking_fixtures import register_asking
from conformance.plain_fixtures import complete, register_plain
from conformance.task_fixtures import MemoryTasks, register_tasks

__all__ = ["fixture_server"]


AnyRequest: TypeAlias = ServerRequestContext[Any, Any]


class _Events(EventStore):
    """What was sent over each stream, for clients that come back to one."""

    def __init__(self) -> None:
        self._sent: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        self._sent.append((stream_id, message))
        return str(len(self._sent))

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        last = int(last_event_id)
        if not 0 < last <= len(self._sent):
            return None
        stream = self._sent[last - 1][0]
        for number, (where, message) in enumerate(self._sent[last:], last + 1):
            if where == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def fixture_server(application: Application, tasks: MemoryTasks) -> BayesFlowServer:
    """Our server, and the fixtures beside what it offers by itself."""
    server = BayesFlowServer(application, extensions=[TasksExtension(tasks)])
    register_plain(server)
    register_asking(server)
    register_tasks(server)
    server.completion()(complete)
    _register_set_level(server)
    return server


def _register_set_level(server: BayesFlowServer) -> None:
    """The older revision's way to name a log level, which the server by itself does not offer."""
    wire = server._lowlevel_server  # pyright: ignore[reportPrivateUsage]

    async def set_level(context: AnyRequest, params: SetLevelRequestParams) -> EmptyResult:
        return EmptyResult()

    wire.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)


async def _serve(database: Path) -> None:
    async with Application(Settings(db=database)) as application, MemoryTasks() as tasks:
        app = fixture_server(application, tasks).streamable_http_app(
            event_store=_Events(), retry_interval=100
        )
        with socket.create_server(("127.0.0.1", 0)) as listening:
            print(listening.getsockname()[1], flush=True)  # noqa: T201
            await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve([listening])


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
