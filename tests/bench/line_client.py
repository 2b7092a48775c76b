"""The least client there is: a line out, a line in. What it measures is the server's own time."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

__all__ = ["LineClient", "Timed"]

_HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "bench", "version": "1"},
}


class Timed(NamedTuple):
    """A tool's structured result, and how long its answer took from line to line."""

    result: dict[str, Any]
    seconds: float


class LineClient:
    """A real server process over stdio; a context manager that ends it."""

    def __init__(self, database: Path, script: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bayesflow_server", "--db", str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"BAYESFLOW_SCRIPTED_MODEL": str(script)},
        )
        self._number = 0

    def __enter__(self) -> Self:
        self._ask("initialize", _HELLO)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def call(self, tool: str, arguments: dict[str, Any]) -> Timed:
        """Calls a tool."""
        line, seconds = self._ask("tools/call", {"name": tool, "arguments": arguments})
        answer = json.loads(line)
        assert not answer["result"].get("isError"), line[:500]
        return Timed(answer["result"]["structuredContent"], seconds)

    def _ask(self, method: str, params: dict[str, Any]) -> tuple[bytes, float]:
        self._number += 1
        assert self.process.stdout is not None
        began = time.perf_counter()
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        line = self.process.stdout.readline()
        return line, time.perf_counter() - began

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()
