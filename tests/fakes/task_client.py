"""A client of the Tasks extension, as the protocol has it: raw answers, nothing smoothed over."""

from collections.abc import Mapping
from typing import Any, Literal

from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.types import CallToolResult, Request, RequestParams, Result
from pydantic import ConfigDict, JsonValue

from bayesflow_server.interface.tasks_extension import TASKS

__all__ = ["Handle", "TaskAware", "about_task", "begun", "ended"]

ENDS = ("completed", "failed", "cancelled")


class Handle(Result):
    """A task in place of a tool's result."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"] = "task"

    @property
    def fields(self) -> dict[str, JsonValue]:
        """What came over the wire."""
        return {"resultType": self.result_type, **(self.model_extra or {})}


class TaskAware(ClientExtension):
    """Declares the extension and follows a task to its result."""

    identifier = TASKS

    def claims(self) -> list[ResultClaim[Handle]]:
        return [ResultClaim(result_type="task", model=Handle, resolve=_resolve)]


class _Params(RequestParams):
    task_id: str
    input_responses: dict[str, object] | None = None


class _About(Request[_Params, str]):
    name_param = "taskId"


class _Raw(Result):
    model_config = ConfigDict(extra="allow")


async def _resolve(handle: Handle, context: ClaimContext) -> CallToolResult:
    raise AssertionError("the tests look at the handle itself")


async def begun(client: Client, tool: str, arguments: Mapping[str, object]) -> dict[str, Any]:
    """What a tool answers a client that knows tasks: a handle, which is checked, or its result."""
    result = await client.session.call_tool(tool, dict(arguments), allow_claimed=True)
    if not isinstance(result, Handle):
        return result.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields = result.fields
    assert not {"result", "error", "inputRequests", "requestState"} & set(fields)
    assert fields["ttlMs"] is None
    return fields


async def about_task(
    client: Client, method: str, task_id: str, answers: dict[str, object] | None = None
) -> dict[str, Any]:
    """The answer to a request about a task."""
    params = _Params(task_id=task_id, input_responses=answers)
    answer = await client.session.send_request(_About(method=method, params=params), _Raw)
    return {key: value for key, value in (answer.model_extra or {}).items() if key != "_meta"}


async def ended(client: Client, task_id: str) -> dict[str, Any]:
    """The task once it has ended."""
    while True:
        task = await about_task(client, "tasks/get", task_id)
        if task["status"] in ENDS:
            return task
