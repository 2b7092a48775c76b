"""How the real process introduces itself, on each revision: to the letter, but for instructions."""

import json
import os
from pathlib import Path

import pytest
from pydantic import JsonValue

from fakes.mcp_sessions import Object
from fakes.server_process import ServerProcess

GOLDEN = Path(__file__).with_name("introductions.json")


def introduction(server: ServerProcess, modern: bool) -> Object:
    """The answer to `server/discover`, or to the handshake's `initialize`."""
    if modern:
        return server.request("server/discover", {})
    [first, *_] = server.said
    answered: Object = json.loads(first)
    result = answered["result"]
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
def test_the_server_says_what_it_can_do(tmp_path: Path, modern: bool) -> None:
    """BAYESFLOW_WRITE_GOLDEN=1 writes it anew; read the difference before you commit it."""
    with ServerProcess(tmp_path / "runs.sqlite3", None, modern=modern) as server:
        found = introduction(server, modern)
    assert str(found.pop("instructions")).startswith("BayesFlow finds")
    name = "modern" if modern else "legacy"
    golden: dict[str, JsonValue] = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("BAYESFLOW_WRITE_GOLDEN"):
        text = json.dumps(golden | {name: found}, indent=1, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
        golden[name] = found
    assert found == golden[name]


def test_a_request_needs_no_handshake_on_the_newer_revision(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "runs.sqlite3", None, modern=True) as server:
        assert server.call("list_runs", {})["runs"] == []
        assert server.request("resources/list", {})["resources"]
        assert server.request("prompts/list", {})["prompts"]
        assert server.end(by=None) == 0
        assert server.rest() == b""
