"""However the server ends, with whatever at work below it: no process stays, nothing is lost."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest

from bayesflow_server.models.weights import cache_folder, find_weights
from fakes.coding import CAREFUL, coding_rows
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    server_command,
    task_arguments,
    write_rows,
)
from fakes.processes import Process, gone, orphans_since, processes_below, until_true
from fakes.server_process import HELLO, ServerProcess

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

# Programs that run, and sums that are compared, until their limits stop them.
_ENDLESS: Final = "```python\nwhile True:\n    pass\n```"
_TOWER: Final = "$(x+y+z+1)^{60} + 9^{9^{9}}$"
_ENDS: Final = (None, signal.SIGTERM, signal.SIGINT, signal.SIGKILL)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A model that keeps the sandbox and the algebra busy, and is slow itself."""
    rules = [
        {"contains": "Write the function", "answer": _ENDLESS},
        {"contains": "Solve", "answer": _TOWER},
    ]
    path = tmp_path / "script.json"
    path.write_text(json.dumps({"rules": rules, "default": "7", "latency_ms": 300}))
    return path


def begin_everything(call: Callable[[str, Arguments], object], folder: Path) -> str:
    """Starts a run, a coding evaluation and an algebra evaluation; returns the run's id."""
    rows = write_rows(folder / "rows.jsonl")
    started = cast("Object", call("start_bayesflow_run", task_arguments(rows)))
    coding: Arguments = {
        "workflow": CAREFUL,
        "examples": coding_rows(),
        "scorer": "pass_at_1",
        "public_tests": "public_tests",
        "executor": "scripted:default",
        "wait_seconds": 0,
    }
    call("evaluate_workflow", coding)
    algebra: Arguments = {
        "workflow": WORKFLOW,
        "examples": [
            {"input": f"Solve {n}.", "target": f"$(1+x+y+z)^{{60}} + {n}$"} for n in range(8)
        ],
        "scorer": "math",
        "executor": "scripted:default",
        "wait_seconds": 0,
    }
    call("evaluate_workflow", algebra)
    return str(started["run_id"])


def all_at_work(pid: int) -> bool:
    """Whether the sandbox's interpreters, a locked program and the algebra have processes."""
    below = processes_below(pid)
    zygotes = {one.pid for one in below if "-c" in one.command.split()}
    locked = [one for one in below if one.parent in zygotes]
    return bool(locked) and any("math_worker" in one.command for one in below)


def left_by(pid: int, began: int, below: list[Process]) -> list[str]:
    """The command lines of what did not end with the server."""
    if not gone(below):
        return [one.command for one in below]
    assert until_true(lambda: not orphans_since(began)), orphans_since(began)
    return []


@pytest.mark.parametrize("by", _ENDS, ids=["EOF", "SIGTERM", "SIGINT", "SIGKILL"])
def test_no_process_outlives_the_server_and_its_run_goes_on(
    tmp_path: Path, script: Path, by: signal.Signals | None
) -> None:
    db = tmp_path / "runs.sqlite3"
    with ServerProcess(db, script, log=tmp_path / "stderr") as server:
        pid = server.process.pid
        [own] = [one for one in processes_below(os.getpid()) if one.pid == pid]
        run_id = begin_everything(server.call, tmp_path)
        assert until_true(lambda: all_at_work(pid))
        below = processes_below(pid)
        assert server.end(by=by) == (-signal.SIGKILL if by is signal.SIGKILL else 0)
        assert left_by(pid, own.began, below) == []
    script.write_text(json.dumps({"default": "7"}))
    with ServerProcess(db, script, log=tmp_path / "stderr", flags=["--no-auto-resume"]) as server:
        look: Arguments = {"run_id": run_id, "wait_seconds": 45}
        assert server.call("get_run", look)["status"] == "interrupted"
        server.call("resume_run", {"run_id": run_id})
        while (state := server.call("get_run", look))["status"] == "running":
            pass
        assert state["status"] == "finished", state


_HOST = """
import subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdin=0, stdout=1, stderr=subprocess.DEVNULL)
sys.stderr.write(f"{server.pid}\\n")
sys.stderr.flush()
server.wait()
"""


def test_no_process_outlives_a_host_that_was_killed_though_stdin_stays_open(
    tmp_path: Path, script: Path
) -> None:
    command = server_command(tmp_path / "runs.sqlite3", script)
    host = subprocess.Popen(
        [sys.executable, "-c", _HOST, command.command, *command.args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=command.env,
        text=True,
    )
    assert host.stdin is not None
    assert host.stdout is not None
    assert host.stderr is not None
    number = 0

    def ask(request: Arguments) -> object:
        nonlocal number
        number += 1
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdin.write(json.dumps({"jsonrpc": "2.0", "id": number, **request}) + "\n")
        host.stdin.flush()
        while True:
            answer = json.loads(host.stdout.readline())
            if answer.get("id") == number:
                return answer["result"]

    def call(tool: str, arguments: Arguments) -> object:
        params = {"name": tool, "arguments": arguments}
        result = cast("Object", ask({"method": "tools/call", "params": params}))
        return result["structuredContent"]

    with host:
        try:
            pid = int(host.stderr.readline())
            ask(HELLO)
            begin_everything(call, tmp_path)
            assert until_true(lambda: all_at_work(pid))
            [own] = [one for one in processes_below(host.pid) if one.pid == pid]
            below = processes_below(pid)
        finally:
            host.kill()
        assert left_by(pid, own.began, [own, *below]) == []


@pytest.mark.parametrize("by", [None, signal.SIGKILL], ids=["EOF", "SIGKILL"])
def test_the_local_models_process_ends_with_the_server_in_the_middle_of_an_answer(
    tmp_path: Path, by: signal.Signals | None
) -> None:
    if find_weights("smollm2", cache_folder()) is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    with ServerProcess(tmp_path / "runs.sqlite3", None, log=tmp_path / "stderr") as server:
        long = "Write a long story about the number"
        evaluation: Arguments = {
            "workflow": WORKFLOW,
            "examples": [{"input": f"{long} {n}.", "target": str(n)} for n in range(20)],
            "scorer": "numeric",
            "executor": "local:smollm2",
            "wait_seconds": 0,
        }
        server.call("evaluate_workflow", evaluation)
        pid = server.process.pid
        [own] = [one for one in processes_below(os.getpid()) if one.pid == pid]

        def is_loaded() -> bool:
            return any("local_worker" in one.command for one in processes_below(pid))

        assert until_true(is_loaded)
        below = processes_below(pid)
        assert server.end(by=by) == (0 if by is None else -signal.SIGKILL)
        assert left_by(pid, own.began, below) == []
