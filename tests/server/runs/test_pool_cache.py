import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_server.errors import NotFoundError
from bayesflow_server.runs.pool_cache import PoolCache
from bayesflow_server.runs.pool_view import StoredPool, view_pool
from bayesflow_server.store.records import (
    NewRun,
    PoolEntry,
    RoundRecord,
    SummaryRecord,
    WorkflowRecord,
)
from bayesflow_server.store.store import Store

SCORE = SummaryRecord("run", "w0", "validation", rows=20, mean=0.5, variance=0.25)


class House:
    """A store, a cache over it, and how often the cache read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read = 0
        self.cache = PoolCache(store, self._read)

    async def _read(self, run_id: str) -> StoredPool:
        self.read += 1
        if await self.store.run(run_id) is None:
            raise NotFoundError("There is no such run.")
        return StoredPool(await self.store.pool(run_id), await self.store.rounds(run_id), 20, True)

    async def add(self, name: str, *, clean: bool = True, run_id: str = "run") -> None:
        workflow = WorkflowRecord(name, "class Workflow: ...", "[]")
        entry = PoolEntry(run_id, name, 1, "prior" if clean else "refined", None, clean)
        await self.store.add_to_pool(workflow, entry)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with await Store.open(tmp_path / "bayesflow.sqlite3") as store:
        for number in range(6):
            name = "run" if number == 0 else f"run{number}"
            await store.create_run(NewRun(run_id=name, request="{}", request_hash=""), [])
        house = House(store)
        await house.add("w0", clean=False)
        yield house


async def test_a_pool_that_did_not_change_is_read_once(house: House) -> None:
    first = await house.cache.show("run")
    assert (await house.cache.show("run")).view is first.view
    assert await house.cache.pool("run") is first.pool
    await house.store.update_run("run", reason="something else")
    await house.add("w1", run_id="run1")
    assert (await house.cache.show("run")).view is first.view
    assert house.read == 1


async def test_whatever_changes_a_pool_is_seen_at_once(house: House) -> None:
    store = house.store
    await house.cache.pool("run")

    async def seen() -> None:
        pool = await house.cache.pool("run")
        assert pool.rows == await store.pool("run")
        assert pool.rounds == await store.rounds("run")

    await house.add("w0", clean=True)
    await seen()
    await house.add("w1")
    await seen()
    await store.put_summary(SCORE)
    await seen()
    await store.put_summary(dataclasses.replace(SCORE, rows=40, mean=0.6))
    await seen()
    await store.record_round(RoundRecord("run", 1, "{}"), [])
    await seen()
    assert house.read == 6


async def test_what_another_process_writes_is_seen_too(house: House) -> None:
    await house.cache.pool("run")
    async with await Store.open(house.store.path) as other:
        await House(other).add("w9")
        assert len((await house.cache.pool("run")).rows) == 2


async def test_each_view_is_the_one_that_was_asked_for(house: House) -> None:
    await house.add("w1")
    await house.store.put_summary(SCORE)
    for _ in range(2):
        for beta in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0):
            shown = await house.cache.show("run", beta=beta, sort="validation", round_number=1)
            assert shown.view == view_pool(shown.pool, beta=beta, sort="validation", round_number=1)
    assert (await house.cache.show("run", round_number=2)).view.items == ()
    assert house.read == 1


async def test_few_pools_are_kept_and_the_one_asked_for_last_is(house: House) -> None:
    names = ["run", *(f"run{number}" for number in range(1, 6))]
    for name in names:
        await house.cache.pool(name)
    await house.cache.pool("run5")
    assert house.read == 6
    await house.cache.pool("run")
    assert house.read == 7


async def test_a_pool_that_cannot_be_read_is_not_kept(house: House) -> None:
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await house.cache.pool("nobody")
    assert house.read == 2
