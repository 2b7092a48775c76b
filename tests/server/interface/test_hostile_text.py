"""Text that tries to talk to the agent, and text that is too long, stay data of a bounded size."""

import json
from pathlib import Path

from mcp import Client
from pydantic import JsonValue

from bayesflow_server.excerpt import excerpt
from fakes.mcp_sessions import Arguments, call, refusal, settled, task_arguments, write_script
from fakes.planted_text import PLANTED, TALKER

MOST_CHARACTERS = 32_000  # 8,000 tokens

# Where text that we did not write may stand.
DATA_FIELDS = {"answer", "error", "top_errors", "step_titles", "source", "row_id", "name"}


def fields_with(text: str, value: JsonValue, field: str = "") -> set[str]:
    """Names of the fields whose values contain the text."""
    if isinstance(value, dict):
        found = [fields_with(text, part, name) for name, part in value.items()]
        return set[str]().union(*found)
    if isinstance(value, list):
        return set[str]().union(*(fields_with(text, part, field) for part in value))
    return {field} if text in str(value) else set()


async def hostile_run(client: Client, tmp_path: Path) -> str:
    """A finished run with a talking baseline, over a model and rows that talk, too."""
    write_script(tmp_path / "script.json", default=f"{PLANTED} " * 40)
    rows: list[object] = [
        {
            "id": f"{number} {PLANTED} {'id ' * 100}",
            "input": f"{PLANTED}: {number} plus 1? {'x' * 3000}",
            "target": str(number + 1),
        }
        for number in range(24)
    ]
    request = task_arguments(rows, baseline=TALKER, name=PLANTED)
    request["options"] = {"particles": 2, "rounds": 1, "refinements": 0}
    started = await call(client, "start_bayesflow_run", request)
    assert fields_with(PLANTED, started) <= DATA_FIELDS
    state = await settled(client, started["run_id"])
    assert state["status"] == "finished"
    return str(started["run_id"])


async def test_planted_text_stays_in_data_fields_of_bounded_size(
    client: Client, tmp_path: Path
) -> None:
    run_id = await hostile_run(client, tmp_path)
    evaluation: Arguments = {"workflow": TALKER, "run_id": run_id, "wait_seconds": 45}
    calls: list[tuple[str, Arguments]] = [
        ("get_run", {"run_id": run_id}),
        ("list_runs", {}),
        ("get_pool", {"run_id": run_id, "limit": 50}),
        ("get_best_workflow", {"run_id": run_id}),
        ("evaluate_workflow", evaluation),
        ("resume_run", {"run_id": run_id}),
    ]
    seen: set[str] = set()
    for tool, arguments in calls:
        result = await call(client, tool, arguments)
        found = fields_with(PLANTED, result)
        assert found <= DATA_FIELDS, (tool, found)
        seen |= found
        assert len(json.dumps(result)) <= MOST_CHARACTERS
    assert {"answer", "error", "top_errors", "step_titles", "row_id"} <= seen


async def test_an_error_that_quotes_the_caller_is_cut(client: Client, tmp_path: Path) -> None:
    row: Arguments = {f"{PLANTED} " * 1000: "a", "b": "c"}
    for arguments in (
        task_arguments([row, row]),
        task_arguments([row], scorer="x" * 5000),
        task_arguments([row]) | {"options": {"x" * 5000: 1}},
        task_arguments([row]) | {"x" * 5000: 1},
        task_arguments(tmp_path / ("x" * 5000)),
    ):
        assert len(await refusal(client, "start_bayesflow_run", arguments)) < 1100


async def test_long_evaluations_show_the_worst_rows_that_fit(
    client: Client, tmp_path: Path
) -> None:
    write_script(tmp_path / "script.json", default="word " * 1000)
    rows: list[object] = [{"input": str(number), "target": "word"} for number in range(100)]
    evaluated = await call(
        client,
        "evaluate_workflow",
        {
            "workflow": TALKER,
            "examples": list(rows),
            "scorer": {"kind": "regex", "pattern": "word"},
            "executor": "scripted:default",
            "wait_seconds": 45,
        },
    )
    report = evaluated["report"]
    assert isinstance(report, dict)
    assert isinstance(report["rows"], list)
    assert 20 <= len(report["rows"]) <= 50
    assert len(json.dumps(evaluated)) <= MOST_CHARACTERS


def test_an_excerpt_says_what_is_missing() -> None:
    assert excerpt("short", 5) == "short"
    assert excerpt("longer text", 6) == "longer… (+5 characters)"
