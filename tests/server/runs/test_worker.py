"""A worker owns runs outside any host; while one lives, servers leave new runs to it."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.adoption import Adoption
from bayesflow_server.runs.lease import LEASE_SECONDS, WORKER, lock_of, worker_lives
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.worker import work
from fakes.files import change
from fakes.houses import Footprint, footprint, open_service, settled, until
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


class Undisturbed(Protocol):
    footprint: Footprint
    finished: Counter[ChatRequest]


@asynccontextmanager
async def working(path: Path, model: FakeModel) -> AsyncGenerator[RunService]:
    """A worker over the file, until the block ends."""
    async with open_service(path, model) as service:
        task = asyncio.create_task(work(service))
        while not worker_lives(path):  # noqa: ASYNC110 (a file says so, no event)
            await asyncio.sleep(0)
        try:
            yield service
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.fixture
async def host(path: Path, model: FakeModel) -> AsyncGenerator[RunService]:
    """A server's run service: its host may close it at any time."""
    async with open_service(path, model, hosted=True) as service:
        yield service


async def test_a_new_run_is_left_to_the_worker_and_outlives_its_host(
    path: Path, undisturbed: Undisturbed
) -> None:
    quiet = FakeModel()
    async with working(path, FakeModel(answer_addition)) as worker:
        async with open_service(path, quiet, hosted=True) as host:
            started = (await host.start(request())).record
            assert host.status(started) == "queued"
            assert "waits for the worker" in (host.reason(started) or "")
            run_id = started.run_id
            assert not host.works_on(run_id)
        await until(worker, run_id, lambda record: record.status == "finished")
        assert await footprint(worker, run_id) == undisturbed.footprint
    assert quiet.finished.total() == 0


async def test_without_a_worker_a_host_works_itself(host: RunService) -> None:
    run_id = (await host.start(request())).record.run_id
    assert host.works_on(run_id)
    assert (await settled(host, run_id)).status == "finished"


async def test_a_run_that_was_stopped_is_resumed_by_the_worker(
    path: Path, host: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await host.start(request())).record.run_id
    await model.reached()
    await host.cancel(run_id)
    change(path, "UPDATE runs SET takeovers = 3")
    async with working(path, FakeModel(answer_addition)) as worker:
        resumed = await host.resume(run_id)
        assert (host.status(resumed), resumed.owner) in (
            ("queued", None),
            ("running", worker.lease.owner),
        )
        await until(host, run_id, lambda record: record.status == "finished")


async def test_a_run_queued_for_a_worker_can_be_cancelled(host: RunService, path: Path) -> None:
    lock = lock_of(path, WORKER)  # a worker that is slow
    lock.acquire()
    run_id = (await host.start(request())).record.run_id
    assert (await host.cancel(run_id)).status == "cancelled"
    lock.release()
    assert not await Adoption(host, everything=True).look()


async def test_a_run_whose_worker_died_first_is_begun_by_a_server_after_the_lease(
    host: RunService, path: Path
) -> None:
    lock = lock_of(path, WORKER)
    lock.acquire()
    run_id = (await host.start(request())).record.run_id
    host.standing.adopts = True
    change(path, f"UPDATE runs SET updated = {time.time() - LEASE_SECONDS}")
    assert not await Adoption(host).look()  # while it lives, it is the worker's
    lock.release()
    assert await Adoption(host).look()
    assert (await settled(host, run_id)).status == "finished"


async def test_a_worker_that_is_to_work_once_ends_when_nothing_is_left(path: Path) -> None:
    lock = lock_of(path, WORKER)
    model = FakeModel(answer_addition)
    async with open_service(path, model, hosted=True) as host:
        lock.acquire()
        run_ids = [(await host.start(request(seed))).record.run_id for seed in range(3)]
        lock.release()
    told: list[str] = []
    async with open_service(path, model) as service:
        await work(service, once=True, told=told.append)
        assert [(await service.record(run_id)).status for run_id in run_ids] == ["finished"] * 3
        await work(service, once=True)
    assert [one for one in told if "begins" in one] == [f"{run_id}: begins" for run_id in run_ids]
    assert len(told) == 6
    assert not worker_lives(path)


async def test_a_second_worker_is_refused(path: Path, model: FakeModel) -> None:
    async with working(path, model), open_service(path, model) as other:
        with pytest.raises(InputError, match="already; one is enough"):
            await work(other, once=True)
        assert worker_lives(path)


async def test_a_worker_that_ends_leaves_its_run_to_the_next(
    path: Path, undisturbed: Undisturbed
) -> None:
    model = FakeModel(answer_addition)
    model.hold_at(30)
    async with working(path, model) as worker:
        async with open_service(path, model, hosted=True) as host:
            run_id = (await host.start(request())).record.run_id
        await model.reached()
    model.release()
    async with open_service(path, model) as service:
        record = await service.record(run_id)
        assert (service.status(record), record.owner) == ("interrupted", None)
        await work(service, once=True)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert model.finished == undisturbed.finished
    assert worker.lease.owner != record.owner


async def test_who_stops_a_run_by_hand_keeps_it_from_being_taken_over(
    path: Path, service: RunService, model: FakeModel
) -> None:
    model.hold_at(5)
    run_id = (await service.start(request())).record.run_id
    await model.reached()
    paused = await service.pause(run_id)
    assert (paused.status, paused.owner) == ("paused", None)
    assert "resume_run" in (service.reason(paused) or "")
    assert await service.pause(run_id) == paused
    async with open_service(path, model) as other:
        assert not await Adoption(other, everything=True).look()
    model.release()
    await service.resume(run_id)
    assert (await settled(service, run_id)).status == "finished"
