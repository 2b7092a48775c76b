import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from bayesflow_sandbox.errors import ProtocolError
from bayesflow_sandbox.locked.channel import Channel, Frame, Wire


class Pair(NamedTuple):
    channel: Channel
    other: socket.socket


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    ours, other = socket.socketpair()
    channel = await Channel.over(ours, max_bytes=1_000)
    yield Pair(channel, other)
    channel.close()
    other.close()
    await asyncio.sleep(0)  # the transport closes its socket in the next round


async def test_frames_arrive_in_order_however_they_are_cut(pair: Pair) -> None:
    data = b"".join(struct.pack(">IB", 3, kind) + b"abc" for kind in b"CCR")
    for at in range(len(data)):
        pair.other.send(data[at : at + 1])
        await asyncio.sleep(0)
    frames = [await pair.channel.receive() for _ in range(3)]
    assert frames == [Frame(kind, b"abc") for kind in b"CCR"]


async def test_a_wire_reads_what_a_channel_sends_and_the_other_way(pair: Pair) -> None:
    wire = Wire(pair.other.fileno())
    await pair.channel.send(b"J", b"x" * 999)
    assert wire.receive() == Frame(ord("J"), b"x" * 999)
    wire.send(b"R", b"")
    assert await pair.channel.receive() == Frame(ord("R"), b"")


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">IB", 1_001, ord("R")) + b"x" * 1_001,
        struct.pack(">IB", 0xFFFFFFFF, ord("R")),
        struct.pack(">IB", 1, 0) + b"x",
        b"\0\0",
        struct.pack(">IB", 10, ord("R")) + b"x",
    ],
)
async def test_a_bad_frame_is_a_protocol_error(pair: Pair, data: bytes) -> None:
    pair.other.sendall(data)
    pair.other.shutdown(socket.SHUT_WR)
    with pytest.raises(ProtocolError):
        await pair.channel.receive()


async def test_a_child_says_first_whether_it_is_confined(pair: Pair) -> None:
    wire = Wire(pair.other.fileno())
    wire.send(b"S", b"")
    wire.send(b"X", b"too late to say so")
    assert await pair.channel.confined() is None
    with pytest.raises(ProtocolError):
        await pair.channel.receive()


@pytest.mark.parametrize(("kind", "why"), [(b"X", "no lock"), (b"R", "it sent a frame of unknown")])
async def test_a_child_that_is_not_confined_says_why(pair: Pair, kind: bytes, why: str) -> None:
    Wire(pair.other.fileno()).send(kind, b"no lock")
    assert (await pair.channel.confined() or "").startswith(why)


async def test_the_end_between_two_frames_is_the_end(pair: Pair) -> None:
    pair.other.close()
    assert await pair.channel.receive() is None


async def test_sending_to_one_who_is_gone_does_nothing(pair: Pair) -> None:
    pair.other.close()
    for _ in range(3):
        await pair.channel.send(b"A", b"x" * 1_000_000)


async def test_a_flood_is_not_read_ahead(pair: Pair) -> None:
    """Unread frames stay in the sender's socket, which then blocks: memory stays bounded."""
    pair.other.setblocking(False)
    sent = 0
    for _ in range(1_000):
        await asyncio.sleep(0)
        try:
            sent += pair.other.send(b"x" * 65_536)
        except BlockingIOError:
            continue
    assert sent < 4_000_000


def test_a_wire_whose_host_is_gone_ends_the_process() -> None:
    ours, other = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        Wire(other.fileno()).receive()
        os._exit(9)
    other.close()
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
