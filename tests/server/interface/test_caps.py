"""However large a store is, no result is longer than a host takes, and nothing is lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

import pytest
from mcp import Client
from mcp.types import ResourceLink, TextContent, TextResourceContents
from pydantic import JsonValue

from bayesflow_server.interface.paging import LONGEST
from bayesflow_server.interface.toolset import TOOL_NAMES
from bayesflow_server.plots.kinds import PlotKind
from fakes.asking import RUN, asking, open_house
from fakes.big_store import NASTY, Big, enlarge
from fakes.mcp_sessions import Arguments, Object, task_arguments

MANY: Final = 10_000
FEW: Final = 150
# These need a run that asks its client.
APART: Final = {"next_proposals", "submit_proposals"}


@pytest.fixture
def big(finished: str, tmp_path: Path) -> Big:
    return enlarge(tmp_path / "runs.sqlite3", finished, FEW)


async def capped(client: Client, tool: str, arguments: Mapping[str, object]) -> Object:
    """The tool's result, short enough, with a link to each address in it."""
    result = await client.call_tool(tool, dict(arguments))
    [text] = [block.text for block in result.content if isinstance(block, TextContent)]
    assert not result.is_error, text
    assert len(text) <= LONGEST == 32_000, (tool, len(text))
    for character in "\x1b\u202e\U000e0041":
        assert character not in text
    told = result.structured_content
    assert told is not None
    links = [str(block.uri) for block in result.content if isinstance(block, ResourceLink)]
    assert links == ([told["uri"]] if "uri" in told else [])
    return told


async def pages(
    client: Client, tool: str, arguments: Arguments, *path: str
) -> tuple[list[JsonValue], Object]:
    """The list behind `path`, over all pages, and the last page."""
    gathered: list[JsonValue] = []
    cursor: JsonValue = None
    while True:
        page = await capped(client, tool, arguments | {"cursor": cursor})
        part = page
        for name in path[:-1]:
            inner = part[name]
            assert isinstance(inner, dict)
            part = inner
        found = part[path[-1]]
        assert isinstance(found, list)
        assert found
        gathered += found
        cursor = part["cursor"]
        if cursor is None:
            return gathered, page


async def whole(client: Client, uri: JsonValue) -> str:
    [content] = (await client.read_resource(str(uri))).contents
    assert isinstance(content, TextResourceContents)
    return content.text


def field(items: list[JsonValue], name: str) -> list[JsonValue]:
    return [item[name] for item in items if isinstance(item, dict)]


def huge_task() -> Arguments:
    rows: list[object] = [
        {"id": f"{number} {NASTY * 90}", "input": f"{number} {NASTY * 900}", "target": NASTY * 200}
        for number in range(200)
    ]
    return task_arguments(
        rows,
        instructions=NASTY * 2_500,
        baseline=NASTY * 2_500,
        scorer={"kind": "judge", "rubric": NASTY * 1_800},
        options={"particles": 1, "rounds": 1, "refinements": 0, "judge": "scripted:default"},
    )


async def test_no_result_is_longer_than_a_host_takes(
    client: Client, finished: str, big: Big
) -> None:
    run: Arguments = {"run_id": finished}
    best = await capped(client, "get_best_workflow", run)
    winner = best["workflow_id"]
    evaluation: Arguments = {"evaluation_id": big.evaluation_id}
    calls: list[tuple[str, Arguments]] = [
        ("check_task", huge_task()),
        ("start_bayesflow_run", huge_task() | {"name": NASTY * 18}),
        ("get_run", run),
        ("get_run", {"run_id": "run_big0"}),
        ("list_runs", {"limit": 100}),
        ("get_pool", run | {"limit": 50}),
        ("get_pool", run | {"limit": 50, "sort": "cost"}),
        ("get_best_workflow", run),
        *(("plot_run", run | {"kind": kind}) for kind in get_args(PlotKind)),
        *(("get_workflow", {"workflow_id": winner, "format": one}) for one in ("source", "report")),
        ("get_workflow", {"workflow_id": winner, "format": "script", "executor": "local:smollm2"}),
        *(("evaluate_workflow", evaluation | {"show": one}) for one in ("rows", "traces")),
        ("evaluate_workflow", evaluation | {"show": "differences"}),
        ("run_workflow", {"answer_id": big.answer_id}),
        ("cancel_run", {"run_id": "run_big0"}),
        ("resume_run", run),
        ("submit_workflow", {"run_id": "run_big1", "source": big.source, "note": NASTY * 150}),
    ]
    assert {tool for tool, _ in calls} == set(TOOL_NAMES) - APART
    for tool, arguments in calls:
        await capped(client, tool, arguments)
    assert best["truncated"] is True
    assert big.source.startswith(str(best["source"]))
    assert f"get_workflow(workflow_id='{winner}')" in str(best["next"])


async def test_a_pool_of_ten_thousand_is_no_longer(
    client: Client, finished: str, tmp_path: Path
) -> None:
    enlarge(tmp_path / "runs.sqlite3", finished, MANY)
    page = await capped(client, "get_pool", {"run_id": finished, "limit": 50})
    assert int(str(page["total"])) > MANY
    last: Arguments = {"run_id": finished, "limit": 50, "cursor": str(MANY - 10)}
    await capped(client, "get_pool", last)


async def test_pages_give_everything_once(client: Client, finished: str, big: Big) -> None:
    pool, _ = await pages(client, "get_pool", {"run_id": finished, "limit": 50}, "items")
    ids = field(pool, "workflow_id")
    assert len(ids) == len(big.pool)
    assert set(ids) == big.pool
    runs, _ = await pages(client, "list_runs", {"limit": 100}, "runs")
    assert len(runs) == len(big.runs)
    assert set(field(runs, "run_id")) == big.runs
    for show in ("rows", "traces"):
        asked: Arguments = {"evaluation_id": big.evaluation_id, "show": show}
        rows, _ = await pages(client, "evaluate_workflow", asked, "report", "rows")
        seen = [str(one).split()[1] for one in field(rows, "row_id")]
        assert sorted(seen, key=int) == [str(place) for place in range(len(big.row_ids))]
    asked = {"evaluation_id": big.evaluation_id, "show": "differences"}
    rows, _ = await pages(client, "evaluate_workflow", asked, "report", "differences")
    assert len(set(map(str, field(rows, "row_id")))) == len(rows) == len(big.row_ids)


async def test_a_long_source_comes_in_pages_and_whole_by_its_link(
    client: Client, finished: str, big: Big
) -> None:
    best = await capped(client, "get_best_workflow", {"run_id": finished})
    arguments: Arguments = {"workflow_id": best["workflow_id"], "format": "source"}
    text = ""
    cursor: JsonValue = None
    while True:
        page = await capped(client, "get_workflow", arguments | {"cursor": cursor})
        text += str(page["text"])
        cursor = page["cursor"]
        if cursor is None:
            break
        assert f"cursor='{cursor}'" in str(page["next"])
    assert text == big.source
    assert await whole(client, page["uri"]) == big.source
    assert await whole(client, best["uri"]) == big.source


async def test_the_link_of_a_pool_leads_to_all_of_it(
    client: Client, finished: str, big: Big
) -> None:
    page = await capped(client, "get_pool", {"run_id": finished})
    text = await whole(client, page["uri"])
    for workflow_id in big.pool:
        assert f'"{workflow_id}"' in text


async def test_answers_to_questions_that_nobody_asked_are_told_in_short(
    client: Client, tmp_path: Path
) -> None:
    async with open_house(tmp_path / "runs.sqlite3"):
        answers = [{"proposal_id": NASTY * 7, "text": "x"}] * 64
        await capped(client, "submit_proposals", {"run_id": RUN, "answers": answers})


async def test_long_questions_come_in_several_hands(client: Client, tmp_path: Path) -> None:
    names = [f"extend/1/{number}/0" for number in range(8)]
    async with (
        open_house(tmp_path / "runs.sqlite3") as house,
        asking(house.board(), *names, question='"step"\n' * 1_000),
    ):
        seen: list[JsonValue] = []
        while len(seen) < len(names):
            given = await capped(client, "next_proposals", {"run_id": RUN, "limit": 8})
            assert isinstance(given["proposals"], list)
            assert given["proposals"]
            seen += field(given["proposals"], "proposal_id")
        assert len(set(map(str, seen))) == len(names)
