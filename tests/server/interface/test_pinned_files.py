"""Files that a run was started from: what becomes of it when they change or are gone."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    server_command,
    task_arguments,
    write_rows,
    write_script,
)
from fakes.server_process import ServerProcess

SCORER = """\
def score(answer, target):
    return float(str(answer).strip() == str(target).strip())
"""
TRUSTING = {"kind": "file", "name": "mine"}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return write_script(tmp_path / "script.json", latency_ms=40, count_file=tmp_path / "calls")


def finished(server: ServerProcess, run: Arguments) -> Object:
    """All that a run found, without its times and its id."""
    while (state := server.call("get_run", run | {"wait_seconds": 45}))["status"] == "running":
        pass
    assert state["status"] == "finished", state
    best = server.call("get_best_workflow", run)
    kept = ("workflow_id", "test", "validation_shrunk", "baseline", "gain")
    return {name: best[name] for name in kept}


def start(server: ServerProcess, rows: Path, **changes: object) -> Arguments:
    arguments = task_arguments(rows, baseline=WORKFLOW, **changes)
    return {"run_id": server.call("start_bayesflow_run", arguments)["run_id"]}


def spoil(rows: Path) -> None:
    """Other answers to the same questions, and rows that there were not."""
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    changed = [line | {"target": "-1"} for line in lines] + [{"input": "Why?", "target": "x"}]
    rows.write_text("".join(json.dumps(line) + "\n" for line in changed))


@pytest.mark.parametrize("change", [spoil, Path.unlink], ids=["edited", "deleted"])
def test_a_dataset_that_changes_under_a_run_changes_nothing(
    tmp_path: Path, script: Path, change: Callable[[Path], None]
) -> None:
    rows, db, calm = tmp_path / "rows.jsonl", tmp_path / "runs.sqlite3", tmp_path / "calm.sqlite3"
    write_rows(rows)
    with ServerProcess(calm, script) as server:
        expected = finished(server, start(server, rows))
    (tmp_path / "calls").unlink()
    with ServerProcess(db, script) as server:
        run = start(server, rows)
        server.wait_for_calls(tmp_path / "calls", least=5)
        change(rows)
        assert server.end(by=signal.SIGKILL) == -signal.SIGKILL
    with ServerProcess(db, script, flags=["--no-auto-resume"]) as server:
        server.call("resume_run", run)
        assert finished(server, run) == expected


def test_a_trusted_scorer_is_read_once_by_a_server_and_missed_by_name_where_it_is_gone(
    tmp_path: Path, script: Path
) -> None:
    rows, db, scorer = write_rows(tmp_path / "rows.jsonl"), tmp_path / "db", tmp_path / "mine.py"
    scorer.write_text(SCORER)
    flags = ["--scorer-file", f"mine={scorer}"]
    with ServerProcess(db, script, flags=flags) as server:
        expected = finished(server, start(server, rows, scorer=TRUSTING))
    (tmp_path / "calls").unlink()
    with ServerProcess(tmp_path / "other", script, flags=flags) as server:
        run = start(server, rows, scorer=TRUSTING)
        server.wait_for_calls(tmp_path / "calls", least=5)
        scorer.write_text("def score(answer, target):\n    return 0.0\n")
        assert finished(server, run) == expected
    # The run is the scorer's by its name: a server that was not given it pauses the run.
    scorer.write_text(SCORER)
    with ServerProcess(tmp_path / "third", script, flags=flags) as server:
        run = start(server, rows, scorer=TRUSTING)
        assert server.end(by=signal.SIGKILL) == -signal.SIGKILL
    with ServerProcess(tmp_path / "third", script) as server:
        server.call("resume_run", run)
        while (state := server.call("get_run", run))["status"] == "running":
            pass
        assert state["status"] == "paused"
        assert "--scorer-file" in str(state["reason"])
    with ServerProcess(tmp_path / "third", script, flags=flags) as server:
        server.call("resume_run", run)
        assert finished(server, run) == expected


def test_a_server_whose_scorer_file_is_gone_says_so_instead_of_serving(
    tmp_path: Path, script: Path
) -> None:
    command = server_command(tmp_path / "db", script)
    gone = f"mine={tmp_path / 'gone.py'}"
    ended = subprocess.run(
        [command.command, *command.args, "--scorer-file", gone],
        env=command.env,
        input=b"",
        capture_output=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert b"gone.py" in ended.stderr
    assert b"Traceback" not in ended.stderr
