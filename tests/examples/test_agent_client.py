"""The example agent, as its reader would start it."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from bayesflow_sampler.source import parse_workflow
from bayesflow_sandbox.policy import check_workflow
from bayesflow_server.models.weights import cache_folder, find_weights
from fakes.mcp_sessions import environment, write_rows, write_script

EXAMPLE = Path(__file__).parents[2] / "examples" / "agent_client.py"


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


def test_it_writes_a_runs_workflows_and_prints_the_best(tmp_path: Path) -> None:
    script = write_script(tmp_path / "script.json")
    rows = write_rows(tmp_path / "rows.jsonl")
    flags = ("--executor", "scripted:default", "--rows", rows, "--most", 24)
    ended = run(tmp_path, *flags, script=script)
    assert (ended.returncode, ended.stderr) == (0, "")
    for text in (
        "Round 1 takes it as its refinements begin.",
        "answered extend accepted, extend accepted; 0 open",
        "answered critique accepted",
        "answered edit accepted",
        "class Workflow",
        "beats the baseline: ",
    ):
        assert text in ended.stdout, ended.stdout
    assert "repair" not in ended.stdout


def test_it_prints_the_servers_sentence_and_ends_with_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "--executor", "gpt", script=None)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Unknown model 'gpt'")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("number", range(9))
def test_every_design_and_the_idea_are_workflows_that_may_run(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(sys, "path", [str(EXAMPLE.parent), *sys.path])
    example = runpy.run_path(str(EXAMPLE))
    source: str = example["IDEA"] if number == 8 else example["Agent"](designs=number).design(1)
    assert check_workflow(source) is None
    workflow = parse_workflow(source)
    assert len(workflow) == (1 if number == 8 else 3)


@pytest.mark.slow
def test_it_works_with_the_real_local_model(tmp_path: Path) -> None:
    if find_weights("smollm2", cache_folder()) is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    ended = run(tmp_path, "--most", 4, script=None)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "beats the baseline: " in ended.stdout
