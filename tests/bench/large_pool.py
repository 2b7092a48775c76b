"""get_pool of a run with 10,000 workflows, in a server process of its own."""

import asyncio
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mcp import Client, StdioServerParameters

from bench.figures import Figure

__all__ = ["large_pool"]

_WORKFLOWS = 10_000
_ROUNDS = 10
_ROWS = 200
_CALLS = 100
_GOAL_MS = 15


def large_pool() -> list[Figure]:
    """The first call, which reads and ranks; then calls that vary what is asked."""
    with tempfile.TemporaryDirectory() as folder:
        first, others = asyncio.run(_measure(Path(folder)))
    p50 = statistics.median(others) * 1000
    return [
        Figure(
            f"get_pool of {_WORKFLOWS:,} workflows, median of {len(others)} calls",
            f"at most {_GOAL_MS} ms",
            f"{p50:.1f} ms (longest {max(others) * 1000:.0f} ms)",
            p50 <= _GOAL_MS,
        ),
        Figure(
            f"get_pool of {_WORKFLOWS:,} workflows, the very first call",
            "none",
            f"{first * 1000:.0f} ms",
            None,
        ),
    ]


async def _measure(folder: Path) -> tuple[float, list[float]]:
    database = folder / "bench.sqlite3"
    script = folder / "script.json"
    script.write_text(json.dumps({"default": "7", "latency_ms": 1}))
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "bayesflow_server", "--db", str(database)],
        env={"BAYESFLOW_SCRIPTED_MODEL": str(script)},
    )
    async with Client(server) as client:
        run_id = await _short_run(client)
        await asyncio.to_thread(_fill, database, run_id)
        first = await _seconds(client, {"run_id": run_id})
        others: list[float] = []
        for number in range(_CALLS):
            page = {"cursor": str(20 * (number % 40))} if number % 40 else {}
            sort = ("posterior", "validation", "cost")[number * 3 // _CALLS]
            others.append(await _seconds(client, {"run_id": run_id, "sort": sort, **page}))
        return first, others


async def _seconds(client: Client, arguments: dict[str, object]) -> float:
    began = time.perf_counter()
    result = await client.call_tool("get_pool", arguments)
    seconds = time.perf_counter() - began
    if result.structured_content is None or result.structured_content["total"] < _WORKFLOWS:
        raise RuntimeError(f"get_pool answered {result.content}")
    return seconds


async def _short_run(client: Client) -> str:
    """A run that is finished, to be filled up."""
    rows = [{"input": f"What is {i} plus 2?", "target": str(i + 2)} for i in range(30)]
    started = await client.call_tool(
        "start_bayesflow_run",
        {
            "instructions": "Add the numbers.",
            "executor": "scripted:default",
            "optimizer": "grammar",
            "examples": rows,
            "options": {"particles": 4, "rounds": 2, "beta": 5},
        },
    )
    if started.structured_content is None:
        raise RuntimeError(f"start_bayesflow_run answered {started.content}")
    run_id = str(started.structured_content["run_id"])
    status = "running"
    while status in ("queued", "running"):
        state = await client.call_tool("get_run", {"run_id": run_id, "wait_seconds": 20})
        assert state.structured_content is not None
        status = state.structured_content["status"]
    return run_id


def _fill(database: Path, run_id: str) -> None:
    """Adds a long run's workflows, scores and rounds to what the run has."""
    chance = random.Random(1)
    names = [f"wf_{number:012x}" for number in range(_WORKFLOWS)]
    steps = json.dumps([f"Step {number}: work out a part of the answer" for number in range(4)])
    db = sqlite3.connect(database)
    with db:
        db.executemany(
            "INSERT INTO workflows VALUES (?, ?, ?)",
            ((name, "async def f(): ...\n" * 100, steps) for name in names),
        )
        db.executemany(
            "INSERT INTO pool VALUES (?, ?, ?, 'prior', NULL, 1)",
            ((run_id, name, 1 + number % _ROUNDS) for number, name in enumerate(names)),
        )
        db.executemany(
            "INSERT INTO summaries (run_id, workflow_id, split, rows, mean, variance, failed, "
            "calls, tokens, cost_usd, seconds, replicate) "
            "VALUES (?, ?, 'validation', ?, ?, 0.2, 0, 300, 40000, ?, 90.0, 0)",
            ((run_id, name, _ROWS, chance.random(), chance.random()) for name in names),
        )
        (text,) = db.execute(
            "SELECT stats FROM rounds WHERE run_id = ? ORDER BY round", (run_id,)
        ).fetchone()
        db.execute("DELETE FROM rounds WHERE run_id = ? AND round > 1", (run_id,))
        for number in range(2, 2 + _ROUNDS):
            own = names[(number - 2) :: _ROUNDS]
            stats = json.loads(text) | {
                "round": number,
                "draws": [[name, 0.0, 0] for name in own],
                "fully_scored": True,
            }
            db.execute("INSERT INTO rounds VALUES (?, ?, ?)", (run_id, number, json.dumps(stats)))
    db.close()
