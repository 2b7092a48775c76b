"""The host's side of the locked engine: has children forked, runs workflows in them.

    engine = LockedEngine(workers=32)
    outcome = await engine.run(program, arguments, door, limits, seed)

    async with engine.open("workflow", limits) as process:      # any profile of ``child``
        await process.channel.send(b"J", body)
        frame = await process.channel.receive()

Every execution has a child to itself, forked for it and gone with it, so nothing leaks from one to
the next. What a child sends is hostile; what it means is decided here. Used by ``Sandbox``, beside
``MontyEngine`` and by the same interface.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, cast

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import (
    ProtocolError,
    SandboxClosedError,
    SandboxUnavailableError,
)
from bayesflow_sandbox.faults import limit_failure
from bayesflow_sandbox.limits import LimitName, Limits
from bayesflow_sandbox.locked.channel import Channel, Frame
from bayesflow_sandbox.locked.codec import decode, encode
from bayesflow_sandbox.locked.kernel import KernelReport, missing, report
from bayesflow_sandbox.locked.process import Child, Death, Spawn, ZygoteProcess
from bayesflow_sandbox.outcome import Failure, JsonValue, Outcome
from bayesflow_sandbox.plain import NotPlainError, TooLargeError, plain_value, without_surrogates
from bayesflow_sandbox.program import Place, Program

__all__ = ["LockedEngine", "LockedProcess"]

# Beside the value itself, what a frame spends on tags and lengths: five bytes to plain's one.
_FRAME_OVERHEAD: Final = 5
_LEAST_FRAME_BYTES: Final = 3 << 20  # a call_llm of 1 MB of text and its escape from being refused
_CALL_NODES: Final = 10_000
_MAX_JOB_BYTES: Final = 64 << 20
_MAX_JOB_NODES: Final = 1_000_000
_MAX_QUESTIONS: Final = 1_000  # beside the calls that the door counts
_GRACE_SECONDS: Final = 1.0  # for the host's own wall clock to strike first
_OUT_OF_MEMORY: Final = 77
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


class LockedEngine:
    """Children of one zygote, which the first execution starts.

    Args:
        workers: The most children at a time; more wait their turn.
        without: Defences left out (``lockdown.DEFENCES`` and ``namespaces``). Only tests do so, to
            show what each is for.
    """

    def __init__(self, workers: int, without: frozenset[str] = frozenset()) -> None:
        self._without = without
        self._zygote: ZygoteProcess | None = None
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(workers)
        self._doors: set[Door] = set()
        self._open: set[LockedProcess] = set()
        self._closed = False

    async def run(
        self,
        program: Program,
        arguments: Sequence[JsonValue],
        door: Door,
        limits: Limits,
        seed: int,
    ) -> Outcome:
        """Runs a program once.

        Raises:
            SandboxClosedError: The engine is closed, or was closed meanwhile.
            SandboxUnavailableError: This machine cannot lock a process in.
            BaseException: Whatever fault a host function raised, the same object.
        """
        self._doors.add(door)
        try:
            async with self.open("workflow", limits) as process:
                return await _execute(process, program, arguments, door, limits, seed)
        finally:
            self._doors.discard(door)

    @asynccontextmanager
    async def open(self, profile: str, limits: Limits) -> AsyncIterator[LockedProcess]:
        """Has a child forked and locked in; it is killed on leaving, whatever it does.

        Args:
            profile: What it is to do, a key of ``child.PROFILES``.
            limits: Run time, memory and wall time are the kernel's and the zygote's to keep; the
                size of a returned value bounds the frames. The rest is the caller's.

        Raises:
            SandboxClosedError: The engine is closed.
            SandboxUnavailableError: This machine cannot lock a process in.
        """
        self._check_open()
        await self._slots.acquire()
        process: LockedProcess | None = None
        try:
            process = await self._spawned(profile, limits)
            self._open.add(process)
            yield process
        finally:
            if process is None:
                self._slots.release()
            else:
                self._open.discard(process)
                process.channel.close()
                process.child.kill()
                # The slot is free when the process is gone, so there are never more of them.
                process.child.death.add_done_callback(lambda _: self._slots.release())

    async def report(self) -> KernelReport:
        """Starts the zygote if need be and says what this machine gives, namespaces included.

        Raises:
            SandboxClosedError: The engine is closed.
            SandboxUnavailableError: This machine cannot lock a process in.
        """
        zygote = await self._started()
        return replace(report(), namespaces=zygote.namespaces)

    async def aclose(self) -> None:
        """Stops what is running (SandboxClosedError to its callers) and ends the processes."""
        self._closed = True
        for door in tuple(self._doors):
            door.abort(SandboxClosedError("the sandbox was closed while the workflow was running"))
        for process in tuple(self._open):
            process.child.kill()
        async with self._starting:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosedError("the sandbox is closed; make a new one")

    async def _spawned(self, profile: str, limits: Limits) -> LockedProcess:
        zygote = await self._started()
        ours, theirs = socket.socketpair()
        channel = await Channel.over(ours, _frame_bytes(limits))
        try:
            spawn = Spawn(
                profile=profile,
                run_seconds=limits.run_seconds,
                memory_bytes=limits.memory_bytes,
                wall_seconds=limits.wall_seconds + _GRACE_SECONDS,
                without=tuple(self._without),
            )
            return LockedProcess(channel, await zygote.spawn(spawn, theirs))
        except BaseException:
            channel.close()
            raise

    async def _started(self) -> ZygoteProcess:
        async with self._starting:
            self._check_open()
            if self._zygote is None or not self._zygote.alive:
                why = missing()
                if why is not None:
                    raise SandboxUnavailableError(why)
                if self._zygote is not None:
                    self._zygote.close()
                self._zygote = await ZygoteProcess.start(
                    namespaces="namespaces" not in self._without
                )
            return self._zygote


async def _execute(
    process: LockedProcess,
    program: Program,
    arguments: Sequence[JsonValue],
    door: Door,
    limits: Limits,
    seed: int,
) -> Outcome:
    clock = asyncio.get_running_loop().time
    started = clock()
    conversation = _Conversation(process, program, door, limits)
    running = asyncio.ensure_future(conversation.hold(arguments, seed))
    try:
        await asyncio.wait(
            {running, door.fault},
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
            _frame_bytes(limits),
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
        match frame.kind:
            case _ if self._door.exhausted:
                return self._limited("host_calls", [])
            case 82:  # R
                return self._returned(decode(frame.body))
            case 70:  # F
                return self._failed(decode(frame.body))
            case 76:  # L
                return self._reached(decode(frame.body))
            case 88:  # X
                raise SandboxUnavailableError(f"a process cannot be locked in: {_told(frame)}")
            case _:
                raise ProtocolError(f"a frame of kind {chr(frame.kind)}, which is the host's")

    def _returned(self, value: object) -> Outcome:
        try:
            plain = plain_value(value, self._limits.return_bytes)
        except TooLargeError:
            return self._limited("return_bytes", [])
        except NotPlainError as error:
            return Outcome(failure=Failure("InvalidReturnValue", str(error)))
        if isinstance(plain, tuple):
            return Outcome(value=tuple(without_surrogates(item) for item in plain))
        return Outcome(value=without_surrogates(plain))

    def _failed(self, told: object) -> Outcome:
        match told:
            case [str() as kind, str() as message, list() as lines]:
                place = self._program.place_in_source(_lines(lines))
            case _:
                raise ProtocolError("a failure that is none")
        kind, message = _clean(kind, _MAX_KIND), _clean(message, _MAX_MESSAGE)
        return Outcome(failure=Failure(kind, message, place.line, place.code, place.step))

    def _reached(self, told: object) -> Outcome:
        match told:
            case [str() as limit, list() as lines] if limit in _TOLD_LIMITS:
                return self._limited(_TOLD_LIMITS[limit], _lines(lines))
            case _:
                raise ProtocolError("a limit that is none")

    def _limited(self, limit: LimitName, lines: list[int]) -> Outcome:
        place = self._program.place_in_source(lines)
        return Outcome(failure=limit_failure(limit, self._limits, place))

    def _died(self, death: Death) -> Outcome:
        """Reads how a process ended that said nothing."""
        if self._door.exhausted:
            return self._limited("host_calls", [])
        if death.signal in (signal.SIGPROF, signal.SIGXCPU):
            return self._limited("run_seconds", [])
        if death.exit_status == _OUT_OF_MEMORY:
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


def _call(body: bytes) -> _Call:
    match decode(body, _CALL_NODES):
        case [int() as number, str() as name, tuple() as args, dict() as kwargs]:
            return _Call(
                number, name, cast("tuple[object, ...]", args), cast("dict[str, object]", kwargs)
            )
        case _:
            raise ProtocolError("a call that is none")


def _lines(items: list[object]) -> list[int]:
    return [item for item in items[:_MAX_LINES] if isinstance(item, int)]


def _clean(text: str, most: int) -> str:
    return text[:most].encode("utf-8", "replace").decode("utf-8")


def _told(frame: Frame) -> str:
    told = decode(frame.body)
    return told if isinstance(told, str) else "it does not say why"


def _frame_bytes(limits: Limits) -> int:
    return max(_LEAST_FRAME_BYTES, _FRAME_OVERHEAD * limits.return_bytes)
