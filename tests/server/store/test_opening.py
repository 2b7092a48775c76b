import asyncio
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiosqlite
import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.opening import open_connections
from bayesflow_server.store.records import NewRun, RowRecord

NOBODY = 65534
FULL = 2


def snapshot(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


async def make(path: Path) -> None:
    async with await Store.open(path) as store:
        rows = [RowRecord("test", i, str(i), "x" * 1000) for i in range(100)]
        await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), rows)


async def pragma(connection: aiosqlite.Connection, name: str) -> str | int:
    rows = await connection.execute_fetchall(f"PRAGMA {name}")
    value: str | int = next(iter(rows))[0]
    return value


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


def overwrite(path: Path, data: bytes, start: int) -> None:
    """Cuts the file at ``start`` (from its end, if negative) and appends the data."""
    path.write_bytes(path.read_bytes()[:start] + data)


def change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


async def refusal(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        await Store.open(path, busy_seconds=0.05)
    return str(caught.value)


@pytest.fixture
def strange_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture
def as_an_ordinary_user() -> Iterator[Path]:
    """A folder anyone may enter, and a user who is not root (root may write anywhere)."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        was_root = os.geteuid() == 0
        if was_root:
            os.seteuid(NOBODY)
        yield Path(folder)
        if was_root:
            os.seteuid(0)
        Path(folder).chmod(0o700)


@pytest.mark.parametrize("strange_umask", [0o000, 0o022, 0o777], indirect=True)
@pytest.mark.usefixtures("strange_umask")
async def test_the_file_its_companions_and_new_folders_are_private_whatever_the_umask(
    path: Path,
) -> None:
    async with await Store.open(path) as store:
        await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
        modes = {file.name: mode(file) for file in path.parent.iterdir()}
        assert mode(path.parent) == 0o700
    name = path.name
    assert modes == {name: 0o600, f"{name}-wal": 0o600, f"{name}-shm": 0o600}


async def test_a_file_that_others_could_read_becomes_private(path: Path) -> None:
    await make(path)
    set_mode(path, 0o644)
    async with await Store.open(path):
        modes = {mode(file) for file in path.parent.iterdir()}
    assert modes == {0o600}


async def test_paid_calls_are_synced_and_readers_cannot_write(path: Path) -> None:
    writer, reader = await open_connections(path, busy_seconds=1.0)
    try:
        assert await pragma(writer, "journal_mode") == "wal"
        assert await pragma(writer, "synchronous") == FULL
        assert await pragma(writer, "foreign_keys") == 1
        assert await pragma(writer, "busy_timeout") == 1000
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            await reader.execute("DELETE FROM runs")
    finally:
        await reader.close()
        await writer.close()


async def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    set_mode(tmp_path, 0o755)
    async with await Store.open(tmp_path / "b.sqlite3"):
        assert mode(tmp_path) == 0o755


async def test_many_may_open_a_new_file_at_the_same_moment(path: Path) -> None:
    stores = await asyncio.gather(*(Store.open(path) for _ in range(8)))
    try:
        await stores[0].create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
        assert all([await store.run("run") for store in stores])
    finally:
        for store in stores:
            await store.aclose()


async def test_a_file_with_odd_characters_in_its_name_opens(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?c#d&mode=memory.sqlite3"
    await make(path)
    assert snapshot(tmp_path).keys() == {path.name}


async def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    await make(path)
    change(path, "PRAGMA user_version = 99")
    before = snapshot(path.parent)
    message = await refusal(path)
    assert "newer" in message
    assert "upgrade" in message
    assert snapshot(path.parent) == before


async def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    change(path, "CREATE TABLE theirs (x)")
    before = snapshot(path.parent)
    assert "another program" in await refusal(path)
    assert snapshot(path.parent) == before


@pytest.mark.parametrize("damage", [b"not a database, far from it. " * 100, b"\0" * 8192])
async def test_a_file_that_is_no_database_is_refused_and_left_alone(
    path: Path, damage: bytes
) -> None:
    await make(path)
    overwrite(path, damage, start=0)
    before = snapshot(path.parent)
    assert "move it away" in await refusal(path)
    assert snapshot(path.parent) == before


async def test_a_truncated_database_is_refused_and_left_alone(path: Path) -> None:
    await make(path)
    overwrite(path, b"", start=3000)
    before = snapshot(path.parent)
    assert "move it away" in await refusal(path)
    assert snapshot(path.parent) == before


async def test_damage_deep_in_the_file_is_named_when_it_is_read(path: Path) -> None:
    await make(path)
    overwrite(path, b"\xff" * 4096, start=-4096)
    async with await Store.open(path) as store:
        with pytest.raises(StoreError, match="damaged"):
            await store.rows("run")


async def test_a_locked_database_is_refused_with_what_to_do(path: Path) -> None:
    await make(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    message = await refusal(path)
    other.close()
    assert "locked by another process" in message
    async with await Store.open(path) as store:
        assert await store.run("run") is not None


async def test_a_new_file_that_another_process_locks_is_refused(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    assert "locked by another process" in await refusal(path)
    other.close()


async def test_a_lock_in_the_middle_fails_the_write_and_not_the_store(path: Path) -> None:
    await make(path)
    async with await Store.open(path, busy_seconds=0.05) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked by another process"):
            await store.record_draw("run", "key", "lost")
        other.close()
        assert await store.recall_draw("run", "key") is None
        await store.record_draw("run", "key", "kept")
        assert await store.recall_draw("run", "key") == "kept"


async def test_a_folder_that_may_not_be_written_is_refused(as_an_ordinary_user: Path) -> None:
    closed = as_an_ordinary_user / "closed"
    closed.mkdir(mode=0o500)
    message = await refusal(closed / "new" / "b.sqlite3")
    assert "--db" in message
    assert list(closed.iterdir()) == []


async def test_a_file_that_may_not_be_written_is_refused_and_left_alone(
    as_an_ordinary_user: Path,
) -> None:
    path = as_an_ordinary_user / "b.sqlite3"
    await make(path)
    set_mode(path, 0o400)
    before = snapshot(as_an_ordinary_user)
    assert "may read and write" in await refusal(path)
    assert snapshot(as_an_ordinary_user) == before
    assert mode(path) == 0o400


async def test_a_folder_or_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    assert "--db" in await refusal(tmp_path)
    (tmp_path / "file").write_text("text")
    assert "--db" in await refusal(tmp_path / "file" / "b.sqlite3")
