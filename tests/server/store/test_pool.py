import dataclasses

import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import PoolEntry, PoolRow, SummaryRecord, WorkflowRecord

WORKFLOW = WorkflowRecord("w", "class Workflow: ...", '["Step 1"]')
ENTRY = PoolEntry("run", "w", 1, "prior")
SUMMARY = SummaryRecord("run", "w", "validation", rows=20, mean=0.5, variance=0.25, cost_usd=0.01)


async def test_a_pool_row_joins_entry_steps_and_validation_score(store: Store, run_id: str) -> None:
    await store.add_to_pool(WORKFLOW, ENTRY)
    assert await store.pool(run_id) == [PoolRow(ENTRY, '["Step 1"]', None)]
    await store.put_summary(SUMMARY)
    await store.put_summary(dataclasses.replace(SUMMARY, split="test", mean=0.1))
    await store.put_summary(dataclasses.replace(SUMMARY, replicate=1, mean=0.2))
    assert await store.pool(run_id) == [PoolRow(ENTRY, '["Step 1"]', SUMMARY)]


async def test_the_first_entry_of_a_workflow_stands(store: Store, run_id: str) -> None:
    await store.add_to_pool(WORKFLOW, ENTRY)
    await store.add_to_pool(WORKFLOW, dataclasses.replace(ENTRY, round=3, origin="submitted"))
    assert [row.entry for row in await store.pool(run_id)] == [ENTRY]


async def test_a_clean_entry_replaces_one_that_is_not_and_never_the_other_way(
    store: Store, run_id: str
) -> None:
    refined = PoolEntry(run_id, "w", 1, "refined", parent_id="p", clean=False)
    drawn = PoolEntry(run_id, "w", 2, "prior")
    for entry in (refined, drawn, refined):
        await store.add_to_pool(WORKFLOW, entry)
    assert [row.entry for row in await store.pool(run_id)] == [drawn]


async def test_the_pool_keeps_the_order_it_grew_in(store: Store, run_id: str) -> None:
    for name in ("z", "a", "m"):
        workflow = dataclasses.replace(WORKFLOW, workflow_id=name)
        await store.add_to_pool(workflow, dataclasses.replace(ENTRY, workflow_id=name))
    assert [row.entry.workflow_id for row in await store.pool(run_id)] == ["z", "a", "m"]


async def test_a_workflow_is_shared_by_all_and_stored_once(store: Store, run_id: str) -> None:
    assert await store.workflow("w") is None
    await store.put_workflow(WORKFLOW)
    await store.put_workflow(WORKFLOW)
    await store.add_to_pool(WORKFLOW, ENTRY)
    assert await store.workflow("w") == WORKFLOW


async def test_an_entry_of_an_unknown_run_stores_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="does not hold"):
        await store.add_to_pool(WORKFLOW, ENTRY)
    assert await store.workflow("w") is None


async def test_a_summary_replaces_the_one_before_and_is_found_by_split(
    store: Store, run_id: str
) -> None:
    await store.put_summary(SUMMARY)
    better = dataclasses.replace(SUMMARY, rows=80, mean=0.6, cost_usd=None)
    await store.put_summary(better)
    failed = SummaryRecord("run", "w2", "test", 0, 0.0, 0.0, failed=True, error='{"type": "x"}')
    await store.put_summary(failed)
    assert await store.summaries(run_id, "validation") == [better]
    assert await store.summaries(run_id) == [failed, better]
    assert await store.summaries(run_id, "selection") == []
