import asyncio
from pathlib import Path

import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import NewRun, RowRecord
from bayesflow_server.store.writer import GROUP_SIZE

ROWS = [RowRecord("test", position, f"row {position}", "{}") for position in range(20)]


def new_run(run_id: str) -> NewRun:
    return NewRun(run_id=run_id, request="{}", request_hash="hash")


async def test_fifty_writers_lose_nothing_and_read_their_own_writes(
    store: Store, run_id: str
) -> None:
    async def writer(number: int) -> None:
        for draw in range(20):
            key = f"{number}/{draw}"
            await store.record_draw(run_id, key, key)
            assert await store.recall_draw(run_id, key) == key

    async with asyncio.TaskGroup() as tasks:
        for number in range(50):
            tasks.create_task(writer(number))
    assert len(await store.draws(run_id)) == 50 * 20


async def test_more_writes_than_a_group_holds_are_all_committed(store: Store, run_id: str) -> None:
    keys = [str(number) for number in range(1500)]
    await asyncio.gather(*(store.record_draw(run_id, key, key) for key in keys))
    assert list(await store.draws(run_id)) == keys


async def test_a_failing_unit_is_undone_alone(store: Store, run_id: str) -> None:
    twice = [*ROWS, ROWS[0]]
    results = await asyncio.gather(
        store.record_draw(run_id, "before", "kept"),
        store.create_run(new_run("half"), twice),
        store.record_draw("no such run", "key", "value"),
        store.create_run(new_run("whole"), ROWS),
        store.record_draw(run_id, "after", "kept"),
        return_exceptions=True,
    )
    failed = [isinstance(result, StoreError) for result in results]
    assert failed == [False, True, True, False, False]
    assert "does not hold" in str(results[2])
    assert await store.run("half") is None
    assert await store.rows("half") == []
    assert await store.rows("whole") == ROWS
    assert await store.draws(run_id) == {"before": "kept", "after": "kept"}


async def test_a_value_that_cannot_be_stored_fails_only_its_own_unit(
    store: Store, run_id: str
) -> None:
    results = await asyncio.gather(
        store.record_draw(run_id, "good", "kept"),
        store.record_draw(run_id, "bad", "lone surrogate \ud800"),
        store.update_run(run_id, status="paused", active_seconds=float("nan")),
        store.create_run(new_run("huge"), [RowRecord("test", 2**70, "id", "{}")]),
        return_exceptions=True,
    )
    assert [isinstance(result, StoreError) for result in results] == [False, True, True, True]
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.revision) == ("queued", 1)
    assert await store.draws(run_id) == {"good": "kept"}
    assert await store.run("huge") is None


async def test_reading_with_a_text_that_is_not_unicode_is_a_clear_error(store: Store) -> None:
    with pytest.raises(StoreError, match="Unicode"):
        await store.run("\ud800")


async def test_awkward_texts_come_back_unchanged(store: Store, run_id: str) -> None:
    for number, text in enumerate(
        ["", "\0 in the middle", "'; DROP TABLE runs; --", "é \U0001f600"]
    ):
        await store.record_draw(run_id, str(number), text)
        assert await store.recall_draw(run_id, str(number)) == text


async def test_a_cancelled_caller_leaves_its_whole_unit_or_nothing(store: Store) -> None:
    names = [f"run {number}" for number in range(60)]
    tasks = [asyncio.create_task(store.create_run(new_run(name), ROWS)) for name in names]
    for turn, task in enumerate(tasks):
        if turn % 3:
            task.cancel()
        await asyncio.sleep(0)  # one turn of the loop: some are queued, some under way, some done
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for name, result in zip(names, results, strict=True):
        stored = await store.run(name) is not None
        assert await store.rows(name) == (ROWS if stored else [])
        assert stored or isinstance(result, asyncio.CancelledError)
    assert any(isinstance(result, asyncio.CancelledError) for result in results)


async def test_a_caller_cancelled_in_the_queue_writes_nothing(store: Store) -> None:
    task = asyncio.create_task(store.create_run(new_run("gone"), ROWS))
    await asyncio.sleep(0)  # it is queued now; the writer has not run yet
    task.cancel()
    await store.create_run(new_run("next"), ROWS)
    assert await store.run("gone") is None
    assert await store.rows("gone") == []


async def test_a_group_of_cancelled_callers_does_not_hold_up_the_next(
    store: Store, run_id: str
) -> None:
    gone = [asyncio.create_task(store.record_draw(run_id, f"{n}", "")) for n in range(GROUP_SIZE)]
    kept = asyncio.create_task(store.record_draw(run_id, "kept", "value"))
    await asyncio.sleep(0)  # all are queued now; the writer has not run yet
    for task in gone:
        task.cancel()
    assert await kept == "value"
    assert await store.draws(run_id) == {"kept": "value"}


async def test_closing_commits_what_is_queued_and_refuses_more(path: Path) -> None:
    store = await Store.open(path)
    queued = asyncio.create_task(store.create_run(new_run("queued"), ROWS))
    await asyncio.sleep(0)
    await store.aclose()
    await store.aclose()
    await queued
    with pytest.raises(StoreError, match="closed"):
        await store.create_run(new_run("late"), ROWS)
    with pytest.raises(StoreError, match="closed"):
        await store.run("queued")
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    async with await Store.open(path) as again:
        assert await again.rows("queued") == ROWS
        assert await again.run("late") is None
