"""What the conformance suite calls of the Tasks extension, and tasks that live in memory."""

import asyncio
import time
import uuid
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self, TypeAlias

import anyio
from mcp.server.context import HandlerResult
from mcp.server.mcpserver import Context, MCPServer, require_client_extension
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    InputResponse,
    InputResponses,
)

from bayesflow_server.interface.tasks_extension import (
    TASKS,
    Call,
    RequestContext,
    TaskState,
)
from conformance.asking_fixtures import elicited, form

__all__ = ["MemoryTasks", "register_tasks"]

AnyContext: TypeAlias = Context[object, object]

# Asks by the call itself before it becomes a task.
_ASKS_FIRST: Final = "test_tool_with_task"
_SLOW: Final = 0.3  # seconds; long enough to be seen at work


@dataclass(slots=True)
class _Task:
    """One call on its way."""

    state: TaskState
    params: CallToolRequestParams
    call: Call
    answers: dict[str, InputResponse] = field(default_factory=dict[str, InputResponse])
    work: asyncio.Task[None] | None = None

    def turn(self, **changes: object) -> None:
        self.state = replace(self.state, updated=time.time(), **changes)  # pyright: ignore[reportArgumentType]


class MemoryTasks:
    """A `TaskSource` whose tasks end with the process. A context manager."""

    tools = (
        "slow_compute",
        "failing_job",
        "protocol_error_job",
        "confirm_delete",
        "multi_input",
        _ASKS_FIRST,
    )

    def __init__(self) -> None:
        self._tasks: dict[str, _Task] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        works = [task.work for task in self._tasks.values() if task.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: Call
    ) -> TaskState | HandlerResult:
        """A task, but for a call that asks first."""
        if params.name == _ASKS_FIRST and not params.input_responses:
            return await call()
        now = time.time()
        task = _Task(TaskState(uuid.uuid4().hex, "working", now, now), params, call)
        self._tasks[task.state.task_id] = task
        task.work = asyncio.create_task(self._run(task))
        return task.state

    async def state(self, task_id: str, context: RequestContext) -> TaskState | None:
        """The task of that id."""
        task = self._tasks.get(task_id)
        return None if task is None else task.state

    async def cancel(self, task_id: str) -> None:
        """Stops the task."""
        task = self._tasks[task_id]
        if task.state.status in ("working", "input_required"):
            task.turn(status="cancelled", questions={})
            if task.work is not None:
                task.work.cancel()

    async def answer(self, task_id: str, answers: InputResponses) -> None:
        """Takes answers, and goes on once none is missing."""
        task = self._tasks[task_id]
        open_questions = dict(task.state.questions)
        for key, answer in answers.items():
            if open_questions.pop(key, None) is not None:
                task.answers[key] = answer
        if task.state.status != "input_required":
            return
        if open_questions:
            task.turn(questions=open_questions)
            return
        task.params.input_responses = dict(task.answers)
        task.turn(status="working", questions={})
        task.work = asyncio.create_task(self._run(task))

    async def _run(self, task: _Task) -> None:
        try:
            result = await task.call()
        except MCPError as error:
            task.turn(status="failed", error=error.error)
            return
        if isinstance(result, InputRequiredResult):
            task.params.request_state = result.request_state
            task.turn(status="input_required", questions=dict(result.input_requests or {}))
            return
        assert isinstance(result, CallToolResult)
        task.turn(status="completed", result=result)


def register_tasks(server: MCPServer[object]) -> None:
    """Registers the tools on a server that has the extension over `MemoryTasks`."""
    _register_jobs(server)
    _register_questions(server)


def _register_jobs(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def greet(name: str) -> str:
        """Greets; never a task."""
        return f"Hello, {name}!"

    @server.tool(structured_output=False)
    async def slow_compute(seconds: float = _SLOW, label: str = "") -> str:
        """Takes its time."""
        await anyio.sleep(seconds)
        return f"computed {label}"

    @server.tool(structured_output=False)
    async def failing_job(ctx: AnyContext) -> str:
        """Fails after a while, for clients that declare the extension only."""
        require_client_extension(ctx.request_context, TASKS)
        await anyio.sleep(_SLOW)
        raise ToolError("The job failed.")

    @server.tool(structured_output=False)
    async def protocol_error_job() -> str:
        """Fails as if the server had."""
        raise MCPError(INTERNAL_ERROR, "The server failed.")


def _register_questions(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def confirm_delete(ctx: AnyContext, filename: str = "") -> str | InputRequiredResult:
        """Asks once."""
        sure = elicited(ctx, "question", "confirm")
        if sure is None:
            question = form(f"Delete {filename}?", "confirm", "boolean")
            return InputRequiredResult(input_requests={"question": question})
        return f"deleted: {sure}"

    @server.tool(structured_output=False)
    async def multi_input(ctx: AnyContext) -> str | InputRequiredResult:
        """Asks two things at once."""
        first, second = elicited(ctx, "first", "value"), elicited(ctx, "second", "value")
        if not ctx.input_responses:
            return InputRequiredResult(
                input_requests={name: form(f"The {name}?", "value") for name in ("first", "second")}
            )
        return f"{first} and {second}"

    @server.tool(structured_output=False)
    async def test_tool_with_task(ctx: AnyContext) -> str | InputRequiredResult:
        """Asks for a name, then works on it."""
        name = elicited(ctx, "user_name", "name")
        if name is None:
            return InputRequiredResult(
                input_requests={"user_name": form("What is your name?", "name")},
                request_state="asked",
            )
        await anyio.sleep(_SLOW)
        return f"Hello, {name}!"
