"""Half characters, as hosts send that cut texts without looking, and requests nobody can read."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.interface.wire import UNREADABLE, answerable, mended
from fakes.mcp_sessions import Object, task_arguments, write_rows, write_script
from fakes.server_process import ABOUT_EACH, ServerProcess


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


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":[]}',
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"list_runs",}}',
        b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":'
        + b"[" * 5_000
        + b"]" * 5_000
        + b"}}",
        b'{"method":"x","params":{"a":' + b"9" * 5_000 + b'},"jsonrpc":"2.0", "id" : 7 }',
    ],
)
def test_an_unreadable_request_becomes_one_that_is_refused_in_its_name(line: bytes) -> None:
    request = json.loads(answerable(line))
    assert (request["id"], request["method"]) == (7, UNREADABLE)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":7,"method":"ping"}',
        b'{"jsonrpc":"2.0","method":"notifications/initialized","params":[]}',
        b'{"jsonrpc":"2.0","id":7,"result":[}',  # an answer: nobody waits for ours
        b'{"id":7,"method":"x","params":{"id":8,}}',  # whose it is cannot be told
        b"\xff\n",
        b"\n",
    ],
)
def test_what_is_readable_or_waits_for_no_answer_is_left_alone(line: bytes) -> None:
    assert answerable(line) == line


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
def test_whoever_sends_an_unreadable_request_is_told_so(tmp_path: Path, modern: bool) -> None:
    about = f',"_meta":{json.dumps(ABOUT_EACH)}' if modern else ""
    line = f'{{"jsonrpc":"2.0","id":"odd","method":"x","params":{{"a":[,]{about}}}}}\n'
    script = write_script(tmp_path / "script.json")
    with ServerProcess(tmp_path / "runs.sqlite3", script, modern=modern) as server:
        server.call("list_runs", {})
        assert server.process.stdin is not None
        server.process.stdin.write(line.encode())
        server.process.stdin.flush()
        said: list[Object] = []
        for _ in range(50):
            server.call("list_runs", {})
            said = [one for one in server.notifications if one.get("id") == "odd"]
            if said:
                break
        assert "could not be read" in json.dumps(said)
