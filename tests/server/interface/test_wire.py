"""Half characters in a request, as hosts send that cut texts without looking."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.interface.wire import mended
from fakes.mcp_sessions import task_arguments, write_rows, write_script
from fakes.server_process import ServerProcess


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("\ud83d", "\ufffd"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        ("\\ud83d", "\\ud83d"),  # a backslash and letters
        ("\\\ud83d", "\\\ufffd"),
    ],
)
def test_half_a_character_becomes_a_mark_and_all_else_stays(text: str, kept: str) -> None:
    assert json.loads(mended(json.dumps(text).encode())) == kept


@given(st.text())
def test_whole_text_is_left_alone(text: str) -> None:
    for line in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert mended(line.encode()) == line.encode()


def test_a_request_with_half_a_character_is_answered(tmp_path: Path) -> None:
    rows, script = write_rows(tmp_path / "rows.jsonl"), write_script(tmp_path / "script.json")
    with ServerProcess(tmp_path / "runs.sqlite3", script) as server:
        request = task_arguments(rows, optimizer="client", preset="client", options=None)
        run = {"run_id": server.call("start_bayesflow_run", request)["run_id"]}
        given = json.loads(json.dumps(server.call("next_proposals", run)["proposals"]))
        answers = [{"proposal_id": given[0]["proposal_id"], "text": "half a \ud83d"}]
        taken = json.loads(
            json.dumps(server.call("submit_proposals", run | {"answers": answers})["answers"])
        )
        assert [one["result"] for one in taken] == ["accepted"]
