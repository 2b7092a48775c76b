"""`wait`, `cancel` and `worker`: runs that another process works on."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes.command_line import Command
from fakes.mcp_sessions import environment, write_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


@contextmanager
def started(
    db: Path, script: Path, *arguments: object
) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A command in a process of its own, and the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bayesflow_server", "--db", str(db), *map(str, arguments)],
        env=environment(script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite3"


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A model that answers some time after the test."""
    return write_script(tmp_path / "slow.json", latency_ms=60_000)


def events(db: Path) -> list[str]:
    connection = sqlite3.connect(db)
    kinds = [row[0] for row in connection.execute("SELECT kind FROM events ORDER BY position")]
    connection.close()
    return kinds


def test_waiting_ends_with_the_time_and_leaves_the_run_alone(
    command: Command, task: Path, db: Path, slow: Path
) -> None:
    with started(db, slow, "run", task) as (process, first):
        run_id = first.partition(":")[0]
        said = command("wait", run_id, "--timeout", 0.2)
        assert said.code == 75
        assert f"{run_id} goes on; 0.2 s are over." in said.out
        document = command("wait", "latest", "--timeout", 0, "--json")
        assert document.code == 75
        assert json.loads(document.out)["status"] == "running"
        assert process.poll() is None
        assert events(db) == ["queued", "running"]


def test_a_run_is_followed_to_its_end_in_another_process(
    command: Command, task: Path, db: Path, tmp_path: Path
) -> None:
    quick = write_script(tmp_path / "quick.json", latency_ms=50)
    with started(db, quick, "run", task) as (process, first):
        said = command("wait", first.partition(":")[0])
        assert (said.code, said.err) == (0, "")
        assert "Test rows, measured once" in said.out
        assert process.wait(30) == 0
    assert events(db).count("running") == 1


def test_a_run_that_nobody_works_on_is_not_taken_over_but_told(
    command: Command, task: Path, db: Path, slow: Path
) -> None:
    with started(db, slow, "run", task) as (process, first):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run_id = first.partition(":")[0]
    said = command("wait", run_id)
    assert said.code == 1
    assert f"{run_id} is interrupted. " in said.out
    assert f"Go on with: bayesflow-mcp resume {run_id}" in said.out
    assert said.out.splitlines()[-1].startswith("Nobody works on it: ")
    assert json.loads(command("wait", run_id, "--json").out)["status"] == "interrupted"
    assert events(db) == ["queued", "running"]


def test_a_run_of_another_process_is_cancelled_and_given_back(
    command: Command, task: Path, db: Path, slow: Path
) -> None:
    with started(db, slow, "run", task) as (process, first):
        run_id = first.partition(":")[0]
        said = command("cancel", run_id)
        assert (said.code, said.err) == (0, "")
        assert f"{run_id} was running and is cancelled. Everything found is kept." in said.out
        assert said.out.splitlines()[-1] == f"Go on with: bayesflow-mcp resume {run_id}"
        assert process.wait(30) == 1
    again = command("cancel", run_id)
    assert (again.code, again.out) == (0, f"{run_id} is cancelled already; nothing was to stop.\n")
    assert command("wait", run_id).code == 1


def test_a_worker_finishes_what_was_left_and_says_so(
    command: Command, task: Path, db: Path, slow: Path
) -> None:
    with started(db, slow, "run", task) as (process, first):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    run_id = first.partition(":")[0]
    said = command("worker", "--once", "--json")
    assert said.code == 0
    assert json.loads(said.out) == {
        "runs": [{"run_id": run_id, "name": "sums", "status": "finished", "reason": None}]
    }
    lines = said.err.splitlines()
    assert lines[1].startswith(f"{run_id}: goes on (sums): ")
    assert lines[-1] == f"{run_id}: has ended or stopped (sums): finished"
    assert command("worker", "--once").out.splitlines()[-1] == "Nothing is left to work on."


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_worker_gives_its_runs_back(
    command: Command, task: Path, db: Path, slow: Path, stop: signal.Signals, code: int
) -> None:
    with started(db, slow, "run", task) as (process, first):
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with started(db, slow, "worker") as (process, _):
        assert process.stdout is not None
        assert " goes on " in process.stdout.readline()
        second = command("worker", "--once")
        assert second.code == 2
        assert "A worker works on" in second.err
        os.kill(process.pid, stop)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (code, "")
        assert out.splitlines()[-1].startswith("Stopped. ")
    [listed] = json.loads(command("runs", "--json").out)
    assert (listed["run_id"], listed["status"]) == (first.partition(":")[0], "interrupted")
