"""The real process over stdio, with the SDK's client, on both protocol revisions."""

import json
from pathlib import Path

import pytest
from mcp import Client

from fakes.mcp_sessions import (
    call,
    refusal,
    server_command,
    settled,
    task_arguments,
    write_rows,
    write_script,
)

GOLDEN = Path(__file__).with_name("tools.json")


@pytest.mark.parametrize("wire", ["auto", "legacy"])
async def test_the_process_serves_what_the_server_object_does(tmp_path: Path, wire: str) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    command = server_command(tmp_path / "runs.sqlite3", write_script(tmp_path / "script.json"))
    async with Client(command, mode=wire) as client:
        tools = (await client.list_tools()).tools
        shown = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
        assert shown == json.loads(GOLDEN.read_text(encoding="utf-8"))
        assert await refusal(client, "get_run", {"run_id": "run_1"})
        started = await call(client, "start_bayesflow_run", task_arguments(rows))
        state = await settled(client, started["run_id"])
        assert state["status"] == "finished"
        best = await call(client, "get_best_workflow", {"run_id": started["run_id"]})
        assert best["final"] is True
