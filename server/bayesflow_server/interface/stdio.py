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

from bayesflow_server.interface.backend import ClosingBackend
from bayesflow_server.interface.server import BayesFlowServer, LogLevel
from bayesflow_server.interface.wire import mended_stdin
from bayesflow_server.scheduling import event_loop_factory

__all__ = ["serve"]

_EXIT_SECONDS: Final = 5.0
_PARENT_SECONDS: Final = 1.0


def serve(backend: ClosingBackend, *, log_level: LogLevel) -> int:
    """Serves until stdin ends, a signal comes or the parent dies; returns the exit code.

    Args:
        backend: The application; closed before this returns.
        log_level: Of the log on stderr.
    """
    with mended_stdin(), asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(_serve(backend, log_level))
    return 0


async def _serve(backend: ClosingBackend, log_level: LogLevel) -> None:
    server = BayesFlowServer(backend, log_level=log_level)
    serving = asyncio.create_task(server.run_stdio_async())
    stopping = asyncio.create_task(_stopped())
    async with backend:
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        _end_within(_EXIT_SECONDS)
        for task in (serving, stopping):
            task.cancel()
    if not serving.done():
        # A thread of the transport waits for a line on stdin, and nothing can wake it.
        _end()
    if not serving.cancelled():
        serving.result()


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
