"""Nothing that a sandboxed process can send harms the host: it is read, or is a protocol error.

Codec, channel and conversation are given bytes of every kind: noise, frames with noise in them,
messages of the right shape with wrong values, and valid messages cut, flipped and repeated.
"""

import asyncio
import contextlib
import socket
import tracemalloc
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import ProtocolError
from bayesflow_sandbox.host import workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked.channel import KINDS, Channel
from bayesflow_sandbox.locked.codec import MAX_DEPTH, decode, encode
from bayesflow_sandbox.locked.conversation import LockedProcess, execute
from bayesflow_sandbox.locked.process import Child, Death
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.program import compile_program
from fakes.hostile_bytes import TAGS, damaged, frame, streams, tagged
from sandbox.workflows import EchoHost, workflow

MAX_BYTES: Final = 4096
LIMITS: Final = Limits(host_calls=5, return_bytes=1024, wall_seconds=20)
PROGRAM: Final = compile_program(workflow("return 1"))


@given(st.one_of(tagged, damaged(), st.binary(max_size=200)), st.booleans())
@settings(max_examples=1_500, deadline=None)
def test_bytes_are_a_value_or_a_protocol_error(data: bytes, any_keys: bool) -> None:
    try:
        value = decode(data, any_keys=any_keys)
    except ProtocolError:
        return
    again = encode(value, 1 << 20)
    assert len(encode(decode(again, any_keys=True), 1 << 20)) == len(again)  # sets have no order


@pytest.mark.parametrize(
    ("unit", "closing"),
    [(b"l\x01", b"N"), (b"l\x00", b""), (b"d\x00", b""), (b"s\x01x", b""), (b"c" + bytes(16), b"")],
)
def test_memory_is_paid_for_by_the_bytes_in_hand(unit: bytes, closing: bytes) -> None:
    count = 60_000 // len(unit)
    nested = unit * MAX_DEPTH + closing
    counted = b"\xff\xff\xff\xff\x0f"
    hostile = [
        unit * count + closing,
        nested,
        b"l" + _count(count) + unit * count,
        *(bytes((tag,)) + counted + bytes(100) for tag in TAGS),
        *(bytes((tag,)) + b"\xff" * 1000 for tag in TAGS),
    ]
    for data in hostile:
        tracemalloc.start()
        with contextlib.suppress(ProtocolError):
            decode(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 100_000 + 100 * len(data)


@given(streams, st.lists(st.integers(1, 50), min_size=1, max_size=20))
@settings(max_examples=300, deadline=None)
def test_a_channel_gives_frames_then_an_end_or_a_protocol_error(
    stream: bytes, parts: list[int]
) -> None:
    async def read() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, MAX_BYTES)
        with theirs:
            at = 0
            for part in parts:
                theirs.sendall(stream[at : at + part])
                at += part
            theirs.sendall(stream[at:])
        try:
            async with asyncio.timeout(20):
                while (got := await channel.receive()) is not None:
                    assert got.kind in KINDS
                    assert len(got.body) <= MAX_BYTES
        except ProtocolError:
            pass
        finally:
            channel.close()

    asyncio.run(read())


@given(st.integers(MAX_BYTES + 1, (1 << 32) - 1), st.sampled_from(sorted(KINDS)))
@settings(max_examples=30, deadline=None)
def test_a_frame_too_large_is_refused_before_its_body_is_there(size: int, kind: int) -> None:
    async def read() -> None:
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, MAX_BYTES)
        with theirs:
            theirs.sendall(frame(kind, b"", size))  # and nothing behind it, for ever
            with pytest.raises(ProtocolError):
                await asyncio.wait_for(channel.receive(), 20)
        channel.close()

    asyncio.run(read())


@given(streams)
@settings(max_examples=600, deadline=None)
def test_an_execution_ends_with_an_outcome_whatever_its_process_sends(stream: bytes) -> None:
    asyncio.run(conversed(stream))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_execution_ends_with_an_outcome_whatever_frame_comes_first(kind: int) -> None:
    told: list[object] = ["no lock", ["memory_bytes", [0]], ["Error", "x", [1 << 900]], None]
    for value in told:
        asyncio.run(conversed(frame(kind, encode(value, MAX_BYTES))))


def test_answers_that_nobody_reads_do_not_pile_up() -> None:
    """A process asks and asks by numbers of a megabyte, and never reads an answer."""
    call: list[object] = [1 << (8 << 20), "get_usage_summary", (), {}]
    asked = frame(ord("C"), encode(call, 2 << 20))
    stream = asked * 40
    tracemalloc.start()
    asyncio.run(conversed(stream, replace(LIMITS, wall_seconds=0.5), max_bytes=3 << 20))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


async def conversed(stream: bytes, limits: Limits = LIMITS, max_bytes: int = MAX_BYTES) -> Outcome:
    """One execution whose process sends a stream, reads nothing and ends."""
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    death: asyncio.Future[Death] = loop.create_future()
    death.set_result(Death(status=0, seconds=0.0))
    channel = await Channel.over(ours, max_bytes)
    process = LockedProcess(channel, Child(death, lambda: None))
    host = EchoHost()
    door = Door(workflow_functions(host), host.get_usage_summary, limits.host_calls)
    theirs.setblocking(False)
    sending = asyncio.create_task(sent(theirs, stream))
    try:
        outcome = await execute(process, PROGRAM, ["six"], door, limits, seed=0)
    finally:
        channel.close()
        await sending
        theirs.close()
    checked(outcome, host)
    return outcome


async def sent(end: socket.socket, stream: bytes) -> None:
    """Sends as long as anybody reads; a large stream in parts."""
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(end, stream)
        end.shutdown(socket.SHUT_WR)


def checked(outcome: Outcome, host: EchoHost) -> None:
    """What an execution hands on can be stored and shown."""
    assert len(host.calls) <= LIMITS.host_calls
    for call in host.calls:
        turns = [turn.content for turn in call.turns]
        for text in (call.agent_role, call.instructions, *call.stop, *turns):
            text.encode()
    assert len(repr(outcome)) < 20_000
    repr(outcome).encode()


def _count(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*written, number))
