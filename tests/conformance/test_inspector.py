"""The inspector's command line against the real server: a client not of the SDK we serve by."""

import json
from pathlib import Path
from typing import Final

import pytest
from pydantic import JsonValue

from bayesflow_server.interface.toolset import TOOL_NAMES
from conformance.node_packages import NodePackages
from fakes.mcp_sessions import server_command, task_arguments, write_rows, write_script

pytestmark = pytest.mark.slow

_PATIENCE: Final = 60.0
_TOOL_SAID_NO: Final = 5  # the inspector's exit code for an answer that is an error


class Inspector:
    """The inspector, which starts the server anew for each call."""

    def __init__(self, packages: NodePackages, folder: Path) -> None:
        self._packages = packages
        self._folder = folder
        command = server_command(folder / "runs.sqlite3", write_script(folder / "script.json"))
        # The inspector hands a server only the variables it is told to.
        told = [part for item in (command.env or {}).items() for part in ("-e", "=".join(item))]
        self._server = [*told, command.command, *command.args]

    def __call__(self, method: str, *arguments: str, code: int = 0) -> dict[str, JsonValue]:
        """What the inspector printed, once it has ended with the code."""
        ended = self._packages.run(
            self._packages.inspector,
            ["--cli", *self._server, "--method", method, *arguments],
            folder=self._folder,
            patience=_PATIENCE,
            environment={"MCP_CATALOG_PATH": str(self._folder / "catalog.json")},
        )
        assert ended.returncode == code, ended.stderr
        printed: dict[str, JsonValue] = json.loads(ended.stdout)
        return printed

    def call(self, tool: str, arguments: dict[str, object], code: int = 0) -> dict[str, JsonValue]:
        """The result of a tool."""
        given = ("--tool-name", tool, "--tool-args-json", json.dumps(arguments))
        return self("tools/call", *given, code=code)


@pytest.fixture
def inspector(packages: NodePackages, tmp_path: Path) -> Inspector:
    return Inspector(packages, tmp_path)


def names(listed: JsonValue) -> list[JsonValue]:
    assert isinstance(listed, list)
    return [one["name"] for one in listed if isinstance(one, dict)]


def test_the_inspector_lists_all_there_is(inspector: Inspector) -> None:
    # With --strict it would end with 6 if some host could not take a tool's schema.
    assert set(names(inspector("tools/list", "--strict")["tools"])) == set(TOOL_NAMES)
    assert inspector("resources/list")["resources"]
    assert inspector("resources/templates/list")["resourceTemplates"]
    assert inspector("prompts/list")["prompts"]


def test_the_inspector_starts_a_run_and_finds_it_again(
    inspector: Inspector, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    started = inspector.call("start_bayesflow_run", task_arguments(rows))["structuredContent"]
    assert isinstance(started, dict)
    # The server that was asked to start it has gone with its client; the run is kept.
    listed = inspector.call("list_runs", {})["structuredContent"]
    assert isinstance(listed, dict)
    assert isinstance(listed["runs"], list)
    assert [run["run_id"] for run in listed["runs"] if isinstance(run, dict)] == [started["run_id"]]
    seen = inspector.call("get_run", {"run_id": started["run_id"]})["structuredContent"]
    assert isinstance(seen, dict)
    assert seen["run_id"] == started["run_id"]


def test_the_inspector_shows_a_refusal(inspector: Inspector) -> None:
    refused = inspector.call("get_run", {"run_id": "run_1"}, code=_TOOL_SAID_NO)
    assert refused["isError"] is True
    assert "There is no run" in json.dumps(refused["content"])
