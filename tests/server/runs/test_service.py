"""Watching and stopping runs; what one service does to another over the same file."""

import asyncio
from pathlib import Path

import pytest

from bayesflow_server.errors import (
    InputError,
    NotFoundError,
)
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.housekeeping import Housekeeper
from fakes.houses import footprint, open_service, settled, until
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


async def test_what_is_not_there_is_not_found(service: RunService) -> None:
    for ask in (service.record, service.cancel, service.resume):
        with pytest.raises(NotFoundError, match="list_runs"):
            await ask("run_none")
    with pytest.raises(NotFoundError, match="get_pool"):
        await service.workflow("wf_none")


async def test_a_finished_or_running_run_is_resumed_as_it_is(
    service: RunService, model: FakeModel, sittings: list[str]
) -> None:
    model.hold_at(3)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    assert (await service.resume(run_id, BudgetLimits(calls=20_000))).status == "running"
    with pytest.raises(InputError, match="works already, with the budget it has"):
        await service.resume(run_id, BudgetLimits(calls=1))
    model.release()
    finished = await settled(service, run_id)
    assert (await service.resume(run_id)) == finished
    assert RunSpec.model_validate_json(finished.request).budget.calls == 20_000
    assert (await service.cancel(run_id)) == finished
    assert sittings == [run_id]


async def test_many_resumes_at_once_are_one_sitting(
    path: Path, service: RunService, model: FakeModel, sittings: list[str]
) -> None:
    model.hold_at(3)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    await service.cancel(run_id)
    async with open_service(path, model) as other:
        await asyncio.gather(*(house.resume(run_id) for house in (service, other) * 4))
        model.release()
        await settled(service, run_id)
        await settled(other, run_id)
        assert (await service.record(run_id)).status == "finished"
    assert sittings == [run_id, run_id]


async def test_a_run_may_be_resumed_the_moment_it_shows_as_paused(
    service: RunService, model: FakeModel
) -> None:
    run_id = (await service.start(request(budget=BudgetLimits(calls=5)))).record.run_id
    await until(service, run_id, lambda record: record.status == "paused")
    resumed = await service.resume(run_id, BudgetLimits(calls=1000))
    assert resumed.status == "running"
    assert (await settled(service, run_id)).status == "finished"


async def test_a_run_may_be_resumed_while_it_is_being_cancelled(
    service: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    cancelling = asyncio.create_task(service.cancel(run_id))
    await until(service, run_id, lambda record: record.status == "cancelled")
    model.release()
    await service.resume(run_id)
    await cancelling
    assert (await settled(service, run_id)).status == "finished"


async def test_a_budget_that_cannot_hold_is_refused_on_resume_too(
    service: RunService, model: FakeModel
) -> None:
    run_id = (await service.start(request(budget=BudgetLimits(calls=1)))).record.run_id
    await settled(service, run_id)
    with pytest.raises(InputError, match="dollars"):
        await service.resume(run_id, BudgetLimits(usd=1.0))
    assert (await service.record(run_id)).status == "paused"


async def test_a_budget_that_nobody_agreed_to_holds_for_no_run_that_stopped_meanwhile(
    service: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    record = await service.cancel(run_id)
    with pytest.raises(InputError, match="stopped just now"):
        await service.resume(run_id, BudgetLimits(calls=100_000), agreed=False)
    assert (await service.record(run_id)).request == record.request
    assert not service.works_on(run_id)


async def test_another_service_sees_a_live_run_and_cannot_take_it(
    path: Path, service: RunService, model: FakeModel, sittings: list[str]
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    async with open_service(path, model) as other:
        record = await other.record(run_id)
        assert other.status(record) == "running"
        assert (await other.resume(run_id)).owner == record.owner
    model.release()
    assert (await settled(service, run_id)).status == "finished"
    assert sittings == [run_id]


async def test_another_service_can_cancel_a_live_run(
    path: Path, service: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    async with open_service(path, model) as other:
        assert (await other.cancel(run_id)).status == "cancelled"
        record = await settled(service, run_id)
        assert (record.status, record.owner) == ("cancelled", None)
    assert model.finished.total() <= 5


async def test_a_run_that_is_deleted_under_its_sitting_ends_it_without_an_error(
    path: Path, service: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    [sitting] = [one for one in asyncio.all_tasks() if "RunService._sit " in str(one.get_coro())]
    record = await service.record(run_id)
    with Housekeeper(path) as keeper:
        assert keeper.delete_run(record)
    model.release()
    await asyncio.wait([sitting])
    assert sitting.cancelled() or sitting.exception() is None
    with pytest.raises(NotFoundError):
        await service.record(run_id)


async def test_waiting_wakes_when_the_run_moves_on(service: RunService, model: FakeModel) -> None:
    model.hold_at(0)
    record = (await service.start(request())).record
    waiting = asyncio.create_task(service.wait(record.run_id, since=record.revision, seconds=40))
    await asyncio.sleep(0)
    model.release()
    assert (await waiting).revision > record.revision
    await settled(service, record.run_id)


async def test_runs_are_listed_newest_first(service: RunService) -> None:
    ids = [(await service.start(request(seed))).record.run_id for seed in range(3)]
    assert [record.run_id for record in await service.newest(5)] == ids[::-1]
    assert [record.run_id for record in await service.newest(2)] == ids[:0:-1]


async def test_several_runs_of_one_service_each_find_what_they_find_alone(
    path: Path, tmp_path: Path, service: RunService
) -> None:
    ids = [(await service.start(request(seed))).record.run_id for seed in (0, 1)]
    for seed, run_id in enumerate(ids):
        await settled(service, run_id)
        async with open_service(tmp_path / f"{seed}.sqlite3", FakeModel(answer_addition)) as alone:
            other = (await alone.start(request(seed))).record.run_id
            await settled(alone, other)
            assert await footprint(service, run_id) == await footprint(alone, other)
