"""Latency of tool calls over stdio while a run is going on."""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from mcp import Client, StdioServerParameters

from bench.figures import Figure

__all__ = ["tool_calls"]

_CALLS = 400


def tool_calls() -> list[Figure]:
    """get_run against a real server process whose run asks a scripted model of 20 ms."""
    seconds = sorted(asyncio.run(_measure()))
    p50 = statistics.median(seconds) * 1000
    p95 = seconds[int(0.95 * len(seconds))] * 1000
    return [
        Figure(
            f"get_run while a run is going on, {len(seconds)} calls",
            "none",
            f"p50 {p50:.1f} ms, p95 {p95:.1f} ms",
            None,
        )
    ]


async def _measure() -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps({"default": "I do not know: 7", "latency_ms": 20}))
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "bayesflow_server", "--db", str(Path(folder) / "bench.sqlite3")],
            env={"BAYESFLOW_SCRIPTED_MODEL": str(script)},
        )
        async with Client(server) as client:
            rows = [{"input": f"What is {i} plus 2?", "target": str(i + 2)} for i in range(200)]
            started = await client.call_tool(
                "start_bayesflow_run",
                {
                    "instructions": "Add the numbers.",
                    "executor": "scripted:default",
                    "optimizer": "grammar",
                    "examples": rows,
                    "options": {"particles": 40, "rounds": 5, "beta": 5},
                },
            )
            assert started.structured_content is not None
            run_id = started.structured_content["run_id"]
            seconds: list[float] = []
            for _ in range(_CALLS):
                began = time.perf_counter()
                state = await client.call_tool("get_run", {"run_id": run_id, "wait_seconds": 0})
                seconds.append(time.perf_counter() - began)
                # Spread over the run: its first half second is quieter than what follows.
                await asyncio.sleep(0.015)
                assert state.structured_content is not None
                if state.structured_content["status"] != "running":
                    break
            await client.call_tool("cancel_run", {"run_id": run_id})
            return seconds
