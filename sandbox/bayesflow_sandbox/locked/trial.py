"""Runs the tests of a solution: two locked processes, and the host between them.

    solution  ← J: code          judge  ← J: tests, names
              ← C: a call  ←  host  ←  C: a call
    R, F: its answer       →  host  →  R, F
                                       R: the report

The solution's process never sees a test, the judge's never an object of the solution. The host
hands calls and answers through unread, so nothing hostile is built here; only the list of names and
the report are. The solution's frames reach the judge as answers to calls and as nothing else.
"""

import asyncio
import signal
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, cast

from bayesflow_sandbox.errors import (
    ProtocolError,
    SandboxClosedError,
    SandboxError,
)
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked.channel import OUT_OF_MEMORY, Frame
from bayesflow_sandbox.locked.codec import decode, encode
from bayesflow_sandbox.locked.conversation import LockedProcess, frame_bytes
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.locked.process import Death
from bayesflow_sandbox.unit_tests import MAX_SOLUTION_BYTES, CaseFailure, TestReport, UnitTests

__all__ = ["Trials"]

_MAX_JOB_BYTES: Final = 8 << 20
_MAX_NODES: Final = 20_000
_MAX_NAMES: Final = 1_000
_MAX_TEXT: Final = 4_000
_MAX_LINES: Final = 64
_R, _F, _L, _C = b"RFLC"


class Trials:
    """Tests solutions, as many at a time as there are pairs of processes.

    Its zygote is not the workflows': a workflow that waits for a trial holds a process, so pairs
    taken from the same store could wait for each other for ever.

    Args:
        pairs: The most trials at a time; more wait their turn.
    """

    def __init__(self, pairs: int) -> None:
        self._engine = LockedEngine(2 * pairs)
        self._pairs = asyncio.Semaphore(pairs)
        self._closed = False

    async def run(
        self, solution: str, entry_point: str, tests: UnitTests, limits: Limits, seed: int
    ) -> TestReport:
        """Loads a solution and runs the tests on it.

        Raises:
            SandboxClosedError: Closed, or closed meanwhile.
            SandboxUnavailableError: This machine cannot lock a process in.
            SandboxError: The processes were killed from outside.
        """
        size = len(solution.encode("utf-8", "surrogatepass"))
        if size > MAX_SOLUTION_BYTES:
            return _failed(
                tests, f"the solution has {size} bytes; at most {MAX_SOLUTION_BYTES} run"
            )
        clock = asyncio.get_running_loop().time
        job = [
            solution,
            entry_point,
            seed,
            limits.output_bytes,
            limits.sleep_seconds,
            frame_bytes(limits),
        ]
        async with self._pairs, AsyncExitStack() as stack:
            candidate = await stack.enter_async_context(self._engine.open("solution", limits))
            started = clock()
            # It loads while the judge is made ready.
            await candidate.channel.send(b"J", encode(job, _MAX_JOB_BYTES))
            judge = await stack.enter_async_context(self._engine.open("judge", limits))
            trial = _Trial(candidate, judge, limits)
            report = _failed(tests, f"it took longer than {limits.wall_seconds:g} s")
            try:
                async with asyncio.timeout_at(started + limits.wall_seconds):
                    report = await trial.hold(entry_point, tests)
            except TimeoutError:
                pass
            except ProtocolError as error:
                report = _failed(tests, f"a process sent {error}")
            except SandboxError:  # so do closing and, should the host be slow, the wall time
                if not self._closed and clock() < started + limits.wall_seconds:
                    raise
            if self._closed:
                raise SandboxClosedError("the sandbox was closed while tests were running")
            return replace(report, seconds=clock() - started)

    async def aclose(self) -> None:
        """Stops what is running and ends the processes."""
        self._closed = True
        await self._engine.aclose()


class _Trial:
    """One solution, one judge, one conversation."""

    def __init__(self, solution: LockedProcess, judge: LockedProcess, limits: Limits) -> None:
        self._solution = solution
        self._judge = judge
        self._limits = limits

    async def hold(self, entry_point: str, tests: UnitTests) -> TestReport:
        loaded = await self._heard()
        if isinstance(loaded, str):
            return _failed(tests, loaded)
        if loaded.kind != _R:
            return _failed(tests, _load_error(loaded))
        job = [tests.setup, list(tests.cases), entry_point, _names(loaded)]
        await self._judge.channel.send(b"J", encode(job, _MAX_JOB_BYTES))
        while True:
            asked = await self._judge.channel.receive()
            if asked is None:
                return _failed(tests, await self._judge_died())
            if asked.kind != _C:
                return _report(tests, asked)
            await self._solution.channel.send(b"C", asked.body)
            await self._pass_on(await self._heard())

    async def _pass_on(self, answer: Frame | str) -> None:
        if isinstance(answer, Frame):
            kind = b"R" if answer.kind == _R else b"F"
            await self._judge.channel.send(kind, answer.body)
        else:
            await self._judge.channel.send(b"L", encode(answer, _MAX_TEXT))

    async def _heard(self) -> Frame | str:
        """The solution's next answer, or why there will be none."""
        try:
            frame = await self._solution.channel.receive()
        except ProtocolError as error:
            return f"the solution's process sent {error}"
        if frame is None:
            return await self._solution_died()
        if frame.kind == _L:
            return f"the solution {_limited(frame, self._limits)}"
        if frame.kind not in (_R, _F):
            return "the solution's process sent a message that is none"
        return frame

    async def _solution_died(self) -> str:
        return f"the solution {_how(await self._solution.death(), self._limits)}"

    async def _judge_died(self) -> str:
        return f"the tests of it {_how(await self._judge.death(), self._limits)}"


def _limited(frame: Frame, limits: Limits) -> str:
    if frame.body == encode("sleep_seconds", 100):
        return f"slept longer than {limits.sleep_seconds:g} s in all"
    return f"printed more than {limits.output_bytes} bytes"


def _how(death: Death, limits: Limits) -> str:
    if death.signal == signal.SIGKILL:  # none of its limits ends it so, and it cannot itself
        raise SandboxError("a locked process was killed from outside; try again")
    if death.signal in (signal.SIGPROF, signal.SIGXCPU):
        return f"ran longer than {limits.run_seconds:g} s"
    if death.exit_status == OUT_OF_MEMORY:
        return f"needed more than {limits.memory_bytes} bytes of memory"
    if death.signal is None:
        return f"ended its process with status {death.exit_status}"
    return f"ended its process by signal {death.signal}"


def _failed(tests: UnitTests, error: str) -> TestReport:
    return TestReport(len(tests.cases), error=error)


def _load_error(frame: Frame) -> str:
    kind, message, lines = _fields(frame, str, str, list)
    said = f"{kind}: {message}" if message else str(kind)
    return "\n".join((_short(said), *_texts(lines)))


def _names(frame: Frame) -> list[str]:
    told = decode(frame.body, _MAX_NODES)
    if not isinstance(told, list):
        raise ProtocolError("a message that is none")
    names = cast("list[object]", told)[:_MAX_NAMES]
    return [name for name in names if isinstance(name, str) and name.isidentifier()]


def _report(tests: UnitTests, frame: Frame) -> TestReport:
    ran, failures, error = _fields(frame, int, list, object)
    told = tuple(_failure(item) for item in cast("list[object]", failures))
    if frame.kind != _R or not 0 <= cast("int", ran) <= len(tests.cases):
        raise ProtocolError("a message that is none")
    return TestReport(
        cases=len(tests.cases),
        ran=cast("int", ran),
        failures=told,
        error=None if error is None else _short(str(error)),
    )


def _failure(item: object) -> CaseFailure:
    index, case, kind, message, lines = _checked(item, int, str, str, str, list)
    return CaseFailure(
        index=cast("int", index),
        test_case=_short(case),
        error_type=_short(kind),
        message=_short(message),
        traceback=_texts(lines),
    )


def _fields(frame: Frame, *kinds: type) -> list[object]:
    return _checked(decode(frame.body, _MAX_NODES), *kinds)


def _checked(told: object, *kinds: type) -> list[object]:
    """The fields of a message: a list of just so many, of these types."""
    fields = cast("list[object]", told) if isinstance(told, list) else []
    if len(fields) != len(kinds) or not all(map(isinstance, fields, kinds)):
        raise ProtocolError("a message that is none")
    return fields


def _texts(items: object) -> tuple[str, ...]:
    return tuple(_short(item) for item in cast("list[object]", items)[:_MAX_LINES])


def _short(text: object) -> str:
    return str(text)[:_MAX_TEXT]
