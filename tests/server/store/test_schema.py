import sqlite3
from pathlib import Path

import aiosqlite
import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store, schema
from bayesflow_server.store.records import NewRun


def ask(path: Path, sql: str) -> list[tuple[str | int, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


@pytest.fixture
async def old_file(path: Path) -> Path:
    async with await Store.open(path) as store:
        await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
    return path


async def test_a_new_file_has_the_version_of_the_last_migration(old_file: Path) -> None:
    assert ask(old_file, "PRAGMA user_version") == [(len(schema.MIGRATIONS),)]
    assert ask(old_file, "PRAGMA application_id") == [(schema.APPLICATION_ID,)]


def test_migrations_are_numbered_in_their_order() -> None:
    numbers = [step.__name__[:4] for step in schema.MIGRATIONS]
    assert numbers == [f"m{number:03}" for number in range(1, len(numbers) + 1)]


async def test_an_old_file_gets_only_the_migrations_it_lacks(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = len(schema.MIGRATIONS)

    async def one_more(db: aiosqlite.Connection) -> None:
        await db.execute("ALTER TABLE runs ADD COLUMN extra TEXT DEFAULT 'new'")

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, one_more])
    monkeypatch.setattr("bayesflow_server.store.opening.MIGRATIONS", schema.MIGRATIONS)
    async with await Store.open(old_file) as store:
        assert await store.run("run") is not None
    assert ask(old_file, "PRAGMA user_version") == [(version + 1,)]
    assert ask(old_file, "SELECT extra FROM runs") == [("new",)]


async def test_a_migration_that_fails_leaves_the_file_at_its_old_version(
    old_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = len(schema.MIGRATIONS)

    async def good(db: aiosqlite.Connection) -> None:
        await db.execute("CREATE TABLE half (x)")

    async def bad(db: aiosqlite.Connection) -> None:
        await db.execute("INSERT INTO nowhere VALUES (1)")

    monkeypatch.setattr(schema, "MIGRATIONS", [*schema.MIGRATIONS, good, bad])
    monkeypatch.setattr("bayesflow_server.store.opening.MIGRATIONS", schema.MIGRATIONS)
    with pytest.raises(StoreError, match="nowhere"):
        await Store.open(old_file)
    assert ask(old_file, "PRAGMA user_version") == [(version,)]
    assert ask(old_file, "SELECT name FROM sqlite_schema WHERE name = 'half'") == []


async def test_a_file_of_the_first_release_keeps_its_rows_and_gets_the_new_columns(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = list(schema.MIGRATIONS)
    monkeypatch.setattr(schema, "MIGRATIONS", everything[:1])
    monkeypatch.setattr("bayesflow_server.store.opening.MIGRATIONS", everything[:1])
    await (await Store.open(path)).aclose()
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "INSERT INTO runs (run_id, status, request, request_hash, revision, created, updated, "
            "active_seconds, warnings) VALUES ('run', 'paused', '{}', 'hash', 7, 1.0, 2.0, 0, '[]')"
        )
        connection.execute(
            "INSERT INTO executions VALUES "
            "('run', 'wf', 'test', 0, 'r', 'a', 1.0, NULL, 1, 0, 2, 3, NULL, 0.5, 0)"
        )
    connection.close()
    monkeypatch.setattr(schema, "MIGRATIONS", everything)
    monkeypatch.setattr("bayesflow_server.store.opening.MIGRATIONS", everything)
    async with await Store.open(path) as store:
        (old,) = await store.all_executions("run")
        run = await store.run("run")
        story = await store.events("run")
    assert (old.answer, old.outcomes) == ("a", "{}")
    assert run is not None
    assert (run.revision, run.takeovers) == (7, 0)
    assert [(one.created, one.kind) for one in story] == [(1.0, "queued"), (2.0, "paused")]
