"""Every way a command ends, and the code it ends with."""

import json
import re
from pathlib import Path

import pytest

from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_server.errors import (
    InputError,
    ModelUnavailableError,
    NotFoundError,
    ProviderError,
    ScorerError,
    StoreError,
)
from bayesflow_server.terminal import exit_codes
from fakes.command_line import Command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (NotFoundError("x"), 2),
        (StoreError("x"), 3),
        (ModelUnavailableError("x"), 3),
        (ProviderError("x"), 3),
        (ScorerError("x"), 3),
        (SandboxUnavailableError("x"), 3),
    ],
)
def test_an_error_is_the_requests_or_the_machines(error: Exception, code: int) -> None:
    assert exit_codes.code_of(error) == code


def test_the_readme_has_every_code() -> None:
    readme = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| exit code |")[2].partition("\n\n")[0]
    told = re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
    assert [int(code) for one in told for code in one.split(",")] == list(exit_codes.MEANINGS)


def test_a_finished_run_is_0_an_unfinished_one_1_and_showing_either_0(
    command: Command, task: Path
) -> None:
    paused = command("run", task, "--calls", 3, "--json")
    assert paused.code == 1
    assert json.loads(paused.out)["status"] == "paused"
    assert command("show", "latest").code == 0
    assert command("wait", "latest").code == 1
    assert command("resume", "latest", "--calls", 5000).code == 0
    assert command("wait", "latest").code == 0


def test_a_database_that_cannot_be_used_is_3_in_every_command(
    command: Command, task: Path, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.sqlite3"
    junk.write_text("no database " * 200)
    asked = (
        ["runs"],
        ["show", "latest"],
        ["resume", "latest"],
        ["wait", "latest"],
        ["cancel", "latest"],
        ["run", task],
        ["worker", "--once"],
        ["prune", "--older-than", "1d"],
        ["backup", tmp_path / "copy"],
    )
    for arguments in asked:
        said = command("--db", junk, *arguments)
        assert said.code == 3, arguments
        assert said.err.splitlines()[-1].startswith("bayesflow-mcp: The database "), arguments
        assert "Traceback" not in said.err
    assert junk.read_text().startswith("no database")
    assert command("--db", junk, "doctor").code == 1


def test_no_run_is_2_and_says_where_runs_are_listed_or_begun(command: Command) -> None:
    for name in ("show", "resume", "wait", "cancel"):
        said = command(name, "latest")
        assert said.code == 2
        assert "`bayesflow-mcp run TASK` begins one" in said.err
        said = command(name, "run_x")
        assert said.code == 2
        assert "`bayesflow-mcp runs` lists those that are" in said.err
