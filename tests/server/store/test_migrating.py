"""Files of every earlier schema, with something in every table, become files of the present one."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import aiosqlite
import pytest

from bayesflow_server.store import Store
from bayesflow_server.store.opening import open_connections
from bayesflow_server.store.schema import MIGRATIONS
from fakes.old_files import downgrade

EARLIER: Final = range(1, len(MIGRATIONS))
# Without those that hang on others; a value for each column, by its name or else by its type.
_TABLES: Final = (
    "runs",
    "workflows",
    "dataset_rows",
    "draws",
    "pool",
    "summaries",
    "executions",
    "rounds",
    "particles",
    "completions",
    "usage",
    "evaluations",
    "proposals",
    "submissions",
)
_VALUES: Final[dict[str, object]] = {
    "run_id": "run_1",
    "scope": "run_1",
    "status": "paused",
    "reason": "The budget is spent.",
    "workflow_id": "wf_1",
    "split": "validation",
    "owner": None,
    "heartbeat": None,
    "created": 1000.0,
    "updated": 2000.0,
    "clean": 1,
    "failed": 0,
    "round": 1,
}
_OF_TYPE: Final[dict[str, object]] = {"TEXT": "{}", "INTEGER": 3, "REAL": 0.5}

Content = dict[str, list[dict[str, object]]]


async def make_old(path: Path, version: int) -> None:
    """A file as that version made it, with one record in every table it had."""
    path.parent.mkdir(exist_ok=True)
    async with aiosqlite.connect(path, isolation_level=None) as db:
        for step in MIGRATIONS[:version]:
            await step(db)
        await db.execute(f"PRAGMA user_version = {version}")
        await db.execute("PRAGMA foreign_keys = ON")
        for table in _TABLES:
            columns = list(await db.execute_fetchall(f"PRAGMA table_info({table})"))
            if columns:
                values = [_VALUES.get(str(row[1]), _OF_TYPE[str(row[2])]) for row in columns]
                marks = ", ".join("?" * len(values))
                await db.execute(f"INSERT INTO {table} VALUES ({marks})", values)


def content(path: Path) -> Content:
    """Every record of every table."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        return {
            str(name): [dict(row) for row in connection.execute(f"SELECT * FROM {name}")]
            for (name,) in names.fetchall()
        }


def schema(path: Path) -> set[tuple[str, str]]:
    """What the file is made of: tables with their columns, indexes and triggers."""
    with closing(sqlite3.connect(path)) as connection:
        found: set[tuple[str, str]] = set()
        rows = connection.execute("SELECT type, name, sql FROM sqlite_schema").fetchall()
        for kind, name, sql in rows:
            if kind == "table":
                for column in connection.execute(f"PRAGMA table_info({name})").fetchall():
                    found.add((str(name), str(column[1:])))
            else:
                found.add((str(name), str(sql)))
        return found


@pytest.mark.parametrize("version", EARLIER)
async def test_every_record_of_an_earlier_file_is_kept(path: Path, version: int) -> None:
    await make_old(path, version)
    before = content(path)
    assert all(before[table] for table in _TABLES if table in before)
    for connection in await open_connections(path, busy_seconds=1.0):
        await connection.close()
    after = content(path)
    for table, records in before.items():
        kept = [{name: row[name] for name in records[0]} for row in after[table]]
        assert kept == records, table


@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_file_is_read_as_a_present_one(path: Path, version: int) -> None:
    await make_old(path, version)
    async with await Store.open(path) as store:
        run = await store.run("run_1")
        assert run is not None
        assert (run.status, run.takeovers) == ("paused", 0)
        assert len(await store.rows("run_1")) == 1
        assert await store.draws("run_1") == {"{}": "{}"}
        assert [row.entry.workflow_id for row in await store.pool("run_1")] == ["wf_1"]
        assert len(await store.rounds("run_1")) == len(await store.particles("run_1")) == 1
        [execution] = await store.all_executions("run_1")
        assert execution.outcomes == "{}"
        assert len(await store.usage("run_1")) == 1
        assert await store.completion("{}") is not None
        assert await store.evaluation("{}") is not None
        # Its story begins with what is known of it.
        events = await store.events("run_1")
        assert [(event.kind, event.created) for event in events] == [
            ("queued", 1000.0),
            ("paused", 2000.0),
        ]
        await store.update_run("run_1", status="cancelled", reason=None)
        assert (await store.events("run_1"))[-1].kind == "cancelled"


@pytest.mark.parametrize("version", EARLIER)
async def test_an_earlier_file_ends_with_the_schema_of_a_new_one(
    path: Path, tmp_path: Path, version: int
) -> None:
    await make_old(path, version)
    new = tmp_path / "new.sqlite3"
    for file in (path, new):
        async with await Store.open(file):
            pass
    assert schema(path) == schema(new)


@pytest.mark.parametrize("version", EARLIER)
async def test_what_the_tests_take_from_a_file_is_what_the_migrations_added(
    path: Path, tmp_path: Path, version: int
) -> None:
    old, new = tmp_path / "old.sqlite3", tmp_path / "new.sqlite3"
    await make_old(old, version)
    async with await Store.open(new):
        pass
    downgrade(new, version)
    assert schema(new) == schema(old)
