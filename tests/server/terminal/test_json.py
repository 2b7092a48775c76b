"""`--json`: one document on stdout, nothing else there, and keys that scripts may rely on."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fakes.command_line import Command, Said

RESULT = {
    "run_id",
    "name",
    "status",
    "reason",
    "report",
    "rounds",
    "calls",
    "cached_calls",
    "needed_calls",
    "tokens",
    "usd",
    "roles",
    "notes",
    "top_errors",
    "seconds",
    "distinct_workflows",
    "evidence",
    "lineages",
    "front",
    "events",
}


def document(said: Said) -> dict[str, Any]:
    """The one JSON document on stdout; it is ASCII on one line."""
    assert said.out.count("\n") == 1
    assert said.out.isascii()
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_run_show_wait_and_resume_give_the_same_document(command: Command, task: Path) -> None:
    first = command("run", task, "--json")
    found = document(first)
    assert set(found) == RESULT
    assert first.err.startswith(f"{found['run_id']}: sums, ")  # progress goes elsewhere
    for name in ("show", "wait", "resume"):
        assert document(command(name, "latest", "--json")) == found, name
    events = found["events"]
    kinds = [event["kind"] for event in events]
    assert kinds == ["queued", "running", "round", "finished"]
    assert set(events[0]) == {"position", "created", "kind", "detail"}
    evidence, lineages = found["evidence"], found["lineages"]
    assert set(evidence) == {
        "beta",
        "log_evidence",
        "relative_error",
        "effective_sample_size",
        "rounds",
    }
    assert set(lineages) == {"clean_share", "unique_ancestors", "structures"}
    front = found["front"]
    assert set(front[0]) == {"workflow_id", "accuracy", "usd_per_row", "tokens_per_row"}


def test_the_other_commands_have_their_documents(
    command: Command, task: Path, tmp_path: Path
) -> None:
    assert command("run", task, "--json").code == 0
    listed = json.loads(command("runs", "--json").out)
    assert [set(one) for one in listed] == [
        {
            "run_id",
            "name",
            "status",
            "reason",
            "executor",
            "created",
            "updated",
            "test_score",
        }
    ]
    cancelled = document(command("cancel", "latest", "--json"))
    assert set(cancelled) == {"run_id", "before", "status", "reason"}
    assert cancelled["before"] == cancelled["status"] == "finished"
    copied = document(command("backup", tmp_path / "copy.sqlite3", "--json"))
    assert set(copied) == {"database", "file", "bytes", "runs"}
    assert document(command("worker", "--once", "--json")) == {"runs": []}
    checked = document(command("check", task, "--json"))
    assert {"ok", "problems", "warnings", "splits", "estimate", "models"} <= set(checked)
    weights = tmp_path / "mine.gguf"
    weights.write_bytes(b"GGUF" + bytes(64))
    pulled = document(command("pull", "mine", "--gguf", weights, "--json"))
    assert pulled == {"model": "local:mine", "path": str(weights)}
    pruned = document(command("prune", "--older-than", "0m", "--yes", "--json"))
    assert set(pruned) == {
        "chosen",
        "answers",
        "deleted",
        "deleted_runs",
        "taken_up",
        "deleted_answers",
        "deleted_workflows",
        "bytes_given_back",
        "not_given_back",
    }


def test_the_doctor_has_a_document(command: Command) -> None:
    said = command("doctor", "--json")
    found = document(said)
    assert (said.code, said.err) == (0, "")
    assert set(found) == {"ok", "findings"}
    findings = found["findings"]
    assert all(set(one) == {"ok", "needed", "subject", "told"} for one in findings)
    needed = {one["subject"]: one["ok"] for one in findings if one["needed"]}
    assert needed == {"sandbox": True, "database": True}


def test_what_goes_wrong_leaves_stdout_empty(command: Command) -> None:
    for arguments in (["show", "run_1"], ["runs", "--limit", "0"], ["prune"]):
        said = command(*arguments, "--json")
        assert (said.code, said.out) == (2, "")


def test_a_number_that_json_has_no_sign_for_is_null(
    command: Command, task: Path, tmp_path: Path
) -> None:
    assert command("run", task, "--json").code == 0
    db = sqlite3.connect(tmp_path / "runs.sqlite3")
    db.execute("UPDATE runs SET active_seconds = 9e999")
    db.commit()
    db.close()
    assert document(command("show", "latest", "--json"))["seconds"] is None


@pytest.mark.parametrize("variable", ["NO_COLOR", "TERM"])
def test_a_pipe_gets_no_colours(
    command: Command, task: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "xterm-256color")
    for arguments in (["run", task], ["runs"], ["show", "latest"], ["check", task], ["doctor"]):
        assert "\x1b" not in command(*arguments).out
