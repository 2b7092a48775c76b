"""What goes wrong while a run works."""

import asyncio
from pathlib import Path

import pytest

from bayesflow_server.errors import (
    InputError,
    ModelUnavailableError,
    NotFoundError,
    ProviderError,
    ServerError,
    StoreError,
)
from bayesflow_server.runs.adoption import Adoption
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.sitting import Sitting
from fakes.houses import left_over, open_service, settled
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


async def test_a_store_that_fails_pauses_the_run_and_not_the_service(
    service: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = service.workplace.store

    async def full(*_: object) -> None:
        raise StoreError("the disk is full; free some space, then resume")

    with monkeypatch.context() as patch:
        patch.setattr(store, "record_execution", full)
        run_id = (await service.start(request())).record.run_id
        record = await settled(service, run_id)
    assert (record.status, record.owner) == ("paused", None)
    assert "disk is full" in (record.reason or "")
    await service.resume(run_id)
    assert (await settled(service, run_id)).status == "finished"


async def test_a_store_that_cannot_even_take_that_down_does_so_at_a_later_beat(
    path: Path,
    service: RunService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sittings: list[str],
) -> None:
    store = service.workplace.store

    async def full(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        run_id = (await service.start(request())).record.run_id
        for name in ("record_execution", "record_draw", "update_run", "release_run"):
            patch.setattr(store, name, full)
        record = await settled(service, run_id)
        assert record.status == "running"
        assert (service.status(record), service.reason(record)) == ("paused", "the disk is full")
        assert "the disk is full" in caplog.text
        assert not await Adoption(service).look()
        await service._beat_once()  # pyright: ignore[reportPrivateUsage]
        assert service.status(await service.record(run_id)) == "paused"
    async with open_service(path, FakeModel(answer_addition)) as other:
        await service._beat_once()  # pyright: ignore[reportPrivateUsage]
        record = await other.record(run_id)
        assert (record.owner, other.status(record)) == (None, "paused")
        assert other.reason(record) == service.reason(record) == "the disk is full"
    await asyncio.gather(*(service.resume(run_id) for _ in range(4)))
    assert (await settled(service, run_id)).status == "finished"
    assert sittings == [run_id, run_id]


async def test_a_phase_that_cannot_be_written_does_not_stop_the_run(
    service: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(_: Sitting) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Sitting, "_write_phase", full)
    run_id = (await service.start(request())).record.run_id
    assert (await settled(service, run_id)).status == "finished"


async def test_a_bug_fails_its_run_alone_and_the_run_can_be_resumed(
    service: RunService, model: FakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    model.fault = lambda number: KeyError("oops") if number == 3 else None
    run_id = (await service.start(request())).record.run_id
    record = await settled(service, run_id)
    assert (record.status, record.reason) == ("failed", "Internal error: KeyError: 'oops'")
    assert "oops" in caplog.text
    await service.resume(run_id)
    assert (await settled(service, run_id)).status == "finished"


async def test_a_model_that_is_gone_pauses_the_run(path: Path, model: FakeModel) -> None:
    model.hold_at(3)
    async with open_service(path, model) as service:
        run_id = (await service.start(request())).record.run_id
        await model.reached()
    model.release()
    async with open_service(path, model) as service:
        registry = service.workplace.models

        def gone(spec: str) -> FakeModel:
            raise ModelUnavailableError(f"The weights of {spec} are gone.")

        registry.model = gone  # type: ignore[method-assign]
        await service.resume(run_id)
        record = await settled(service, run_id)
        assert (record.status, record.reason) == (
            "paused",
            "The weights of scripted:fake are gone.",
        )


async def test_a_closed_service_leaves_no_task_and_no_run_behind(
    path: Path, model: FakeModel
) -> None:
    async with open_service(path, model) as helper:  # keeps store and sandbox open
        service = RunService(helper.workplace)
        before = asyncio.all_tasks()
        await service.open()
        model.hold_at(3)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
        await service.aclose()
        assert await left_over(before) == set()
        record = await helper.record(run_id)
        assert (record.status, record.owner) == ("interrupted", None)
        late = await service.start(request())
        assert helper.status(late.record) == "interrupted"
        assert await left_over(before) == set()
        await service.aclose()


@pytest.mark.parametrize("kind", [InputError, NotFoundError])
async def test_an_error_that_no_waiting_cures_fails_the_run(
    service: RunService, model: FakeModel, kind: type[ServerError]
) -> None:
    model.fault = lambda _: kind("wrong")
    run_id = (await service.start(request())).record.run_id
    record = await settled(service, run_id)
    assert (record.status, record.reason) == ("failed", "wrong")


async def test_a_run_that_another_process_took_over_is_left_alone(
    service: RunService, model: FakeModel
) -> None:
    model.hold_at(3)
    record = (await service.start(request())).record
    await model.reached()
    taken = await service.workplace.store.claim_run(
        record.run_id, "another", from_owner=record.owner, statuses=["running"]
    )
    assert taken
    model.fault = lambda _: ProviderError("the network is gone", transient=False)
    model.release()
    record = await settled(service, record.run_id)
    assert (record.status, record.reason, record.owner) == ("running", None, "another")
