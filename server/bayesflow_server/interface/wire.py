r"""Stdin as the transport reads it: a line that holds half of a surrogate pair is mended first.

Hosts in JavaScript cut texts in the middle of a character and send `\ud83d` alone. That is no JSON
for the transport, which drops the line: its request would never be answered. Called by `stdio`.
"""

import io
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["mended", "mended_stdin"]

# An escape at a time, so that a backslash that is itself escaped begins none.
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


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
            self._left = memoryview(mended(self._file.readline()))
        given, self._left = self._left[: len(room)], self._left[len(room) :]
        room[: len(given)] = given
        return len(given)


def _is_real(stdin: "TextIO | None") -> bool:
    try:
        return stdin is not None and stdin.fileno() == 0
    except (OSError, ValueError):
        return False
