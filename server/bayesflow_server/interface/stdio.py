"""Serving over stdin and stdout, and ending: on EOF, SIGTERM or SIGINT, within a deadline.

Nothing but protocol messages goes to stdout. Open runs are noted as interrupted before the process
ends; what a thread or library keeps alive after that does not keep the process.
"""

import asyncio
import os
import signal
import sys
import threading
from typing import Final

from bayesflow_server.app import Application
from bayesflow_server.interface.server import build_server
from bayesflow_server.settings import Settings

__all__ = ["serve"]

_EXIT_SECONDS: Final = 5.0


def serve(settings: Settings) -> int:
    """Serves until stdin ends or a signal comes; returns the exit code."""
    asyncio.run(_serve(settings))
    return 0


async def _serve(settings: Settings) -> None:
    application = Application(settings)
    server = build_server(application, log_level=settings.log)
    serving = asyncio.create_task(server.run_stdio_async())
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(name, serving.cancel)
        except NotImplementedError:  # Windows: the default handler ends the process
            break
    async with application:
        try:
            await serving
        except asyncio.CancelledError:
            if not serving.cancelled():
                raise
    _leave_soon()


def _leave_soon() -> None:
    """Ends the process even if a thread still waits for input or a library does not let go."""
    sys.stdout.flush()
    deadline = threading.Timer(_EXIT_SECONDS, os._exit, (0,))
    deadline.daemon = True
    deadline.start()
