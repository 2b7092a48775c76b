"""The tool list and the results, over both protocol revisions."""

import json
import os
from pathlib import Path

import jsonschema
from mcp import Client
from pydantic import JsonValue

from bayesflow_server.interface.instructions import instructions_for
from bayesflow_server.interface.toolset import TOOL_NAMES
from fakes.mcp_sessions import WORKFLOW, Arguments, call, refusal, settled, task_arguments

GOLDEN = Path(__file__).with_name("tools.json")
PROPOSAL_TOOLS = {"next_proposals", "submit_proposals", "submit_workflow"}
MOST_TOKENS = 10_500
# The tool that starts a run carries what others refer to; each other one has at most so many.
MOST_OF_ONE = 1_500
MOST_TO_START = 2_700


async def listed(client: Client) -> list[dict[str, JsonValue]]:
    tools = (await client.list_tools()).tools
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]


async def test_the_tools_are_those_of_the_golden_file(client: Client) -> None:
    """BAYESFLOW_WRITE_GOLDEN=1 writes it anew; read the difference before you commit it."""
    tools = await listed(client)
    if os.environ.get("BAYESFLOW_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(tools, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert tools == json.loads(GOLDEN.read_text(encoding="utf-8"))


async def test_the_tool_list_leaves_room_in_a_context(client: Client) -> None:
    sizes = {
        str(tool["name"]): len(json.dumps(tool, ensure_ascii=False, separators=(",", ":"))) / 4
        for tool in await listed(client)
    }
    assert sum(sizes.values()) <= MOST_TOKENS
    for name, size in sizes.items():
        assert size <= (MOST_TO_START if name == "start_bayesflow_run" else MOST_OF_ONE), name


async def test_every_tool_says_how_it_behaves(client: Client) -> None:
    """reads | spends: may call models | again: a second equal call changes nothing more."""
    behaviour = {
        "check_task": ("spends", "again"),
        "start_bayesflow_run": ("spends",),
        "get_run": ("reads",),
        "list_runs": ("reads",),
        "cancel_run": ("again",),
        "resume_run": ("spends",),
        "get_pool": ("reads",),
        "get_best_workflow": ("reads",),
        "plot_run": ("reads",),
        "get_workflow": ("reads",),
        "evaluate_workflow": ("spends",),
        "run_workflow": ("spends",),
        "next_proposals": (),
        "submit_proposals": ("again",),
        "submit_workflow": ("again",),
    }
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == list(TOOL_NAMES) == list(behaviour)
    assert len({tool.title for tool in tools}) == len(tools)
    for tool in tools:
        hints, does = tool.annotations, behaviour[tool.name]
        assert hints is not None
        assert tool.title
        assert hints.read_only_hint is ("reads" in does), tool.name
        assert hints.open_world_hint is ("spends" in does), tool.name
        # Nothing that is there is ever deleted; what stops is kept.
        if "reads" not in does:
            assert hints.destructive_hint is False, tool.name
            assert hints.idempotent_hint is ("again" in does), tool.name


async def test_every_tool_says_what_and_what_next(client: Client) -> None:
    tools = (await client.list_tools()).tools
    names = {tool.name for tool in tools}
    for tool in tools:
        assert tool.description is not None
        assert 100 < len(tool.description) <= 4096
        assert tool.input_schema["additionalProperties"] is False
        for name, argument in tool.input_schema["properties"].items():
            assert argument.get("description") or name == "limit", (tool.name, name)
    for tool in tools:
        others = names - {tool.name}
        text = tool.description or ""
        assert any(other in text for other in others) or "evaluation_id" in text, tool.name
    for name in names - {"list_runs", "cancel_run"}:
        assert name in instructions_for(TOOL_NAMES)


async def test_the_server_introduces_itself(client: Client) -> None:
    assert client.instructions == instructions_for(TOOL_NAMES)
    assert client.server_info is not None
    assert client.server_info.name == "bayesflow-mcp"


async def test_a_run_from_start_to_answer_fits_the_schemas(
    client: Client, finished: str, rows: Path
) -> None:
    schemas = {tool.name: tool.output_schema for tool in (await client.list_tools()).tools}
    first = await call(client, "list_runs", {})
    best = await call(client, "get_best_workflow", {"run_id": finished})
    winner = best["workflow_id"]
    assert isinstance(first["runs"], list)
    calls: list[tuple[str, Arguments]] = [
        ("check_task", task_arguments(rows)),
        ("start_bayesflow_run", task_arguments(rows, seed=5)),
        ("get_run", {"run_id": finished}),
        ("list_runs", {"limit": 1}),
        ("get_pool", {"run_id": finished, "sort": "validation", "limit": 2}),
        ("get_best_workflow", {"run_id": finished}),
        ("plot_run", {"run_id": finished, "kind": "posterior"}),
        ("get_workflow", {"workflow_id": winner, "format": "report"}),
        ("evaluate_workflow", {"workflow": WORKFLOW, "run_id": finished, "wait_seconds": 45}),
        ("run_workflow", {"input": "4 plus 5?", "run_id": finished, "wait_seconds": 45}),
        ("cancel_run", {"run_id": finished}),
        ("resume_run", {"run_id": finished}),
    ]
    # Those that ask and answer need a run that does: test_proposals.py holds them to their schemas.
    assert {name for name, _ in calls} == set(schemas) - PROPOSAL_TOOLS
    for name, arguments in calls:
        result = await call(client, name, arguments)
        schema = schemas[name]
        assert schema is not None
        jsonschema.validate(result, schema)
        # The contract: a field may be null, none may be missing.
        assert set(result) == set(schema["properties"])


async def test_a_finished_run_tells_its_answer(client: Client, finished: str) -> None:
    state = await call(client, "get_run", {"run_id": finished})
    best = await call(client, "get_best_workflow", {"run_id": finished})
    assert str(state["next"]).startswith(f"get_best_workflow(run_id='{finished}') has the answer.")
    assert best["final"] is True
    assert "class Workflow" in str(best["source"])
    assert isinstance(best["test"], dict)
    assert isinstance(best["gain"], dict)
    assert best["beats_baseline"] in ("yes", "no", "unclear")


async def test_an_evaluation_can_be_waited_for_by_its_id(client: Client, finished: str) -> None:
    begun = await call(
        client,
        "evaluate_workflow",
        {"workflow": WORKFLOW, "run_id": finished, "split": "test", "wait_seconds": 0},
    )
    handle = {"evaluation_id": begun["evaluation_id"], "wait_seconds": 45}
    ended = await call(client, "evaluate_workflow", handle)
    assert ended["status"] == "finished"
    assert isinstance(ended["report"], dict)
    sentence = await refusal(client, "evaluate_workflow", handle | {"workflow": WORKFLOW})
    assert sentence.startswith("Pass either `workflow`")


async def test_pages_of_the_pool_follow_each_other(client: Client, finished: str) -> None:
    whole = await call(client, "get_pool", {"run_id": finished, "limit": 50})
    ids: list[JsonValue] = []
    page: dict[str, JsonValue] = {"cursor": None}
    while True:
        arguments = {"run_id": finished, "limit": 2, "cursor": page["cursor"]}
        page = await call(client, "get_pool", arguments)
        assert isinstance(page["items"], list)
        ids += [item["workflow_id"] for item in page["items"] if isinstance(item, dict)]
        if page["cursor"] is None:
            break
    assert isinstance(whole["items"], list)
    assert ids == [item["workflow_id"] for item in whole["items"] if isinstance(item, dict)]
    assert len(ids) == whole["total"]


async def test_pages_of_runs_follow_each_other(client: Client, rows: Path) -> None:
    begun: list[JsonValue] = []
    for seed in range(3):
        result = await call(client, "start_bayesflow_run", task_arguments(rows, seed=seed))
        begun.insert(0, result["run_id"])
    first = await call(client, "list_runs", {"limit": 2})
    second = await call(client, "list_runs", {"limit": 2, "cursor": first["cursor"]})
    assert isinstance(first["runs"], list)
    assert isinstance(second["runs"], list)
    runs = [*first["runs"], *second["runs"]]
    assert [run["run_id"] for run in runs if isinstance(run, dict)] == begun
    assert second["cursor"] is None


async def test_get_run_waits_for_another_round_or_the_end(client: Client, rows: Path) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows))
    look = {"run_id": started["run_id"], "wait_seconds": 45}
    rounds: list[JsonValue] = []
    state: dict[str, JsonValue] = {"status": "running"}
    while state["status"] in ("queued", "running"):
        state = await call(client, "get_run", look)
        assert isinstance(state["phase"], dict)
        rounds.append(state["phase"]["round"])
    assert len(rounds) <= 4  # one answer a round, not one a second
    assert state["status"] == "finished"
    assert await call(client, "get_run", look) == state  # an ended run is not waited for


async def test_any_progress_wakes_a_client_that_names_a_revision(
    client: Client, rows: Path
) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows))
    look = {"run_id": started["run_id"], "wait_seconds": 45, "since_revision": 0}
    first = await call(client, "get_run", look)
    second = await call(client, "get_run", look | {"since_revision": first["revision"]})
    assert int(str(second["revision"])) > int(str(first["revision"]))


async def test_one_key_and_request_give_one_run(client: Client, rows: Path) -> None:
    request = task_arguments(rows, idempotency_key="mine")
    first = await call(client, "start_bayesflow_run", request)
    again = await call(client, "start_bayesflow_run", request)
    assert again["run_id"] == first["run_id"]
    sentence = await refusal(client, "start_bayesflow_run", request | {"seed": 1})
    assert "use another key" in sentence


async def test_a_cancelled_run_is_kept_and_resumed(client: Client, rows: Path) -> None:
    started = await call(client, "start_bayesflow_run", task_arguments(rows))
    run_id = started["run_id"]
    cancelled = await call(client, "cancel_run", {"run_id": run_id})
    assert cancelled["status"] == "cancelled"
    resumed = await call(client, "resume_run", {"run_id": run_id, "budget": {"calls": 5000}})
    assert resumed["status"] in ("queued", "running")
    state = await settled(client, run_id)
    assert state["status"] == "finished"
    assert isinstance(state["budget"], dict)
    assert state["budget"]["calls"] == 5000
