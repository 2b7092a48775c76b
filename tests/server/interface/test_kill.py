"""A server killed at any moment: its run is interrupted, and goes on without repeating a call.

The scripted model notes each call's beginning and end in a file shared by all processes, so what
was paid twice can be counted.
"""

import json
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from bayesflow_server.models.scripted import read_counts
from fakes.mcp_sessions import Object, task_arguments, write_rows, write_script
from fakes.server_process import ServerProcess


@dataclass(frozen=True)
class Result:
    """What a finished run answered, and how often each question was begun."""

    answer: Object
    started: dict[str, int]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """The same run, left alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    calls = folder / "calls"
    rows = write_rows(folder / "rows.jsonl")
    script = write_script(folder / "script.json", latency_ms=1, count_file=calls)
    with ServerProcess(folder / "runs.sqlite3", script) as server:
        started = server.call("start_bayesflow_run", task_arguments(rows))
        answer = finish(server, str(started["run_id"]))
    return Result(answer, dict(read_counts(calls).started))


def finish(server: ServerProcess, run_id: str) -> Object:
    """Waits for the end of the run; returns all of the answer that does not tell times or ids."""
    look = {"run_id": run_id, "wait_seconds": 45}
    while (state := server.call("get_run", look))["status"] in ("queued", "running"):
        pass
    assert state["status"] == "finished", state
    best = server.call("get_best_workflow", {"run_id": run_id})
    pool = server.call("get_pool", {"run_id": run_id, "limit": 50, "sort": "validation"})
    kept = ("workflow_id", "test", "validation_shrunk", "baseline", "gain", "runners_up")
    answer: Object = {name: best[name] for name in kept}
    assert isinstance(pool["items"], list)
    answer["pool"] = [
        {name: item[name] for name in ("workflow_id", "posterior", "validation", "origin")}
        for item in pool["items"]
        if isinstance(item, dict)
    ]
    return answer


def killed_and_resumed(folder: Path, moments: tuple[int, ...]) -> tuple[Result, int]:
    """Kills the server whenever so many calls were begun in all, then lets the run finish.

    Returns:
        The result, and how many calls were in flight at the kills: begun, their answer not on disk.
    """
    db, calls = folder / "runs.sqlite3", folder / "calls"
    rows = write_rows(folder / "rows.jsonl")
    script = write_script(folder / "script.json", latency_ms=20, count_file=calls)
    run_id, in_flight = "", 0
    for moment in moments:
        before = read_counts(calls).started.total() - answers_on_disk(db)
        with ServerProcess(db, script, flags=["--no-auto-resume"]) as server:
            if run_id:
                server.call("resume_run", {"run_id": run_id})
            else:
                run_id = str(server.call("start_bayesflow_run", task_arguments(rows))["run_id"])
            server.wait_for_calls(calls, least=moment)
            assert server.end(by=signal.SIGKILL) == -signal.SIGKILL
        in_flight += read_counts(calls).started.total() - answers_on_disk(db) - before
    rows.unlink()  # the run has its own copy
    write_script(script, latency_ms=1, count_file=calls)
    with ServerProcess(db, script, flags=["--no-auto-resume"]) as server:
        [listed] = json.loads(json.dumps(server.call("list_runs", {})["runs"]))
        assert (listed["run_id"], listed["status"]) == (run_id, "interrupted")
        resumed = server.call("resume_run", {"run_id": run_id})
        assert resumed["status"] in ("queued", "running")
        answer = finish(server, run_id)
    return Result(answer, dict(read_counts(calls).started)), in_flight


def answers_on_disk(db: Path) -> int:
    """Completions that a server acknowledged, read as another program would."""
    if not db.exists():
        return 0
    with closing(sqlite3.connect(db)) as connection:
        [count] = connection.execute("SELECT count(*) FROM completions").fetchone()
    return int(count)


def check(folder: Path, moments: tuple[int, ...], undisturbed: Result) -> None:
    result, in_flight = killed_and_resumed(folder, moments)
    assert result.answer == undisturbed.answer
    assert set(result.started) == set(undisturbed.started)
    repeated = sum(result.started.values()) - sum(undisturbed.started.values())
    assert 0 <= repeated <= in_flight
    assert max(result.started.values()) <= 1 + len(moments)


@pytest.mark.parametrize("moments", [(1,), (30, 60)])
def test_a_killed_run_finishes_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Result, moments: tuple[int, ...]
) -> None:
    check(tmp_path, moments, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moments", [(5,), (10,), (20,), (40,), (50,), (70,), (2, 4, 6, 8, 30)])
def test_a_run_killed_at_many_moments_finishes_as_if_nothing_had_happened(
    tmp_path: Path, undisturbed: Result, moments: tuple[int, ...]
) -> None:
    check(tmp_path, moments, undisturbed)
