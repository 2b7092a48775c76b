"""Runs, evaluations and answers as tasks: the store is where they live.

A task's id is that of the run, evaluation or answer, so every process over the file can tell of it,
after a restart too. How a run's status is told:

queued, running     working
waiting_for_client  working: its questions are prompts for an agent, which no request of the
                    protocol to a client carries. A run that asks its client never starts as a
                    task, for the agent could not see the questions while it polls.
interrupted         working: a server goes on with it by itself, or by resume_run
paused              completed, with a refusal that says what to do: it goes on only if somebody
                    acts, and who polls would wait for ever without hearing why
cancelled           cancelled
failed              failed: a defect of the server ended it, an internal error of the protocol
finished            completed

A finished run's result is what get_best_workflow gives, beside what its start gave: the one call
had the other's schema. An evaluation's and an answer's result is what the tool itself gives once it
need not wait. These can be cancelled by nobody: their budget is what ends them.

A server that was started without the tool which spends, or stops, does neither by way of a task.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mcp.server.context import HandlerResult
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    InputResponses,
    TextContent,
)

from bayesflow_server.errors import NotFoundError
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.result import blocks
from bayesflow_server.interface.tasks_extension import Call, RequestContext, TaskState, TaskStatus
from bayesflow_server.interface.toolset import TOOL_NAMES

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.records import EvaluationRecord, RunRecord

__all__ = ["StoredTasks"]

_START: Final = "start_bayesflow_run"
# The tools that wait, and what names their work in their results and arguments.
_HANDLES: Final[Mapping[str, str]] = {
    "evaluate_workflow": "evaluation_id",
    "run_workflow": "answer_id",
}
_STATUSES: Final[Mapping[str, TaskStatus]] = {
    "queued": "working",
    "running": "working",
    "waiting_for_client": "working",
    "interrupted": "working",
    "paused": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
    "finished": "completed",
}

# A reason may quote a provider or a program; whoever wants it asks get_run.
_MESSAGES: Final[Mapping[str, str]] = {
    "waiting_for_client": "waits for answers: next_proposals has its questions",
    "interrupted": "its process is gone; a server goes on with it, or resume_run does",
    "paused": "paused; the result says why and what to do",
    "cancelled": "cancelled; what it found is kept, and resume_run goes on",
    "failed": "failed; get_run says why",
}
_DEFECT: Final = ErrorData(
    code=INTERNAL_ERROR,
    message="The run ended by a defect of the server; get_run says more, resume_run tries again.",
)


@dataclass
class StoredTasks:
    """The source of tasks of a server over a database.

    Attributes:
        backend: Gives the services, as it does to the tools.
        offered: Names of the tools that the server has.
    """

    backend: Backend
    offered: Collection[str] = TOOL_NAMES
    tools: tuple[str, ...] = (_START, *_HANDLES)

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: Call
    ) -> TaskState | HandlerResult:
        """Begins a run, an evaluation or an answer; what has ended already is no task."""
        if params.name in _HANDLES:
            params.arguments = {**(params.arguments or {}), "wait_seconds": 0}
        result = await call()
        task_id = _named(params.name, result)
        state = None if task_id is None else await self.state(task_id, context)
        return result if state is None else state

    async def state(self, task_id: str, context: RequestContext) -> TaskState | None:
        """The task as the store has it; what nobody works on goes on."""
        try:
            if task_id.startswith("run_"):
                service = await self.backend.runs()
                return await self._of_run(await service.record(task_id), service, context)
            tool = "evaluate_workflow" if task_id.startswith("eval_") else "run_workflow"
            record = await self._job(tool, task_id)
            return None if record is None else await self._of_job(tool, record, context)
        except NotFoundError:
            return None

    async def _job(self, tool: str, job_id: str) -> "EvaluationRecord | None":
        """The evaluation or answer; it goes on, unless this server may not spend for it."""
        if tool not in self.offered:
            service = await self.backend.runs()
            return await service.workplace.store.evaluation(job_id)
        if tool == "evaluate_workflow":
            return await (await self.backend.evaluations()).wait(job_id, 0)
        return await (await self.backend.answers()).wait(job_id, 0)

    async def cancel(self, task_id: str) -> None:
        """Cancels a run.

        Raises:
            MCPError: This server stops none.
        """
        if not {_START, "cancel_run"}.intersection(self.offered):
            raise MCPError(
                INVALID_PARAMS,
                "This server was started without cancel_run, so it stops no run either; ask one "
                "that has it.",
            )
        if task_id.startswith("run_"):
            await (await self.backend.runs()).cancel(task_id)

    async def answer(self, task_id: str, answers: InputResponses) -> None:
        """Nothing is ever asked of the client here."""

    async def _of_run(
        self, record: "RunRecord", service: "RunService", context: RequestContext
    ) -> TaskState:
        from bayesflow_server.interface.progress import phase_of, phase_words

        status = service.status(record)
        told = _STATUSES[status]
        result = None
        if told == "completed":
            result = await self._ending(record.run_id, status, service, context)
        return TaskState(
            task_id=record.run_id,
            status=told,
            created=record.created,
            updated=record.updated,
            message=_MESSAGES.get(status) or phase_words(phase_of(record)),
            result=result,
            error=_DEFECT if told == "failed" else None,
        )

    async def _ending(
        self, run_id: str, status: str, service: "RunService", context: RequestContext
    ) -> CallToolResult:
        """What a run's start gives in the end."""
        from bayesflow_server.interface.best import BestTool
        from bayesflow_server.interface.runs import RunTools
        from bayesflow_server.interface.start import run_started
        from bayesflow_server.runs.starting import started_run

        if status == "paused":
            look = next(tool for tool in RunTools(self.backend).tools() if tool.name == "get_run")
            paused = await self._called(look, {"run_id": run_id, "wait_seconds": 0}, context)
            return paused.model_copy(update={"is_error": True})
        (best,) = BestTool(self.backend).tools()
        found = await self._called(best, {"run_id": run_id}, context)
        run = await started_run(await service.record(run_id), service.workplace)
        started = run_started(run, service).model_dump(mode="json")
        if found.is_error:
            return found
        return blocks(CallToolResult(content=[], structured_content=started | _fields(found)))

    async def _of_job(
        self, tool: str, record: "EvaluationRecord", context: RequestContext
    ) -> TaskState:
        ended = record.status in ("finished", "failed")
        return TaskState(
            task_id=record.evaluation_id,
            status="completed" if ended else "working",
            created=record.created,
            updated=record.updated,
            result=await self._report(tool, record.evaluation_id, context) if ended else None,
        )

    async def _report(self, name: str, job_id: str, context: RequestContext) -> CallToolResult:
        """What the tool gives for work that has ended."""
        from bayesflow_server.interface.answer import AnswerTool
        from bayesflow_server.interface.evaluate import EvaluateTool

        group = EvaluateTool if name == "evaluate_workflow" else AnswerTool
        (tool,) = group(self.backend).tools()
        return await self._called(tool, {_HANDLES[name]: job_id, "wait_seconds": 0}, context)

    async def _called(
        self, tool: Tool, arguments: dict[str, Any], context: RequestContext
    ) -> CallToolResult:
        """The tool's result as a client gets it, a refusal included."""
        from bayesflow_server.interface.tool import PlainTool  # with the tools, so not at the start

        if isinstance(tool, PlainTool):
            tool.narrow(frozenset(TOOL_NAMES) - frozenset(self.offered))
        try:
            result = await tool.run(
                arguments, Context(request_context=context), convert_result=True
            )
        except ToolError as error:
            return CallToolResult(content=[TextContent(text=str(error))], is_error=True)
        assert isinstance(result, CallToolResult)
        return result


def _fields(result: CallToolResult) -> dict[str, Any]:
    return result.structured_content or {}


def _named(tool: str, result: HandlerResult) -> str | None:
    """The id of what a call has begun, or None if nobody needs to wait for it."""
    told = result.structured_content if isinstance(result, CallToolResult) else None
    if told is None:
        return None
    if tool == _START:
        models = told["resolved"]["models"]
        return None if "client" in (models["optimizer"], models["refiner"]) else told["run_id"]
    return told[_HANDLES[tool]] if told["status"] == "running" else None
