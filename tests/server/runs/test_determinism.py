from collections import Counter
from pathlib import Path
from typing import Protocol

import pytest

from bayesflow_server.models.chat import ChatRequest
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


class Undisturbed(Protocol):
    footprint: Footprint
    finished: Counter[ChatRequest]


async def found_by(path: Path, model: FakeModel, seed: int = 0) -> Footprint:
    async with open_service(path, model) as service:
        run_id = (await service.start(request(seed))).record.run_id
        await settled(service, run_id)
        return await footprint(service, run_id)


@pytest.mark.parametrize(("latency_seed", "concurrency"), [(1, 1), (2, 8), (3, 50)])
async def test_neither_the_order_of_answers_nor_the_concurrency_changes_what_is_found(
    path: Path, undisturbed: Undisturbed, latency_seed: int, concurrency: int
) -> None:
    model = FakeModel(answer_addition, latency_seed=latency_seed, turns=40, concurrency=concurrency)
    assert await found_by(path, model) == undisturbed.footprint
    assert model.most_in_flight <= concurrency


async def test_a_second_run_of_the_same_request_finds_the_same_and_pays_nothing(
    path: Path, undisturbed: Undisturbed
) -> None:
    model = FakeModel(answer_addition)
    await found_by(path, model)
    paid = model.finished.total()
    assert await found_by(path, model) == undisturbed.footprint
    assert model.finished.total() == paid


async def test_another_seed_is_another_run(path: Path, undisturbed: Undisturbed) -> None:
    model = FakeModel(answer_addition)
    other = await found_by(path, model, seed=1)
    assert other.draws != undisturbed.footprint.draws
    assert other.rounds != undisturbed.footprint.rounds
    # Above temperature 0 its draws are its own; at 0 both ask the same of the model.
    shared = model.finished.keys() & undisturbed.finished.keys()
    assert {asked.temperature for asked in shared} == {0.0}


async def test_the_search_is_worth_comparing(undisturbed: Undisturbed) -> None:
    found = undisturbed.footprint
    assert len(found.rounds) == 3
    assert len({entry[0] for entry in found.pool}) > 5
    assert {score for *_, score, _, _ in found.executions} == {0.0, 1.0}
    assert any(error for *_, error, _ in found.executions)  # some workflows fail
    assert any(calls == 2 for *_, calls in found.executions)  # some sample above temperature 0
