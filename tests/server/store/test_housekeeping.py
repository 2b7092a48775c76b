"""Pruning and copying a database, while others use it."""

import asyncio
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bayesflow_server.errors import InputError, StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.housekeeping import Housekeeper, copy_database
from bayesflow_server.store.records import (
    CompletionRecord,
    ExecutionRecord,
    NewEvaluation,
    NewRun,
    ParticleRecord,
    PoolEntry,
    RoundRecord,
    RowRecord,
    RunRecord,
    SummaryRecord,
    UsageDelta,
    WorkflowRecord,
)

CHILD = Path(__file__).with_name("child.py")
# Invariant: every table of the file with a row that belongs to one run.
TABLES = (
    "runs",
    "dataset_rows",
    "draws",
    "pool",
    "summaries",
    "executions",
    "rounds",
    "particles",
    "usage",
    "events",
    "proposals",
    "submissions",
)


def tables(path: Path) -> dict[str, int]:
    """How many rows each table holds."""
    db = sqlite3.connect(path)
    names = [
        row[0]
        for row in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        )
    ]
    counts = {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in names}
    db.close()
    return counts


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def damage(path: Path) -> None:
    """Overwrites some pages in the middle."""
    raw = bytearray(path.read_bytes())
    half = len(raw) // 2
    raw[half : half + 40_000] = b"\xff" * 40_000
    path.write_bytes(raw)


async def fill(store: Store, run_id: str, *workflows: str) -> RunRecord:
    """A run with something in every table."""
    rows = [RowRecord("test", 0, "r0", '"q"')]
    await store.create_run(NewRun(run_id, "{}", "hash"), rows)
    for name in workflows:
        await store.add_to_pool(
            WorkflowRecord(name, f"source of {name}", "[]"), PoolEntry(run_id, name, 1, "prior")
        )
        await store.put_summary(SummaryRecord(run_id, name, "test", 1, 0.5, 0.1))
        await store.record_execution(ExecutionRecord(run_id, name, "test", 0, "r0", "answer", 1.0))
    first = workflows[0]
    particle = ParticleRecord(run_id, 1, 0, first, "prefix", 1, 0.0, 1.0, None, True)
    await store.record_round(RoundRecord(run_id, 1, "{}"), [particle])
    await store.add_usage(UsageDelta(run_id, "executor", "m", calls=1))
    db = sqlite3.connect(store.path)
    db.execute("INSERT INTO draws VALUES (?, 'key', 'value')", (run_id,))
    db.execute(
        "INSERT INTO proposals VALUES (?, 'name', ?, 'extend', 'p', NULL, NULL, 0.0, NULL)",
        (run_id, f"prop_{run_id}"),
    )
    db.execute("INSERT INTO submissions VALUES (?, 0, ?, 's', NULL, 0.0)", (run_id, first))
    db.commit()
    db.close()
    record = await store.run(run_id)
    assert record is not None
    return record


async def evaluate(store: Store, name: str, workflow: str) -> None:
    """An ended evaluation with an execution, a score and a call."""
    await store.create_evaluation(
        NewEvaluation(name, workflow, "{}", "finished"), [RowRecord("test", 0, "r0", '"q"')]
    )
    await store.put_summary(SummaryRecord(name, workflow, "test", 1, 0.5, 0.1))
    await store.record_execution(ExecutionRecord(name, workflow, "test", 0, "r0", "a", 1.0))
    await store.add_usage(UsageDelta(name, "executor", "m", calls=1))


async def test_a_pruned_run_leaves_nothing_behind(store: Store, path: Path) -> None:
    record = await fill(store, "run_a", "wf_1", "wf_2")
    await evaluate(store, "eval_1", "wf_1")
    before = tables(path)
    assert all(before[name] for name in TABLES)
    # A new table is a run's, and then pruned with it, or one of these.
    assert set(before) - set(TABLES) == {"workflows", "evaluations", "completions"}
    with Housekeeper(path) as keeper:
        assert keeper.weigh("run_a") > 500
        assert keeper.delete_run(record)
        assert keeper.delete_workflows() == 2
        assert keeper.weigh("run_a") == 0
    assert set(tables(path).values()) == {0}


async def test_what_another_run_refers_to_stays(store: Store, path: Path) -> None:
    gone = await fill(store, "run_a", "wf_1", "wf_2")
    await fill(store, "run_b", "wf_9", "wf_2", "wf_3")
    await evaluate(store, "eval_1", "wf_1")
    await evaluate(store, "eval_2", "wf_2")
    await store.put_workflow(WorkflowRecord("wf_own", "source", "[]"))
    await evaluate(store, "eval_own", "wf_own")
    with Housekeeper(path) as keeper:
        assert keeper.delete_run(gone)
        assert keeper.delete_workflows() == 1  # wf_1 alone
        assert keeper.give_back() >= 0
    assert await store.run("run_a") is None
    assert [row.entry.workflow_id for row in await store.pool("run_b")] == ["wf_9", "wf_2", "wf_3"]
    assert await store.evaluation("eval_1") is None
    assert await store.evaluation("eval_2") is not None
    assert await store.evaluation("eval_own") is not None
    assert (await store.summaries("eval_1"), len(await store.summaries("eval_2"))) == ([], 1)
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA foreign_key_check").fetchall() == []
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


async def test_a_run_that_was_claimed_since_it_was_looked_at_stays(
    store: Store, path: Path
) -> None:
    record = await fill(store, "run_a", "wf_1")
    before = tables(path)
    assert await store.claim_run("run_a", "me", from_owner=None, statuses=["queued"])
    with Housekeeper(path) as keeper:
        assert not keeper.delete_run(record)
    after = tables(path)
    assert after == before | {"events": before["events"] + 1}


async def test_a_workflow_stored_while_pruning_stays(store: Store, path: Path) -> None:
    with Housekeeper(path) as keeper:
        await store.put_workflow(WorkflowRecord("wf_new", "source", "[]"))
        assert keeper.delete_workflows() == 0
    assert await store.workflow("wf_new") is not None
    with Housekeeper(path) as keeper:
        assert keeper.delete_workflows() == 1


async def test_no_workflow_goes_while_an_evaluation_goes_on(store: Store, path: Path) -> None:
    for name in ("wf_1", "wf_compared"):
        await store.put_workflow(WorkflowRecord(name, "source", "[]"))
    await store.create_evaluation(NewEvaluation("eval_1", "wf_1", "{}", "running"), [])
    with Housekeeper(path) as keeper:
        assert keeper.delete_workflows() == 0
    await store.update_evaluation("eval_1", status="finished", report="{}")
    with Housekeeper(path) as keeper:
        assert keeper.delete_workflows() == 1
    assert await store.workflow("wf_1") is not None


async def test_old_answers_go_and_new_ones_stay(store: Store, path: Path) -> None:
    for key in ("a", "b"):
        await store.record_completion(
            CompletionRecord(key, "m", "text", 1, 1, 0, "end", "[]", time.time()),
            UsageDelta("run", "executor", "m", calls=1),
        )
    db = sqlite3.connect(path)
    db.execute("UPDATE completions SET created = 5.0 WHERE key = 'a'")
    db.commit()
    db.close()
    with Housekeeper(path) as keeper:
        assert keeper.old_completions(10.0).records == 1
        assert keeper.delete_completions(10.0) == 1
        assert keeper.delete_completions(10.0) == 0
    assert await store.completion("a") is None
    assert await store.completion("b") is not None


async def test_pruning_gives_the_space_back_while_others_have_the_file_open(
    store: Store, path: Path
) -> None:
    record = await fill(store, "run_a", "wf_1")
    big = [RowRecord("validation", n, f"r{n}", "x" * 10_000) for n in range(200)]
    await store.create_run(NewRun("run_big", "{}", "hash"), big)
    large = await store.run("run_big")
    assert large is not None
    with Housekeeper(path) as keeper:
        assert keeper.weigh("run_big") > 2_000_000
        assert keeper.delete_run(large)
        assert keeper.give_back() > 1_000_000
    assert await store.run("run_a") == record
    await store.update_run("run_a", status="paused")
    assert mode(path) == 0o600


async def test_another_process_writes_while_runs_are_pruned_and_the_file_is_copied(
    store: Store, path: Path, tmp_path: Path
) -> None:
    await store.create_run(NewRun("run", "{}", "hash"), [])
    records = [await fill(store, f"run_{number}", "wf_1", "wf_2") for number in range(20)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, str(CHILD), "write", str(path), "other"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    with Housekeeper(path) as keeper:
        for record in records:
            assert await asyncio.to_thread(deletion(path, record))
        keeper.delete_workflows()
        keeper.give_back()
    copied = copy_database(path, tmp_path / "copy")
    assert await child.wait() == 0
    assert copied.runs == 1
    assert len(await store.draws("run")) == 300


def deletion(path: Path, record: RunRecord) -> Callable[[], bool]:
    """A deletion of a run on a connection of its own, in whatever thread."""

    def delete() -> bool:
        with Housekeeper(path) as keeper:
            return keeper.delete_run(record)

    return delete


async def test_a_database_that_stays_locked_is_one_sentence_and_nothing_goes(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesflow_server.store.housekeeping._BUSY_SECONDS", 0.05)
    record = await fill(store, "run_a", "wf_1")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Housekeeper(path) as keeper:
        with pytest.raises(StoreError, match="is locked by another process"):
            keeper.delete_run(record)
        holder.execute("ROLLBACK")
        holder.close()
        assert await store.run("run_a") == record
        assert keeper.delete_run(record)


async def test_a_copy_is_whole_private_and_a_database_of_its_own(
    store: Store, path: Path, tmp_path: Path
) -> None:
    await fill(store, "run_a", "wf_1")
    target = tmp_path / "copy.sqlite3"
    before = os.umask(0)
    try:
        copied = copy_database(path, target)
    finally:
        os.umask(before)
    assert copied.runs == 1
    assert copied.size > 10_000
    assert mode(target) == 0o600
    assert names(tmp_path) == ["copy.sqlite3", "data"]
    await fill(store, "run_b", "wf_1")  # the copy does not follow
    async with await Store.open(target) as copy:
        assert [one.run_id for one in await copy.runs(5)] == ["run_a"]
    assert len(await store.runs(5)) == 2


async def test_a_copy_holds_whole_transactions_alone(
    store: Store, path: Path, tmp_path: Path
) -> None:
    writing = sqlite3.connect(path, isolation_level=None)
    await fill(store, "run_a", "wf_1")
    writing.execute("BEGIN IMMEDIATE")
    writing.execute("DELETE FROM pool")
    copied = copy_database(path, tmp_path / "copy.sqlite3")
    writing.execute("ROLLBACK")
    writing.close()
    assert copied.runs == 1
    assert tables(tmp_path / "copy.sqlite3")["pool"] == 1


async def test_a_copy_is_never_written_over_anything(
    store: Store, path: Path, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("mine")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    for target in (taken, dangling, path, tmp_path):
        with pytest.raises(InputError, match="is there already"):
            copy_database(path, target)
    assert taken.read_text() == "mine"
    with pytest.raises(InputError, match="cannot be written"):
        copy_database(path, tmp_path / "no" / "folder")
    assert names(tmp_path) == ["dangling", "data", "taken"]


def test_what_is_no_database_of_ours_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no database"):
        copy_database(tmp_path / "none", tmp_path / "copy")
    other = tmp_path / "other.sqlite3"
    db = sqlite3.connect(other)
    db.execute("CREATE TABLE t (x)")
    db.close()
    with pytest.raises(StoreError, match="not a database of BayesFlow MCP"):
        copy_database(other, tmp_path / "copy")
    (tmp_path / "junk").write_text("junk " * 1000)
    with pytest.raises(StoreError, match="not a SQLite database"):
        copy_database(tmp_path / "junk", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


async def test_a_damaged_database_gives_no_copy(store: Store, path: Path, tmp_path: Path) -> None:
    rows = [RowRecord("validation", n, f"r{n}", "x" * 3000) for n in range(300)]
    await store.create_run(NewRun("run_a", "{}", "hash"), rows)
    await store.aclose()
    damage(path)
    with pytest.raises(StoreError, match="is damaged"):
        copy_database(path, tmp_path / "copy")
    assert names(tmp_path) == ["data"]
