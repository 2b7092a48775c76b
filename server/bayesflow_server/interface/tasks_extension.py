"""The Tasks extension of the protocol: a call that takes long is answered by a handle to poll.

`io.modelcontextprotocol/tasks` (SEP-2663), on protocol 2026-07-28 alone. A client that declares it
gets `CreateTaskResult` in place of a tool's result, asks `tasks/get` until the task has ended, may
answer its questions by `tasks/update`, and may stop it by `tasks/cancel`. This is the wire; what a
task is and where it is kept is a `TaskSource`'s affair (`stored_tasks.py`).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal, Protocol, TypeAlias

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import (
    HEADER_MISMATCH,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ErrorData,
    InputRequest,
    InputResponse,
    InputResponses,
    RequestParams,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from bayesflow_server.excerpt import excerpt

__all__ = ["TASKS", "Call", "TaskSource", "TaskState", "TaskStatus", "TasksExtension"]

TASKS: Final = "io.modelcontextprotocol/tasks"
# The older revision knows no result but a tool's own.
_WIRES: Final = frozenset(MODERN_PROTOCOL_VERSIONS)
_POLL_MILLISECONDS: Final = 1_000
_SHOWN_ID: Final = 60
_ANSWER: Final[TypeAdapter[InputResponse]] = TypeAdapter(
    InputResponse, config=ConfigDict(defer_build=True)
)

RequestContext: TypeAlias = ServerRequestContext[Any, Any]
TaskStatus: TypeAlias = Literal["working", "input_required", "completed", "failed", "cancelled"]
# The tool call itself, as a client without the extension gets it.
Call: TypeAlias = Callable[[], Awaitable[HandlerResult]]


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task at one moment.

    Attributes:
        task_id: Names it; hard to guess.
        status: `failed` means an error of the protocol or the server; a tool that reports an error
            has completed.
        created: Seconds since 1970.
        updated: Likewise, of the last change.
        message: How it stands, for a person.
        result: What the tool gave, once completed.
        error: Why it failed.
        questions: What the client is asked while `input_required`; no key is ever used twice.
    """

    task_id: str
    status: TaskStatus
    created: float
    updated: float
    message: str | None = None
    result: CallToolResult | None = None
    error: ErrorData | None = None
    questions: Mapping[str, InputRequest] = field(default_factory=dict[str, InputRequest])


class TaskSource(Protocol):
    """Where tasks come from."""

    @property
    def tools(self) -> Collection[str]:
        """Names of the tools whose calls may become tasks."""
        ...

    async def begin(
        self, params: CallToolRequestParams, context: RequestContext, call: Call
    ) -> TaskState | HandlerResult:
        """Begins the call; a task that is returned can be asked for from then on.

        Args:
            params: The call. What is changed in it, `call` sees.
            context: The request.
            call: Calls the tool.

        Returns:
            The task, or the call's own result where there is no need to wait.
        """
        ...

    async def state(self, task_id: str, context: RequestContext) -> TaskState | None:
        """The task as it stands, or None if there is none of that id."""
        ...

    async def cancel(self, task_id: str) -> None:
        """Stops the task if that is still possible; an ended one stays as it is."""
        ...

    async def answer(self, task_id: str, answers: InputResponses) -> None:
        """Takes answers; those to questions that are not open are ignored."""
        ...


class TaskParams(RequestParams):
    """What `tasks/get` and `tasks/cancel` name."""

    # Built at the first request: a server's start must not wait for it.
    model_config = ConfigDict(defer_build=True)

    task_id: str


class UpdateParams(TaskParams):
    """What `tasks/update` brings; what is no answer to an open question may have any form."""

    input_responses: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class TasksExtension(Extension):
    """Answers calls of the source's tools with tasks, where the client declares the extension."""

    identifier = TASKS

    def __init__(self, source: TaskSource) -> None:
        self._source = source

    def methods(self) -> list[MethodBinding]:
        """The three requests about a task."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, _WIRES),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, _WIRES),
            MethodBinding("tasks/update", UpdateParams, self._update, _WIRES),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: RequestContext, call_next: CallNext
    ) -> HandlerResult:
        """The tool's result, or a handle of the task that it has become."""
        if params.name not in self._source.tools or not _declared(ctx):
            return await call_next(ctx)
        begun = await self._source.begin(params, ctx, lambda: call_next(ctx))
        if isinstance(begun, TaskState):
            return {"resultType": "task", **_handle(begun)}
        return begun

    async def _get(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        state = await self._known(ctx, params)
        return {"resultType": "complete", **_handle(state), **_detail(state)}

    async def _cancel(self, ctx: RequestContext, params: TaskParams) -> HandlerResult:
        state = await self._known(ctx, params)
        await self._source.cancel(state.task_id)
        return {"resultType": "complete"}

    async def _update(self, ctx: RequestContext, params: UpdateParams) -> HandlerResult:
        state = await self._known(ctx, params)
        given = params.input_responses
        fitting = {key: _answer(key, given[key]) for key in state.questions if key in given}
        await self._source.answer(state.task_id, fitting)
        return {"resultType": "complete"}

    async def _known(self, ctx: RequestContext, params: TaskParams) -> TaskState:
        """The task.

        Raises:
            MCPError: The client did not declare the extension, its headers name another task, or
                there is no such task.
        """
        require_client_extension(ctx, TASKS)
        _check_header(ctx, params.task_id)
        state = await self._source.state(params.task_id, ctx)
        if state is None:
            raise MCPError(
                INVALID_PARAMS, f"There is no task {excerpt(params.task_id, _SHOWN_ID)!r}."
            )
        return state


def _answer(key: str, given: JsonValue) -> InputResponse:
    """The answer to an open question.

    Raises:
        MCPError: It has no answer's form.
    """
    try:
        return _ANSWER.validate_python(given)
    except ValidationError as error:
        raise MCPError(
            INVALID_PARAMS, f"The answer to {excerpt(key, _SHOWN_ID)!r} has no answer's form."
        ) from error


def _declared(ctx: RequestContext) -> bool:
    if ctx.protocol_version not in _WIRES:
        return False
    capabilities = ctx.session.client_capabilities
    return capabilities is not None and TASKS in (capabilities.extensions or {})


def _check_header(ctx: RequestContext, task_id: str) -> None:
    """Over HTTP a header names the task for whoever routes the request; both must say the same."""
    headers: Mapping[str, str] | None = getattr(ctx.request, "headers", None)
    named = None if headers is None else headers.get("mcp-name")
    if named is not None and named.strip() != task_id:
        raise MCPError(HEADER_MISMATCH, "The header Mcp-Name names another task than `taskId`.")


def _handle(state: TaskState) -> dict[str, Any]:
    """What every message about a task carries. It is kept as long as the database: no end."""
    fields: dict[str, Any] = {
        "taskId": state.task_id,
        "status": state.status,
        "createdAt": _moment(state.created),
        "lastUpdatedAt": _moment(state.updated),
        "ttlMs": None,
        "pollIntervalMs": _POLL_MILLISECONDS,
    }
    if state.message is not None:
        fields["statusMessage"] = state.message
    return fields


def _detail(state: TaskState) -> dict[str, Any]:
    """What the task's status asks for beside the handle."""
    if state.status == "input_required":
        return {"inputRequests": {key: _dumped(one) for key, one in state.questions.items()}}
    if state.status == "completed" and state.result is not None:
        return {"result": _dumped(state.result)}
    if state.status == "failed" and state.error is not None:
        return {"error": _dumped(state.error)}
    return {}


def _dumped(model: "InputRequest | CallToolResult | ErrorData") -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
