import asyncio
import os
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from bayesflow_server.store import Store
from bayesflow_server.store.records import NewRun

CHILD = Path(__file__).with_name("child.py")
ENOUGH_DRAWS = 300


async def start(command: str, path: Path, name: str) -> Process:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), command, str(path), name, env=environment, stdout=PIPE
    )


async def test_two_processes_write_to_one_file_without_losing_a_draw(path: Path) -> None:
    async with await Store.open(path) as store:
        await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
        children = [await start("write", path, name) for name in ("a", "b")]
        outputs = [(await child.communicate())[0] for child in children]
        draws = await store.draws("run")
    assert [child.returncode for child in children] == [0, 0]
    assert len(draws) == 2 * 10 * 30
    assert sorted(outputs) == [b"", b"claimed\n"]


async def test_every_acknowledged_draw_survives_sigkill(path: Path) -> None:
    child = await start("acknowledge", path, "k")
    assert child.stdout is not None
    lines = [await child.stdout.readline() for _ in range(ENOUGH_DRAWS)]
    child.send_signal(signal.SIGKILL)
    lines += (await child.stdout.read()).splitlines(keepends=True)
    assert await child.wait() == -signal.SIGKILL
    acknowledged = {line.decode().strip() for line in lines if line.endswith(b"\n")}
    async with await Store.open(path) as store:
        draws = await store.draws("run")
    assert len(acknowledged) >= ENOUGH_DRAWS
    assert acknowledged <= draws.keys()
    assert all(key == value for key, value in draws.items())
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


async def test_a_full_disk_is_one_clear_error_and_writing_goes_on_when_there_is_room(
    path: Path,
) -> None:
    child = await start("fill", path, "f")
    output = (await child.communicate())[0].decode()
    assert child.returncode == 0
    refused, kept = output.splitlines()
    assert refused.startswith("refused: ")
    assert "disk" in refused
    assert "resume" in refused
    words = kept.replace(",", "").split()
    assert int(words[3]) == int(words[1]) + 1
