"""CPU from spawn to the first response, beside a minimal server of the same SDK, in one run.

And to the list of tools: fifteen of ours, while the minimal server has none.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.figures import Figure

__all__ = ["cold_start"]

_ROUNDS = 9
_GOAL_MS = 150
_MINIMAL = """
from mcp.server.mcpserver import MCPServer
MCPServer("minimal", log_level="ERROR").run()
"""
_INITIALIZE: dict[str, object] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}
_INITIALIZED: dict[str, object] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
_LIST: dict[str, object] = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}


class _Start(NamedTuple):
    """CPU seconds since the process was spawned."""

    answered: float
    listed: float


def cold_start() -> list[Figure]:
    """Interleaves both servers, so that a busy machine touches both alike."""
    ours: list[_Start] = []
    minimal: list[_Start] = []
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "bench.sqlite3")
        for _ in range(_ROUNDS):
            minimal.append(_cpu([sys.executable, "-c", _MINIMAL]))
            ours.append(_cpu([sys.executable, "-m", "bayesflow_server", "--db", database]))
    return [
        _figure("first response", [one.answered for one in ours], [o.answered for o in minimal]),
        _figure("list of tools", [one.listed for one in ours], [o.listed for o in minimal]),
    ]


def _figure(what: str, ours: list[float], minimal: list[float]) -> Figure:
    extra = (statistics.median(ours) - statistics.median(minimal)) * 1000
    return Figure(
        f"spawn to {what}, CPU, median of {_ROUNDS}",
        f"at most {_GOAL_MS} ms over a minimal MCPServer without tools",
        f"{extra:+.0f} ms ({statistics.median(ours) * 1000:.0f} ms against "
        f"{statistics.median(minimal) * 1000:.0f} ms)",
        extra <= _GOAL_MS,
    )


def _cpu(command: list[str]) -> _Start:
    """CPU seconds of the process (Linux) until its first response and until its tools are listed.

    Elsewhere only the processor time of all of its life can be had: it stands for both.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        moments: list[float | None] = []
        for messages in ([_INITIALIZE], [_INITIALIZED, _LIST]):
            process.stdin.writelines(json.dumps(one).encode() + b"\n" for one in messages)
            process.stdin.flush()
            process.stdout.readline()
            moments.append(_process_cpu(process.pid))
        process.kill()
    answered, listed = moments
    if answered is not None and listed is not None:
        return _Start(answered, listed)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _Start(whole, whole)


def _process_cpu(pid: int) -> float | None:
    """Seconds of all threads, to the nanosecond: the usual clock counts hundredths."""
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
    except OSError:
        return None
