"""Runs, evaluations and answers as tasks of the real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INVALID_PARAMS, CallToolResult

from bayesflow_sampler.source import parse_workflow
from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.tasks_extension import TASKS
from bayesflow_server.interface.toolset import Narrowing
from bayesflow_server.settings import Settings
from fakes.mcp_sessions import WORKFLOW, Arguments, call, connected, task_arguments, write_script
from fakes.task_client import TaskAware, about_task, begun, ended


@pytest.fixture
async def aware(application: Application) -> AsyncIterator[Client]:
    """A client that knows tasks."""
    async with connected(_aware(application)) as client:
        yield client


def _aware(application: Application, *, read_only: bool = False) -> Client:
    server = BayesFlowServer(application, narrowing=Narrowing(read_only=read_only))
    return Client(server, extensions=[TaskAware()])


def evaluation(rows: Path) -> Arguments:
    return {"workflow": WORKFLOW, "examples": str(rows), "executor": "scripted:default"}


async def test_a_run_is_a_task_whose_result_is_its_best_workflow(aware: Client, rows: Path) -> None:
    handle = await begun(aware, "start_bayesflow_run", task_arguments(rows))
    assert handle["resultType"] == "task"
    assert handle["status"] == "working"
    task = await ended(aware, handle["taskId"])
    assert task["status"] == "completed"
    found = task["result"]["structuredContent"]
    best = await call(aware, "get_best_workflow", {"run_id": handle["taskId"]})
    assert {name: found[name] for name in best} == best
    assert found["final"] is True
    assert found["resolved"]["models"]["executor"] == "scripted:default"
    assert json.loads(task["result"]["content"][0]["text"]) == found


async def test_a_tasks_result_has_the_form_that_its_tool_promised(
    aware: Client, rows: Path
) -> None:
    handle = await begun(aware, "start_bayesflow_run", task_arguments(rows))
    task = await ended(aware, handle["taskId"])
    result = CallToolResult.model_validate(task["result"])
    await aware.session.validate_tool_result("start_bayesflow_run", result)


async def test_another_process_tells_of_a_task(
    application: Application, aware: Client, rows: Path
) -> None:
    handle = await begun(aware, "start_bayesflow_run", task_arguments(rows))
    task = await ended(aware, handle["taskId"])
    async with Application(application.settings) as later, connected(_aware(later)) as client:
        assert await about_task(client, "tasks/get", handle["taskId"]) == task


async def test_an_evaluation_outlives_the_process_that_began_it(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=50)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    settings = Settings(db=tmp_path / "runs.sqlite3")
    async with Application(settings) as first, connected(_aware(first)) as client:
        handle = await begun(client, "evaluate_workflow", evaluation(rows))
        assert handle["status"] == "working"
    async with Application(settings) as second, connected(_aware(second)) as client:
        task = await ended(client, handle["taskId"])
        report = await call(client, "evaluate_workflow", {"evaluation_id": handle["taskId"]})
    assert task["status"] == "completed"
    assert task["result"]["structuredContent"] == report
    assert report["status"] == "finished"


async def test_an_answer_is_a_task_too(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=50)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    async with (
        Application(Settings(db=tmp_path / "runs.sqlite3")) as application,
        connected(_aware(application)) as client,
    ):
        await ended(client, (await begun(client, "evaluate_workflow", evaluation(rows)))["taskId"])
        handle = await begun(
            client,
            "run_workflow",
            {
                "workflow_id": parse_workflow(WORKFLOW).workflow_id,
                "input": "What is 2 plus 3?",
                "executor": "scripted:default",
                "wait_seconds": 45,
            },
        )
        assert handle["resultType"] == "task"
        task = await ended(client, handle["taskId"])
        assert task["result"]["structuredContent"]["answer"] == "5"


async def test_cancelling_a_task_cancels_its_run(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=2_000)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    async with (
        Application(Settings(db=tmp_path / "runs.sqlite3")) as application,
        connected(_aware(application)) as client,
    ):
        handle = await begun(client, "start_bayesflow_run", task_arguments(rows))
        await about_task(client, "tasks/cancel", handle["taskId"])
        task = await about_task(client, "tasks/get", handle["taskId"])
        assert task["status"] == "cancelled"
        assert "resume_run" in task["statusMessage"]
        state = await call(client, "get_run", {"run_id": handle["taskId"]})
        assert state["status"] == "cancelled"
        assert await about_task(client, "tasks/update", handle["taskId"], answers={}) == {
            "resultType": "complete"
        }


async def test_a_run_whose_budget_is_spent_says_so_in_place_of_a_result(
    aware: Client, rows: Path
) -> None:
    handle = await begun(aware, "start_bayesflow_run", task_arguments(rows, budget={"calls": 3}))
    task = await ended(aware, handle["taskId"])
    assert task["status"] == "completed"
    assert task["result"]["isError"] is True
    state = task["result"]["structuredContent"]
    assert state["status"] == "paused"
    assert "budget is spent" in state["reason"]
    assert "resume_run" in state["next"]


async def test_a_run_that_asks_its_client_is_no_task(aware: Client, rows: Path) -> None:
    arguments = task_arguments(rows, optimizer="client", preset="client", options=None)
    started = await begun(aware, "start_bayesflow_run", arguments)
    assert started["resultType"] == "complete"
    assert "next_proposals" in started["structuredContent"]["next"]
    task = await about_task(aware, "tasks/get", started["structuredContent"]["run_id"])
    assert task["status"] == "working"


async def test_a_server_that_only_reads_stops_no_run_and_goes_on_with_no_evaluation(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=200)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    settings = Settings(db=tmp_path / "runs.sqlite3")
    async with Application(settings) as first, connected(_aware(first)) as client:
        run = await begun(client, "start_bayesflow_run", task_arguments(rows))
        left = await begun(client, "evaluate_workflow", evaluation(rows))
    async with (
        Application(settings) as reader,
        connected(_aware(reader, read_only=True)) as client,
    ):
        task = await about_task(client, "tasks/get", left["taskId"])
        assert task["status"] == "working"
        assert not [one for one in asyncio.all_tasks() if "Jobs" in str(one.get_coro())]
        with pytest.raises(MCPError, match="without cancel_run"):
            await about_task(client, "tasks/cancel", run["taskId"])
        state = await call(client, "get_run", {"run_id": run["taskId"], "wait_seconds": 0})
        assert state["status"] == "interrupted"


async def test_a_task_s_result_advises_no_tool_that_the_server_lacks(
    tmp_path: Path, rows: Path, application: Application
) -> None:
    async with connected(_aware(application)) as client:
        run = await begun(client, "start_bayesflow_run", task_arguments(rows))
        whole = await ended(client, run["taskId"])
    async with connected(_aware(application, read_only=True)) as client:
        narrowed = await ended(client, run["taskId"])
    assert "run_workflow" in whole["result"]["structuredContent"]["next"]
    assert "run_workflow" not in narrowed["result"]["structuredContent"]["next"]


async def test_what_is_refused_is_refused_at_once(aware: Client, rows: Path) -> None:
    refused = await begun(aware, "start_bayesflow_run", task_arguments(rows, executor="nobody:x"))
    assert refused["isError"] is True
    waits = await begun(aware, "evaluate_workflow", {"evaluation_id": "eval_none"})
    assert waits["isError"] is True


async def test_what_has_ended_is_answered_without_a_task(aware: Client, rows: Path) -> None:
    handle = await begun(aware, "evaluate_workflow", evaluation(rows))
    task_id = handle.get("taskId") or handle["structuredContent"]["evaluation_id"]
    await ended(aware, task_id)
    again = await begun(aware, "evaluate_workflow", {"evaluation_id": task_id})
    assert again["structuredContent"]["status"] == "finished"


@pytest.mark.parametrize("task_id", ["run_none", "eval_none", "ans_none", "", "x" * 1000])
async def test_an_unknown_task_is_a_wrong_parameter(aware: Client, task_id: str) -> None:
    with pytest.raises(MCPError) as refusal:
        await about_task(aware, "tasks/get", task_id)
    assert refusal.value.error.code == INVALID_PARAMS
    assert len(refusal.value.error.message) < 200


async def test_clients_that_do_not_know_tasks_see_none(client: Client, rows: Path) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows))
    assert started["run_id"]
    with pytest.raises(MCPError):
        await about_task(client, "tasks/get", str(started["run_id"]))


async def test_the_server_says_that_it_has_tasks(aware: Client) -> None:
    assert aware.server_capabilities is not None
    assert TASKS in (aware.server_capabilities.extensions or {})
