"""Frames between host and child: four bytes of length, one of kind, the body.

The host reads with ``Channel``, which takes no frame above its maximum and no kind it does not
know; the child with ``Wire``, blocking and without asyncio.
"""

import asyncio
import os
import socket
import struct
from typing import Final, NamedTuple

from bayesflow_sandbox.errors import ProtocolError

__all__ = ["KINDS", "OUT_OF_MEMORY", "Channel", "Frame", "Wire"]

_HEADER: Final = struct.Struct(">IB")

# host → child: a job, an answer. child → host: a call, a returned value, a failure, a limit that
# was reached.
KINDS: Final = frozenset(b"JACRFL")
# A child's first frame, sent before it has read anything that is not ours: it is confined, or why
# it could not be. Later it is not believed.
_CONFINED, _UNCONFINED = b"SX"

# The exit status of a child that had no memory left to say so.
OUT_OF_MEMORY: Final = 77


class Frame(NamedTuple):
    """One frame: a byte of ``KINDS`` and its body, a ``codec`` value."""

    kind: int
    body: bytes


class Channel:
    """The host's end. Everything that it reads is hostile.

    Args:
        reader: Where frames come from.
        writer: Where they go.
        max_bytes: The largest body taken.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, max_bytes: int
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_bytes = max_bytes

    @classmethod
    async def over(cls, end: socket.socket, max_bytes: int) -> "Channel":
        """Returns the channel over one end of a socket pair, which it then owns."""
        reader, writer = await asyncio.open_connection(sock=end)
        return cls(reader, writer, max_bytes)

    async def send(self, kind: bytes, body: bytes) -> None:
        """Sends a frame; waits while the child reads too slowly; does nothing if it is gone."""
        if self._writer.is_closing():
            return
        self._writer.write(_HEADER.pack(len(body), kind[0]) + body)
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    async def confined(self) -> str | None:
        """Waits for the child's first frame: None if it is confined, otherwise why it is not.

        None as well if it is gone: then there is no frame to come.
        """
        try:
            frame = await self._frame(frozenset((_CONFINED, _UNCONFINED)))
        except ProtocolError as error:
            return f"it sent {error}"
        if frame is None or frame.kind == _CONFINED:
            return None
        return frame.body.decode("utf-8", "replace")

    async def receive(self) -> Frame | None:
        """Returns the next frame, or None when the child has closed its end between two.

        Raises:
            ProtocolError: A frame is too large, of no known kind, or cut off.
        """
        return await self._frame(KINDS)

    def close(self) -> None:
        """Closes this end at once, whatever is still to be sent."""
        self._writer.transport.abort()

    async def _frame(self, kinds: frozenset[int]) -> Frame | None:
        try:
            size, kind = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            if size > self._max_bytes:
                raise ProtocolError(f"a frame of {size} bytes; at most {self._max_bytes} are taken")
            if kind not in kinds:
                raise ProtocolError(f"a frame of unknown kind {kind}")
            return Frame(kind, await self._reader.readexactly(size))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise ProtocolError("a frame was cut off") from None
            return None
        except ConnectionError:
            return None


class Wire:
    """The child's end of a channel: blocking reads and writes on a file descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def send(self, kind: bytes, body: bytes) -> None:
        """Sends a frame."""
        left = memoryview(_HEADER.pack(len(body), kind[0]) + body)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def receive(self) -> Frame:
        """Returns the next frame; ends the process when the host is gone."""
        size, kind = _HEADER.unpack(self._exactly(_HEADER.size))
        return Frame(kind, self._exactly(size))

    def _exactly(self, size: int) -> bytes:
        got = bytearray()
        while len(got) < size:
            part = os.read(self.descriptor, min(size - len(got), 1 << 18))
            if not part:
                os._exit(0)
            got += part
        return bytes(got)
