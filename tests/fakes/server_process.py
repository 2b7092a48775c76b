"""The server as a host runs it: a process spoken to line by line, without a client library.

What the client libraries do with a process at its end (wait, signal, kill) would hide what the
server does by itself.
"""

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from fakes.mcp_sessions import Arguments, Object, server_command

__all__ = ["ABOUT_EACH", "HELLO", "ServerProcess", "is_running"]

_PATIENCE = 30.0

HELLO: Arguments = {
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "0"},
    },
}

ABOUT_EACH: Arguments = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "0"},
}


class ServerProcess:
    """A server over stdin and stdout, by the older handshake or without one. A context manager.

    Attributes:
        process: The process.
        notifications: Messages without an answer's id.
        said: Every line it wrote to stdout so far.
    """

    def __init__(
        self,
        db: Path,
        script: Path | None,
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
        modern: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        """Starts it.

        Args:
            db: Its database file; it runs in the folder of that.
            script: What the scripted model answers.
            environment: Further variables.
            log: Where its stderr goes; without one it must say little, or it comes to a stop.
            modern: Speak the newer revision, where each request says what the handshake said.
            flags: Further words of its command line.
        """
        command = server_command(db, script)
        with ExitStack() as opened:
            stderr = subprocess.PIPE if log is None else opened.enter_context(log.open("wb"))
            self.process = subprocess.Popen(
                [command.command, *command.args, *flags],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=dict(command.env or {}) | dict(environment or {}),
                cwd=db.parent,
            )
        self.notifications: list[Object] = []
        self.said: list[bytes] = []
        self._number = 0
        self._modern = modern

    def __enter__(self) -> Self:
        if self._modern:
            return self
        self._answer(HELLO)
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def request(self, method: str, params: Mapping[str, object]) -> Object:
        """The result of a request; every line on stdout must be a message."""
        about = {"_meta": ABOUT_EACH} if self._modern else {}
        return self._answer({"method": method, "params": dict(params) | about})

    def tell(self, method: str, params: Mapping[str, object]) -> None:
        """Sends a request whose answer nobody waits for."""
        self._number += 1
        request = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": dict(params)}
        self._send(request)

    def _answer(self, request: Arguments) -> Object:
        self._number += 1
        number = self._number
        self._send({"jsonrpc": "2.0", "id": number, **request})
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            self.said.append(line)
            assert line, self.process.stderr and self.process.stderr.read().decode()
            message = json.loads(line)
            assert message["jsonrpc"] == "2.0"
            if message.get("id") == number:
                assert "result" in message, message
                return message["result"]
            self.notifications.append(message)

    def call(self, tool: str, arguments: Mapping[str, object]) -> Object:
        """A tool's structured result."""
        result = self.request("tools/call", {"name": tool, "arguments": dict(arguments)})
        assert not result.get("isError"), result
        content = result["structuredContent"]
        assert isinstance(content, dict)
        return content

    def wait_for_calls(self, count_file: Path, least: int) -> None:
        """Returns once the scripted model was called so often."""
        deadline = time.monotonic() + _PATIENCE
        while not count_file.exists() or count_file.read_text().count("start ") < least:
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            select.select([], [], [], 0.01)

    def children(self) -> list[int]:
        """Process ids of the server's descendants, as the system knows them."""
        return _descendants(self.process.pid)

    def end(self, *, by: signal.Signals | None) -> int:
        """Ends the server by a signal, or by closing its stdin; returns its exit code."""
        assert self.process.stdin is not None
        if by is None:
            self.process.stdin.close()
        else:
            os.kill(self.process.pid, by)
        return self.process.wait(_PATIENCE)

    def rest(self) -> bytes:
        """What it wrote to stdout after the last answer."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def _send(self, message: Mapping[str, object]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()


def is_running(pid: int) -> bool:
    """Whether a process is there and not just waiting to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found
