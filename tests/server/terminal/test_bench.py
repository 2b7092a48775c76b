"""`bench` as a person types it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bayesflow_server.models.scripted import read_counts
from bayesflow_server.models.weights import cache_folder, find_weights
from fakes.command_line import Command
from fakes.mcp_sessions import environment
from server.benchmarks.published import FILES

FLAGS = ("--optimizer", "grammar", "--executor", "scripted:default")
SMALL = ("--option", "particles=2", "--option", "rounds=1", "--option", "refinements=1")
DATA = Path(os.environ.get("BAYESFLOW_TEST_DATA", ""))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Ten rows in the benchmark's published form."""
    return FILES["gsm8k"](tmp_path, 10)


@pytest.fixture
def script(tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that is right about the even ones, and counts."""
    return scripted(tmp_path, monkeypatch)


def scripted(folder: Path, monkeypatch: pytest.MonkeyPatch, latency_ms: float = 0.0) -> Path:
    rules = [
        {"contains": f"Ida has {n} eggs and gets 1000 more", "answer": f"Answer: {n + 1000}"}
        for n in (8, 6, 4, 2, 0)
    ]
    path = folder / "eggs.json"
    counts = str(folder / "counts")
    path.write_text(
        json.dumps({"rules": rules, "default": "7", "count_file": counts, "latency_ms": latency_ms})
    )
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(path))
    return folder / "counts"


def test_it_says_what_it_will_do_and_prints_the_tables(
    command: Command, rows: Path, script: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    asked = ("bench", "gsm8k", "--data", rows, *FLAGS, *SMALL, "--seeds", 2, "--repeats", 2)
    extra = ("--ablation", "1", "--rounds-figure", "--transfer", "scripted:default")
    said = command(*asked, *extra, "--out", out)
    assert (said.code, said.err) == (0, "")
    for text in (
        "GSM8K: 10 of 10 rows (data seed 0), 2 validation, 8 test (1:4, as in the paper).",
        "Searches: 5, by grammar for scripted:default",
        "what is left may take",
        "Table 1: GSM8K",
        "BayesFlow (this run)",
        "CoT-SC",
        "quoted from the paper, not rerun",
        "Table 2: tokens",
        "Table 3: particles against refinements",
        "Figure 2: validation reward per round",
        "Table 4: transfer to another executor",
        f"wrote {out}",
    ):
        assert text in said.out, text
    saved = json.loads(out.read_text())
    assert saved["stopped"] is None
    assert (tmp_path / "result_rounds.png").read_bytes().startswith(b"\x89PNG")
    asked_before = read_counts(script).started.total()
    again = command(*asked, *extra, "--json")
    assert again.code == 0
    assert json.loads(again.out)["searches"] == saved["searches"]
    assert "Finished searches: 5; nothing is left to do." in again.err
    assert read_counts(script).started.total() == asked_before


def test_a_spent_budget_prints_what_is_done_and_how_to_go_on(
    command: Command, rows: Path, script: Path
) -> None:
    asked = ("bench", "gsm8k", "--data", rows, *FLAGS, *SMALL, "--seeds", 1, "--repeats", 1)
    said = command(*asked, "--calls", 20)
    assert said.code == 1
    assert "warning: The budget of 20 calls is below" in said.out
    assert "Spent 20 calls" in said.out
    last = said.out.splitlines()[-1]
    assert last.startswith("The budget is spent (20 of 20 calls). Everything measured is kept; ")
    assert last.endswith("with a larger --usd, --calls, --tokens or --minutes (the new total).")
    assert read_counts(script).started.total() == 20
    said = command(*asked, "--calls", 5000)
    assert said.code == 0
    assert set(read_counts(script).started.values()) == {1}


def test_other_presets_keep_their_splits_and_say_so(
    command: Command, tmp_path: Path, script: Path
) -> None:
    rows = FILES["gsm8k"](tmp_path, 40)
    asked = ("bench", "gsm8k", "--data", rows, *FLAGS, *SMALL, "--preset", "quick")
    said = command(*asked, "--seeds", 1, "--repeats", 1, "--no-baselines")
    assert said.code == 0
    assert "20 validation, 8 selection, 12 test (the preset 'quick' keeps its own" in said.out
    assert "CoT-SC" not in said.out.partition("Table 1")[2]


def test_two_results_are_compared(
    command: Command, rows: Path, script: Path, tmp_path: Path
) -> None:
    asked = ("bench", "gsm8k", "--data", rows, *FLAGS, *SMALL, "--seeds", 1)
    for name, repeats in (("a.json", 1), ("b.json", 2)):
        assert command(*asked, "--repeats", repeats, "--out", tmp_path / name).code == 0
    places = ("--compare", tmp_path / "a.json", tmp_path / "b.json")
    said = command("bench", *places)
    assert (said.code, said.err) == (0, "")
    for text in ("GSM8K: A against B", "BayesFlow", "CoT-SC", "won:lost:tied", "8 test rows"):
        assert text in said.out
    listed = json.loads(command("bench", *places, "--json").out)
    assert [one["method"] for one in listed] == ["BayesFlow", "IO", "CoT", "CoT-SC"]
    assert {(one["delta"], one["p_value"]) for one in listed} == {(0.0, 1.0)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Name the benchmark: gsm8k, math"),
        (["gms8k"], "did you mean 'gsm8k'?"),
        (["gsm8k"], "GSM8K needs --data PATH: test.jsonl of openai/grade-school-math"),
        (["gsm8k", "--data", "ROWS"], "--executor MODEL"),
        (["gsm8k", "--data", "ROWS", "--executor", "x:y"], "--optimizer MODEL"),
        (["gsm8k", "--data", "missing.jsonl", *FLAGS], "missing.jsonl"),
        (["drop", "--data", "ROWS", *FLAGS], "drop_dataset_dev.json"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--executor", "gpt"], "Unknown model 'gpt'"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--rows", "1"], "1 rows cannot be split"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--ablation", "5;6"], "numbers such as 5,10,15"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--ablation", "21"], "between 1 and 20"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--option", "particle=3"], "particle"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--option", "x"], "is not NAME=VALUE"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--calls", "0"], "budget's calls"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--usd", "3"], "price"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--out", "ROWS/x.json"], "cannot be written"),
        (["gsm8k", "--data", "ROWS", *FLAGS, "--preset", "client"], "invalid choice: 'client'"),
        (["--compare", "a.json", "b.json"], "cannot be read"),
    ],
)
def test_a_wrong_command_is_one_line_on_stderr_and_exit_code_2(
    command: Command, rows: Path, arguments: list[str], says: str
) -> None:
    said = command("bench", *(argument.replace("ROWS", str(rows)) for argument in arguments))
    assert (said.code, said.out) == (3 if "Unknown model" in says else 2, "")
    assert says in said.err
    assert said.err.count("\n") == 1
    assert json.loads(command("runs", "--json").out) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_measurement_is_kept(
    command: Command,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop: signal.Signals,
    code: int,
) -> None:
    scripted(tmp_path, monkeypatch, latency_ms=60_000)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bayesflow_server", "--db", str(tmp_path / "runs.sqlite3")),
            *("bench", "gsm8k", "--data", str(rows), *FLAGS, *SMALL),
        ],
        env=environment(tmp_path / "eggs.json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background ignores SIGINT, and a child would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("search, N=2"):
        assert process.poll() is None
    os.kill(process.pid, stop)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (code, "")
    assert out.splitlines()[-1].startswith("Stopped. Everything measured is kept; the same command")
    [listed] = json.loads(command("runs", "--json").out)
    assert listed["status"] == "paused"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gsm8k", "mmlu_pro"])
def test_a_real_model_is_measured_on_real_rows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bayesflow_server.cli import main

    if not (DATA / f"{name}.jsonl").is_file():
        pytest.skip(f"BAYESFLOW_TEST_DATA names no folder with {name}.jsonl")
    if find_weights("smollm2", cache_folder()) is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    monkeypatch.setenv("BAYESFLOW_DB", str(tmp_path / "runs.sqlite3"))
    flags = (*FLAGS[:3], "local:smollm2", "--option", "particles=2", "--option", "rounds=1")
    few = ("--option", "refinements=0", "--rows", "2", "--seeds", "1", "--repeats", "1")
    asked = ["bench", name, "--data", str(DATA / f"{name}.jsonl"), *flags, *few]
    asked += ["--no-baselines", "--json"]
    assert main(asked) == 0
    first = json.loads(capsys.readouterr().out)
    assert [len(first["rows"][split]) for split in ("validation", "test")] == [1, 1]
    assert [len(one["test"]["scores"][0]) for one in first["searches"]] == [1]
    [executor] = first["searches"][0]["usage"]
    assert (executor["role"], executor["usd"]) == ("executor", 0.0)
    assert executor["calls"] > 2
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out) == first
