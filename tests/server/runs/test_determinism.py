from pathlib import Path
from typing import Protocol

import pytest

from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.tasks import GRAMMAR, answer_addition, request


class Undisturbed(Protocol):
    footprint: Footprint


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
    other = await found_by(path, FakeModel(answer_addition), seed=1)
    assert other.draws != undisturbed.footprint.draws
    assert other.rounds != undisturbed.footprint.rounds


async def test_two_seeds_share_no_draw_above_temperature_0(tmp_path: Path) -> None:
    grammar = GRAMMAR.replace("temperature=0.0", "temperature=0.8")
    models = [FakeModel(answer_addition) for _ in range(2)]
    for seed, model in enumerate(models):
        # In files of their own, so that each pays for all that it asks.
        async with open_service(tmp_path / f"{seed}.sqlite3", model) as service:
            run_id = (await service.start(request(seed, grammar=grammar))).record.run_id
            assert (await settled(service, run_id)).status == "finished"
    first, second = ({asked.messages for asked in model.finished} for model in models)
    assert len(first & second) > 10
    shared = models[0].finished.keys() & models[1].finished.keys()
    assert {asked.temperature for asked in shared} <= {0.0}  # the baseline's


async def test_the_search_is_worth_comparing(undisturbed: Undisturbed) -> None:
    found = undisturbed.footprint
    assert len(found.rounds) == 3
    assert len({entry[0] for entry in found.pool}) > 5
    assert {score for *_, score, _, _ in found.executions} == {0.0, 1.0}
    assert any(error for *_, error, _ in found.executions)  # some workflows fail
    assert any(calls == 2 for *_, calls in found.executions)  # some sample above temperature 0
