"""What the disk does to the file, as a client sees it: a sentence each time, nothing is lost."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fakes.files import change
from fakes.mcp_sessions import Arguments, Object, task_arguments, write_rows, write_script
from fakes.processes import until_true
from fakes.server_process import ServerProcess

_TRACES: Final = ("Traceback", "sqlite3.", "OperationalError", "\n")


def refusal(server: ServerProcess, tool: str, arguments: Arguments) -> str:
    """The one sentence that a tool refuses with."""
    result = server.request("tools/call", {"name": tool, "arguments": arguments})
    assert result.get("isError"), result
    [block] = json.loads(json.dumps(result["content"]))
    text = str(block["text"])
    assert not any(trace in text for trace in _TRACES), text
    return text


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, without the lock files beside the database."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def finished(server: ServerProcess, run_id: object) -> Object:
    """The answer of a run, once it has finished; without its times."""
    look: Arguments = {"run_id": run_id, "wait_seconds": 45}
    while (state := server.call("get_run", look))["status"] in ("queued", "running"):
        pass
    assert state["status"] == "finished", state
    best = server.call("get_best_workflow", {"run_id": run_id})
    return {name: best[name] for name in ("workflow_id", "test", "validation_shrunk", "gain")}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return write_script(tmp_path / "script.json")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with a finished run, made once."""
    folder = tmp_path_factory.mktemp("made")
    path, script = folder / "runs.sqlite3", write_script(folder / "script.json")
    with ServerProcess(path, script) as server:
        rows = write_rows(folder / "rows.jsonl")
        started = server.call("start_bayesflow_run", task_arguments(rows))
        finished(server, started["run_id"])
        assert server.end(by=None) == 0
    return path


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    """The same, the test's own, in a folder of its own."""
    path = tmp_path / "data" / "runs.sqlite3"
    path.parent.mkdir()
    shutil.copy(made, path)
    return path


def newer(path: Path) -> None:
    change(path, "PRAGMA user_version = 99")


def alien(path: Path) -> None:
    path.unlink()
    change(path, "CREATE TABLE theirs (x)")


def garbage(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (newer, "newer bayesflow-mcp"),
        (alien, "another program"),
        (garbage, "move it away"),
        (truncated, "move it away"),
        (folder, "--db"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_left_and_the_server_lives_on(
    tmp_path: Path, db: Path, script: Path, spoil: Callable[[Path], None], says: str
) -> None:
    good = tmp_path / "good.sqlite3"
    shutil.copy(db, good)
    spoil(db)
    before = snapshot(db.parent)
    with ServerProcess(db, script) as server:
        for _ in range(2):
            text = refusal(server, "list_runs", {})
            assert says in text
            assert str(db) in text
        assert "tools" in server.request("tools/list", {})
        rows = write_rows(tmp_path / "rows.jsonl")
        assert says in refusal(server, "start_bayesflow_run", task_arguments(rows))
        assert snapshot(db.parent) == before
        # Once it is mended, the same server works.
        if db.is_dir():
            db.rmdir()
        os.replace(good, db)
        [run] = json.loads(json.dumps(server.call("list_runs", {})["runs"]))
        assert run["status"] == "finished"


def test_damage_in_the_middle_is_named_when_it_is_met(db: Path, script: Path) -> None:
    size = db.stat().st_size
    with db.open("r+b") as file:
        file.seek(size // 4)
        file.write(b"\xff" * (size // 2))
    with ServerProcess(db, script) as server:
        listed = server.request("tools/call", {"name": "list_runs", "arguments": {}})
        if not listed.get("isError"):
            [run] = json.loads(json.dumps(listed))["structuredContent"]["runs"]
            text = refusal(server, "get_pool", {"run_id": run["run_id"]})
        else:
            text = refusal(server, "list_runs", {})
        assert "is damaged; restore a copy" in text
        assert "tools" in server.request("tools/list", {})


@pytest.mark.slow
def test_a_run_outlasts_a_lock_that_another_program_holds(
    tmp_path: Path, db: Path, script: Path
) -> None:
    write_script(script, latency_ms=30)
    rows = write_rows(tmp_path / "rows.jsonl")
    with ServerProcess(db, script, log=tmp_path / "log") as server:
        started = server.call("start_bayesflow_run", task_arguments(rows, seed=7))
        look: Arguments = {"run_id": started["run_id"], "wait_seconds": 20}
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            text = refusal(server, "start_bayesflow_run", task_arguments(rows, seed=8))
            assert "locked by another process" in text
            while (state := server.call("get_run", look))["status"] == "running":
                pass
            assert state["status"] == "paused"
            assert "locked by another process" in str(state["reason"])
            other.execute("ROLLBACK")
        server.call("resume_run", {"run_id": started["run_id"]})
        disturbed = finished(server, started["run_id"])
        calm = server.call("start_bayesflow_run", task_arguments(rows, seed=7))
        assert calm["run_id"] != started["run_id"]
        assert finished(server, calm["run_id"]) == disturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of sixteen megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return filler


def test_a_run_on_a_full_disk_pauses_and_goes_on_once_there_is_room(
    tmp_path: Path, small_disk: Path, script: Path
) -> None:
    db, calls = small_disk / "runs.sqlite3", tmp_path / "calls"
    rows = write_rows(tmp_path / "rows.jsonl")
    write_script(script, latency_ms=30, count_file=calls)
    with ServerProcess(db, script, log=tmp_path / "log") as server:
        started = server.call("start_bayesflow_run", task_arguments(rows))
        look: Arguments = {"run_id": started["run_id"], "wait_seconds": 20}
        server.wait_for_calls(calls, least=10)
        filler = fill(small_disk)
        while (state := server.call("get_run", look))["status"] == "running":
            pass
        assert state["status"] == "paused"
        assert "the disk is full; free some space, then resume" in str(state["reason"])
        full = refusal(server, "start_bayesflow_run", task_arguments(rows, seed=5))
        assert "the disk is full; free some space" in full
        again = refusal(server, "resume_run", {"run_id": started["run_id"]})
        assert "the disk is full; free some space" in again
        filler.unlink()
        server.call("resume_run", {"run_id": started["run_id"]})
        disturbed = finished(server, started["run_id"])
        calm = server.call("start_bayesflow_run", task_arguments(rows))
        assert finished(server, calm["run_id"]) == disturbed
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_server_killed_on_a_full_disk_leaves_a_sound_file(
    tmp_path: Path, small_disk: Path, script: Path
) -> None:
    db, calls = small_disk / "runs.sqlite3", tmp_path / "calls"
    rows = write_rows(tmp_path / "rows.jsonl")
    write_script(script, latency_ms=30, count_file=calls)
    with ServerProcess(db, script, log=tmp_path / "log") as server:
        started = server.call("start_bayesflow_run", task_arguments(rows))
        server.wait_for_calls(calls, least=10)
        filler = fill(small_disk)
        assert until_true(lambda: "disk is full" in (tmp_path / "log").read_text())
        server.process.kill()
        server.process.wait()
    with ServerProcess(db, script, log=tmp_path / "log") as server:
        text = refusal(server, "start_bayesflow_run", task_arguments(rows, seed=5))
        assert "the disk is full" in text or "--db" in text
        filler.unlink()
        server.call("resume_run", {"run_id": started["run_id"]})
        finished(server, started["run_id"])


def test_a_disk_that_may_only_be_read_is_named_and_nothing_is_tried(
    db: Path, small_disk: Path, script: Path
) -> None:
    place = small_disk / db.name
    shutil.copy(db, place)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with ServerProcess(place, script) as server:
        text = refusal(server, "list_runs", {})
        assert str(place) in text
        assert "may read and write" in text
        assert "--db" in text
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
        [run] = json.loads(json.dumps(server.call("list_runs", {})["runs"]))
        assert run["status"] == "finished"


def test_a_full_disk_refuses_a_new_database_in_a_sentence(
    tmp_path: Path, small_disk: Path, script: Path
) -> None:
    filler = fill(small_disk)
    with ServerProcess(small_disk / "runs.sqlite3", script, log=tmp_path / "log") as server:
        text = refusal(server, "list_runs", {})
        assert "disk" in text
        filler.unlink()
        assert server.call("list_runs", {})["runs"] == []
