"""The server as it is started by hand, and narrowed by its flags."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from fakes.mcp_sessions import environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")


def command(db: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "bayesflow_server", "--db", str(db), *flags]


def test_a_person_who_starts_it_by_hand_is_told_what_it_is(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(tmp_path / "x.sqlite3"),
        env=environment(None),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    assert process.stderr is not None
    told = [process.stderr.readline() for _ in range(3)]
    os.write(ours, b"\x04")  # the end of input, typed
    out, err = process.communicate(timeout=30)
    os.close(ours)
    assert "MCP server" in told[0]
    assert "waits for a client on stdin" in told[0]
    assert "claude mcp add" in told[1]
    assert "bayesflow-mcp --help" in told[2]
    assert (process.returncode, out, err) == (0, "", "")


def test_a_host_is_told_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        command(tmp_path / "x.sqlite3"),
        env=environment(None),
        input="",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("flags", "offered"),
    [
        (["--tools", "get_run,get_pool"], {"get_run", "get_pool"}),
        (["serve", "--read-only", "--tools", "get_run", "--tools", "cancel_run"], {"get_run"}),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_flags_narrow_what_is_offered(
    tmp_path: Path, flags: list[str], offered: set[str], mode: str
) -> None:
    program, *arguments = command(tmp_path / "x.sqlite3", *flags)
    server = StdioServerParameters(command=program, args=arguments, env=environment(None))
    async with Client(server, mode=mode) as client:
        listed = await client.list_tools()
    assert {tool.name for tool in listed.tools} == offered
