"""Runs that an earlier version left are shown, and go on to the result they would have had."""

import json
from collections import Counter
from pathlib import Path
from typing import Final, Protocol

import pytest

from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.adoption import Adoption, work_is_left
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.schema import MIGRATIONS
from fakes.files import change
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.old_files import downgrade
from fakes.tasks import answer_addition, request

EARLIER: Final = range(1, len(MIGRATIONS))


class Undisturbed(Protocol):
    footprint: Footprint
    finished: Counter[ChatRequest]


def short(spec: str) -> str:
    """A request as a version wrote it that knew less: what has a default is not said."""
    fields = RunSpec.model_fields
    values = RunSpec.model_validate_json(spec)
    usual = {name for name, field in fields.items() if getattr(values, name) == field.get_default()}
    assert usual
    return values.model_dump_json(exclude=usual)


@pytest.mark.parametrize("version", EARLIER)
async def test_a_finished_run_of_an_earlier_version_shows_what_it_found(
    path: Path, undisturbed: Undisturbed, version: int
) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        run_id = (await service.start(request())).record.run_id
        before = await settled(service, run_id)
    downgrade(path, version)
    async with open_service(path, model) as service:
        assert await footprint(service, run_id) == undisturbed.footprint
        record = await service.record(run_id)
        assert json.loads(record.outcome or "") == json.loads(before.outcome or "")
        kinds = [event.kind for event in await service.workplace.store.events(run_id)]
        assert kinds == ["queued", "finished"]


@pytest.mark.parametrize("calls", [9, 40, 70])
@pytest.mark.parametrize("version", EARLIER)
async def test_a_run_that_an_earlier_version_left_goes_on_to_the_same_end(
    path: Path, undisturbed: Undisturbed, version: int, calls: int
) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
        await service.cancel(run_id)
        record = await service.record(run_id)
        await service.workplace.store.update_run(run_id, request=short(record.request))
    model.release()
    downgrade(path, version)
    asked = calls != 40
    if not asked:
        change(path, "UPDATE runs SET status = 'running', owner = 'dead', heartbeat = 1")
        assert work_is_left(path)  # of an earlier file too, which is not migrated for that
    async with open_service(path, model) as service:
        if asked:
            await service.resume(run_id)
        else:
            assert await Adoption(service).look()
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert model.finished == undisturbed.finished
