"""Latency of `get_run` over stdio while a run is writing."""

import json
import statistics
import tempfile
import time
from pathlib import Path

from bench.figures import Figure
from bench.line_client import LineClient

__all__ = ["tool_calls"]

_BURSTS = 40
_CALLS = 20
_PAUSE_SECONDS = 0.2
_TASK = {
    "instructions": "Add the numbers.",
    "executor": "scripted:default",
    "optimizer": "grammar",
    "examples": [{"input": f"What is {i} plus 2?", "target": str(i + 2)} for i in range(200)],
    "options": {"particles": 100, "rounds": 5, "beta": 5},
}


def tool_calls() -> list[Figure]:
    """A run as they are, and one that takes all of a core; back to back, all over the run."""
    usual = sorted(_measure(latency_ms=300))
    p50, p99 = _milliseconds(usual, 0.5), _milliseconds(usual, 0.99)
    busy = sorted(_measure(latency_ms=20))
    busy_p50, busy_p99 = _milliseconds(busy, 0.5), _milliseconds(busy, 0.99)
    return [
        Figure(
            f"get_run while a run is writing, model of 300 ms, {len(usual)} calls",
            "p50 at most 1.5 ms, p99 at most 10 ms",
            f"p50 {p50:.2f} ms, p99 {p99:.1f} ms",
            p50 <= 1.5 and p99 <= 10,
        ),
        Figure(
            f"get_run while a run takes a whole core, model of 20 ms, {len(busy)} calls",
            "p99 at most 50 ms",
            f"p50 {busy_p50:.2f} ms, p99 {busy_p99:.1f} ms",
            busy_p99 <= 50,
        ),
    ]


def _milliseconds(ordered: list[float], share: float) -> float:
    if share == 0.5:
        return statistics.median(ordered) * 1000
    return ordered[int(share * len(ordered))] * 1000


def _measure(*, latency_ms: int) -> list[float]:
    """Seconds of each call, on a real server process."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.json"
        script.write_text(json.dumps({"default": "I do not know: 7", "latency_ms": latency_ms}))
        with LineClient(Path(folder) / "bench.sqlite3", script) as client:
            run_id = client.call("start_bayesflow_run", _TASK).result["run_id"]
            time.sleep(1)  # its first second is quieter than what follows
            seconds = _bursts(client, run_id)
            client.call("cancel_run", {"run_id": run_id})
            return seconds


def _bursts(client: LineClient, run_id: str) -> list[float]:
    seconds: list[float] = []
    for _ in range(_BURSTS):
        for _ in range(_CALLS):
            state = client.call("get_run", {"run_id": run_id, "wait_seconds": 0})
            seconds.append(state.seconds)
            if state.result["status"] != "running":
                return seconds
        time.sleep(_PAUSE_SECONDS)
    return seconds
