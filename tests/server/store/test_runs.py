import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_server.errors import NotFoundError
from bayesflow_server.store import IdempotencyKeyError, Store
from bayesflow_server.store.records import NewRun, RowRecord, RunCursor, UsageDelta

LONG_SECONDS = 60.0


@pytest.fixture
async def other_process(store: Store, path: Path) -> AsyncIterator[Store]:
    """Connections of its own over the same file: to SQLite, another process."""
    async with await Store.open(path) as other:
        yield other


def new_run(run_id: str, key: str | None = None) -> NewRun:
    return NewRun(run_id=run_id, request="{}", request_hash="hash", idempotency_key=key)


async def test_a_run_is_on_disk_before_its_caller_hears_of_it(
    store: Store, other_process: Store
) -> None:
    new = NewRun(
        run_id="r",
        request='{"seed": 1}',
        request_hash="h",
        name="my run",
        phase='{"round": 0}',
        warnings='["w"]',
    )
    await store.create_run(new, [])
    run = await other_process.run("r")
    assert run is not None
    assert (run.request, run.request_hash, run.name) == ('{"seed": 1}', "h", "my run")
    assert (run.status, run.revision, run.owner, run.outcome) == ("queued", 1, None, None)
    assert (run.phase, run.warnings, run.active_seconds) == ('{"round": 0}', '["w"]', 0.0)
    assert run.created == run.updated > 0


async def test_rows_come_back_by_split_and_position(store: Store) -> None:
    rows = [
        RowRecord("validation", 1, "b", '"q2"', None, '{"level": 5}'),
        RowRecord("test", 0, "c", '"q3"', '"a3"'),
        RowRecord("validation", 0, "a", '"q1"', '"a1"'),
    ]
    await store.create_run(new_run("r"), rows)
    assert await store.rows("r") == [rows[1], rows[2], rows[0]]
    assert await store.rows("unknown") == []


async def test_a_second_run_under_an_idempotency_key_is_refused_with_its_rows(
    store: Store,
) -> None:
    await store.create_run(new_run("first", "key"), [])
    with pytest.raises(IdempotencyKeyError):
        await store.create_run(new_run("second", "key"), [RowRecord("test", 0, "a", "{}")])
    assert await store.run("second") is None
    assert await store.rows("second") == []
    found = await store.run_by_idempotency_key("key")
    assert found is not None
    assert found.run_id == "first"
    assert await store.run_by_idempotency_key("other") is None


async def test_runs_without_a_key_do_not_collide(store: Store) -> None:
    await store.create_run(new_run("a"), [])
    await store.create_run(new_run("b"), [])
    assert len(await store.runs(10)) == 2


async def test_pages_of_runs_go_from_new_to_old_without_gap_or_repeat(store: Store) -> None:
    names = [f"r{number}" for number in range(7)]
    for name in names:
        await store.create_run(new_run(name), [])
    seen: list[str] = []
    before: RunCursor | None = None
    while page := await store.runs(3, before):
        seen += [run.run_id for run in page]
        before = RunCursor(page[-1].created, page[-1].run_id)
    assert seen == names[::-1]


async def test_runs_can_be_chosen_by_status(store: Store) -> None:
    for name in ("a", "b", "c"):
        await store.create_run(new_run(name), [])
    await store.update_run("b", status="finished")
    await store.update_run("c", status="failed")
    chosen = await store.runs(10, statuses=["finished", "failed"])
    assert {run.run_id for run in chosen} == {"b", "c"}
    assert await store.runs(10, statuses=[]) == []


async def test_an_update_changes_only_what_is_given_and_moves_the_revision(
    store: Store, run_id: str
) -> None:
    assert await store.update_run(run_id, status="paused", reason="no network") == 2
    assert await store.update_run(run_id, phase='{"round": 1}', active_seconds=2.5) == 3
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.reason) == ("paused", "no network")
    assert (run.phase, run.active_seconds, run.outcome) == ('{"round": 1}', 2.5, None)
    assert await store.update_run(run_id, reason=None, outcome="{}") == 4
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.reason, run.outcome, run.revision) == ("paused", None, "{}", 4)
    assert run.updated >= run.created


async def test_an_unknown_run_is_named_with_what_to_do(store: Store) -> None:
    assert await store.run("nope") is None
    with pytest.raises(NotFoundError, match=r"'nope'.*list_runs"):
        await store.update_run("nope", status="failed")
    with pytest.raises(NotFoundError, match=r"'nope'.*list_runs"):
        await store.wait_for_revision("nope", 0, LONG_SECONDS)


async def test_of_many_that_claim_a_run_one_succeeds(
    store: Store, other_process: Store, run_id: str
) -> None:
    claims = [
        where.claim_run(run_id, f"owner {number}", from_owner=None, statuses=["queued"])
        for number in range(10)
        for where in (store, other_process)
    ]
    assert sorted(await asyncio.gather(*claims)) == [False] * 19 + [True]


async def test_a_claim_needs_the_owner_and_a_status_it_expects(store: Store, run_id: str) -> None:
    await store.update_run(run_id, status="paused", reason="budget spent")
    assert not await store.claim_run(run_id, "a", from_owner=None, statuses=["queued"])
    assert not await store.claim_run(run_id, "a", from_owner=None, statuses=[])
    assert not await store.claim_run(run_id, "a", from_owner="b", statuses=["paused"])
    assert not await store.claim_run("nope", "a", from_owner=None, statuses=["paused"])
    assert await store.claim_run(run_id, "a", from_owner=None, statuses=["queued", "paused"])
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.reason, run.owner, run.revision) == ("running", None, "a", 3)
    assert run.heartbeat is not None
    assert await store.claim_run(run_id, "b", from_owner="a", statuses=["running"])
    assert not await store.claim_run(run_id, "c", from_owner="a", statuses=["running"])


async def test_a_heartbeat_renews_every_run_of_its_owner_and_tells_which(store: Store) -> None:
    for name in ("a", "b", "c"):
        await store.create_run(new_run(name), [])
    for name, owner in (("a", "me"), ("b", "me"), ("c", "you")):
        assert await store.claim_run(name, owner, from_owner=None, statuses=["queued"])
    before = {run.run_id: run.heartbeat for run in await store.runs(10)}
    assert await store.heartbeat("me") == {"a", "b"}
    after = {run.run_id: run.heartbeat for run in await store.runs(10)}
    assert {name for name in after if after[name] != before[name]} == {"a", "b"}
    assert await store.heartbeat("nobody") == frozenset()


async def test_only_the_owner_releases_a_run(store: Store, run_id: str) -> None:
    await store.claim_run(run_id, "me", from_owner=None, statuses=["queued"])
    await store.release_run(run_id, "you")
    run = await store.run(run_id)
    assert run is not None
    assert run.owner == "me"
    await store.release_run(run_id, "me")
    run = await store.run(run_id)
    assert run is not None
    assert (run.owner, run.heartbeat, run.status) == (None, None, "running")


async def test_waiting_returns_at_once_when_the_revision_has_moved(
    store: Store, run_id: str
) -> None:
    assert await store.wait_for_revision(run_id, 0, LONG_SECONDS) == 1


async def test_waiting_ends_when_the_time_is_over(store: Store, run_id: str) -> None:
    assert await store.wait_for_revision(run_id, 1, 0.0) == 1
    assert await store.wait_for_revision(run_id, 1, 0.01) == 1


async def test_a_write_of_this_process_wakes_every_waiter_without_a_poll(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesflow_server.store.runs.POLL_SECONDS", 10 * LONG_SECONDS)
    waiting = [
        asyncio.create_task(store.wait_for_revision(run_id, 1, LONG_SECONDS)) for _ in range(5)
    ]
    await asyncio.sleep(0)  # the waiters' reads are queued ahead of the next one
    await store.run(run_id)
    await store.update_run(run_id, phase="{}")
    assert await asyncio.gather(*waiting) == [2] * 5


async def test_a_claim_wakes_waiters(
    store: Store, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesflow_server.store.runs.POLL_SECONDS", 10 * LONG_SECONDS)
    waiting = asyncio.create_task(store.wait_for_revision(run_id, 1, LONG_SECONDS))
    await asyncio.sleep(0)
    await store.run(run_id)
    await store.claim_run(run_id, "me", from_owner=None, statuses=["queued"])
    assert await waiting == 2


async def test_a_write_of_another_process_wakes_a_waiter(
    store: Store, other_process: Store, run_id: str
) -> None:
    waiting = asyncio.create_task(store.wait_for_revision(run_id, 1, LONG_SECONDS))
    await asyncio.sleep(0)
    await store.run(run_id)
    await other_process.update_run(run_id, phase="{}")
    assert await waiting == 2


async def test_a_change_of_another_run_does_not_end_the_wait(store: Store, run_id: str) -> None:
    await store.create_run(new_run("other"), [])
    waiting = asyncio.create_task(store.wait_for_revision(run_id, 1, LONG_SECONDS))
    await asyncio.sleep(0)
    await store.update_run("other", phase="{}")
    await store.run(run_id)
    assert not waiting.done()
    await store.update_run(run_id, phase="{}")
    assert await waiting == 2


async def test_a_cancellation_comes_too_late_for_a_run_that_has_ended(
    store: Store, run_id: str
) -> None:
    await store.update_run(run_id, status="finished", outcome="{}")
    assert not await store.cancel_run(run_id, "why", unless=("finished", "failed", "cancelled"))
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.reason) == ("finished", None)
    await store.update_run(run_id, status="running")
    assert await store.cancel_run(run_id, "why", unless=("finished",))
    run = await store.run(run_id)
    assert run is not None
    assert (run.status, run.reason) == ("cancelled", "why")


async def test_a_run_is_read_with_what_it_used(store: Store, run_id: str) -> None:
    assert await store.run_with_usage("none") is None
    assert await store.run_with_usage(run_id) == (await store.run(run_id), [])
    for role in ("optimizer", "executor"):
        await store.add_usage(UsageDelta(run_id, role, "m", calls=2))
    used = await store.usage(run_id)
    assert await store.run_with_usage(run_id) == (await store.run(run_id), used)
    assert [one.role for one in used] == ["executor", "optimizer"]


async def test_a_takeover_says_so_in_the_story(store: Store, run_id: str) -> None:
    for owner, previous in (("first", None), ("second", "first")):
        assert await store.claim_run(
            run_id, owner, from_owner=previous, statuses=("queued", "running")
        )
    story = [(one.kind, one.detail) for one in await store.events(run_id)]
    assert story == [
        ("queued", None),
        ("running", None),
        ("running", "Taken over: the process that worked on it is gone."),
    ]
