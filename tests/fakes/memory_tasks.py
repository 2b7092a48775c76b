"""Tasks that live in this process: any tool of a server run as a task, for the tests of the wire.

A tool named in `tools` runs in the background; one in `first_asks`, too, once its own questions to
the client (rounds of the one request) are answered. In the background a tool may `ask`, which parks
its task as `input_required` until `tasks/update` brings the answer.
"""

import asyncio
import time
import uuid
from collections.abc import Collection
from contextvars import ContextVar
from dataclasses import dataclass, field, replace

from mcp.server.context import HandlerResult
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CallToolRequestParams,
    CallToolResult,
    InputRequest,
    InputResponse,
    InputResponses,
)

from bayesflow_server.interface.tasks_extension import Call, RequestContext, TaskState

__all__ = ["MemoryTasks"]


@dataclass
class _Running:
    """A task, what it waits for and what works on it."""

    state: TaskState
    answers: dict[str, asyncio.Future[InputResponse]] = field(
        default_factory=dict[str, "asyncio.Future[InputResponse]"]
    )
    asked: int = 0
    work: asyncio.Task[None] | None = None

    def change(self, **changes: object) -> None:
        self.state = replace(self.state, updated=time.time(), **changes)  # type: ignore[arg-type]


_present: ContextVar[_Running] = ContextVar("the task whose tool is running")


class MemoryTasks:
    """A source of tasks without a store. An async context manager, which ends what still runs.

    Attributes:
        tools: Names of the tools that become tasks.
    """

    def __init__(self, tools: Collection[str], first_asks: Collection[str] = ()) -> None:
        self.tools = frozenset(tools) | frozenset(first_asks)
        self._first_asks = frozenset(first_asks)
        self._tasks: dict[str, _Running] = {}

    async def __aenter__(self) -> "MemoryTasks":
        return self

    async def __aexit__(self, *_: object) -> None:
        works = [one.work for one in self._tasks.values() if one.work is not None]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: Call
    ) -> TaskState | HandlerResult:
        """Begins the tool in the background."""
        if params.name in self._first_asks and params.input_responses is None:
            return await call()
        now = time.time()
        task = _Running(TaskState(uuid.uuid4().hex, "working", now, now))
        self._tasks[task.state.task_id] = task
        task.work = asyncio.create_task(self._run(task, call))
        return task.state

    async def state(self, task_id: str, context: RequestContext) -> TaskState | None:
        """The task as it stands."""
        task = self._tasks.get(task_id)
        return None if task is None else task.state

    async def cancel(self, task_id: str) -> None:
        """Stops the tool."""
        task = self._tasks[task_id]
        if task.work is not None and not task.work.done():
            task.change(status="cancelled", questions={})
            task.work.cancel()

    async def answer(self, task_id: str, answers: InputResponses) -> None:
        """Hands answers to the tool."""
        for key, answer in answers.items():
            waiting = self._tasks[task_id].answers.get(key)
            if waiting is not None and not waiting.done():
                waiting.set_result(answer)
                self._show_questions(self._tasks[task_id])

    async def ask(self, request: InputRequest) -> InputResponse:
        """Called by a tool in the background: the client's answer."""
        task = _present.get()
        task.asked += 1
        key = f"question-{task.asked}"
        task.answers[key] = asyncio.get_running_loop().create_future()
        task.change(status="input_required", questions={**task.state.questions, key: request})
        return await task.answers[key]

    def _show_questions(self, task: _Running) -> None:
        open_ones = {
            key: request
            for key, request in task.state.questions.items()
            if not task.answers[key].done()
        }
        task.change(status="input_required" if open_ones else "working", questions=open_ones)

    async def _run(self, task: _Running, call: Call) -> None:
        _present.set(task)
        try:
            result = await call()
        except MCPError as error:
            task.change(status="failed", error=error.error, message=error.error.message)
        else:
            assert isinstance(result, CallToolResult)
            task.change(status="completed", result=result)
