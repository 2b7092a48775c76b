"""`warm_start` from the command line and from a task file."""

import json
from pathlib import Path

import pytest

from bayesflow_server.evaluation.task_file import TaskFile, read_task_file
from bayesflow_server.terminal.task_toml import write_task_file
from fakes.command_line import Command
from fakes.mcp_sessions import WORKFLOW

ADDER = WORKFLOW.replace(
    "answers = await self.llm.call_llm(messages=[problem], temperature=0.0)",
    "numbers = [int(one) for one in problem.rstrip('?').split() if one.isdigit()]",
).replace("answers[0]", "str(sum(numbers))")


@pytest.fixture
def adder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "adder.py"
    path.write_text(ADDER)
    return path


def test_one_name_or_a_json_list_is_taken_and_the_next_run_takes_the_first(
    command: Command, task: Path, adder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(adder.parent)
    # A path on the command line is relative to where the command is given.
    said = command("run", task, "--option", "warm_start=adder.py", "--json")
    first = json.loads(said.out)
    assert (said.code, first["status"]) == (0, "finished")
    assert first["report"]["test"]["score"] == 1.0
    winner, run_id = first["report"]["best"][0]["workflow_id"], first["run_id"]
    shown = command("show", run_id).out.splitlines()
    line = next(one for one in shown if f"│ {winner} │" in one)
    # Not a draw of the prior: no posterior; long titles of others press no figure out.
    cells = [cell.strip() for cell in line.split("│")[1:8]]
    assert (cells[2], cells[4:]) == ("14", ["-", "1", "warm"])

    names = json.dumps([run_id, winner, str(adder), ADDER])
    checked = command("check", task, "--option", f"warm_start={names}")
    assert (checked.code, checked.err) == (0, "")
    said = command("run", task, "--option", f"warm_start={run_id}", "--json")
    assert json.loads(said.out)["report"]["best"][0]["workflow_id"] == winner


def test_a_path_in_a_task_file_is_relative_to_the_file(
    command: Command, task: Path, adder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for line in ('warm_start = ["mine/adder.py"]', 'warm_start = "mine/adder.py"'):
        own = tmp_path / "own.toml"
        own.write_text(f"{task.read_text()}{line}\n")
        said = command("run", own, "--json")
        assert json.loads(said.out)["report"]["test"]["score"] == 1.0, said.err


def test_a_written_task_file_names_a_near_file_relatively_and_reads_back_the_same(
    tmp_path: Path, adder: Path
) -> None:
    names = ["run_x", "wf_y", str(adder), "/elsewhere/z.py", "class Workflow:\n    pass\n.py"]
    for named in (names, str(adder)):
        path = tmp_path / f"{type(named).__name__}.toml"
        settings = TaskFile(
            instructions="Add.",
            examples=str(tmp_path / "rows.jsonl"),
            options={"particles": 2, "warm_start": [*named] if named is names else str(adder)},
        )
        write_task_file(settings, path)
        assert '"mine/adder.py"' in path.read_text()
        assert read_task_file(path) == settings


@pytest.mark.parametrize("name", ["~/x.py", "x.py", "../x.py"])
def test_only_what_ends_in_py_on_one_line_is_a_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / "task.toml"
    path.write_text(
        'instructions = "Add."\nexamples = "rows.jsonl"\n[options]\n'
        f'warm_start = ["{name}", "run_1", "a\\nb.py", 3]\n'
    )
    named = read_task_file(path).options["warm_start"]
    assert isinstance(named, list)
    assert named[1:] == ["run_1", "a\nb.py", 3]
    assert Path(str(named[0])).is_absolute()
    assert "~" not in str(named[0])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("run_0123456789ab", "names 'run_0123456789ab', and there is no such run"),
        ("wf_0123456789abcdef", "There is no workflow 'wf_0123456789abcdef'"),
        ("none.py", "none.py' cannot be read (No such file"),
        ("best", "neither a run id"),
        ("3", "`options.warm_start` is wrong"),
        (json.dumps(["x"] * 21), "at most 20"),
        (json.dumps(["import os\nimport sys\n"]), "(a source): The workflow cannot be used"),
    ],
)
def test_a_wrong_name_is_one_line_on_stderr_and_nothing_is_written(
    command: Command, task: Path, value: str, says: str
) -> None:
    for name in ("check", "run"):
        said = command(name, task, "--option", f"warm_start={value}")
        assert (said.code, said.out) == (2, "")
        assert says in said.err, said.err
        assert said.err.count("\n") == 1
    assert json.loads(command("runs", "--json").out) == []
