"""Resources: what is listed, what is read, and what cannot be, over both revisions."""

import json
import os
import re
from pathlib import Path

import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, TextResourceContents
from pydantic import JsonValue

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.toolset import READING, Narrowing
from bayesflow_server.interface.uris import RUNS, events_uri, pool_uri, run_uri, workflow_uri
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import NewRun, PoolEntry, WorkflowRecord
from fakes.mcp_sessions import Object, call, refusal, settled, task_arguments, write_script
from fakes.planted_text import PLANTED, TALKER

FOLDER = Path(__file__).parent
WIRES = pytest.mark.parametrize("wire", ["auto", "legacy"])
DATA_FIELDS = {"error", "top_errors", "step_titles", "name"}


def golden(name: str, shown: JsonValue) -> None:
    """Compares with a golden file; BAYESFLOW_WRITE_GOLDEN=1 writes it anew: read the difference."""
    path = FOLDER / name
    if os.environ.get("BAYESFLOW_WRITE_GOLDEN"):
        path.write_text(json.dumps(shown, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert shown == json.loads(path.read_text(encoding="utf-8"))


async def read(client: Client, uri: str, mime_type: str = "application/json") -> str:
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert content.uri == uri
    assert content.mime_type == mime_type
    return content.text


async def read_json(client: Client, uri: str) -> Object:
    text = await read(client, uri)
    assert "\n" not in text
    found: Object = json.loads(text)
    return found


def fields_with(text: str, value: JsonValue, field: str = "") -> set[str]:
    """Names of the fields whose values contain the text."""
    if isinstance(value, dict):
        return set[str]().union(*(fields_with(text, part, name) for name, part in value.items()))
    if isinstance(value, list):
        return set[str]().union(*(fields_with(text, part, field) for part in value))
    return {field} if text in str(value) else set()


async def test_the_resources_are_those_of_the_golden_file(client: Client, finished: str) -> None:
    resources = (await client.list_resources()).resources
    shown = [one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in resources]
    text = json.dumps(shown).replace(finished, "run_ID")
    text = re.sub(r"\d{4}-\d\d-\d\d", "DATE", re.sub(r"\d\d:\d\d(:\d\d\.\d+)?", "TIME", text))
    golden("resources.json", json.loads(re.sub(r"score 0\.\d+", "score 0.5", text)))


async def test_the_templates_are_those_of_the_golden_file(client: Client) -> None:
    templates = (await client.list_resource_templates()).resource_templates
    shown: list[JsonValue] = [
        one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in templates
    ]
    golden("resource_templates.json", shown)


async def test_the_newest_runs_are_listed_and_no_more_than_twenty(
    client: Client, application: Application
) -> None:
    store = (await application.runs()).workplace.store
    for number in range(25):
        name = "two\nlines" if number == 24 else None
        await store.create_run(
            NewRun(f"run_{number:02}", '{"executor": "x"}', str(number), name), []
        )
    listed = (await client.list_resources()).resources
    assert [one.uri for one in listed] == [
        RUNS,
        *(run_uri(f"run_{number:02}") for number in range(24, 4, -1)),
    ]
    assert [one.name for one in listed[:3]] == ["runs", "two lines", "run_23"]
    runs = (await read_json(client, RUNS))["runs"]
    assert isinstance(runs, list)
    assert len(runs) == 25


async def test_a_run_reads_as_its_tool_shows_it(client: Client, finished: str) -> None:
    assert await read_json(client, run_uri(finished)) == await call(
        client, "get_run", {"run_id": finished}
    )
    listed = await call(client, "list_runs", {})
    assert (await read_json(client, RUNS))["runs"] == listed["runs"]


async def test_a_pool_is_whole_and_as_its_tool_shows_it(client: Client, finished: str) -> None:
    pool = await read_json(client, pool_uri(finished))
    page = await call(client, "get_pool", {"run_id": finished, "limit": 50})
    assert pool["items"] == page["items"]
    for name in ("run_id", "revision", "beta", "total", "front", "prior_independent"):
        assert pool[name] == page[name], name
    assert "class Workflow" not in json.dumps(pool)


async def test_a_long_pool_is_not_cut(
    client: Client, application: Application, finished: str
) -> None:
    store = (await application.runs()).workplace.store
    for number in range(250):
        workflow = WorkflowRecord(f"wf_{number}", "source", json.dumps(["A step"] * 5))
        await store.add_to_pool(workflow, PoolEntry(finished, f"wf_{number}", 1, "prior"))
    pool = await read_json(client, pool_uri(finished))
    assert isinstance(pool["items"], list)
    assert len(pool["items"]) == pool["total"]
    assert pool["total"] == len(await store.pool(finished))
    assert [item["rank"] for item in pool["items"] if isinstance(item, dict)] == [
        *range(1, len(pool["items"]) + 1)
    ]


async def test_a_story_tells_when_what_happened(client: Client, finished: str) -> None:
    story = await read_json(client, events_uri(finished))
    events = story["events"]
    assert isinstance(events, list)
    told = [event for event in events if isinstance(event, dict)]
    assert [event["kind"] for event in told] == ["queued", "running", "round", "round", "finished"]
    assert [event["time"] for event in told] == sorted(str(event["time"]) for event in told)
    assert [event["position"] for event in told] == [1, 2, 3, 4, 5]
    for number, event in enumerate(told[2:4], 1):
        assert event["round"] == number
        assert isinstance(event["figures"], dict)
        assert isinstance(event["figures"]["mean"], float)
        assert "draws" not in event["figures"]
    assert isinstance(told[2]["decisions"], list)
    assert fields_with("beta = 5", told[2]["decisions"]) == {"choice"}


async def test_a_workflow_reads_as_python(client: Client, finished: str) -> None:
    best = await call(client, "get_best_workflow", {"run_id": finished})
    uri = workflow_uri(str(best["workflow_id"]))
    assert await read(client, uri, "text/x-python") == best["source"]


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("bayesflow://runs/run_0", "There is no run 'run_0'. Call list_runs"),
        ("bayesflow://runs/run_0/pool", "There is no run 'run_0'. Call list_runs"),
        ("bayesflow://runs/run_0/events", "There is no run 'run_0'. Call list_runs"),
        ("bayesflow://workflows/wf_0", "There is no workflow 'wf_0'. Call get_pool"),
        ("bayesflow://runs/", "There is no resource 'bayesflow://runs/'; there are"),
        ("bayesflow://runs/run_0/sources", "There is no resource"),
        ("bayesflow://runs/../../etc/passwd", "There is no resource"),
        ("bayesflow://workflows/wf_0/x", "There is no resource"),
        ("bayesflow:", "There is no resource"),
        ("bayesflow://runs/" + "x" * 5000, "There is no resource"),
        ("bayesflow://runs/run_0\n", "There is no resource"),
        ("bayesflow://runs/%72un_0", "There is no resource"),
        ("other://thing", "There is no resource 'other://thing'"),
        ("other://" + "x" * 10_000 + "\n", "There is no resource"),
    ],
)
async def test_what_is_not_there_is_said_in_a_sentence(
    client: Client, uri: str, words: str
) -> None:
    with pytest.raises(MCPError) as refused:
        await client.read_resource(uri)
    assert refused.value.error.code == INVALID_PARAMS
    assert refused.value.error.message.startswith(words)
    assert len(refused.value.error.message) < 600


@WIRES
async def test_a_database_that_cannot_be_opened_is_told_where_it_is_read(
    tmp_path: Path, wire: str
) -> None:
    (tmp_path / "broken.sqlite3").write_bytes(b"no database" * 100)
    application = Application(Settings(db=tmp_path / "broken.sqlite3"))
    async with application, Client(BayesFlowServer(application), mode=wire) as client:
        assert [one.uri for one in (await client.list_resources()).resources] == [RUNS]
        with pytest.raises(MCPError, match=r"broken\.sqlite3") as refused:
            await client.read_resource(RUNS)
        assert refused.value.error.code == INTERNAL_ERROR


async def test_planted_text_stays_in_data_fields(client: Client, tmp_path: Path) -> None:
    write_script(tmp_path / "script.json", default=f"{PLANTED} " * 40)
    rows: list[object] = [
        {"input": f"{PLANTED}: {number} plus 1?", "target": str(number + 1)} for number in range(24)
    ]
    request = task_arguments(rows, baseline=TALKER, name=f"{PLANTED}\n" * 3)
    request["options"] = {"particles": 2, "rounds": 1, "refinements": 0}
    run_id = str((await call(client, "start_bayesflow_run", request))["run_id"])
    assert (await settled(client, run_id))["status"] == "finished"
    seen: set[str] = set()
    for uri in (RUNS, run_uri(run_id), pool_uri(run_id), events_uri(run_id)):
        found = fields_with(PLANTED, await read_json(client, uri))
        assert found <= DATA_FIELDS, uri
        seen |= found
    assert {"name", "step_titles", "top_errors"} <= seen
    for resource in (await client.list_resources()).resources:
        shown = resource.model_dump(mode="json")
        assert fields_with(PLANTED, shown) <= {"name"}
        assert "\n" not in resource.name


@WIRES
async def test_what_else_is_registered_is_listed_and_read(
    application: Application, wire: str
) -> None:
    server = BayesFlowServer(application)

    @server.resource("other://thing")
    def thing() -> str:
        return "text"

    @server.resource("other://things/{name}")
    def named(name: str) -> str:
        return f"text of {name}"

    assert thing() == "text"
    assert callable(named)
    async with Client(server, mode=wire) as client:
        resources = (await client.list_resources()).resources
        assert [one.uri for one in resources] == [RUNS, "other://thing"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates][-1] == "other://things/{name}"
        assert await read(client, "other://thing", "text/plain") == "text"
        assert await read(client, "other://things/x", "text/plain") == "text of x"


@WIRES
async def test_a_server_that_only_reads_lists_reads_and_waits(
    application: Application, finished: str, wire: str
) -> None:
    server = BayesFlowServer(application, narrowing=Narrowing(read_only=True))
    async with Client(server, mode=wire) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools <= set(READING)
        assert {"get_run", "get_pool"} <= tools
        state = await call(client, "get_run", {"run_id": finished, "wait_seconds": 45})
        assert await read_json(client, run_uri(finished)) == state
        sentence = await refusal(client, "resume_run", {"run_id": finished})
        assert sentence.startswith("There is no tool 'resume_run'; there are get_run, ")
