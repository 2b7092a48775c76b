"""What is asked of a run before, or without, what would answer it."""

from pathlib import Path

import pytest
from mcp import Client

from fakes.mcp_sessions import WORKFLOW, call, refusal, settled, task_arguments, write_script


@pytest.fixture
def client_of_a_slow_model(tmp_path: Path, client: Client) -> Client:
    """The model is read when it is first used."""
    write_script(tmp_path / "script.json", latency_ms=60_000)
    return client


async def test_before_its_first_round_a_run_has_no_best_workflow(
    client_of_a_slow_model: Client, rows: Path
) -> None:
    client = client_of_a_slow_model
    run_id = (await call(client, "start_bayesflow_run", task_arguments(rows)))["run_id"]
    sentence = await refusal(client, "get_best_workflow", {"run_id": run_id})
    assert "has not finished its first round" in sentence
    pool = await call(client, "get_pool", {"run_id": run_id})
    assert (pool["items"], pool["total"], pool["cursor"]) == ([], 0, None)
    state = await call(client, "get_run", {"run_id": run_id, "wait_seconds": 0})
    assert state["best_so_far"] is None
    assert state["status"] == "running"


async def test_a_split_without_rows_cannot_be_evaluated_on(client: Client, rows: Path) -> None:
    splits = {"validation": 8, "selection": 0, "test": 8}
    started = await call(
        client,
        "start_bayesflow_run",
        task_arguments(rows, options={"particles": 2, "rounds": 1, "splits": splits}),
    )
    request = {"workflow": WORKFLOW, "run_id": started["run_id"], "split": "selection"}
    sentence = await refusal(client, "evaluate_workflow", request)
    assert sentence.startswith("There are no selection rows to evaluate on")


async def test_a_spent_budget_pauses_the_run_and_says_how_to_go_on(
    client: Client, rows: Path
) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows, budget={"calls": 3}))
    assert isinstance(started["warnings"], list)
    assert any("budget of 3 calls" in str(warning) for warning in started["warnings"])
    state = await settled(client, started["run_id"])
    assert state["status"] == "paused"
    assert "3 of 3 calls" in str(state["reason"])
    assert "larger total `budget`" in str(state["next"])
    assert "price" in await refusal(
        client, "resume_run", {"run_id": started["run_id"], "budget": {"usd": 1}}
    )
