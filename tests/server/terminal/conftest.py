from pathlib import Path

import pytest

from bayesflow_server.cli import main
from fakes.command_line import Command, Said
from fakes.mcp_sessions import write_rows, write_script


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """A task file for the small task."""
    write_rows(tmp_path / "rows.jsonl")
    path = tmp_path / "task.toml"
    path.write_text(
        'name = "sums"\n'
        'instructions = "Add the two numbers."\n'
        'examples = "rows.jsonl"\n'
        'scorer = "numeric"\n'
        'executor = "scripted:default"\n'
        "[options]\n"
        "particles = 2\nrounds = 1\nrefinements = 0\nbeta = 5.0\n"
    )
    return path


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Runs a command in this process, over an empty database and the scripted model."""
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(write_script(tmp_path / "script.json")))
    monkeypatch.setenv("BAYESFLOW_DB", str(tmp_path / "runs.sqlite3"))
    monkeypatch.setenv("BAYESFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "130")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)  # it would choose another optimizer

    def run(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run
