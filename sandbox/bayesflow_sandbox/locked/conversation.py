"""One execution's conversation with its child: the job, calls and answers, how it ended.

Everything that a child says is hostile: it is decoded within bounds and matched against the few
shapes that messages have; what fits none is a ``ProtocolError``, which fails the execution and
nothing else. Called by ``engine``.
"""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import ProtocolError
from bayesflow_sandbox.faults import limit_failure
from bayesflow_sandbox.limits import LimitName, Limits
from bayesflow_sandbox.locked.channel import OUT_OF_MEMORY, Channel, Frame
from bayesflow_sandbox.locked.codec import MAX_NODES, decode, encode
from bayesflow_sandbox.locked.process import Child, Death
from bayesflow_sandbox.outcome import Failure, JsonValue, Outcome
from bayesflow_sandbox.plain import NotPlainError, TooLargeError, plain_value, without_surrogates
from bayesflow_sandbox.program import Place, Program

__all__ = ["LockedProcess", "execute", "frame_bytes"]

# Beside the value itself, what a frame spends on tags and lengths: five bytes to plain's one.
_FRAME_OVERHEAD: Final = 5
_LEAST_FRAME_BYTES: Final = 3 << 20  # more than the largest call
_CALL_NODES: Final = 10_000
_MAX_JOB_BYTES: Final = 64 << 20
_MAX_JOB_NODES: Final = 1_000_000
# Beside the calls that the door counts: reading one may cost the host some milliseconds.
_MAX_QUESTIONS: Final = 50
_MAX_NUMBER: Final = 1 << 31
_MAX_KIND: Final = 80
_MAX_MESSAGE: Final = 1_000
_MAX_LINES: Final = 64
_TOLD_LIMITS: Final[dict[str, LimitName]] = {
    "memory_bytes": "memory_bytes",
    "sleep_seconds": "sleep_seconds",
    "output_bytes": "output_bytes",
    "return_bytes": "return_bytes",
}


@dataclass(frozen=True, slots=True, eq=False)
class LockedProcess:
    """One locked child and the channel to it.

    Attributes:
        channel: Frames to and from it.
        child: How it ends.
    """

    channel: Channel
    child: Child

    async def death(self) -> Death:
        """Waits until it has ended and says how."""
        return await asyncio.shield(self.child.death)


def frame_bytes(limits: Limits) -> int:
    """Returns the largest frame that an execution with these limits may send."""
    return max(_LEAST_FRAME_BYTES, _FRAME_OVERHEAD * limits.return_bytes)


async def execute(
    process: LockedProcess,
    program: Program,
    arguments: Sequence[JsonValue],
    door: Door,
    limits: Limits,
    seed: int,
) -> Outcome:
    """Runs a program in a locked process; raises what the host raised."""
    clock = asyncio.get_running_loop().time
    started = clock()
    conversation = _Conversation(process, program, door, limits)
    running = asyncio.ensure_future(conversation.hold(arguments, seed))
    waiting: set[asyncio.Future[Any]] = {running, door.fault}
    try:
        await asyncio.wait(
            waiting,
            timeout=limits.wall_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if door.fault.done():
            raise door.fault.result()
        verdict = (
            running.result()
            if running.done()
            else Outcome(failure=limit_failure("wall_seconds", limits, Place()))
        )
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await door.aclose()
    return replace(verdict, host_calls=door.calls, seconds=clock() - started)


class _Conversation:
    """One execution's messages: answers its calls until it ends."""

    def __init__(
        self, process: LockedProcess, program: Program, door: Door, limits: Limits
    ) -> None:
        self._process = process
        self._program = program
        self._door = door
        self._limits = limits
        self._functions = door.callables("")
        self._asked = 0

    async def hold(self, arguments: Sequence[JsonValue], seed: int) -> Outcome:
        limits = self._limits
        job = [
            self._program.source,
            [without_surrogates(item) for item in arguments],
            seed,
            limits.sleep_seconds,
            limits.output_bytes,
            frame_bytes(limits),
            _nodes(limits),
        ]
        await self._process.channel.send(b"J", encode(job, _MAX_JOB_BYTES, _MAX_JOB_NODES))
        answers: set[asyncio.Task[None]] = set()
        try:
            while True:
                frame = await self._process.channel.receive()
                if frame is None:
                    return self._died(await self._process.death())
                if frame.kind != ord("C"):
                    return self._ended(frame)
                self._asked += 1
                if self._door.exhausted or self._asked > limits.host_calls + _MAX_QUESTIONS:
                    return self._limited("host_calls", [])
                task = asyncio.ensure_future(self._answer(_call(frame.body)))
                answers.add(task)
                task.add_done_callback(answers.discard)
        except ProtocolError as error:
            return Outcome(
                failure=Failure("SandboxCrashed", f"the workflow's process sent {error}")
            )
        finally:
            for task in answers:
                task.cancel()
            await asyncio.gather(*answers, return_exceptions=True)

    async def _answer(self, call: "_Call") -> None:
        """Serves one call and sends what came of it."""
        value: object = None
        kind: str | None = None
        message = ""
        try:
            if call.name == "get_usage_summary":
                value = self._door.usage()
            elif call.name in self._functions:
                value = await self._functions[call.name](*call.args, **call.kwargs)
            else:
                kind, message = "NameError", f"the host has no function {call.name[:80]!r}"
        except (TypeError, ValueError, RuntimeError) as error:
            kind, message = type(error).__name__, str(error)
        except Exception as error:  # a fault of the host's own
            self._door.abort(error)
            return
        answer = [call.number, value, kind, message]
        await self._process.channel.send(b"A", encode(answer, _MAX_JOB_BYTES, _MAX_JOB_NODES))

    def _ended(self, frame: Frame) -> Outcome:
        """Reads a frame that ends the execution."""
        told = decode(frame.body, _nodes(self._limits))
        match chr(frame.kind):
            case "R" if not self._door.exhausted:
                return self._returned(told)
            case "F":
                return self._failed(told)
            case "L":
                return self._reached(told)
            case "R":
                return self._limited("host_calls", [])
            case kind:
                raise ProtocolError(f"a frame of kind {kind}, which is the host's")

    def _returned(self, value: object) -> Outcome:
        try:
            plain = plain_value(value, self._limits.return_bytes)
        except TooLargeError:
            return self._limited("return_bytes", [])
        except NotPlainError as error:
            return Outcome(failure=Failure("InvalidReturnValue", str(error)))
        return Outcome(value=plain)

    def _failed(self, told: object) -> Outcome:
        kind, message, lines = _fields(told, str, str, list)
        if self._door.exhausted:
            return self._limited("host_calls", _lines(lines))
        place = self._program.place_in_source(_lines(lines))
        failure = Failure(
            str(kind)[:_MAX_KIND],
            str(message)[:_MAX_MESSAGE],
            place.line,
            place.code,
            place.step,
        )
        return Outcome(failure=failure)

    def _reached(self, told: object) -> Outcome:
        name, lines = _fields(told, str, list)
        limit = _TOLD_LIMITS.get(str(name))
        if limit is None:
            raise ProtocolError("a limit that is none")
        return self._limited(limit, _lines(lines))

    def _limited(self, limit: LimitName, lines: list[int]) -> Outcome:
        place = self._program.place_in_source(lines)
        return Outcome(failure=limit_failure(limit, self._limits, place))

    def _died(self, death: Death) -> Outcome:
        """Reads how a process ended that said nothing."""
        if self._door.exhausted:
            return self._limited("host_calls", [])
        if death.signal in (signal.SIGPROF, signal.SIGXCPU):
            return self._limited("run_seconds", [])
        if death.exit_status == OUT_OF_MEMORY:
            return self._limited("memory_bytes", [])
        how = (
            f"exited with status {death.exit_status}"
            if death.signal is None
            else f"was ended by signal {death.signal}"
        )
        return Outcome(failure=Failure("SandboxCrashed", f"the workflow's process {how}"))


class _Call(NamedTuple):
    """A call as the child asked for it."""

    number: int
    name: str
    args: tuple[object, ...]
    kwargs: dict[str, object]


def _nodes(limits: Limits) -> int:
    """The most values of an answer: ``plain_value`` counts two bytes for each."""
    return min(MAX_NODES, limits.return_bytes // 2 + _MAX_LINES + 4)


def _call(body: bytes) -> _Call:
    number, name, args, kwargs = _fields(decode(body, _CALL_NODES), int, str, tuple, dict)
    number = cast("int", number)
    if not 0 <= number < _MAX_NUMBER:
        raise ProtocolError("a call that is none")
    return _Call(
        number,
        cast("str", name),
        cast("tuple[object, ...]", args),
        cast("dict[str, object]", kwargs),
    )


def _fields(told: object, *kinds: type) -> list[object]:
    """The fields of a message: a list of just so many, of just these types."""
    fields = cast("list[object]", told) if isinstance(told, list) else []
    if [type(field) for field in fields] != list(kinds):
        raise ProtocolError("a message that is none")
    return fields


def _lines(items: object) -> list[int]:
    lines = cast("list[object]", items)
    return [line for line in lines[:_MAX_LINES] if isinstance(line, int)]
