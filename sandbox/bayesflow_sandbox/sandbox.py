"""The one public class: runs untrusted workflows, each of them alone, as many at a time as wanted.

    async with Sandbox() as sandbox:
        outcome = await sandbox.run_workflow(source, ["What is 6 times 7?"], host)

A workflow that fails is data (``Outcome``); what goes wrong on the host's side is an exception.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.host import WorkflowHost, workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.monty import MontyEngine
from bayesflow_sandbox.outcome import Failure, JsonValue, Outcome
from bayesflow_sandbox.policy import Violation
from bayesflow_sandbox.program import prepare
from bayesflow_sandbox.steps import source_lines

__all__ = ["Sandbox"]

DEFAULT_LIMITS = Limits()


class Sandbox:
    """Runs workflows in restricted interpreters, one process for each execution in flight.

    An async context manager. Processes start with the first execution that needs them; idle they
    take 2 MB each. Belongs to the event loop it is first used on.

    Args:
        workers: The most executions at a time; a call beyond that waits for a free worker. An
            execution keeps its worker while it waits for ``call_llm``, so take at least the number
            of model calls wanted in flight.
    """

    def __init__(self, *, workers: int = 32) -> None:
        if workers < 1:
            raise ValueError(f"workers={workers} must be at least 1")
        self._engine = MontyEngine(workers)

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
    ) -> Outcome:
        """Runs ``await Workflow(name, llm_config, dataset)(*arguments)`` once.

        A source that breaks the policy is not run: its outcome is a failure ``PolicyViolation``.

        Args:
            source: The workflow's source.
            arguments: What ``__call__`` takes, e.g. the problem's text.
            host: What the workflow may reach.
            limits: What it may use up.
            seed: Seeds the workflow's ``random``.

        Returns:
            The value it returned, or why it failed.

        Raises:
            SandboxClosedError: The sandbox is closed, or was closed while the workflow ran.
            SandboxUnavailableError: The interpreter cannot be started on this machine.
            BaseException: What the host raised, other than ``CallRefusedError``: the same object.
                The workflow is stopped then and cannot prevent it.
        """
        program = prepare(source)
        if isinstance(program, tuple):
            return Outcome(failure=_refusal(source, program[0]))
        door = Door(workflow_functions(host), host.get_usage_summary, limits.host_calls)
        return await self._engine.run(program, arguments, door, limits, seed)

    async def aclose(self) -> None:
        """Stops executions in flight (``SandboxClosedError``) and ends the processes. Idempotent.

        Close before the interpreter exits: the engine's threads need a moment to leave.
        """
        await self._engine.aclose()


def _refusal(source: str, violation: Violation) -> Failure:
    lines = source_lines(source)
    line = violation.line
    code = lines[line - 1].strip()[:200] if line and line <= len(lines) else None
    return Failure("PolicyViolation", violation.message, line, code)
