"""What a journalled draw costs with 50 concurrent writers."""

import asyncio
import tempfile
import time
from pathlib import Path

from bayesflow_server.store.records import NewRun
from bayesflow_server.store.store import Store
from bench.figures import Figure

__all__ = ["journal"]

_WRITERS = 50
_DRAWS = 40


def journal() -> list[Figure]:
    """Draws of realistic size, each acknowledged only when it is on disk."""
    seconds = asyncio.run(_write())
    each = seconds / (_WRITERS * _DRAWS) * 1000
    return [
        Figure(
            f"journal cost per draw, {_WRITERS} concurrent",
            "at most 1 ms",
            f"{each:.3f} ms",
            each <= 1,
        )
    ]


async def _write() -> float:
    draw = "x" * 3000
    with tempfile.TemporaryDirectory() as folder:
        async with await Store.open(Path(folder) / "bench.sqlite3") as store:
            await store.create_run(NewRun("run_bench", "{}", "0"), [])

            async def writer(number: int) -> None:
                for index in range(_DRAWS):
                    await store.record_draw("run_bench", f"extend/{number}/{index}/0", draw)

            started = time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for number in range(_WRITERS):
                    group.create_task(writer(number))
            return time.perf_counter() - started
