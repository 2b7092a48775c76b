"""The wire of tasks, with tools that live in memory."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.extension import advertise
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CLIENT_CAPABILITIES_META_KEY,
    HEADER_MISMATCH,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    PROTOCOL_VERSION_META_KEY,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
)

from bayesflow_server.interface.tasks_extension import TASKS, TasksExtension
from conformance.task_fixtures import MemoryTasks
from fakes.mcp_sessions import connected
from fakes.task_client import TaskAware, about_task, begun, ended

ACK = {"resultType": "complete"}


class Door:
    """Holds the tool until it is opened."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.opened = asyncio.Event()
        self.left = asyncio.Event()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
async def tasks() -> AsyncIterator[MemoryTasks]:
    async with MemoryTasks() as tasks:
        yield tasks


@pytest.fixture
def server(tasks: MemoryTasks, door: Door) -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("tasks", extensions=[TasksExtension(tasks)])

    async def slow_compute() -> str:
        door.entered.set()
        try:
            await door.opened.wait()
        finally:
            door.left.set()
        return "done"

    async def protocol_error_job() -> str:
        raise MCPError(-32603, "boom")

    async def failing_job() -> str:
        raise ValueError("not today")

    async def multi_input(context: Context[Any, Any]) -> str | InputRequiredResult:
        answers = context.input_responses
        if not answers:
            asked: InputRequests = {name: _question(name) for name in ("one", "two")}
            return InputRequiredResult(input_requests=asked)
        texts = [
            str(answer.content) for answer in answers.values() if isinstance(answer, ElicitResult)
        ]
        return " ".join(texts)

    async def quick() -> str:
        return "at once"

    for tool in (slow_compute, protocol_error_job, failing_job, multi_input, quick):
        server.add_tool(tool)
    return server


@pytest.fixture
async def client(server: MCPServer[Any]) -> AsyncIterator[Client]:
    async with connected(Client(server, extensions=[TaskAware()])) as client:
        yield client


def _question(name: str) -> ElicitRequest:
    schema = {"type": "object", "properties": {name: {"type": "string"}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=name, requested_schema=schema))


async def test_a_long_call_is_answered_by_a_handle_and_its_result_is_asked_for(
    client: Client, door: Door
) -> None:
    handle = await begun(client, "slow_compute", {})
    assert handle["resultType"] == "task"
    assert handle["status"] == "working"
    first = await about_task(client, "tasks/get", handle["taskId"])
    assert first["status"] == "working"
    assert not {"result", "error", "inputRequests"} & set(first)
    door.opened.set()
    last = await ended(client, handle["taskId"])
    assert last["status"] == "completed"
    assert last["result"]["content"] == [{"type": "text", "text": "done"}]
    assert last["createdAt"] == handle["createdAt"] <= last["lastUpdatedAt"]


async def test_a_tool_that_is_no_task_answers_as_ever(client: Client) -> None:
    assert (await begun(client, "quick", {}))["content"][0]["text"] == "at once"


async def test_a_refusal_completes_and_an_error_of_the_protocol_fails(client: Client) -> None:
    refused = await ended(client, (await begun(client, "failing_job", {}))["taskId"])
    assert refused["status"] == "completed"
    assert refused["result"]["isError"] is True
    broken = await ended(client, (await begun(client, "protocol_error_job", {}))["taskId"])
    assert broken["status"] == "failed"
    assert broken["error"] == {"code": -32603, "message": "boom"}
    assert "result" not in broken


async def test_a_cancelled_task_stops_its_tool_and_stays_cancelled(
    client: Client, door: Door
) -> None:
    handle = await begun(client, "slow_compute", {})
    await door.entered.wait()
    assert await about_task(client, "tasks/cancel", handle["taskId"]) == ACK
    async with asyncio.timeout(20):
        await door.left.wait()
    for _ in range(2):
        assert (await ended(client, handle["taskId"]))["status"] == "cancelled"
        assert await about_task(client, "tasks/cancel", handle["taskId"]) == ACK


async def test_questions_are_answered_one_by_one(client: Client) -> None:
    task_id = (await begun(client, "multi_input", {}))["taskId"]
    task = await about_task(client, "tasks/get", task_id)
    while len(task.get("inputRequests", {})) < 2:
        task = await about_task(client, "tasks/get", task_id)
    assert task["status"] == "input_required"
    first, second = task["inputRequests"]
    assert task["inputRequests"][first]["method"] == "elicitation/create"
    answer = {"action": "accept", "content": {"one": "1"}}
    stray = {"nobody asked": answer, "nor for this": {"form": "none of ours"}}
    given = await about_task(client, "tasks/update", task_id, answers={first: answer, **stray})
    assert given == ACK
    task = await about_task(client, "tasks/get", task_id)
    assert list(task["inputRequests"]) == [second]
    with pytest.raises(MCPError, match="no answer's form"):
        await about_task(client, "tasks/update", task_id, answers={second: {"form": "none"}})
    answer = {"action": "accept", "content": {"two": "2"}}
    await about_task(client, "tasks/update", task_id, answers={second: answer})
    task = await ended(client, task_id)
    assert task["result"]["content"][0]["text"] == "{'one': '1'} {'two': '2'}"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_an_unknown_task_is_a_wrong_parameter(client: Client, method: str) -> None:
    with pytest.raises(MCPError, match="There is no task 'no-such'") as refusal:
        await about_task(client, method, "no-such")
    assert refusal.value.error.code == INVALID_PARAMS


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
async def test_a_client_without_the_extension_gets_results_and_no_task(
    server: MCPServer[Any], client: Client, door: Door, method: str
) -> None:
    handle = await begun(client, "slow_compute", {})
    door.opened.set()
    async with connected(Client(server)) as plain:
        result = await plain.call_tool("slow_compute", {})
        assert result.content[0].model_dump()["text"] == "done"
        with pytest.raises(MCPError) as refusal:
            await about_task(plain, method, handle["taskId"])
    assert refusal.value.error.code == MISSING_REQUIRED_CLIENT_CAPABILITY
    assert refusal.value.error.data == {"requiredCapabilities": {"extensions": {TASKS: {}}}}


async def test_the_older_wire_never_sees_a_task(
    server: MCPServer[Any], client: Client, door: Door
) -> None:
    handle = await begun(client, "slow_compute", {})
    door.opened.set()
    old = Client(server, mode="legacy", extensions=[advertise(TASKS)])
    async with connected(old) as legacy:
        assert (await legacy.call_tool("slow_compute", {})).content[0].model_dump()[
            "text"
        ] == "done"
        with pytest.raises(MCPError) as refusal:
            await about_task(legacy, "tasks/get", handle["taskId"])
    assert refusal.value.error.code == METHOD_NOT_FOUND


@pytest.mark.parametrize("method", ["tasks/list", "tasks/result"])
async def test_what_earlier_tasks_had_is_gone(client: Client, method: str) -> None:
    with pytest.raises(MCPError) as refusal:
        await about_task(client, method, "any")
    assert refusal.value.error.code == METHOD_NOT_FOUND


async def test_a_header_that_names_another_task_is_refused(
    server: MCPServer[Any], client: Client
) -> None:
    task_id = (await begun(client, "slow_compute", {}))["taskId"]
    app = server.streamable_http_app(stateless_http=True, json_response=True)
    transport = httpx2.ASGITransport(app=app)
    body: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tasks/get",
        "params": {
            "taskId": task_id,
            "_meta": {
                PROTOCOL_VERSION_META_KEY: "2026-07-28",
                CLIENT_CAPABILITIES_META_KEY: {"extensions": {TASKS: {}}},
            },
        },
    }
    codes: list[object] = []
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as http,
    ):
        for name in (task_id, "another"):
            headers = {
                "accept": "application/json, text/event-stream",
                "mcp-protocol-version": "2026-07-28",
                "mcp-method": "tasks/get",
                "mcp-name": name,
            }
            answer = (await http.post("/mcp", json=body, headers=headers)).json()
            codes.append(answer.get("error", {}).get("code"))
    assert codes == [None, HEADER_MISMATCH]
