"""Another process over the same file: `python child.py COMMAND DATABASE NAME`."""

import asyncio
import os
import resource
import sys
from pathlib import Path

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import NewRun

WRITERS = 10
DRAWS_EACH = 30
FILE_LIMIT_BYTES = 2_000_000


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


async def write(store: Store, name: str) -> None:
    """Writes `WRITERS` x `DRAWS_EACH` draws and claims the run, as other processes do too."""

    async def writer(number: int) -> None:
        for draw in range(DRAWS_EACH):
            await store.record_draw("run", f"{name}/{number}/{draw}", "value")

    async with asyncio.TaskGroup() as tasks:
        for number in range(WRITERS):
            tasks.create_task(writer(number))
    if await store.claim_run("run", name, from_owner=None, statuses=["queued"]):
        say("claimed")


async def acknowledge(store: Store, name: str) -> None:
    """Writes until it is killed, naming each draw once it is acknowledged."""
    await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])

    async def writer(number: int) -> None:
        draw = 0
        while True:
            key = f"{name}/{number}/{draw}"
            await store.record_draw("run", key, key)
            say(key)
            draw += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(WRITERS):
            tasks.create_task(writer(number))


async def fill(store: Store, name: str) -> None:
    """Meets a full disk (a limit on file size stands for it), then gets room again."""
    await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT_BYTES, hard))
    kept = 0
    try:
        while True:
            await store.record_draw("run", f"{name}/{kept}", "x" * 100_000)
            kept += 1
    except StoreError as error:
        say(f"refused: {error}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    await store.record_draw("run", f"{name}/after", "value")
    say(f"kept {kept}, stored {len(await store.draws('run'))}")


async def main() -> None:
    command, database, name = sys.argv[1:]
    async with await Store.open(Path(database)) as store:
        await {"write": write, "acknowledge": acknowledge, "fill": fill}[command](store, name)


asyncio.run(main())
