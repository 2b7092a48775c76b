import asyncio
import gc
import json
from asyncio import Task
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from bayesflow_sampler.source import parse_workflow
from bayesflow_server.errors import InputError, ModelUnavailableError, NotFoundError, ProviderError
from bayesflow_server.evaluation.scorers import Numeric
from bayesflow_server.evaluation.task import load_task
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.evaluation_report import EvaluationReport
from bayesflow_server.runs.evaluations import EvaluationService, EvaluationSpec
from bayesflow_server.runs.members import Member
from bayesflow_server.runs.recorder import workflow_record
from bayesflow_server.runs.spec import pinned_rows
from bayesflow_server.store.records import EvaluationRecord
from fakes.approx import approx
from fakes.houses import left_over, open_evaluations
from fakes.models import SPEC, FakeModel
from fakes.tasks import addition_task, answer_addition, workflow

ASK = '(await self.llm.call_llm(messages=["style3 " + problem], temperature=0.0))[0]'
GOOD = workflow(f"return {ASK}, 0.0").source
BAD = workflow(f"return {ASK} + '0', 0.0").source
ROWS = pinned_rows(addition_task())


def spec(**changes: object) -> EvaluationSpec:
    values: dict[str, object] = {
        "workflow": GOOD,
        "compare_with": None,
        "scorer": Numeric(),
        "executor": SPEC,
        "split": "validation",
        "budget": BudgetLimits(calls=100),
        "seed": 0,
    }
    return EvaluationSpec.model_validate(values | changes)


@pytest.fixture
async def model() -> FakeModel:
    return FakeModel(answer_addition)


@pytest.fixture
async def service(path: Path, model: FakeModel) -> AsyncGenerator[EvaluationService, None]:
    async with open_evaluations(path, model) as service:
        yield service


async def ended(service: EvaluationService, evaluation_id: str) -> EvaluationRecord:
    record = await service.wait(evaluation_id, 60)
    assert record.status == "finished", record.reason
    return record


async def report(service: EvaluationService, evaluation_id: str) -> EvaluationReport:
    record = await ended(service, evaluation_id)
    return EvaluationReport.model_validate_json(record.report or "null")


def done_tasks() -> int:
    """How many tasks have ended and are still in memory."""
    gc.collect()
    tasks = [cast("asyncio.Task[object]", one) for one in gc.get_objects() if type(one) is Task]
    return sum(task.done() for task in tasks)


async def test_nothing_of_an_evaluation_that_has_ended_is_kept_in_memory(
    service: EvaluationService,
) -> None:
    await ended(service, await service.start(spec(), ROWS))  # the sandbox keeps its program
    await asyncio.sleep(0)
    before = done_tasks()
    for _ in range(2):
        await ended(service, await service.start(spec(), ROWS))
    await asyncio.sleep(0)
    assert done_tasks() <= before


async def test_a_workflow_is_scored_on_the_split_and_compared_row_by_row(
    service: EvaluationService, model: FakeModel
) -> None:
    found = await report(service, await service.start(spec(compare_with=BAD), ROWS))
    assert found.score.rows == 10
    assert found.compare_with is not None
    assert found.gain is not None
    assert found.gain.delta == found.score.score - found.compare_with.score
    assert found.score.score > found.compare_with.score
    assert found.calls == 20
    assert model.finished.total() == 10  # both ask the same questions
    assert found.paired is not None
    assert found.paired.wins == round(10 * found.gain.delta)
    assert (found.paired.losses, found.paired.method) == (0, "mcnemar exact")


async def test_failures_are_shown_row_by_row(service: EvaluationService) -> None:
    broken = workflow("return 1 // 0, 0.0").source
    evaluation_id = await service.start(spec(workflow=broken), ROWS)
    found = await report(service, evaluation_id)
    assert found.score.score == 0.0
    assert found.top_errors[0].startswith("10x ZeroDivisionError")
    rows = await service.rows(await service.wait(evaluation_id, 0))
    assert len(rows) == 10
    for row in rows:
        assert row.error is not None
        assert (row.error.type, row.error.step) == ("ZeroDivisionError", "Step 1: Only")
        assert (row.answers, row.calls) == ((None,), 0)


async def test_the_rows_are_read_back_the_worst_first_with_what_each_took(
    service: EvaluationService,
) -> None:
    evaluation_id = await service.start(spec(compare_with=BAD), ROWS)
    found = await report(service, evaluation_id)
    record = await service.wait(evaluation_id, 0)
    assert len(record.report or "") < 1500  # sums only, however many rows
    rows = await service.rows(record)
    validation = {row.row_id for row in ROWS if row.split == "validation"}
    assert {row.row_id for row in rows} == validation
    scores = [row.score for row in rows]
    assert scores == sorted(scores)
    assert sum(scores) / 10 == approx(found.score.score)
    assert {(row.calls, row.error) for row in rows} == {(1, None)}
    assert all(row.tokens > 0 and "What is" in row.trace for row in rows)
    assert found.calls == 20
    assert found.tokens == 2 * sum(row.tokens for row in rows)
    apart = await service.differences(record)
    assert found.paired is not None
    assert len(apart) == found.paired.wins
    assert {(one.score, one.other_score) for one in apart} == {(1.0, 0.0)}
    assert all(one.other_answer == f"{one.answer}0" for one in apart)


async def test_each_replicate_is_a_pass_of_its_own(path: Path) -> None:
    model = FakeModel(answer_addition)
    async with open_evaluations(path, model) as service:
        warm = workflow(f"return {ASK.replace('0.0', '0.8')}, 0.0").source
        evaluation_id = await service.start(spec(workflow=warm, replicates=3), ROWS)
        found = await report(service, evaluation_id)
        rows = await service.rows(await service.wait(evaluation_id, 0))
    assert len(set(model.finished)) == model.finished.total() == found.calls == 30
    assert len(found.replicates) == 3
    assert len(set(found.replicates)) > 1  # the model draws anew
    assert sum(found.replicates) / 3 == approx(found.score.score)
    assert {len(row.answers) for row in rows} == {3}
    assert {round(3 * row.score) for row in rows} <= {0, 1, 2, 3}
    assert any(row.score not in (0.0, 1.0) for row in rows)
    assert found.score.rows == 10


async def test_a_later_pass_is_gone_on_with_and_the_budget_covers_all_passes(path: Path) -> None:
    model = FakeModel(answer_addition)
    warm = workflow(f"return {ASK.replace('0.0', '0.8')}, 0.0").source
    model.hold_at(14)
    async with open_evaluations(path, model) as service:
        evaluation_id = await service.start(spec(workflow=warm, replicates=2), ROWS)
        await model.reached()
    model.release()
    async with open_evaluations(path, model) as service:
        assert (await report(service, evaluation_id)).calls == 20
        assert set(model.finished.values()) == {1}
        small = spec(workflow=warm, replicates=2, seed=1, budget=BudgetLimits(calls=15))
        spent = await service.wait(await service.start(small, ROWS), 60)
        assert spent.status == "failed"
        assert "15 of 15 calls" in (spent.reason or "")


async def test_the_best_of_a_pool_are_scored_together(service: EvaluationService) -> None:
    sources = [GOOD, BAD, workflow(f"x = {ASK}\n        return x, 0.0").source]
    store = service.workplace.store
    members: list[Member] = []
    for source, weight in zip(sources, (0.25, 0.0, 0.75), strict=True):
        record = workflow_record(parse_workflow(source))
        await store.put_workflow(record)
        members.append(Member(workflow_id=record.workflow_id, weight=weight))
    found = await report(service, await service.start(spec(members=tuple(members)), ROWS))
    assert found.ensemble is not None
    assert [one.weight for one in found.ensemble.members] == [0.25, 0.0, 0.75]
    right = found.score.score
    assert [one.score for one in found.ensemble.members] == [right, 0.0, right]
    one, two, three = found.ensemble.sizes
    assert (one.best, one.mean, one.majority, one.weighted) == (right,) * 4
    # Of two that differ the better ranked wins; of three the two that agree.
    assert (two.best, two.mean, two.majority) == (right, approx(right / 2), right)
    assert (three.best, three.mean, three.majority) == (right, approx(2 * right / 3), right)
    assert found.calls == 30


async def test_macro_f1_holds_each_answer_against_the_label_of_its_row(path: Path) -> None:
    labels = ["good", "good", "good", "bad", "bad", "mixed"]
    task = load_task(
        instructions="Judge.",
        examples=[
            {"input": f"review {n}", "target": label, "split": "test"}
            for n, label in enumerate(labels)
        ]
        + [{"input": "another", "target": "good", "split": "validation"}],
        scorer={"kind": "label", "labels": ["good", "bad", "mixed"]},
    )
    repeat = workflow(
        "return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0"
    ).source
    model = FakeModel(lambda asked: "bad" if asked.messages[-1].content[-1] in "34" else "good")
    async with open_evaluations(path, model) as service:
        asked = spec(workflow=repeat, scorer=task.scorer, split="test", replicates=2)
        found = await report(service, await service.start(asked, pinned_rows(task)))
    # good: TP 3, FP 1 → 6/7; bad: 1; mixed: 0. Passes that agree change nothing.
    assert found.score.score == approx(5 / 6)
    assert found.macro_f1 == approx((6 / 7 + 1 + 0) / 3)


async def test_an_ensemble_without_a_posterior_has_no_weighted_vote(
    service: EvaluationService,
) -> None:
    record = workflow_record(parse_workflow(GOOD))
    await service.workplace.store.put_workflow(record)
    alone = (Member(workflow_id=record.workflow_id),)
    found = await report(service, await service.start(spec(members=alone), ROWS))
    assert found.ensemble is not None
    assert [one.weighted for one in found.ensemble.sizes] == [None]


async def test_what_an_earlier_version_stored_can_still_be_read(
    service: EvaluationService,
) -> None:
    evaluation_id = await service.start(spec(), ROWS)
    record = await ended(service, evaluation_id)
    request = json.loads(record.request)
    found = json.loads(record.report or "")
    for name in ("replicates", "members"):
        del request[name]
    for name in ("paired", "replicates", "ensemble", "usd", "seconds"):
        del found[name]
    found["rows"] = [{"row_id": "1", "answer": "2", "score": 1.0, "error": None, "calls": 1}]
    old = replace(record, request=json.dumps(request), report=json.dumps(found))
    assert len(await service.rows(old)) == 10
    assert await service.differences(old) == []
    assert EvaluationReport.model_validate_json(old.report or "").replicates == ()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"workflow": "not python ("}, InputError),
        ({"workflow": "import os\n" + GOOD}, InputError),
        ({"compare_with": "class Workflow: pass"}, InputError),
        ({"split": "demonstration"}, InputError),
        ({"executor": "nonsense"}, ModelUnavailableError),
    ],
)
async def test_a_wrong_request_writes_nothing(
    service: EvaluationService, changes: dict[str, object], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        await service.start(spec(**changes), ROWS)
    assert await service.workplace.store.all_executions("") == []
    good = workflow(f"return {ASK}, 0.0").workflow_id
    assert await service.workplace.store.workflow(good) is None


async def test_what_another_process_left_is_gone_on_with(path: Path, model: FakeModel) -> None:
    model.hold_at(4)
    async with open_evaluations(path, model) as service:
        evaluation_id = await service.start(spec(), ROWS)
        await model.reached()
        assert (await service.wait(evaluation_id, 0)).status == "running"
    model.release()
    async with open_evaluations(path, model) as service:
        assert (await report(service, evaluation_id)).calls == 10
    assert set(model.finished.values()) == {1}


async def test_what_an_earlier_process_spent_counts_against_the_budget(
    path: Path, model: FakeModel
) -> None:
    model.hold_at(4)
    async with open_evaluations(path, model) as service:
        evaluation_id = await service.start(spec(budget=BudgetLimits(calls=7)), ROWS)
        await model.reached()
    model.release()
    async with open_evaluations(path, model) as service:
        record = await service.wait(evaluation_id, 60)
        assert record.status == "failed"
        assert "7 of 7 calls" in (record.reason or "")
    assert model.finished.total() == 7


async def test_trouble_ends_an_evaluation_with_its_reason(
    service: EvaluationService, model: FakeModel, caplog: pytest.LogCaptureFixture
) -> None:
    spent = await service.wait(await service.start(spec(budget=BudgetLimits(calls=3)), ROWS), 60)
    assert spent.status == "failed"
    assert "3 of 3 calls" in (spent.reason or "")
    model.fault = lambda _: ProviderError("gone", transient=False)
    down = await service.wait(await service.start(spec(), ROWS), 60)
    assert (down.status, down.reason) == ("failed", "gone")
    model.fault = lambda _: KeyError("oops")
    bug = await service.wait(await service.start(spec(), ROWS), 60)
    assert (bug.status, bug.reason) == ("failed", "Internal error: KeyError: 'oops'")
    assert "oops" in caplog.text


async def test_what_is_unknown_is_not_found(service: EvaluationService) -> None:
    with pytest.raises(NotFoundError):
        await service.wait("eval_none", 0)
    with pytest.raises(NotFoundError):
        await service.source_of("wf_none")
    assert await service.source_of(GOOD) == GOOD
    evaluation_id = await service.start(spec(), ROWS)
    record = await service.wait(evaluation_id, 60)
    assert await service.source_of(record.workflow_id) == GOOD
    assert json.loads(record.request)["split"] == "validation"


async def test_closing_leaves_no_task(path: Path, model: FakeModel) -> None:
    async with open_evaluations(path, model) as helper:
        before = asyncio.all_tasks()
        service = EvaluationService(helper.workplace)
        model.hold_at(2)
        await service.start(spec(), ROWS)
        await model.reached()
        await service.aclose()
        assert await left_over(before) == set()


async def test_two_servers_asked_for_one_evaluation_pay_for_it_once(
    path: Path, model: FakeModel
) -> None:
    drawing = workflow(f"return {ASK.replace('0.0', '0.7')}, 0.0").source
    model.hold_at(4)
    async with open_evaluations(path, model) as service, open_evaluations(path, model) as other:
        evaluation_id = await service.start(spec(workflow=drawing), ROWS)
        await model.reached()
        assert (await other.wait(evaluation_id, 0.3)).status == "running"
        model.release()
        await asyncio.gather(ended(service, evaluation_id), ended(other, evaluation_id))
        assert (await report(other, evaluation_id)).calls == 10
    assert model.started.total() == 10
    assert not list(path.parent.glob("*.owners/eval_*"))


async def test_a_server_takes_over_from_one_that_stops(path: Path, model: FakeModel) -> None:
    model.hold_at(4)
    async with open_evaluations(path, model) as other:
        async with open_evaluations(path, model) as service:
            evaluation_id = await service.start(spec(), ROWS)
            await model.reached()
            assert (await other.wait(evaluation_id, 0)).status == "running"
        model.release()
        assert (await report(other, evaluation_id)).calls == 10
