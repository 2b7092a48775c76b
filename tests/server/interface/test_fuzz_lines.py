"""The real process given lines that are no requests, or requests as nobody should send them."""

import json
import os
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fakes.mcp_sessions import write_script
from fakes.server_process import ABOUT_EACH, ServerProcess

_ASKED: Final = os.environ.get("BAYESFLOW_FUZZ_EXAMPLES")
FEW: Final = 40
MANY: Final = 400
HUGE: Final = 3_000_000
TURNS: Final = 50


# What each request of the newer revision says about itself.
ABOUT: Final = f',"_meta":{json.dumps(ABOUT_EACH)}'


def _call(
    arguments: str, about: str, name: str = '"list_runs"', identifier: str = '"odd"'
) -> bytes:
    """A call of a tool, as text, so that it may hold what is no JSON."""
    return (
        f'{{"jsonrpc":"2.0","id":{identifier},"method":"tools/call",'
        f'"params":{{"name":{name},"arguments":{arguments}{about}}}}}'
    ).encode("utf-8", "surrogatepass")


# A request that shows its id is answered, whether it can be read or not.
ODD_ARGUMENTS: Final = (
    "null",
    "[]",
    "[1]",
    '"text"',
    "17",
    "true",
    '{"limit":NaN}',
    '{"limit":Infinity}',
    '{"limit":-Infinity}',
    '{"limit":1e999}',
    '{"limit":1,"limit":2}',
    '{"cursor":"\\ud83d"}',
    '{"cursor":"\\u0000"}',
    '{"cursor":"\\ud83d\\ud83d\\ude00"}',
    '{"\\udc00":1}',
    '{"cursor":"' + "x" * HUGE + '"}',
    '{"cursor":' + "[" * 150 + "]" * 150 + "}",
    "{" + ",".join(f'"a{number}":1' for number in range(5_000)) + "}",
)
UNREADABLE_ARGUMENTS: Final = (
    '{"limit":' + "9" * 5_000 + "}",
    '{"limit":0x10}',
    '{"cursor":' + "[" * 100_000 + "]" * 100_000 + "}",
    '{"cursor":' + '{"a":' * 5_000 + "1" + "}" * 5_000 + "}",
    '{"limit":1,}',
    "{'limit':1}",
    '{"limit":1',
    "",
)
# No number: it might be the id of a call that is on its way.
PIECES: Final = (
    *b'{ } [ ] : , " null "jsonrpc" "2.0" "id" "method" "params" "name" "arguments"'.split(),
    b'"tools/call"',
    b'"list_runs"',
)
ODD_NAMES: Final = ("null", '""', '"no_such_tool"', '"' + "n" * 10_000 + '"', '["list_runs"]')
ODD_IDENTIFIERS: Final = ("null", "1.5", "-1", "true", "[]", "{}", '""', "9" * 400)
ODD_LINES: Final = (
    b"",
    b"\n",
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"\xff\xfe\x00",
    b"\xef\xbb\xbf{}",
    b"\x00" * 100,
    b"Content-Length: 10\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b'{"jsonrpc":"1.0","id":1,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":"odd","method":17}',
    b'{"jsonrpc":"2.0","id":"odd","method":"no/such"}',
    b'{"jsonrpc":"2.0","id":"odd","method":"tools/call"}',
    b'{"jsonrpc":"2.0","id":"odd","method":"tools/call","params":[]}',
    b'{"jsonrpc":"2.0","id":"odd","method":"tools/call","params":{"name":"list_runs","_meta":7}}',
    b'{"jsonrpc":"2.0","id":"odd","method":"initialize","params":{}}',
    b'{"jsonrpc":"2.0","id":"odd","method":"resources/read","params":{"uri":"\\u0000"}}',
    b'{"jsonrpc":"2.0","id":"odd","method":"resources/read","params":{"uri":"bayesflow://runs/.."}}',
    b'{"jsonrpc":"2.0","id":"odd","method":"prompts/get","params":{"name":"x","arguments":[]}}',
    b'{"jsonrpc":"2.0","id":"odd","method":"completion/complete","params":{}}',
    b'{"jsonrpc":"2.0","id":"odd","result":{}}',
    b'{"jsonrpc":"2.0","id":"odd","error":{"code":1,"message":"x"}}',
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"none"}}',
    b'{"jsonrpc":"2.0","method":"notifications/progress","params":{}}',
    b'{"jsonrpc":"2.0","method":"notifications/initialized","params":{"x":"\\ud800"}}',
    b'[{"jsonrpc":"2.0","id":"odd","method":"ping"}]',
)


def odd_lines(about: str) -> list[bytes]:
    """All of them."""
    return [
        *(_call("{}", about, name=name) for name in ODD_NAMES),
        *(_call("{}", about, identifier=one) for one in ODD_IDENTIFIERS),
        *ODD_LINES,
    ]


def is_well(server: ServerProcess, line: bytes) -> None:
    """Sends the line; the server answers the next call, and says nothing that is no message."""
    assert server.process.stdin is not None
    server.process.stdin.write(line + b"\n")
    server.process.stdin.flush()
    server.notifications.clear()
    assert server.call("list_runs", {"limit": 1})["runs"] == []
    _leaks_nothing(server)


def is_answered(server: ServerProcess, line: bytes) -> None:
    """Sends a request of the id `odd`; it is answered, at the latest after some further calls."""
    is_well(server, line)
    for _ in range(TURNS):
        if any(message.get("id") == "odd" for message in server.notifications):
            break
        server.call("list_runs", {"limit": 1})
    else:
        raise AssertionError(line[:200])
    _leaks_nothing(server)


def _leaks_nothing(server: ServerProcess) -> None:
    for message in server.notifications:  # all that came meanwhile: the odd line's answer, if any
        text = json.dumps(message)
        for leak in ("Traceback", "pydantic", "inside the server", 'File \\"'):
            assert leak not in text, text[:2_000]


def ends_well(server: ServerProcess, log: Path) -> None:
    """Its end is as if nothing had been."""
    assert server.end(by=None) == 0
    assert b"Traceback" not in log.read_bytes()


@pytest.mark.parametrize("modern", [False, True], ids=["legacy", "modern"])
def test_odd_lines_do_not_stop_the_server(tmp_path: Path, modern: bool) -> None:
    log = tmp_path / "log"
    script = write_script(tmp_path / "script.json")
    with ServerProcess(tmp_path / "runs.sqlite3", script, log=log, modern=modern) as server:
        is_well(server, b"")  # the first request decides which revision the connection speaks
        for arguments in (*ODD_ARGUMENTS, *UNREADABLE_ARGUMENTS):
            is_answered(server, _call(arguments, ABOUT if modern else ""))
        for line in odd_lines(ABOUT if modern else ""):
            is_well(server, line)
        ends_well(server, log)


def _fuzz_lines(folder: Path, examples: int) -> None:
    log = folder / "log"
    piece = st.sampled_from(PIECES) | st.binary(max_size=6)
    lines = st.lists(piece, max_size=24).map(b"".join) | st.builds(
        _spoiled, st.sampled_from(odd_lines("")), st.integers(0, 200), st.binary(max_size=4)
    )
    with ServerProcess(folder / "runs.sqlite3", write_script(folder / "s.json"), log=log) as server:

        @settings(
            max_examples=int(_ASKED) if _ASKED else examples,
            derandomize=_ASKED is None,
            database=None,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(lines)
        def each(line: bytes) -> None:
            is_well(server, line.replace(b"\n", b" "))

        each()
        ends_well(server, log)


def _spoiled(line: bytes, place: int, put: bytes) -> bytes:
    short = line[:2_000]
    return short[:place] + put + short[place + len(put) :]


def test_lines_of_bits_of_requests_do_not_stop_the_server(tmp_path: Path) -> None:
    _fuzz_lines(tmp_path, FEW)


@pytest.mark.slow
def test_many_lines_of_bits_of_requests_do_not_stop_the_server(tmp_path: Path) -> None:
    _fuzz_lines(tmp_path, MANY)
