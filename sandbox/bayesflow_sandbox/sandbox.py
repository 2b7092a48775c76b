"""The one public class: runs untrusted workflows, each of them alone, as many at a time as wanted.

    async with Sandbox() as sandbox:
        outcome = await sandbox.run_workflow(source, ["What is 6 times 7?"], host)
        report = await sandbox.run_tests(solution, "add", UnitTests(("assert add(1, 2) == 3",)))

A workflow that fails is data (``Outcome``); what goes wrong on the host's side is an exception.

Monty runs first: it is quick and runs everywhere. What it lacks the Python for goes to the locked
engine, where the machine can lock a process in; this is remembered, so once for a workflow. The
second try hears the answers of the first (``replay``). Tests of solutions run in the locked engine
alone (``locked.trial``), and so does a workflow that calls ``exec_code``: while such a call waits,
it would block Monty for every other workflow.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxClosedError, SandboxUnavailableError
from bayesflow_sandbox.host import ExecCodeFunction, WorkflowHost, workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.locked.kernel import missing
from bayesflow_sandbox.locked.trial import Trials
from bayesflow_sandbox.monty import MontyEngine
from bayesflow_sandbox.outcome import Failure, JsonValue, Outcome
from bayesflow_sandbox.policy import Violation, violations
from bayesflow_sandbox.program import Program, compile_program
from bayesflow_sandbox.replay import ReplayHost
from bayesflow_sandbox.steps import source_lines
from bayesflow_sandbox.unit_tests import ExecCode, TestReport, UnitTests, exec_code_answer

__all__ = ["DEFAULT_LIMITS", "TEST_LIMITS", "EngineName", "Sandbox"]

DEFAULT_LIMITS: Final = Limits()
# Of the solution's process and, once more, of the judge's.
TEST_LIMITS: Final = Limits(run_seconds=5.0, memory_bytes=128 << 20, wall_seconds=60.0)
EngineName = Literal["monty", "locked"]
_Prepared: TypeAlias = Program | tuple[Violation, ...]

_REMEMBERED: Final = 4_096
_KEPT_PROGRAMS: Final = 128  # 20 KB each
# Tests compute and wait for nobody, so more at a time only need more memory: 2 GB at most.
_MAX_TRIALS: Final = 8


class Sandbox:
    """Runs workflows in restricted interpreters, one process for each execution in flight.

    An async context manager. Processes start with the first execution that needs them; idle they
    take 2 MB each. Belongs to the event loop it is first used on.

    Args:
        workers: The most executions at a time; a call beyond that waits for a free worker. An
            execution keeps its worker while it waits for ``call_llm``, so take at least the number
            of model calls wanted in flight.
        engine: The only engine to use; None: Monty, and the locked one where Monty lacks a feature.
    """

    def __init__(self, *, workers: int = 32, engine: EngineName | None = None) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers} must be at least 1")
        self._monty = MontyEngine(workers)
        self._locked = LockedEngine(workers)
        self._trials = Trials(min(workers, _MAX_TRIALS))
        self._only = engine
        self._can_lock: bool | None = None
        # Sources that Monty cannot run, the latest last.
        self._need_locked: OrderedDict[bytes, None] = OrderedDict()
        # By source and whether it may use `exec_code`, those asked for last at the end.
        self._programs: OrderedDict[tuple[str, bool], asyncio.Future[_Prepared]] = OrderedDict()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def run_workflow(
        self,
        source: str,
        arguments: Sequence[JsonValue],
        host: WorkflowHost,
        limits: Limits = DEFAULT_LIMITS,
        *,
        seed: int = 0,
        public_tests: UnitTests | None = None,
    ) -> Outcome:
        """Runs ``await Workflow(name, llm_config, dataset)(*arguments)`` once.

        A source that breaks the policy is not run: its outcome is a failure ``PolicyViolation``.

        Args:
            source: The workflow's source.
            arguments: What ``__call__`` takes, e.g. the problem's text.
            host: What the workflow may reach.
            limits: What it may use up.
            seed: Seeds the workflow's ``random``.
            public_tests: What its ``exec_code`` runs; without them the policy refuses that name.

        Returns:
            The value it returned, or why it failed.

        Raises:
            SandboxClosedError: The sandbox is closed, or was closed while the workflow ran.
            SandboxUnavailableError: No engine that may be used can be started on this machine.
            BaseException: What the host raised, other than ``CallRefusedError``: the same object.
                The workflow is stopped then and cannot prevent it.
        """
        program = await self._prepared(source, public_tests is not None)
        if isinstance(program, tuple):
            return Outcome(failure=_refusal(source, program[0]))
        if public_tests is not None and program.exec_code:
            self._check_tests_run()
            test = self._exec_code(public_tests, seed)
            return await _run(self._locked, program, arguments, host, limits, seed, test)
        if self._only == "monty" or (self._only is None and not self._locks()):
            return await _run(self._monty, program, arguments, host, limits, seed)
        if self._only == "locked" or self._is_remembered(program):
            return await _run(self._locked, program, arguments, host, limits, seed)
        return await self._run_in_turn(program, arguments, host, limits, seed)

    async def run_tests(
        self,
        solution: str,
        entry_point: str,
        tests: UnitTests,
        limits: Limits = TEST_LIMITS,
        *,
        seed: int = 0,
    ) -> TestReport:
        """Runs tests on an untrusted solution: it in one locked process, they in another.

        The solution gets the arguments as copies and answers with plain data, so it can neither
        read nor change what the tests hold, and what it does to its own process is its own affair.

        Args:
            solution: Complete Python source.
            entry_point: Name of the function under test.
            tests: What it has to pass.
            limits: Run time, memory, output and size of an answer for each of the two processes;
                wall time for both together.
            seed: Seeds the solution's ``random``.

        Returns:
            What passed and what failed; a solution that does not load, spins or ends its process is
            a report too.

        Raises:
            SandboxClosedError: The sandbox is closed, or was closed meanwhile.
            SandboxUnavailableError: This machine cannot lock a process in.
            SandboxError: The locked processes were killed from outside.
        """
        self._check_tests_run()
        return await self._trials.run(solution, entry_point, tests, limits, seed)

    async def aclose(self) -> None:
        """Stops executions in flight (``SandboxClosedError``) and ends the processes. Idempotent.

        Close before the interpreter exits: the engine's threads need a moment to leave.
        """
        self._closed = True
        await self._monty.aclose()
        await self._locked.aclose()
        await self._trials.aclose()

    async def _prepared(self, source: str, exec_code: bool) -> "_Prepared":
        """The program, made once.

        Not in a thread: before Python 3.11.8 two threads that parse at once may fail, and nowhere
        may they silence warnings at once.
        """
        key = (source, exec_code)
        program = self._programs.get(key)
        if program is None:
            if self._closed:
                raise SandboxClosedError("the sandbox is closed; make a new one")
            program = self._programs[key] = asyncio.create_task(_made(source, exec_code))
            if len(self._programs) > _KEPT_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(key)
        return await asyncio.shield(program)

    async def _run_in_turn(
        self,
        program: Program,
        arguments: Sequence[JsonValue],
        host: WorkflowHost,
        limits: Limits,
        seed: int,
    ) -> Outcome:
        """Runs in Monty and, if that lacks a feature, in the locked engine."""
        replay = ReplayHost(host)
        try:
            first = await _run(self._monty, program, arguments, replay, limits, seed)
            if not first.unsupported:
                return first
            replay.restart()
            try:
                second = await _run(self._locked, program, arguments, replay, limits, seed)
            except SandboxUnavailableError:
                self._can_lock = False
                return first
            self._remember(program)
            return replace(second, seconds=first.seconds + second.seconds)
        finally:
            await replay.aclose()

    def _exec_code(self, tests: UnitTests, seed: int) -> ExecCodeFunction:
        async def test(call: ExecCode) -> JsonValue:
            return exec_code_answer(
                await self.run_tests(call.solution, call.entry_point, tests, seed=seed)
            )

        return test

    def _check_tests_run(self) -> None:
        why = "this sandbox is told to use Monty only" if self._only == "monty" else missing()
        if why is not None:
            raise SandboxUnavailableError(f"unit tests run in the locked engine alone: {why}")

    def _locks(self) -> bool:
        """Whether the locked engine may be tried on this machine."""
        if self._can_lock is None:
            self._can_lock = missing() is None
        return self._can_lock

    def _is_remembered(self, program: Program) -> bool:
        key = _key(program)
        if key not in self._need_locked:
            return False
        self._need_locked.move_to_end(key)
        return True

    def _remember(self, program: Program) -> None:
        self._need_locked[_key(program)] = None
        if len(self._need_locked) > _REMEMBERED:
            self._need_locked.popitem(last=False)


async def _made(source: str, exec_code: bool) -> "_Prepared":
    """The program of a workflow that keeps the policy, otherwise its violations."""
    found = violations(source, exec_code=exec_code)
    if found:
        return found
    await asyncio.sleep(0)  # either half takes long enough for others to notice
    return compile_program(source)


async def _run(
    engine: MontyEngine | LockedEngine,
    program: Program,
    arguments: Sequence[JsonValue],
    host: WorkflowHost,
    limits: Limits,
    seed: int,
    exec_code: ExecCodeFunction | None = None,
) -> Outcome:
    door = Door(workflow_functions(host, exec_code), host.get_usage_summary, limits.host_calls)
    return await engine.run(program, arguments, door, limits, seed)


def _key(program: Program) -> bytes:
    return sha256(program.source.encode("utf-8", "surrogatepass")).digest()


def _refusal(source: str, violation: Violation) -> Failure:
    lines = source_lines(source)
    line = violation.line
    code = lines[line - 1].strip()[:200] if line and line <= len(lines) else None
    return Failure("PolicyViolation", violation.message, line, code)
