"""Serving over stdin and stdout, and ending: on EOF, SIGTERM, SIGINT, or when the parent dies.

Nothing but protocol messages goes to stdout. Open runs are noted as interrupted before the process
ends; whatever a thread or library keeps alive after that does not keep the process.
"""

import asyncio
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Final, NoReturn

from mcp.server.context import CallNext, HandlerResult, ServerMiddleware, ServerRequestContext

from bayesflow_server.interface.backend import ClosingBackend
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.toolset import Narrowing
from bayesflow_server.interface.wire import mended_stdin
from bayesflow_server.scheduling import event_loop_factory, in_background
from bayesflow_server.settings import Settings

__all__ = ["serve"]

_EXIT_SECONDS: Final = 5.0
_QUIET_SECONDS: Final = 2.0
_PARENT_SECONDS: Final = 1.0


def serve(backend: ClosingBackend, settings: Settings) -> int:
    """Serves until stdin ends, a signal comes or the parent dies; returns the exit code.

    Args:
        backend: The application; closed before this returns.
        settings: What the process was started with.

    Raises:
        InputError: The settings name a tool that there is not, or leave none.
    """
    narrowing = Narrowing(settings.read_only, settings.tools)
    narrowing.offered()
    server = BayesFlowServer(backend, log_level=settings.log, narrowing=narrowing)
    with mended_stdin(), asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        # Going on with a run spends: a server that only reads leaves it to others.
        runner.run(_serve(server, backend, adopts=settings.auto_resume and not settings.read_only))
    return 0


async def _serve(server: BayesFlowServer, backend: ClosingBackend, *, adopts: bool) -> None:
    tasks = [asyncio.create_task(_stopped())]
    if adopts:
        answered = asyncio.Event()
        server.middleware.append(_noting(answered))
        tasks.append(in_background(_adopt_runs(backend, answered)))
    serving = asyncio.create_task(server.run_stdio_async())
    async with backend:
        await asyncio.wait([serving, tasks[0]], return_when=asyncio.FIRST_COMPLETED)
        _end_within(_EXIT_SECONDS)
        for task in (serving, *tasks):
            task.cancel()
        await asyncio.wait(tasks)
    if not serving.done():
        # A thread of the transport waits for a line on stdin, and nothing can wake it.
        _end()
    if not serving.cancelled():
        serving.result()


async def _adopt_runs(backend: ClosingBackend, answered: asyncio.Event) -> None:
    """Goes on with runs that were left, from a while after the first answer on.

    A host asks for several things when it starts a server, and a person waits for them; what a run
    needs takes a second to load.
    """
    await answered.wait()
    await backend.adopt_runs(_QUIET_SECONDS)


def _noting(answered: asyncio.Event) -> ServerMiddleware[object]:
    """Sets the event once a message was dealt with."""

    async def note(ctx: ServerRequestContext[object], call_next: CallNext) -> HandlerResult:
        try:
            return await call_next(ctx)
        finally:
            answered.set()

    return note


async def _stopped() -> None:
    """Returns when a signal asks for the end, or when the parent has died.

    A host that dies closes our stdin, unless another of its children still holds it open.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        # On Windows the default handler ends the process.
        with suppress(NotImplementedError):
            loop.add_signal_handler(name, signalled.set)
    parent = os.getppid()
    while os.getppid() == parent and not signalled.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(_PARENT_SECONDS):
                await signalled.wait()


def _end_within(seconds: float) -> None:
    """Ends the process by then, even if a thread or a library does not let go."""
    deadline = threading.Timer(seconds, _end)
    deadline.daemon = True
    deadline.start()


def _end() -> NoReturn:
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(0)
