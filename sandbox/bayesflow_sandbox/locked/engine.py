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
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxClosedError, SandboxUnavailableError
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked.channel import Channel
from bayesflow_sandbox.locked.conversation import LockedProcess, execute, frame_bytes
from bayesflow_sandbox.locked.kernel import KernelReport, missing, report
from bayesflow_sandbox.locked.process import Spawn, ZygoteProcess
from bayesflow_sandbox.outcome import JsonValue, Outcome
from bayesflow_sandbox.program import Program

__all__ = ["LockedEngine", "lock_report"]

_FORK_SECONDS: Final = 30.0  # for a fork and the lock, on a machine that is out of breath
_GRACE_SECONDS: Final = 1.0  # for the host's own wall clock to strike first


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
                return await execute(process, program, arguments, door, limits, seed)
        finally:
            self._doors.discard(door)

    @asynccontextmanager
    async def open(self, profile: str, limits: Limits) -> AsyncGenerator[LockedProcess]:
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
        channel = await Channel.over(ours, frame_bytes(limits))
        try:
            spawn = Spawn(
                profile=profile,
                run_seconds=limits.run_seconds,
                memory_bytes=limits.memory_bytes,
                wall_seconds=limits.wall_seconds + _GRACE_SECONDS,
                without=tuple(self._without),
            )
            process = LockedProcess(channel, await zygote.spawn(spawn, theirs))
            async with asyncio.timeout(_FORK_SECONDS):
                why = await channel.confined()
            if why is not None:
                raise SandboxUnavailableError(f"a process cannot be locked in: {why}")
            return process
        except TimeoutError:
            channel.close()
            raise SandboxUnavailableError(
                f"the locked engine's zygote has not answered for {_FORK_SECONDS:g} s"
            ) from None
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


async def lock_report() -> KernelReport:
    """Says what this machine gives the locked engine; locks a process in if it can, to be sure.

    Raises:
        SandboxUnavailableError: The kernel offers what is needed, but no process can be locked in.
    """
    if missing() is not None:
        return report()
    engine = LockedEngine(workers=1)
    try:
        async with engine.open("workflow", Limits()):
            return await engine.report()
    finally:
        await engine.aclose()
