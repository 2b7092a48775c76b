"""Memory of a server after a run of 100,000 executions. Takes two to three minutes."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from mcp import Client, StdioServerParameters

from bench.figures import Figure, say

__all__ = ["server_memory"]

_EXECUTIONS = 100_000
_GOAL_MB = 150
_ROWS = 480
# The grammar has some three hundred workflows for this task; each runs on every row.
_OPTIONS = {
    "particles": 250,
    "rounds": 8,
    "beta": 0.5,
    "minibatch": None,
    "splits": {"validation": _ROWS, "selection": 60, "test": 60},
}


class _Point(NamedTuple):
    executions: int
    mb: float


def server_memory() -> list[Figure]:
    """A real server and store, a model that answers at once, the built-in grammar."""
    if not sys.platform.startswith("linux"):
        return []
    with tempfile.TemporaryDirectory() as folder:
        points = asyncio.run(_measure(Path(folder)))
    first, last = points[0], points[-1]
    # The first half makes what a server makes once: interpreters, caches, buffers.
    half = next(one for one in points if one.executions >= last.executions / 2)
    growth = (last.mb - half.mb) * 2**20 / max(last.executions - half.executions, 1)
    return [
        Figure(
            f"resident memory of a server after {last.executions:,} executions",
            f"at most {_GOAL_MB} MB",
            f"{last.mb:.0f} MB ({first.mb:.0f} MB when the run began; then {growth:.0f} bytes an "
            "execution)",
            last.mb <= _GOAL_MB,
        )
    ]


async def _measure(folder: Path) -> list[_Point]:
    database = folder / "bench.sqlite3"
    async with _served(folder, database) as client:
        rows = [
            json.dumps({"input": f"What is {i} plus 2?", "target": str(i + 2)})
            for i in range(_ROWS + 120)
        ]
        data = folder / "rows.jsonl"
        data.write_text("\n".join(rows))
        started = await client.call_tool(
            "start_bayesflow_run",
            {
                "instructions": "Add the numbers.",
                "executor": "scripted:default",
                "optimizer": "grammar",
                "examples": str(data),
                "budget": {"calls": 10**7},
                "options": _OPTIONS,
            },
        )
        if started.structured_content is None:
            raise RuntimeError(f"start_bayesflow_run answered {started.content}")
        run_id = started.structured_content["run_id"]
        server = _server_of(database)
        points = [_Point(0, _resident_mb(server))]
        status = "running"
        while status in ("queued", "running") and points[-1].executions < _EXECUTIONS:
            state = await client.call_tool("get_run", {"run_id": run_id, "wait_seconds": 5})
            assert state.structured_content is not None
            status = state.structured_content["status"]
            points.append(_Point(_executions(database), _resident_mb(server)))
            say(f"  {points[-1].executions:,} executions, {points[-1].mb:.0f} MB")
        await client.call_tool("cancel_run", {"run_id": run_id})
        return points


@asynccontextmanager
async def _served(folder: Path, database: Path) -> AsyncGenerator[Client]:
    script = folder / "script.json"
    script.write_text(json.dumps({"default": "7"}))
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "bayesflow_server", "--db", str(database)],
        env={"BAYESFLOW_SCRIPTED_MODEL": str(script)},
    )
    async with Client(server) as client:
        yield client


def _server_of(database: Path) -> int:
    """The process that was started on this database."""
    found = subprocess.run(
        ["pgrep", "-f", f"bayesflow_server --db {database}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout.split()[0])


def _resident_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


def _executions(database: Path) -> int:
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        (count,) = db.execute("SELECT COUNT(*) FROM executions").fetchone()
    finally:
        db.close()
    return int(count)
