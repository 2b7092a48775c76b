"""Tables fit the terminal, and no figure of theirs is cut."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.cells import cell_len

from fakes.command_line import Command
from fakes.mcp_sessions import environment, write_script

TABLE = tuple("│┃┏┡├└")


@pytest.mark.parametrize("columns", [80, 120])
def test_tables_fit_and_their_figures_are_whole(
    command: Command, task: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    asked = (
        ["run", str(task)],
        ["show", "latest"],
        ["runs"],
        ["check", task],
        ["prune", "--older-than", "0m", "--dry-run"],
    )
    for arguments in asked:
        said = command(*arguments)
        lines = [line for line in said.out.splitlines() if line.startswith(TABLE)]
        assert lines, arguments
        assert max(map(len, lines)) <= columns, arguments
        if columns == 80:  # at 120 the steps of a workflow fill what is left
            assert "…" not in "".join(lines), arguments


@pytest.mark.parametrize("columns", [80, 100, 120, 200])
def test_a_long_reason_never_costs_a_run_its_id(
    command: Command, task: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    task.write_text(
        task.read_text().replace('"sums"', f'"a long name, and a wide one: {"模型" * 8}"')
    )
    assert command("run", task, "--calls", 1).code == 1
    run_id = command("show", "latest", "--json").out.split('"run_id": "')[1][:16]
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = [line for line in command("runs").out.splitlines() if line.startswith(TABLE)]
    assert run_id in lines[-2]
    assert "paused" in lines[-2]
    assert {cell_len(line) for line in lines} == {min(columns, cell_len(lines[0]))}


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_run_on_a_terminal_shows_progress_that_goes_away(tmp_path: Path, task: Path) -> None:
    script = write_script(tmp_path / "script.json", latency_ms=5)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bayesflow_server",
            "--db",
            str(tmp_path / "x.sqlite3"),
            "run",
            str(task),
        ],
        env=environment(script) | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    text = shown.decode()
    assert process.wait(30) == 0, text
    assert "\x1b[?25l" in text  # the cursor is hidden while the bar is drawn,
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # and shown again
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.partition("Test rows, measured once")[2])
    assert "best workflow" in plain
