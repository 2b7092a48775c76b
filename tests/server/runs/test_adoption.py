"""Runs that nobody works on any more: taken over by one process, a few at once, not for ever."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

import pytest

from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.adoption import Adoption, work_is_left
from bayesflow_server.runs.lease import LEASE_SECONDS, Lease
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import NewRun, RunStatus
from fakes.files import change
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.llm_runs import asked
from fakes.models import FakeModel
from fakes.optimizers import GoodOptimizer
from fakes.tasks import answer_addition, request


class Undisturbed(Protocol):
    footprint: Footprint
    finished: Counter[ChatRequest]


async def leave(path: Path, *, seeds: int = 1, calls: int = 20) -> list[str]:
    """Runs that were left by a process that was killed."""
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_ids = [(await service.start(request(seed))).record.run_id for seed in range(seeds)]
        await model.reached()
    change(path, "UPDATE runs SET status = 'running', reason = NULL, owner = 'dead', heartbeat = 1")
    return run_ids


def stopped(path: Path, status: RunStatus) -> None:
    change(path, f"UPDATE runs SET status = '{status}', owner = NULL, reason = 'why'")


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
async def test_a_run_that_was_left_is_gone_on_with_to_the_same_end(
    path: Path, undisturbed: Undisturbed, killed: bool
) -> None:
    [run_id] = await leave(path, calls=40)
    if not killed:
        stopped(path, "interrupted")
    assert work_is_left(path)
    async with open_service(path, FakeModel(answer_addition)) as service:
        assert await Adoption(service).look()
        assert not work_is_left(path)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
        assert not await Adoption(service).look()


async def test_a_lock_that_cannot_be_looked_at_does_not_end_the_looking(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [run_id] = await leave(path)
    lock = path.with_name(f"{path.name}.owners") / "dead.lock"
    lock.mkdir()
    assert work_is_left(path)
    async with open_service(path, FakeModel(answer_addition)) as service:
        looking = asyncio.create_task(Adoption(service).run(0.01))
        while "looking for runs" not in caplog.text:
            assert not looking.done()
            await asyncio.sleep(0)
        lock.rmdir()
        while not service.works_on(run_id):  # noqa: ASYNC110 (as above)
            await asyncio.sleep(0)
        looking.cancel()
        assert (await settled(service, run_id)).status == "finished"


@pytest.mark.parametrize("status", ["paused", "cancelled", "failed", "finished"])
async def test_a_run_that_was_stopped_on_purpose_waits_to_be_asked_for(
    path: Path, sittings: list[str], status: RunStatus
) -> None:
    await leave(path)
    stopped(path, status)
    sittings.clear()
    assert not work_is_left(path)
    async with open_service(path, FakeModel(answer_addition)) as service:
        assert not await Adoption(service, everything=True).look()
    assert sittings == []


async def test_a_run_at_work_elsewhere_is_left_alone(
    path: Path, service: RunService, model: FakeModel, sittings: list[str]
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    assert not work_is_left(path)
    async with open_service(path, model) as other:
        for _ in range(2):
            assert not await Adoption(other).look()
    model.release()
    assert (await settled(service, run_id)).status == "finished"
    assert sittings == [run_id]


async def test_of_many_processes_one_takes_a_run(path: Path, sittings: list[str]) -> None:
    [run_id] = await leave(path)
    sittings.clear()
    model = FakeModel(answer_addition)
    async with open_service(path, model) as first, open_service(path, model) as second:
        looks = [Adoption(house).look() for house in (first, second) * 4]
        await asyncio.gather(*looks)
        assert first.works_on(run_id) != second.works_on(run_id)
        for house in (first, second):
            await settled(house, run_id)
        assert (await first.record(run_id)).status == "finished"
    assert sittings == [run_id]


async def test_two_runs_at_once_are_taken_unasked_and_the_rest_follow(path: Path) -> None:
    run_ids = await leave(path, seeds=3, calls=5)
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(0)
        adoption = Adoption(service)
        going = asyncio.create_task(adoption.run(0.01, once=True))
        await model.reached()
        assert await adoption.look()
        assert [service.works_on(run_id) for run_id in run_ids] == [True, True, False]
        model.release()
        await going
        assert [(await service.record(run_id)).status for run_id in run_ids] == ["finished"] * 3


async def test_what_ends_its_processes_is_put_down_until_somebody_asks_for_it(path: Path) -> None:
    [run_id] = await leave(path)
    for takeover in range(3):
        async with open_service(path, FakeModel(answer_addition)) as service:
            record = await service.record(run_id)
            assert record.takeovers == takeover
            service.standing.adopts = True
            assert "this server goes on with it by itself" in (service.reason(record) or "")
            claimed = await service.workplace.store.claim_run(
                run_id, "dead", from_owner="dead", statuses=("running",), unasked=True
            )
            assert claimed
    assert not work_is_left(path)
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        record = await service.record(run_id)
        assert service.status(record) == "interrupted"
        assert "none takes it over by itself any more" in (service.reason(record) or "")
        told: list[str] = []
        for _ in range(2):
            assert not await Adoption(service, told=told.append).look()
        assert len(told) == 1
        assert (await service.record(run_id)).reason == service.reason(record)
        assert (await service.record(run_id)).status == "interrupted"
        assert model.finished.total() == 0
        assert (await service.resume(run_id)).takeovers == 0
        assert (await settled(service, run_id)).status == "finished"


async def test_a_finished_round_or_an_end_in_order_makes_up_for_takeovers(path: Path) -> None:
    [run_id] = await leave(path)
    model = FakeModel(answer_addition)
    change(path, "UPDATE runs SET takeovers = 2")
    async with open_service(path, model) as service:
        model.hold_at(5)
        await Adoption(service).look()
        await model.reached()
        assert (await service.record(run_id)).takeovers == 3
    async with open_service(path, model) as service:
        assert (await service.record(run_id)).takeovers == 0
        change(path, "UPDATE runs SET takeovers = 2")
        model.release()
        await Adoption(service).look()
        assert (await settled(service, run_id)).takeovers == 0


async def test_a_silent_owner_loses_its_run_only_to_who_was_awake_meanwhile(path: Path) -> None:
    [run_id] = await leave(path)
    owner = Lease(path)
    owner.acquire()
    silent = time.time() - LEASE_SECONDS - 1
    change(path, f"UPDATE runs SET owner = '{owner.owner}', heartbeat = {silent}")
    assert not work_is_left(path)
    async with open_service(path, FakeModel(answer_addition)) as service:
        adoption = Adoption(service)
        assert not await adoption.look()  # perhaps the whole machine slept
        assert await adoption.look()
        assert (await settled(service, run_id)).status == "finished"
    owner.release()


async def test_a_run_that_was_queued_and_never_begun_is_begun_after_the_lease(path: Path) -> None:
    [run_id] = await leave(path, calls=0)
    change(path, f"UPDATE runs SET status = 'queued', owner = NULL, updated = {time.time()}")
    assert not work_is_left(path)
    async with open_service(path, FakeModel(answer_addition)) as service:
        service.standing.adopts = True
        assert not await Adoption(service).look()
        record = await service.record(run_id)
        assert service.status(record) == "queued"
        assert "this server begins it by itself within 30 seconds" in (service.reason(record) or "")
        service.standing.adopts = False
        assert service.status(record) == "interrupted"
        change(path, f"UPDATE runs SET updated = {time.time() - LEASE_SECONDS}")
        assert work_is_left(path)
        assert await Adoption(service).look()
        finished = await settled(service, run_id)
        assert (finished.status, finished.takeovers) == ("finished", 0)


async def test_a_run_goes_on_unasked_within_the_budget_it_has(path: Path) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(20)
        started = await service.start(request(budget=BudgetLimits(calls=25)))
        await model.reached()
    model.release()
    async with open_service(path, model) as service:
        assert await Adoption(service).look()
        record = await settled(service, started.record.run_id)
        assert record.status == "paused"
        assert "25 of 25 calls" in (record.reason or "")
    assert model.finished.total() == 25


async def test_a_run_that_cannot_be_worked_on_here_is_left_to_who_can(path: Path) -> None:
    """It needs a model that only another process was given."""
    writer = "writer:fake"
    others = {writer: FakeModel(GoodOptimizer(), spec=writer)}
    async with open_service(path, FakeModel(answer_addition), others) as service:
        others[writer].hold_at(0)
        run_id = (await service.start(asked())).record.run_id
        await others[writer].reached()
    others[writer].release()
    async with open_service(path, FakeModel(answer_addition)) as service:
        service.standing.adopts = True
        assert not await Adoption(service).look()
        record = await service.record(run_id)
        assert service.status(record) == "interrupted"
        assert "resume_run" in (service.reason(record) or "")
        async with open_service(path, FakeModel(answer_addition), others) as able:
            assert await Adoption(able).look()
            assert (await settled(able, run_id)).status == "finished"


async def test_a_run_that_cannot_be_read_is_left_and_does_not_stop_the_others(path: Path) -> None:
    async with open_service(path, FakeModel(answer_addition)) as service:
        odd = NewRun("run_alien", '{"from": "elsewhere"}', "hash", status="interrupted")
        await service.workplace.store.create_run(odd, [])
    [run_id] = await leave(path)
    change(path, "UPDATE runs SET status = 'interrupted', owner = NULL")
    async with open_service(path, FakeModel(answer_addition)) as service:
        await Adoption(service).run(0.01, once=True)
        assert (await service.record("run_alien")).status == "interrupted"
        change(path, "UPDATE runs SET status = 'queued' WHERE run_id = 'run_alien'")
        await Adoption(service, everything=True).run(0.01, once=True)
        alien = await service.record("run_alien")
        assert (alien.status, "another version" in (alien.reason or "")) == ("failed", True)
        assert (await service.record(run_id)).status == "finished"
