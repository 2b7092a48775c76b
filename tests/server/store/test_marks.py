"""Marks move when what they stand for does; ids are found by prefix."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_server.store.marks import FoundIds
from bayesflow_server.store.records import (
    NewRun,
    PoolEntry,
    RoundRecord,
    SummaryRecord,
    WorkflowRecord,
)
from bayesflow_server.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "runs.sqlite3") as store:
        for name in ("run_a", "run_b"):
            await store.create_run(NewRun(name, "{}", name), [])
        yield store


async def test_a_pools_mark_moves_with_every_change_of_it(store: Store) -> None:
    workflow = WorkflowRecord("wf_a", "#", "[]")
    seen = [await store.pool_mark("run_a")]

    async def moved() -> bool:
        seen.append(await store.pool_mark("run_a"))
        return seen[-1] not in seen[:-1]

    assert not await moved()
    await store.add_to_pool(workflow, PoolEntry("run_a", "wf_a", 1, "refined", clean=False))
    assert await moved()
    await store.put_summary(SummaryRecord("run_a", "wf_a", "validation", 4, 0.5, 0.25))
    assert await moved()
    await store.put_summary(SummaryRecord("run_a", "wf_a", "validation", 4, 0.75, 0.25))
    assert await moved()
    await store.put_summary(SummaryRecord("run_a", "wf_a", "validation", 4, 0.75, 0.25))
    assert not await moved()
    await store.put_summary(SummaryRecord("run_a", "wf_a", "test", 4, 0.5, 0.25))
    assert not await moved()
    await store.add_to_pool(workflow, PoolEntry("run_a", "wf_a", 1, "prior", clean=True))
    assert await moved()
    await store.record_round(RoundRecord("run_a", 1, "{}"), [])
    assert await moved()
    await store.update_run("run_a", phase="{}")
    assert not await moved()
    await store.add_to_pool(workflow, PoolEntry("run_b", "wf_a", 1, "prior"))
    assert not await moved()


async def test_the_last_event_is_the_end_of_the_story(store: Store) -> None:
    assert await store.last_event("run_0") == 0
    assert await store.last_event("run_a") == 1
    await store.update_run("run_a", status="failed")
    assert await store.last_event("run_a") == len(await store.events("run_a")) == 2


async def test_ids_are_found_by_prefix_newest_first(store: Store) -> None:
    assert await store.run_ids("run_", 9) == FoundIds(["run_b", "run_a"], 2)
    assert await store.run_ids("run_", 1) == FoundIds(["run_b"], 2)
    for prefix in ("run_%", "r_n", "RUN", "run_a "):
        assert await store.run_ids(prefix, 9) == FoundIds([], 0)
    for name in ("wf_a", "wf_b"):
        await store.put_workflow(WorkflowRecord(name, "#", "[]"))
    await store.add_to_pool(
        WorkflowRecord("wf_a", "#", "[]"), PoolEntry("run_a", "wf_a", 1, "prior")
    )
    assert await store.workflow_ids("", 9) == FoundIds(["wf_b", "wf_a"], 2)
    assert await store.workflow_ids("wf_", 9, "run_a") == FoundIds(["wf_a"], 1)
    assert await store.workflow_ids("wf_", 9, "run_b") == FoundIds([], 0)
