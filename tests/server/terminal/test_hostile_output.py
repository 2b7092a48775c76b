"""Names, titles, notes and errors of models cannot command the terminal they are shown on."""

import io
import json
import sqlite3
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console

from bayesflow_server.app import Application
from bayesflow_server.settings import Settings
from bayesflow_server.terminal.live import follow
from bayesflow_server.terminal.screen import printable
from fakes.command_line import Command

# Sets the title, clears the screen, by seven bits and by eight; reverses a line; is markup.
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202eevil\u2028[/nothing][link=file:///x]LOOK[/link]\r\b"
SHOWN = "[/nothing][link=file:///x]LOOK[/link]"


@pytest.fixture
def poisoned(command: Command, task: Path, tmp_path: Path) -> Path:
    """A database where all that a model, a row or a person can name is hostile."""
    assert command("run", task, "--json").code == 0
    path = tmp_path / "runs.sqlite3"
    db = sqlite3.connect(path)
    phase, outcome = db.execute("SELECT phase, outcome FROM runs").fetchone()
    phase = json.loads(phase) | {"doing": HOSTILE, "notes": [HOSTILE], "top_errors": [HOSTILE]}
    outcome = json.loads(outcome)
    for best in outcome["best"]:
        best["step_titles"] = [HOSTILE]
    db.execute("UPDATE workflows SET steps = ?", (json.dumps([HOSTILE]),))
    db.execute("UPDATE events SET detail = ?", (HOSTILE,))
    db.execute(
        "UPDATE runs SET name = ?, phase = ?, outcome = ?, status = 'paused', reason = ?, "
        "request = json_set(request, '$.executor', ?)",
        (HOSTILE, json.dumps(phase), json.dumps(outcome), HOSTILE, HOSTILE),
    )
    db.commit()
    db.close()
    return path


def commands_in(text: str) -> set[str]:
    """What is in a text that a terminal takes for more than a character to print."""
    return {sign for sign in text if unicodedata.category(sign)[0] == "C"} - {"\n"}


@pytest.mark.parametrize("columns", ["80", "200"])
def test_no_command_prints_what_moves_a_terminal(
    command: Command, poisoned: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in (["runs"], ["show", "latest"], ["wait", "latest"], ["cancel", "latest"]):
        said = command(*arguments)
        assert said.code < 2, said.err
        assert commands_in(said.out + said.err) == set()
    whole = command("show", "latest").out
    assert SHOWN in whole  # as it stands: no markup was read
    said = command("prune", "--older-than", "0m", "--dry-run")
    assert (said.code, commands_in(said.out)) == (0, set())


def test_json_is_ascii_and_keeps_the_text(command: Command, poisoned: Path) -> None:
    said = command("show", "latest", "--json")
    assert commands_in(said.out) == set()
    assert json.loads(said.out)["name"] == HOSTILE


def test_an_error_that_quotes_a_hostile_name_is_printable(command: Command) -> None:
    said = command("run", f"{HOSTILE}.toml")
    assert said.code == 2
    assert commands_in(said.err) == set()


async def test_the_live_view_shows_a_hostile_phase_as_text(poisoned: Path) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=200, color_system=None)
    async with Application(Settings(db=poisoned)) as application:
        service = await application.runs()
        run_id = (await service.newest(1))[0].run_id

        # A poisoned run does not move: the view is drawn at least once.
        await follow(console, service, run_id, service.wait(run_id, since=10**6, seconds=0.5))
    assert SHOWN in shown.getvalue()
    # What is left of escapes is rich's own: lines erased, the cursor hidden and shown.
    assert "owned\x07" not in shown.getvalue()
    assert not {"\x07", "\x9b", "\u202e", "\b"} & set(shown.getvalue())
    assert "\x1b]0" not in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()


def test_text_is_cut_and_put_on_one_line() -> None:
    assert printable("a\tb\n\n c\x00") == "a b c"
    assert printable("abcdef", 3) == "abc…"
    assert printable("naïve 数学 🙂") == "naïve 数学 🙂"
