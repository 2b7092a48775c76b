import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bayesflow_server.errors import InputError, ModelUnavailableError, NotFoundError, ProviderError
from bayesflow_server.evaluation.scorers import Numeric
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.evaluations import EvaluationReport, EvaluationService, EvaluationSpec
from bayesflow_server.runs.spec import pinned_rows
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


async def report(service: EvaluationService, evaluation_id: str) -> EvaluationReport:
    record = await service.wait(evaluation_id, 60)
    assert record.status == "finished", record.reason
    return EvaluationReport.model_validate_json(record.report or "null")


async def test_a_workflow_is_scored_on_the_split_and_compared_row_by_row(
    service: EvaluationService, model: FakeModel
) -> None:
    found = await report(service, await service.start(spec(compare_with=BAD), ROWS))
    assert found.score.rows == len(found.rows) == 10
    assert found.compare_with is not None
    assert found.gain is not None
    assert found.gain.delta == found.score.score - found.compare_with.score
    assert found.score.score > found.compare_with.score
    assert found.calls == 20
    assert model.finished.total() == 10  # both ask the same questions
    validation = [row.row_id for row in ROWS if row.split == "validation"]
    assert [row.row_id for row in found.rows] == validation


async def test_failures_are_shown_row_by_row(service: EvaluationService) -> None:
    broken = workflow("return 1 // 0, 0.0").source
    found = await report(service, await service.start(spec(workflow=broken), ROWS))
    assert found.score.score == 0.0
    assert found.top_errors[0].startswith("10x ZeroDivisionError")
    assert all(row.error for row in found.rows)


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
