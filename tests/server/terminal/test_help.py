"""Help that teaches, and words for what was mistyped."""

import argparse
import json
import re
import shlex
from pathlib import Path

import pytest

from bayesflow_server.interface.server import VERSION
from bayesflow_server.terminal.command_line import read_command_line
from bayesflow_server.terminal.exit_codes import MEANINGS
from bayesflow_server.terminal.teaching import CONNECT, FIRST, GROUPS, LESSONS
from fakes.command_line import Command

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = [*FIRST, *(example for lesson in LESSONS.values() for example in lesson.examples)]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_the_commands_stand_in_groups_with_a_beginning_and_a_way_to_connect(
    command: Command,
) -> None:
    said = command("--help").out
    for title in GROUPS.values():
        assert f"\n{title}:\n" in said
    for name, lesson in LESSONS.items():
        assert f"\n  {name:<10}{lesson.short}\n" in said
    assert CONNECT in said
    assert FIRST[0] in said


def test_the_version_is_that_of_the_package_and_of_the_server(command: Command) -> None:
    said = command("--version")
    assert (said.code, said.out, said.err) == (0, f"bayesflow-mcp {VERSION}\n", "")


@pytest.mark.parametrize("name", ["", *LESSONS])
def test_help_fits_80_columns_and_tells_every_exit_code(command: Command, name: str) -> None:
    said = command(*([name] if name else []), "--help").out
    usage, _, rest = said.partition("\n\n")
    assert usage.startswith("usage: bayesflow-mcp")
    assert max(map(len, rest.splitlines())) <= 80
    told = {int(code) for code in re.findall(r"^ +(\d+)  \S", rest, re.MULTILINE)}
    assert {0, 2, 3, 130, 143} <= told <= set(MEANINGS)


@pytest.mark.parametrize("name", LESSONS)
def test_each_command_has_a_description_and_two_or_three_examples(
    command: Command, name: str
) -> None:
    lesson = LESSONS[name]
    said = " ".join(command(name, "--help").out.split())
    assert lesson.text in said
    assert 1 <= lesson.text.count(". ") + 1 <= 4
    assert 1 <= len(lesson.examples) <= 3
    assert "examples:" in said


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_works_as_it_stands(example: str) -> None:
    program, *arguments = shlex.split(example)
    assert program == "bayesflow-mcp"
    options = read_command_line(arguments)
    assert isinstance(options, argparse.Namespace)
    task = getattr(options, "task", None)
    assert task is None or (REPOSITORY / task).is_file()


@pytest.mark.parametrize("name", [name for name in LESSONS if name != "serve"])
def test_every_command_has_json(command: Command, name: str) -> None:
    assert "--json" in command(name, "--help").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["shwo"], "invalid choice: 'shwo'; did you mean show?"),
        (["fly"], "invalid choice: 'fly' (choose from"),
        (["show", "run_1", "--jsn"], "there is no flag --jsn; did you mean --json?"),
        (["run", "task.toml", "--calls=3", "--excutor=x"], "did you mean --executor?"),
        (["runs", "--wings"], "there is no flag --wings; see bayesflow-mcp runs --help"),
        (["runs", "extra"], "unrecognized arguments: extra"),
        (["runs", "--status", "finishd"], "'finishd' is no status of a run; did you mean"),
        (["runs", "--status", "bogus"], "is no status of a run. There are queued"),
        (["runs", "--limit", "0"], "--limit takes a number of runs"),
        (["runs", "--read-only"], "there is no flag --read-only"),
        (["--read-only", "runs"], "--read-only belongs to the server"),
        (["--no-auto-resume", "runs"], "--no-auto-resume belongs to the server"),
        (["run", "task.toml", "--opt", "x=1"], "there is no flag --opt; did you mean --option"),
        (["--tools", "get_rn"], "'get_rn', which is no tool; did you mean get_run?"),
        (["serve", "--tools", "start_bayesflow_run", "--read-only"], "leave no tool to offer"),
        (["serve", "--confirm-above", "-1"], "confirm_above"),
        (["serve", "--confirm-above", "much"], "invalid float value: 'much'"),
        (["--endpoint", "broken"], "broken"),
        (["wait", "run_1", "--timeout", "-1"], "--timeout takes seconds"),
        (["prune"], "Say what is to go"),
        (["prune", "--older-than", "soon"], "'soon' is no age"),
    ],
)
def test_what_was_mistyped_is_named_in_one_line_before_anything_is_done(
    command: Command, arguments: list[str], says: str
) -> None:
    said = command(*arguments)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert said.err.startswith("bayesflow-mcp")
    assert said.err.count("\n") == 1


def test_a_mistyped_command_cannot_move_the_cursor(command: Command) -> None:
    said = command("\x1b[31mrun\x07")
    assert said.code == 2
    assert said.err.rstrip("\n").isprintable()


def test_tools_may_be_named_with_commas_and_again() -> None:
    options = read_command_line(["--tools", "get_run, get_pool", "--tools", "list_runs"])
    assert options.tools == ["get_run", "get_pool", "list_runs"]
    assert read_command_line(["serve", "--no-auto-resume"]).auto_resume is False
    assert json.dumps(read_command_line(["--confirm-above", "2.5"]).confirm_above) == "2.5"
