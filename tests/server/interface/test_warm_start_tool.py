"""Warm starts, tolerance and islands as an agent meets them, over the protocol."""

from pathlib import Path

import pytest
from mcp import Client
from pydantic import JsonValue

from bayesflow_server.export.script import ExportSettings, script_of
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    call,
    refusal,
    settled,
    task_arguments,
)

# Right on every row, and nothing that the built-in grammar writes.
ADDER = WORKFLOW.replace(
    "answers = await self.llm.call_llm(messages=[problem], temperature=0.0)",
    "numbers = [int(one) for one in problem.rstrip('?').split() if one.isdigit()]",
).replace("answers[0]", "str(sum(numbers))")
OPTIONS: Object = {"particles": 4, "rounds": 2, "beta": 5.0, "minibatch": 4}


def asked(rows: Path, **options: object) -> Arguments:
    return task_arguments(rows, options={**OPTIONS, **options})


async def ran(client: Client, arguments: Arguments) -> Object:
    started = await call(client, "start_bayesflow_run", arguments)
    state = await settled(client, started["run_id"])
    assert state["status"] == "finished", state
    return state


def objects(value: JsonValue) -> list[Object]:
    assert isinstance(value, list)
    return [one for one in value if isinstance(one, dict)]


def diversity(pool: Object) -> Object:
    found = pool["diversity"]
    assert isinstance(found, dict)
    return found


async def test_a_warm_workflow_is_warm_in_the_pool_and_may_win(
    client: Client, rows: Path, tmp_path: Path
) -> None:
    script = tmp_path / "mine.py"
    script.write_text(script_of(ADDER, ExportSettings(executor="openai:gpt-5-mini", api="openai")))
    arguments = asked(rows, warm_start=[str(script), WORKFLOW])
    checked = await call(client, "check_task", arguments)
    assert checked["ok"], checked
    state = await ran(client, arguments)
    run: Arguments = {"run_id": state["run_id"], "sort": "validation"}
    pool = await call(client, "get_pool", run)
    best = await call(client, "get_best_workflow", {"run_id": state["run_id"]})
    (first, *_) = objects(pool["items"])

    assert (first["origin"], first["clean"], first["posterior"]) == ("warm", False, None)
    assert (first["parent_id"], first["round"]) == (None, 1)
    assert best["workflow_id"] == first["workflow_id"]
    # Then the winner itself, by run, by id and by source: the same workflow.
    for name in (state["run_id"], first["workflow_id"], best["source"]):
        again = await call(client, "check_task", asked(rows, warm_start=[name]))
        assert again["ok"], again


async def test_a_wrong_name_is_answered_with_one_sentence_and_no_run(
    client: Client, rows: Path
) -> None:
    for names, said in (
        (["run_0123456789ab"], "and there is no such run; list_runs"),
        (["wf_0123456789abcdef"], "There is no workflow 'wf_0123456789abcdef'"),
        (["mine.py"], "not absolute"),
        (["best"], "neither a run id"),
        (["import os\nclass Workflow: pass\n"], "(a source): The workflow cannot be used"),
        ([WORKFLOW] * 21, "`options.warm_start` must have at most 20 items"),
        ("run_0123456789ab", "and there is no such run; list_runs"),  # one is a list of one
        (7, "`options.warm_start` must be a valid list"),
    ):
        for tool in ("check_task", "start_bayesflow_run"):
            sentence = await refusal(client, tool, asked(rows, warm_start=names))
            assert said in sentence, sentence
            assert len(sentence) < 500
    assert (await call(client, "list_runs", {}))["runs"] == []


async def test_options_that_contradict_are_refused_by_both_tools(
    client: Client, rows: Path
) -> None:
    for options, said in (
        ({"islands": 3}, "`islands` must divide `particles`"),
        ({"ess_threshold": 0.5, "refinement": "inject"}, "leave `ess_threshold` out"),
        ({"ess_threshold": 0.5, "weighting": "paper"}, "needs `weighting` exact"),
        ({"recycle": True}, "set `rollouts` to 2 or more"),
        ({"ess_threshold": 0}, "`options.ess_threshold` must be greater than 0"),
        ({"tempering": 1.5}, "`options.tempering` must be less than or equal to 1"),
        ({"refiner_lag": 2}, "`options.refiner_lag` must be 0 or 1"),
        ({"tolerance": -0.1}, "`options.tolerance` must be greater than or equal to 0"),
        ({"resampling": "none"}, "`options.resampling` must be"),
    ):
        for tool in ("check_task", "start_bayesflow_run"):
            sentence = await refusal(client, tool, asked(rows, **options))
            assert said in sentence, sentence
    agent = asked(rows, recycle=True, rollouts=2) | {"optimizer": "client", "preset": "client"}
    for tool in ("check_task", "start_bayesflow_run"):
        sentence = await refusal(client, tool, agent)
        assert "'client' does not write rollouts by the law of its steps" in sentence


async def test_a_run_that_stops_early_says_why_and_what_that_does(
    client: Client, rows: Path
) -> None:
    # With one workflow that is right, rewards differ: while all are equal nothing stops.
    state = await ran(client, asked(rows, tolerance=1.0, rounds=3, warm_start=[ADDER]))
    notes = state["notes"]
    assert isinstance(notes, list)
    (note,) = [one for one in notes if str(one).startswith("stopped after round 1 of 3")]
    assert "less than the tolerance of 1" in str(note)
    assert str(note).endswith("not touched by it.")
    pool = await call(client, "get_pool", {"run_id": state["run_id"]})
    assert diversity(pool)["log_evidence"] is not None


@pytest.mark.parametrize("islands", [1, 2])
async def test_the_evidence_has_an_error_with_islands_at_any_beta_without_a_call(
    client: Client, rows: Path, islands: int
) -> None:
    state = await ran(client, asked(rows, islands=islands))
    spent = state["spent"]
    for beta in (None, 0.5, 30.0):
        pool = await call(client, "get_pool", {"run_id": state["run_id"], "beta": beta})
        assert pool["beta"] == (beta or 5.0)
        error = diversity(pool)["evidence_error"]
        assert isinstance(error, float) if islands == 2 else error is None
        assert diversity(pool)["clean_share"] == 1.0
        ancestors = diversity(pool)["unique_ancestors"]
        assert isinstance(ancestors, list)
        assert len(ancestors) == 2
        assert ancestors[-1] == 4
    assert (await call(client, "get_run", {"run_id": state["run_id"]}))["spent"] == spent
