"""CPU from spawn to the first response, beside a minimal server of the same SDK, in one run."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.figures import Figure

__all__ = ["cold_start"]

_ROUNDS = 9
_MINIMAL = """
from mcp.server.mcpserver import MCPServer
MCPServer("minimal", log_level="ERROR").run()
"""
_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def cold_start() -> list[Figure]:
    """Interleaves both servers, so that a busy machine touches both alike."""
    ours: list[float] = []
    minimal: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder) / "bench.sqlite3")
        for _ in range(_ROUNDS):
            minimal.append(_cpu([sys.executable, "-c", _MINIMAL]))
            ours.append(_cpu([sys.executable, "-m", "bayesflow_server", "--db", database]))
    extra = (statistics.median(ours) - statistics.median(minimal)) * 1000
    return [
        Figure(
            f"spawn to first response, CPU, median of {_ROUNDS}",
            "at most 60 ms over a minimal MCPServer",
            f"{extra:+.0f} ms ({statistics.median(ours) * 1000:.0f} ms against "
            f"{statistics.median(minimal) * 1000:.0f} ms)",
            extra <= 60,
        )
    ]


def _cpu(command: list[str]) -> float:
    """CPU seconds of the process until its first response (Linux), or in all (elsewhere)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(_INITIALIZE).encode() + b"\n")
        process.stdin.flush()
        process.stdout.readline()
        now = _process_cpu(process.pid)
        process.kill()
    if now is not None:
        return now
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _process_cpu(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
