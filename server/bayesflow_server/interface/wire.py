r"""Stdin as the transport reads it: lines that it would drop are mended, or made to be answered.

The transport drops a line that it cannot read, and whoever sent it would wait for ever. Hosts in
JavaScript cut texts in the middle of a character and send `\ud83d` alone, which is no JSON: such
halves are replaced. A request that is unreadable otherwise, but shows its id, becomes a request of
a method that refuses it in words. Called by `stdio`.
"""

import io
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn, TextIO

from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_REQUEST, RequestParams
from mcp_types import jsonrpc_message_adapter

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["UNREADABLE", "answerable", "mended", "mended_stdin", "refuse_unreadable"]

# The method in whose name a request is refused that cannot be read.
UNREADABLE: Final = "bayesflow/unreadable"

# An escape at a time, so that a backslash that is itself escaped begins none.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)
_METHOD: Final = re.compile(rb'"method"\s*:')
_ID: Final = re.compile(rb'"id"\s*:\s*("[^"\\\x00-\x1f\x80-\xff]{1,200}"|-?[0-9]{1,15}(?=\s*[,}]))')
# What each request of the newer revision says of itself, and no request of the older.
_VERSION: Final = b"io.modelcontextprotocol/protocolVersion"
_ABOUT: Final = (
    b'"_meta":{"%b":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}' % _VERSION
)


async def refuse_unreadable(_context: object, _params: RequestParams) -> NoReturn:
    """Handles what `answerable` put in an unreadable request's place.

    Raises:
        MCPError: Always.
    """
    raise MCPError(
        INVALID_REQUEST,
        "This line could not be read as a request: it is no JSON, or is nested too deeply, or its "
        "`params` are no object. Send one JSON-RPC request a line.",
    )


def answerable(line: bytes) -> bytes:
    """The line, or a request that is refused in its name if the transport would drop it."""
    try:
        jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        names = set(_ID.findall(line))
        if len(names) != 1 or not _METHOD.search(line):
            return line  # whose it is cannot be told, or nobody waits for an answer
        fields = (names.pop(), UNREADABLE.encode(), _ABOUT if _VERSION in line else b"")
        return b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":{%b}}\n' % fields
    return line


def mended(line: bytes) -> bytes:
    """The line of JSON, with U+FFFD for each half of a surrogate pair."""
    if rb"\ud" not in line and rb"\uD" not in line:
        return line
    return _ESCAPE.sub(lambda escape: rb"\ufffd" if escape["half"] else escape[0], line)


@contextmanager
def mended_stdin() -> Generator[None, None, None]:
    """In the block `sys.stdin` gives mended lines, and whoever else reads stdin finds nothing."""
    if sys.platform == "win32" or not _is_real(sys.stdin):
        yield  # the transport has its own way to keep stdin from others
        return
    stdin, wire = sys.stdin, os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    # Not closed: a thread of the transport may read from it until the process ends.
    lines = io.BufferedReader(_Lines(os.fdopen(wire, "rb", closefd=False)))
    sys.stdin = io.TextIOWrapper(lines, encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = stdin
        os.dup2(wire, 0)


class _Lines(io.RawIOBase):
    """Mended lines of a file; it has no descriptor, so nobody takes another way to the bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As much of the present line as there is room for; waits for a line if need be."""
        room = memoryview(buffer).cast("B")
        if not self._left:
            self._left = memoryview(self._next_line())
        given, self._left = self._left[: len(room)], self._left[len(room) :]
        room[: len(given)] = given
        return len(given)

    def _next_line(self) -> bytes:
        line = mended(self._file.readline())
        return answerable(line) if line else line


def _is_real(stdin: "TextIO | None") -> bool:
    try:
        return stdin is not None and stdin.fileno() == 0
    except (OSError, ValueError):
        return False
