"""The commands a person types: what they print, what they refuse, how they end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bayesflow_server.terminal.teaching import LESSONS
from fakes.command_line import Command
from fakes.mcp_sessions import environment, write_script


def test_a_run_shows_its_pool_its_scores_and_writes_its_files(
    command: Command, task: Path, tmp_path: Path
) -> None:
    said = command("run", task, "--out", tmp_path / "out")
    assert (said.code, said.err) == (0, "")
    for text in (
        "sums",
        "Reward per round",
        "Pool: best",
        "The steps of wf_",
        "Test rows",
        "Spent",
    ):
        assert text in said.out
    assert "the baseline" in said.out.splitlines()[-7]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    plots = ["accuracy_cost.png", "genealogy.png", "posterior.png", "reward_per_round.png"]
    assert names == sorted(["best_workflow.py", "report.json", *plots])
    assert "class Workflow" in (tmp_path / "out" / "best_workflow.py").read_text()
    for plot in plots:
        assert (tmp_path / "out" / plot).read_bytes().startswith(b"\x89PNG")


def test_json_goes_alone_to_stdout_and_can_be_shown_again(command: Command, task: Path) -> None:
    said = command("run", task, "--json")
    result = json.loads(said.out)
    assert said.code == 0
    assert result["status"] == "finished"
    assert {"run_id", "name", "reason", "report", "rounds", "calls", "tokens", "seconds"} <= set(
        result
    )
    assert result["report"]["test"]["rows"] > 0
    again = command("show", result["run_id"], "--json")
    assert json.loads(again.out) == result
    [listed] = json.loads(command("runs", "--json").out)
    assert (listed["run_id"], listed["status"]) == (result["run_id"], "finished")
    assert listed["test_score"] == result["report"]["test"]["score"]
    assert result["run_id"] in command("runs").out


def test_an_option_of_the_command_line_goes_before_the_files(command: Command, task: Path) -> None:
    splits = 'splits={"validation": 4, "selection": 3, "test": 2}'
    said = command("run", task, "--option", splits, "--option", "particles=3")
    assert "4 validation, 3 selection and 2 test rows" in said.out


def test_an_empty_database_lists_no_runs(command: Command) -> None:
    assert command("runs").out.startswith("There are no runs in ")
    assert json.loads(command("runs", "--json").out) == []


def test_a_spent_budget_says_how_to_go_on_and_a_larger_one_goes_on(
    command: Command, task: Path
) -> None:
    said = command("run", task, "--calls", 3)
    assert said.code == 1
    assert "warning: The budget of 3 calls is below" in said.out
    assert "is paused. The budget is spent (3 of 3 calls)" in said.out
    last = said.out.splitlines()[-1]
    assert last.startswith("Go on with: bayesflow-mcp resume run_")
    run_id = last.split()[5]
    assert command("resume", run_id, "--calls", 5000).code == 0
    assert command("resume", run_id).code == 0  # a finished run is shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "missing.toml"], "The task file 'missing.toml' does not exist"),
        (["run", "TASK", "--executor", "gpt"], "Unknown model 'gpt'"),
        (["run", "TASK", "--option", "particles"], "is not NAME=VALUE"),
        (["run", "TASK", "--option", "particle=3"], "particle"),
        (["run", "TASK", "--option", "particles=none"], "particles"),
        (["run", "TASK", "--option", "particles=0"], "particles"),
        (["run", "TASK", "--calls", "-5"], "The budget's calls must be greater than 0, not -5"),
        (["run", "TASK", "--calls", "x"], "invalid int value: 'x'"),
        (["run", "TASK", "--minutes", "nan"], "minutes"),
        (["run", "TASK", "--seed", "x"], "invalid int value: 'x'"),
        (["run", "TASK", "--out", "TASK/folder"], "cannot be written"),
        (["run"], "the following arguments are required: TASK"),
        (["fly"], "invalid choice: 'fly'"),
        (["show", "run_1"], "There is no such run in"),
        (["resume", "run_1"], "`bayesflow-mcp runs` lists"),
        (["resume", "run_1", "--calls", "0"], "The budget's calls must be greater than 0"),
        (["--log", "LOUD", "runs"], "LOUD"),
        (["--db", "TASK/x.sqlite3", "runs"], "x.sqlite3"),
        (["pull", "nothing"], "nothing"),
        (["pull", "mine", "--gguf", "missing.gguf"], "missing.gguf"),
    ],
)
def test_a_wrong_command_is_one_line_on_stderr_and_exit_code_2(
    command: Command, task: Path, arguments: list[str], says: str
) -> None:
    said = command(*(argument.replace("TASK", str(task)) for argument in arguments))
    machine = says in ("Unknown model 'gpt'", "x.sqlite3")  # a model or a database is not there
    assert (said.code, said.out) == (3 if machine else 2, "")
    assert says in said.err
    assert said.err.startswith("bayesflow-mcp")
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    if "x.sqlite3" not in says:
        assert json.loads(command("runs", "--json").out) == []


def test_a_task_file_with_a_wrong_budget_is_refused(command: Command, task: Path) -> None:
    task.write_text(task.read_text() + "[budget]\ndollars = 3\n")
    said = command("run", task)
    assert (said.code, said.out) == (2, "")
    assert "`budget` has no 'dollars'; it takes usd, calls, tokens, minutes." in said.err


def test_the_database_may_be_named_before_or_after_the_command(
    command: Command, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere.sqlite3"
    assert str(place) in command("--db", place, "runs").out
    assert str(place) in command("runs", "--db", place).out


@pytest.mark.parametrize("name", ["", *LESSONS])
def test_every_command_has_help(command: Command, name: str) -> None:
    said = command(*([name] if name else []), "--help")
    assert said.code == 0
    assert "usage: bayesflow-mcp" in said.out
    assert "--db" in said.out


def test_the_doctor_tells_models_sandbox_and_database(command: Command) -> None:
    said = command("doctor")
    assert said.code == 0
    lines = said.out.splitlines()
    assert all(line.startswith(("ok  ", "--  ")) for line in lines)
    for text in (
        "model local:smollm2",
        "ok  model scripted:default",
        "ok  sandbox",
        "ok  database",
    ):
        assert text in said.out


def test_the_doctor_tells_a_broken_database(command: Command, tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite3").write_text("no database " * 100)
    said = command("doctor")
    assert said.code == 1
    assert "--  database: " in said.out


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_is_kept_and_says_how_to_go_on(
    command: Command, task: Path, tmp_path: Path, stop: signal.Signals, code: int
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=60_000)
    db = tmp_path / "runs.sqlite3"
    process = subprocess.Popen(
        [sys.executable, "-m", "bayesflow_server", "--db", str(db), "run", str(task)],
        env=environment(script),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("run_")
    run_id = first.partition(":")[0]
    os.kill(process.pid, stop)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    last = out.splitlines()[-1]
    assert last.startswith("Stopped. Everything found is kept; go on with: bayesflow-mcp --db ")
    assert last.endswith(f"resume {run_id}")
    [listed] = json.loads(command("runs", "--json").out)
    assert (listed["run_id"], listed["status"]) == (run_id, "paused")
