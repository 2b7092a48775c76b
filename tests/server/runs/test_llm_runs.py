"""Runs whose workflows a model writes and edits: what they find, what they ask, what they pay."""

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bayesflow_server.gateway.usage import total_usd
from bayesflow_server.models.chat import ChatRequest
from fakes.approx import approx
from fakes.houses import Footprint
from fakes.llm_runs import EDITOR, PRICES, WRITER, Ended, House, asked
from fakes.models import SPEC, FakeModel
from fakes.optimizers import GoodOptimizer, MessyOptimizer
from fakes.tasks import OPTIONS, answer_addition

Optimizer = GoodOptimizer | MessyOptimizer
APART = OPTIONS.model_copy(update={"refiner": EDITOR})


def is_repair(question: ChatRequest) -> bool:
    return "# Your answer to this cannot be used" in question.messages[-1].content


def tokens_of(model: FakeModel, answer: Callable[[ChatRequest], str]) -> tuple[int, int]:
    """Words in and out of all calls that were answered."""
    questions = [
        sum(len(turn.content.split()) for turn in request.messages) for request in model.finished
    ]
    return sum(questions), sum(len(answer(request).split()) for request in model.finished)


async def found(path: Path, optimizer: Optimizer, seed: int = 0) -> Footprint:
    async with House.open(path, optimizer) as house:
        return await house.footprint(await house.run(seed=seed))


@pytest.mark.parametrize("optimizer", [GoodOptimizer(), MessyOptimizer()])
async def test_a_run_written_by_a_model_finds_a_workflow_and_measures_it(
    path: Path, optimizer: Optimizer
) -> None:
    async with House.open(path, optimizer) as house:
        ended = await house.run()
        report, left = ended.report, await house.footprint(ended)
        view = await house.pool(ended)
    assert report.baseline.test is not None
    assert report.test.rows == report.baseline.test.rows == 7
    assert report.test.score > 0.5
    assert report.gain.delta > 0
    origins = Counter(item.row.entry.origin for item in view.items)
    assert origins["baseline"] == 1
    assert origins["prior"] >= 4
    assert 1 <= origins["refined"] <= 3
    for item in view.items:
        refined = item.row.entry.origin == "refined"
        assert (item.row.entry.parent_id is not None) == refined
        assert item.row.entry.clean == (item.row.entry.origin == "prior")
    assert view.posterior is not None
    assert view.posterior.rounds == (3,)  # a chat is no coherent prior: the last round counts
    assert sum(view.posterior.probability.values()) == approx(1.0)
    assert len(left.rounds) == 3
    assert ended.phase.best_so_far is not None
    assert ended.phase.best_so_far.workflow_id in {
        item.row.entry.workflow_id for item in view.items
    }


@pytest.mark.parametrize(("rollouts", "rounds"), [(1, 3), (2, 3), (3, 2), (1, 1)])
async def test_decision_02_the_optimizer_is_asked_so_often(
    path: Path, rollouts: int, rounds: int
) -> None:
    options = OPTIONS.model_copy(update={"rollouts": rollouts, "rounds": rounds})
    async with House.open(path) as house:
        ended = await house.run(options=options)
        questions = house.writer.finished
    # No workflow of this optimizer is shorter than three steps, and none needs a repair.
    assert ended.used("optimizer").calls == 4 * rollouts * (rounds - 1) + 4
    assert not any(is_repair(question) for question in questions)
    assert ended.used("optimizer").calls + ended.used("refiner").calls == questions.total()


@pytest.mark.parametrize("optimizer", [GoodOptimizer(), MessyOptimizer()])
async def test_each_role_is_charged_what_its_calls_took(path: Path, optimizer: Optimizer) -> None:
    editor = FakeModel(optimizer, spec=EDITOR)
    async with House.open(path, optimizer, others={EDITOR: editor}) as house:
        ended = await house.run(options=APART)
        executions = await house.service.workplace.store.all_executions(ended.record.run_id)
        models = {
            "executor": (house.executor, answer_addition),
            "optimizer": (house.writer, optimizer),
            "refiner": (editor, optimizer),
        }
    assert {(row.role, row.model) for row in ended.usage} == {
        ("executor", SPEC),
        ("optimizer", WRITER),
        ("refiner", EDITOR),
    }
    for role, (model, answer) in models.items():
        row = ended.used(role)
        words_in, words_out = tokens_of(model, answer)
        per_in, per_out = PRICES[model.spec.partition(":")[0]]
        assert row.calls == row.needed_calls == model.finished.total()
        assert (row.input_tokens, row.output_tokens) == (words_in, words_out)
        assert row.cost_usd == approx((words_in * per_in + words_out * per_out) / 1e6)
    assert all(ended.used(role).cached_calls == 0 for role in ("optimizer", "refiner"))
    executor = ended.used("executor")
    assert executor.cached_calls > 0
    assert sum(one.calls for one in executions) == executor.calls + executor.cached_calls
    assert sum(one.cached_calls for one in executions) == executor.cached_calls
    for one in executions:
        dear, cheap = (rate / 1e6 for rate in PRICES["scripted"])
        price = one.input_tokens * dear + one.output_tokens * cheap
        assert one.cost_usd == approx(price)
        assert (price > 0) == (one.calls > 0)


async def test_repairs_are_the_only_further_questions_and_never_more_than_two_a_draw(
    path: Path,
) -> None:
    async with House.open(path, MessyOptimizer()) as house:
        ended = await house.run(options=OPTIONS.model_copy(update={"refinements": 0}))
        questions = house.writer.finished
    repairs = sum(is_repair(question) for question in questions)
    draws = questions.total() - repairs
    assert 4 <= draws <= 4 * 2 + 4  # what ends early is not continued
    assert 0 < repairs <= 2 * draws
    assert ended.used("optimizer").calls == draws + repairs


@pytest.mark.parametrize("latency_seed", [1, 2, 3, 4])
async def test_the_order_of_answers_does_not_change_what_is_found(
    path: Path, latency_seed: int, messy: Footprint
) -> None:
    models = [
        FakeModel(answer, spec=spec, latency_seed=latency_seed, turns=30, concurrency=latency_seed)
        for answer, spec in ((MessyOptimizer(), WRITER), (answer_addition, SPEC))
    ]
    async with House.open(path, models[0], models[1]) as house:
        assert await house.footprint(await house.run()) == messy


async def test_the_same_seed_in_a_fresh_database_finds_the_same_and_another_seed_does_not(
    tmp_path: Path, messy: Footprint
) -> None:
    assert await found(tmp_path / "same.sqlite3", MessyOptimizer()) == messy
    other = await found(tmp_path / "other.sqlite3", MessyOptimizer(), seed=1)
    assert other.draws != messy.draws


async def test_a_second_run_of_the_same_seed_pays_nothing(path: Path, messy: Footprint) -> None:
    async with House.open(path, MessyOptimizer()) as house:
        first = await house.run()
        paid = house.writer.started.total() + house.executor.started.total()
        second = await house.run()
        assert house.writer.started.total() + house.executor.started.total() == paid
        assert await house.footprint(first) == await house.footprint(second) == messy
    assert [row.calls for row in second.usage] == [0, 0, 0]
    assert total_usd(row.cost_usd for row in second.usage) == 0.0
    for row in second.usage:
        before = first.used(row.role)
        assert row.needed_calls == before.needed_calls
        assert row.cached_calls == before.calls + before.cached_calls
    assert second.report.model_copy(update={"search_seconds": 0}) == first.report.model_copy(
        update={"search_seconds": 0}
    )


async def test_two_equal_runs_at_once_pay_for_one(path: Path, messy: Footprint) -> None:
    async with House.open(path, MessyOptimizer()) as house:
        started = [await house.service.start(asked()) for _ in range(2)]
        ended = [await house.ended(one.record.run_id) for one in started]
        for one in ended:
            assert await house.footprint(one) == messy
        assert max(house.writer.finished.values()) == max(house.executor.finished.values()) == 1
    for role, model in (("optimizer", house.writer), ("executor", house.executor)):
        calls = [one.used(role).calls for one in ended]
        refined = sum(one.used("refiner").calls for one in ended) * (role == "optimizer")
        assert sum(calls) + refined == model.finished.total()
    assert ended[0].phase.notes == ended[1].phase.notes


async def test_another_seed_in_the_same_database_draws_afresh(path: Path) -> None:
    async with House.open(path) as house:
        first = await house.run()
        second = await house.run(seed=1)
    assert second.used("optimizer").calls == first.used("optimizer").calls
    assert second.used("optimizer").cached_calls == 0


async def test_an_unknown_price_leaves_the_cost_unknown_and_never_0(path: Path) -> None:
    async with House.open(path, priced=False) as house:
        started = await house.service.start(asked())
        ended: Ended = await house.ended(started.record.run_id)
    assert started.spec.budget.usd is None
    assert [row.cost_usd for row in ended.usage] == [None, None, None]
    assert ended.report.cost_ratio is not None  # of tokens


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Footprint:
    """What a messy optimizer finds undisturbed."""
    path = tmp_path_factory.mktemp("messy") / "bayesflow.sqlite3"
    return asyncio.run(found(path, MessyOptimizer()))
