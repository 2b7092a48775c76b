"""The example client, as its reader would start it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bayesflow_server.models.weights import cache_folder, find_weights
from fakes.mcp_sessions import environment, write_rows, write_script

EXAMPLE = Path(__file__).parents[2] / "examples" / "headless_client.py"


def run(folder: Path, *arguments: object, script: Path | None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, EXAMPLE, "--db", folder / "runs.sqlite3", *arguments]
    return subprocess.run(
        [str(part) for part in command],
        env=environment(script),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_it_finds_a_workflow_and_prints_pool_and_best(tmp_path: Path) -> None:
    script = write_script(tmp_path / "script.json")
    write_rows(tmp_path / "rows.jsonl")
    flags = ("--executor", "scripted:default", "--preset", "quick", "--rows", "rows.jsonl")
    ended = run(tmp_path, *flags, "--calls", 5000, script=script)
    assert (ended.returncode, ended.stderr) == (0, "")
    for text in ("round 1 of 3", "pool: ", "class Workflow", "baseline  ", "beats the baseline: "):
        assert text in ended.stdout


def test_it_prints_the_servers_sentence_and_ends_with_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "--executor", "gpt", script=None)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Unknown model 'gpt'")
    assert ended.stderr.count("\n") == 1


def test_a_spent_budget_is_told_with_what_to_do_next(tmp_path: Path) -> None:
    script = write_script(tmp_path / "script.json")
    ended = run(tmp_path, "--executor", "scripted:default", "--calls", 3, script=script)
    assert ended.returncode == 1
    assert "paused: The budget is spent (3 of 3 calls)" in ended.stdout
    assert "next: resume_run(run_id='run_" in ended.stdout


@pytest.mark.slow
def test_it_works_with_the_real_local_model(tmp_path: Path) -> None:
    if find_weights("smollm2", cache_folder()) is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    lines = (EXAMPLE.parent / "arithmetic" / "rows.jsonl").read_text().splitlines()
    few: dict[str, list[str]] = {}
    for line in lines:
        few.setdefault(str(json.loads(line).get("split")), []).append(line)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(line for split in few.values() for line in split[:4]) + "\n")
    flags = ("--executor", "local:smollm2", "--preset", "quick", "--rows", rows)
    ended = run(tmp_path, *flags, "--calls", 25, script=None)
    assert ended.stderr == ""
    # So few calls may or may not be enough: either way the server says how it stands.
    assert ended.returncode == (0 if "beats the baseline: " in ended.stdout else 1)
    assert "beats the baseline: " in ended.stdout or "paused: The budget" in ended.stdout
