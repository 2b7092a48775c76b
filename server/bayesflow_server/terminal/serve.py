"""`serve`: the MCP server, and a word to the person who starts it by hand."""

import sys
from typing import Final

from bayesflow_server.app import Application
from bayesflow_server.interface.stdio import serve
from bayesflow_server.interface.toolset import Narrowing
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.teaching import CONNECT

__all__ = ["serve_command"]

_HINT: Final = f"""\
bayesflow-mcp is an MCP server and now waits for a client on stdin; Ctrl-C ends it.
To connect an agent:  {CONNECT}
To use it by hand:    bayesflow-mcp --help
"""


def serve_command(settings: Settings) -> int:
    """Serves until the client leaves; returns the exit code.

    Raises:
        InputError: The flags name a tool that there is not, or leave none.
    """
    narrowing = Narrowing(settings.read_only, settings.tools)
    narrowing.offered()  # before anything is served
    if sys.stdin.isatty():
        sys.stderr.write(_HINT)
        sys.stderr.flush()
    return serve(Application(settings, hosted=True), settings)
