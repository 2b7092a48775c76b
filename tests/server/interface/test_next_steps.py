"""Every answer says one sensible next step, and what it says can be done."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from mcp import Client
from mcp.types import TextContent

from bayesflow_server.app import Application
from bayesflow_server.interface.guidance import (
    advice_without,
    call_text,
    complaint_without,
    description_without,
)
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.toolset import READING, TOOL_NAMES, Narrowing
from bayesflow_server.store.records import RunStatus
from fakes.advice import advised_calls, named_tools
from fakes.asking import RUN, asking, open_house
from fakes.big_store import enlarge
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    call,
    refusal,
    settled,
    task_arguments,
)

STOPPED: Final[tuple[RunStatus, ...]] = ("paused", "interrupted", "cancelled", "failed")
WAITING: Final = {"get_run", "evaluate_workflow", "run_workflow", "next_proposals"}


async def led(client: Client, tool: str, arguments: Mapping[str, object]) -> Object:
    """The tool's result; each call that it advises is made and must not be refused."""
    told = await call(client, tool, arguments)
    await followed(client, str(told["next"]))
    return told


async def followed(client: Client, advice: str) -> None:
    assert named_tools(advice), advice
    calls = advised_calls(advice)
    for step in calls:
        wait = {"wait_seconds": 0} if step.tool in WAITING else {}
        result = await client.call_tool(step.tool, {**step.arguments, **wait})
        said = "".join(one.text for one in result.content if isinstance(one, TextContent))
        # The model of these tests has no script; others have.
        assert not result.is_error or "lives in this server only" in said, (advice, said)


async def stopped(application: Application, run_id: str, status: RunStatus) -> None:
    store = (await application.runs()).workplace.store
    await store.update_run(run_id, status=status, reason="For a test.")


async def test_before_anything_was_started(client: Client, rows: Path) -> None:
    told = await led(client, "list_runs", {})
    assert told["next"] == "start_bayesflow_run begins another."
    looked = await led(client, "check_task", task_arguments(rows))
    assert "start_bayesflow_run" in str(looked["next"])
    looked = await led(client, "check_task", {"examples": str(rows)})
    assert "`executor`" in str(looked["next"])
    looked = await led(client, "check_task", task_arguments(rows, executor="nobody:m"))
    assert "check_task again" in str(looked["next"])


async def test_while_a_run_works(client: Client, rows: Path) -> None:
    started = await led(client, "start_bayesflow_run", task_arguments(rows))
    run: Arguments = {"run_id": started["run_id"]}
    for tool in ("get_run", "get_pool"):
        await led(client, tool, run | ({"wait_seconds": 0} if tool == "get_run" else {}))
    await led(client, "list_runs", {})
    await led(client, "cancel_run", run)
    await settled(client, started["run_id"])


async def test_a_run_that_was_stopped_before_its_first_round(client: Client, rows: Path) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows, seed=3))
    run: Arguments = {"run_id": started["run_id"]}
    await call(client, "cancel_run", run)
    pool = await call(client, "get_pool", run)
    if not pool["items"]:
        assert str(pool["next"]).startswith("get_run(")
        await followed(client, str(pool["next"]))
        await followed(client, await refusal(client, "get_best_workflow", run))
    state = await call(client, "get_run", run)
    assert str(state["next"]).startswith("resume_run(")


@pytest.mark.parametrize("status", STOPPED)
async def test_a_run_that_stopped(
    client: Client, application: Application, finished: str, status: RunStatus
) -> None:
    run: Arguments = {"run_id": finished}
    for tool in ("get_run", "get_pool", "get_best_workflow"):
        await stopped(application, finished, status)
        told = await led(client, tool, run)
        if tool == "get_run":
            assert str(told["next"]).startswith("resume_run(")


async def test_a_run_that_has_finished(client: Client, finished: str) -> None:
    run: Arguments = {"run_id": finished}
    state = await led(client, "get_run", run)
    assert str(state["next"]).startswith("get_best_workflow(")
    best = await led(client, "get_best_workflow", run)
    workflow: Arguments = {"workflow_id": best["workflow_id"]}
    calls: list[tuple[str, Arguments]] = [
        ("list_runs", {}),
        ("get_pool", run),
        ("get_pool", run | {"limit": 1}),
        ("get_pool", run | {"cursor": "9000"}),
        ("get_workflow", workflow),
        ("get_workflow", workflow | {"format": "report"}),
        ("get_workflow", workflow | {"format": "script", "executor": "local:smollm2"}),
        ("plot_run", run),
        ("cancel_run", run),
        ("resume_run", run),
    ]
    for tool, arguments in calls:
        await led(client, tool, arguments)


async def test_a_page_names_the_next(client: Client, finished: str, tmp_path: Path) -> None:
    big = enlarge(tmp_path / "runs.sqlite3", finished, 40)
    best = await led(client, "get_best_workflow", {"run_id": finished})
    workflow: Arguments = {"workflow_id": best["workflow_id"], "run_id": finished}
    for arguments in (
        workflow,
        workflow | {"format": "script", "executor": "local:smollm2"},
    ):
        page = await led(client, "get_workflow", arguments)
        [further] = advised_calls(str(page["next"]))
        assert further.arguments == {"format": "source"} | arguments | {"cursor": page["cursor"]}
    for show in ("rows", "traces", "differences"):
        asked = {"evaluation_id": big.evaluation_id, "show": show}
        told = await led(client, "evaluate_workflow", asked)
        [further] = advised_calls(str(told["next"]))
        report = told["report"]
        assert isinstance(report, dict)
        assert further.arguments == asked | {"cursor": report["cursor"]}


async def test_evaluations_and_answers(
    client: Client, application: Application, finished: str
) -> None:
    evaluation: Arguments = {"workflow": WORKFLOW, "run_id": finished, "wait_seconds": 0}
    answer: Arguments = {"input": "4 plus 5?", "run_id": finished, "wait_seconds": 0}
    for tool, arguments, handle in (
        ("evaluate_workflow", evaluation, "evaluation_id"),
        ("run_workflow", answer, "answer_id"),
    ):
        begun = await led(client, tool, arguments)
        wait: Arguments = {handle: begun[handle], "wait_seconds": 45}
        ended = await led(client, tool, wait)
        assert ended["status"] == "finished"
        store = (await application.runs()).workplace.store
        record = await store.evaluation(str(begun[handle]))
        assert record is not None
        await store.update_evaluation(record.evaluation_id, status="failed", report=None)
        failed = await led(client, tool, wait)
        assert failed["status"] == "failed"


async def test_a_run_that_asks_its_client(client: Client, tmp_path: Path) -> None:
    run: Arguments = {"run_id": RUN, "wait_seconds": 0}
    async with (
        open_house(tmp_path / "runs.sqlite3") as house,
        asking(house.board(), "extend/1/0/0"),
    ):
        for tool in ("get_run", "next_proposals", "next_proposals"):
            await led(client, tool, run)
        answers = [{"proposal_id": "prop_1", "text": "x"}]
        await led(client, "submit_proposals", {"run_id": RUN, "answers": answers})
        await led(client, "submit_workflow", {"run_id": RUN, "source": WORKFLOW})
        await house.set_status("waiting_for_client")
        state = await led(client, "get_run", run)
        assert str(state["next"]).startswith("next_proposals(")
        for status in STOPPED:
            await house.set_status(status)
            told = await call(client, "next_proposals", run)
            assert str(told["next"]).startswith("resume_run(")


async def test_a_server_of_few_tools_advises_none_that_it_lacks(
    application: Application, finished: str, wire: str
) -> None:
    server = BayesFlowServer(application, narrowing=Narrowing(read_only=True))
    async with Client(server, mode=wire) as client:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == set(READING)
        for tool in tools:
            _, _, after = (tool.description or "").partition("Next:")
            assert named_tools(after) <= set(READING), tool.name
        best = await call(client, "get_best_workflow", {"run_id": finished})
        calls: list[tuple[str, Arguments]] = [
            (name, {} if name == "list_runs" else {"run_id": finished})
            for name in READING
            if name != "get_workflow"
        ]
        calls.append(("get_workflow", {"workflow_id": best["workflow_id"]}))
        for tool_name, arguments in calls:
            told = await led(client, tool_name, arguments)
            assert named_tools(str(told["next"])) <= set(READING)
        for status in STOPPED:
            await stopped(application, finished, status)
            told = await led(client, "get_run", {"run_id": finished})
            assert told["next"] == (f"get_pool(run_id='{finished}') shows what was found so far.")
    alone = BayesFlowServer(application, narrowing=Narrowing(names=("get_run",)))
    async with Client(alone, mode=wire) as client:
        told = await call(client, "get_run", {"run_id": finished})
        assert "(This server was started without get_pool, resume_run.)" in str(told["next"])
        said = await refusal(client, "get_run", {"run_id": "run_none"})
        assert said.endswith("(This server was started without list_runs.)")
        said = await refusal(client, "get_pool", {"run_id": finished})
        assert "there are get_run" in said


def test_sentences_that_name_absent_tools_are_left_out() -> None:
    advice = "get_run(run_id='r') shows it. resume_run(run_id='r') goes on."
    assert advice_without(advice, frozenset()) == advice
    assert advice_without(advice, {"resume_run"}) == "get_run(run_id='r') shows it."
    assert advice_without(advice, {"resume_run", "get_run"}) == (
        f"{advice} (This server was started without get_run, resume_run.)"
    )
    assert complaint_without("Call get_pool.", {"get_run"}) == "Call get_pool."
    described = "Draws a run.\n\nUse get_run\nfirst. Next: get_pool shows more."
    assert description_without(described, {"get_run"}) == described
    assert description_without(described, {"get_pool"}) == "Draws a run. Use get_run\nfirst."


def test_a_call_is_written_with_what_is_given() -> None:
    written = call_text("get_pool", run_id="run_1", limit=5, cursor=None)
    assert written == "get_pool(run_id='run_1', limit=5)"
    [read] = advised_calls(f"{written} lists them; get_pool(run_id=…) too.")
    assert read.arguments == {"run_id": "run_1", "limit": 5}
    assert set(TOOL_NAMES) >= {read.tool}
