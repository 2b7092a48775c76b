"""The engine: workflows in Monty, a restricted Python interpreter written in Rust.

Every execution has a worker process to itself while it lasts, and a fresh session in it: names,
modules, random state and clock start anew, so nothing leaks between workflows. Workers are pooled
(2 MB of private memory each). No object of the host crosses: a workflow sees plain values and the
functions of the door. ``Sandbox`` is the only caller.
"""

import asyncio
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxClosedError, SandboxUnavailableError
from bayesflow_sandbox.faults import limit_failure, report
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.outcome import Failure, JsonValue, Outcome
from bayesflow_sandbox.plain import NotPlainError, TooLargeError, plain_value, without_surrogates
from bayesflow_sandbox.program import ARGUMENTS, HOST_PREFIX, USAGE, Place, Program

if TYPE_CHECKING:
    from pydantic_monty import AsyncMonty, AsyncMontySession, OSPolicy, ResourceLimits

__all__ = ["MontyEngine"]

# The same instant for every execution: results may not depend on when it ran.
_CLOCK: Final = datetime(2026, 1, 1, tzinfo=UTC)
# Past run_seconds, how long the interpreter has to stop by itself before its process is killed.
_GRACE_SECONDS: Final = 0.5
_EXECUTIONS_PER_WORKER: Final = 1_000
_DRAIN_POLLS: Final = 2_000  # one a millisecond


class MontyEngine:
    """A pool of interpreter processes, started by the first execution.

    Args:
        workers: The most processes, so the most executions at a time; more wait their turn.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._pool: AsyncMonty | None = None
        self._starting = asyncio.Lock()
        self._doors: set[Door] = set()
        self._idle = asyncio.Event()
        self._idle.set()
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
            SandboxUnavailableError: The interpreter cannot be started.
            BaseException: Whatever fault a host function raised, the same object.
        """
        if self._closed:
            raise SandboxClosedError("the sandbox is closed; make a new one")
        self._doors.add(door)
        self._idle.clear()
        try:
            pool = await self._started()
            # Waits for a free worker; each is held no longer than its execution's wall_seconds.
            async with _checkout(pool, limits, seed) as session:
                return await _execute(session, program, arguments, door, limits)
        finally:
            self._doors.discard(door)
            if not self._doors:
                self._idle.set()

    async def aclose(self) -> None:
        """Stops what is running (SandboxClosedError to its callers) and ends the workers."""
        self._closed = True
        for door in tuple(self._doors):
            door.abort(SandboxClosedError("the sandbox was closed while the workflow was running"))
        await self._idle.wait()
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.__aexit__(None, None, None)
            await _drain()

    async def _started(self) -> "AsyncMonty":
        async with self._starting:
            if self._pool is None:
                # Imported here: the interpreter's bindings are heavy, and many commands need none.
                from pydantic_monty import AsyncMonty

                pool = AsyncMonty(
                    min_processes=1,
                    max_processes=self._workers,
                    max_checkouts_per_worker=_EXECUTIONS_PER_WORKER,
                    feed_duration_limit_grace=_GRACE_SECONDS,
                )
                try:
                    await pool.__aenter__()
                except (RuntimeError, OSError) as error:
                    raise SandboxUnavailableError(
                        f"the sandbox's interpreter cannot be started ({error}): reinstall "
                        "pydantic-monty, or unset MONTY_BIN"
                    ) from error
                self._pool = pool
            return self._pool


def _checkout(pool: "AsyncMonty", limits: Limits, seed: int) -> "AsyncMontySession":
    resources: ResourceLimits = {
        "max_feed_duration_secs": limits.run_seconds,
        "max_memory": limits.memory_bytes,
        # The door counts calls exactly; this bounds what passes it by (name lookups, sleeps).
        "max_suspensions": 1_000 + 10 * limits.host_calls,
        "max_total_sleep_secs": limits.sleep_seconds,
    }
    policy: OSPolicy = {
        "datetime": _CLOCK,
        "random_start": {"seed": seed},
        # Above the total, so that a sleep too long fails rather than being cut short.
        "sleep_system_max": limits.sleep_seconds + 1.0,
    }
    return pool.checkout(limits=resources, os_policy=policy)


async def _execute(
    session: "AsyncMontySession",
    program: Program,
    arguments: Sequence[JsonValue],
    door: Door,
    limits: Limits,
) -> Outcome:
    # Imported here: see ``MontyEngine._started``.
    from pydantic_monty import CollectString

    clock = asyncio.get_running_loop().time
    started = clock()
    running = asyncio.ensure_future(
        session.feed_run(
            program.code,
            inputs={ARGUMENTS: tuple(without_surrogates(item) for item in arguments)},
            external_lookup={**door.callables(HOST_PREFIX), USAGE: door.usage},
            # Without a collector the interpreter prints to our stdout, which is a protocol's wire.
            print_callback=CollectString(limits.output_bytes),
        )
    )
    try:
        await asyncio.wait(
            {running, door.fault},
            timeout=limits.wall_seconds,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if door.fault.done():
            raise door.fault.result()
        verdict = _verdict(running, program, door, limits)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await door.aclose()
    return replace(verdict, host_calls=door.calls, seconds=clock() - started)


def _verdict(
    running: "asyncio.Future[object]", program: Program, door: Door, limits: Limits
) -> Outcome:
    """Reads how the interpreter ended, or that it has not."""
    # Imported here: see ``MontyEngine._started``.
    from pydantic_monty import MontyError

    if not running.done():
        return Outcome(failure=limit_failure("wall_seconds", limits, Place()))
    error = running.exception()
    if error is not None and not isinstance(error, MontyError):
        raise error
    told = None if error is None else report(error, program, limits)
    if door.exhausted:
        place = Place() if told is None else told.place
        return Outcome(failure=limit_failure("host_calls", limits, place))
    if told is not None:
        return Outcome(failure=told.failure, unsupported=told.unsupported)
    return _returned(running.result(), limits)


def _returned(value: object, limits: Limits) -> Outcome:
    try:
        return Outcome(value=plain_value(value, limits.return_bytes))
    except TooLargeError:
        return Outcome(failure=limit_failure("return_bytes", limits, Place()))
    except NotPlainError as error:
        return Outcome(failure=Failure("InvalidReturnValue", str(error)))


async def _drain() -> None:
    """Waits until the interpreter's threads have left Python.

    They report a result by ``call_soon_threadsafe``, which lets the event loop go on before it has
    returned in the thread. Should Python exit in that moment, the thread dies inside Rust and takes
    the process along (SIGABRT). Such a thread shows a Python frame and is none of ``threading``'s.
    """
    await asyncio.sleep(0.01)  # lets reports begin that cancelled executions left behind
    for _ in range(_DRAIN_POLLS):
        if not _foreign_threads():
            return
        await asyncio.sleep(0.001)


def _foreign_threads() -> set[int]:
    # Private, but documented and the only way to see threads that Python did not start.
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    return set(frames) - {thread.ident for thread in threading.enumerate() if thread.ident}
