"""`prune` and `backup` as a person and a script meet them."""

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.command_line import Command
from fakes.mcp_sessions import environment, write_script


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite3"


@pytest.fixture
def runs(command: Command, task: Path) -> list[str]:
    """Two runs, a finished one and a paused one; the newest first."""
    assert command("run", task, "--json").code == 0
    assert command("run", task, "--seed", 9, "--calls", 2, "--json").code == 1
    return [one["run_id"] for one in json.loads(command("runs", "--json").out)]


def listed(command: Command) -> list[str]:
    return [one["run_id"] for one in json.loads(command("runs", "--json").out)]


def test_what_would_go_is_shown_and_nothing_goes_without_a_word(
    command: Command, runs: list[str]
) -> None:
    said = command("prune", "--older-than", "0m", "--dry-run")
    assert (said.code, said.err) == (0, "")
    assert all(run_id in said.out for run_id in runs)
    assert "2 runs, " in said.out
    assert " MB about." in said.out
    said = command("prune", "--older-than", "0m")
    assert said.code == 2
    assert "with --yes it is done. Nothing was deleted." in said.err
    assert listed(command) == runs


def test_status_age_and_id_choose(command: Command, runs: list[str], db: Path) -> None:
    paused, finished = runs
    assert "Nothing is to go." in command("prune", "--older-than", "1h", "--yes").out
    found = json.loads(command("prune", "--status", "paused", "--dry-run", "--json").out)
    assert [one["run_id"] for one in found["chosen"]] == [paused]
    assert found["deleted"] is False
    old = sqlite3.connect(db)
    old.execute("UPDATE runs SET updated = 0 WHERE run_id = ?", (finished,))
    old.commit()
    old.close()
    found = json.loads(command("prune", "--older-than", "2w", "--yes", "--json").out)
    assert found["deleted_runs"] == [finished]
    assert found["not_given_back"] is None
    assert command("show", paused).code == 0
    said = command("prune", paused, "--yes")
    assert said.out.splitlines()[-1].startswith("Deleted 1 run")
    assert listed(command) == []


def test_an_id_that_is_none_stops_everything(command: Command, runs: list[str]) -> None:
    said = command("prune", runs[0], "run_x", "--yes")
    assert said.code == 2
    assert "There is no run 'run_x'" in said.err
    assert listed(command) == runs


def test_old_answers_go_and_a_run_that_stays_can_still_be_shown(
    command: Command, runs: list[str], db: Path
) -> None:
    count = sqlite3.connect(db)
    (answers,) = count.execute("SELECT COUNT(*) FROM completions").fetchone()
    found = json.loads(command("prune", "--cache-older-than", "0m", "--yes", "--json").out)
    assert found["answers"]["count"] == found["deleted_answers"] == answers > 0
    assert count.execute("SELECT COUNT(*) FROM completions").fetchone() == (0,)
    count.close()
    assert found["deleted_runs"] == []
    assert command("show", "latest").code == 0
    assert command("resume", runs[0], "--calls", 5000).code == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_run_that_works_is_never_pruned(
    command: Command, runs: list[str], task: Path, db: Path, tmp_path: Path
) -> None:
    slow = write_script(tmp_path / "slow.json", latency_ms=60_000)
    process = subprocess.Popen(
        [sys.executable, "-m", "bayesflow_server", "--db", str(db), "run", str(task), "--seed=5"],
        env=environment(slow),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    working = process.stdout.readline().partition(":")[0]
    try:
        said = command("prune", working, "--yes")
        assert said.code == 2
        assert f"{working} works; stop it first: bayesflow-mcp cancel {working}" in said.err
        found = json.loads(command("prune", "--older-than", "0m", "--yes", "--json").out)
        assert found["deleted_runs"] == runs
        assert found["not_given_back"] == "a run works, and would have to wait"
        assert listed(command) == [working]
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert command("prune", working, "--yes").code == 0  # interrupted now
    assert listed(command) == []


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, 2), ("", 1, 2), ("y", 0, 0)])
def test_on_a_terminal_the_person_is_asked(
    command: Command, runs: list[str], db: Path, answer: str, code: int, left: int
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "bayesflow_server", "--db", str(db), "prune", "--older-than", "0m"],
        env=environment(None),
        stdin=theirs,
        stdout=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert "Delete this for good? [y/N]" in out
    assert process.returncode == code
    assert len(listed(command)) == left


def test_a_backup_can_be_shown_and_is_never_written_over(
    command: Command, runs: list[str], tmp_path: Path
) -> None:
    copy = tmp_path / "copy.sqlite3"
    said = command("backup", copy)
    assert (said.code, said.err) == (0, "")
    assert "2 runs, " in said.out
    assert "checked" in said.out
    before = copy.read_bytes()
    again = command("backup", copy)
    assert (again.code, again.out) == (2, "")
    assert "is there already: name a file that is not." in again.err
    assert copy.read_bytes() == before
    kept = [one["run_id"] for one in json.loads(command("--db", copy, "runs", "--json").out)]
    assert kept == runs
    assert command("--db", copy, "show", runs[1]).code == 0


def test_there_is_nothing_to_prune_or_copy_where_no_database_is(
    command: Command, tmp_path: Path
) -> None:
    for arguments in (["prune", "--older-than", "1d"], ["backup", tmp_path / "copy"]):
        said = command("--db", tmp_path / "none.sqlite3", *arguments)
        assert said.code == 3
        assert "There is no database" in said.err
    assert not (tmp_path / "none.sqlite3").exists()
