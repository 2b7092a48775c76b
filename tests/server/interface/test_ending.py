"""How the server process ends: at once, with its runs noted, and with nothing left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from bayesflow_server.app import Application
from bayesflow_server.settings import Settings
from fakes.mcp_sessions import server_command, task_arguments, write_rows, write_script
from fakes.server_process import HELLO, ServerProcess, is_running

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
ENDS = pytest.mark.parametrize(
    "by", [None, signal.SIGTERM, signal.SIGINT], ids=["EOF", "SIGTERM", "SIGINT"]
)
BOTH_WIRES = pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])


def start_slow_run(server: ServerProcess, folder: Path, calls: Path) -> str:
    """Starts a run that is far from its end when this returns."""
    rows = write_rows(folder / "rows.jsonl")
    started = server.call("start_bayesflow_run", task_arguments(rows))
    server.wait_for_calls(calls, least=5)
    return str(started["run_id"])


def gone(pids: Sequence[int]) -> bool:
    """Whether all these processes end within a few seconds."""
    deadline = time.monotonic() + 10
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_running, pids))


@LINUX
@BOTH_WIRES
def test_an_idle_server_ends_with_its_stdin_and_leaves_nothing(
    tmp_path: Path, modern: bool
) -> None:
    with ServerProcess(tmp_path / "runs.sqlite3", None, modern=modern) as server:
        assert server.call("list_runs", {})["runs"] == []
        children = server.children()
        assert server.end(by=None) == 0
        assert server.rest() == b""
        assert server.process.stderr is not None
        assert server.process.stderr.read() == b""
        assert server.notifications == []
        assert gone(children)
    assert list((tmp_path / "runs.sqlite3.owners").iterdir()) == []


@LINUX
@ENDS
@BOTH_WIRES
def test_a_working_server_ends_and_notes_its_run(
    tmp_path: Path, by: signal.Signals | None, modern: bool
) -> None:
    db, calls = tmp_path / "runs.sqlite3", tmp_path / "calls"
    script = write_script(tmp_path / "script.json", latency_ms=100, count_file=calls)
    with ServerProcess(db, script, modern=modern) as server:
        run_id = start_slow_run(server, tmp_path, calls)
        children = server.children()
        assert children  # the sandbox's workers
        began = time.monotonic()
        assert server.end(by=by) == 0
        assert time.monotonic() - began < 10
        assert server.rest() == b""
        assert gone(children)
    status, reason = asyncio.run(noted(db, run_id))
    assert status == "interrupted"
    assert reason == "The server stopped; resume_run goes on where it stopped."


async def noted(db: Path, run_id: str) -> tuple[str, str | None]:
    """The run's status as stored, and why."""
    async with Application(Settings(db=db)) as application:
        record = await (await application.runs()).record(run_id)
        return record.status, record.reason


@LINUX
def test_a_killed_server_leaves_no_child(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    script = write_script(tmp_path / "script.json", latency_ms=100, count_file=calls)
    with ServerProcess(tmp_path / "runs.sqlite3", script) as server:
        start_slow_run(server, tmp_path, calls)
        children = server.children()
        assert server.end(by=signal.SIGKILL) == -signal.SIGKILL
        assert gone(children)


_HOST = """
import subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=0, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
server.stdout.readline()
print(server.pid, flush=True)
sys.stdin.close()
"""


@LINUX
def test_a_server_whose_host_has_died_ends_though_its_stdin_is_still_open(tmp_path: Path) -> None:
    command = server_command(tmp_path / "runs.sqlite3", None)
    reading, writing = os.pipe()
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST, command.command, *command.args],
        stdin=reading,
        stdout=subprocess.PIPE,
        env=command.env,
        text=True,
    )
    os.write(writing, json.dumps({"jsonrpc": "2.0", "id": 1, **HELLO}).encode() + b"\n")
    output, _ = host.communicate(timeout=30)
    assert gone([int(output)])
    os.close(reading)
    os.close(writing)
