"""Rows of real benchmarks from file to score: a right answer scores 1, another row's does not.

The rows are not ours to copy: `BAYESFLOW_TEST_DATA` names the folder.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pytest

from bayesflow_sampler.types import RowSet, Split
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import SPLITS, Row
from bayesflow_server.evaluation.gold import expected_answer
from bayesflow_server.evaluation.task import Task, load_task
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.check import TaskChecker, TaskDraft
from bayesflow_server.runs.sitting import Workplace
from fakes.houses import open_service
from fakes.models import FakeModel
from fakes.tasks import workflow
from sandbox.workflows import needs_lock

FOLDER = Path(os.environ.get("BAYESFLOW_TEST_DATA", ""))
ROWS = 12
SCORED: tuple[Split, ...] = ("validation", "selection", "test")
ECHO = workflow("return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0")


class Sample(NamedTuple):
    """A benchmark's file, the scorer to ask for, its kind, and what another row's answer may get.

    Words overlap, so that F1 of a wrong answer need not be 0. A faulty row's own solution fails.
    """

    name: str
    scorer: str
    kind: str
    by_chance: float
    faulty: tuple[str, ...] = ()


SAMPLES = [
    pytest.param(Sample("hotpotqa", "f1", "f1", 0.2), id="hotpotqa"),
    pytest.param(Sample("drop", "drop", "drop", 0.2), id="drop"),
    pytest.param(Sample("math_l5", "math", "math", 0.0), id="math_l5"),
    pytest.param(
        Sample("mbpp", "auto", "pass_at_1", 0.0, ("mbpp-630",)), id="mbpp", marks=needs_lock
    ),
    pytest.param(Sample("humaneval", "auto", "pass_at_1", 0.0), id="humaneval", marks=needs_lock),
]
pytestmark = pytest.mark.slow


def few_rows(name: str, folder: Path) -> str:
    """A file with the first lines of another, as they are; skips where that is absent."""
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"BAYESFLOW_TEST_DATA names no folder with {name}.jsonl")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if len({row["split"] for row in rows}) == 1:  # then it leaves no row to search or to test on
        rows = [{**row, "split": None} for row in rows]
    chosen = [row for split in ("val", "test", None) for row in rows if row["split"] == split]
    halves = (chosen[: ROWS // 2], chosen[-ROWS // 2 :])
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for half in halves for row in half), "utf-8")
    return str(file)


def answers_of(task: Task, rows: Sequence[Row], shift: int) -> Mapping[str, str]:
    """By problem, the expected answer of the row so many places on; equal ones are passed over."""
    found: dict[str, str] = {}
    for place, row in enumerate(rows):
        others = [*rows[place + shift :], *rows[: place + shift]]
        good = [other for other in others if shift == 0 or other.target != row.target]
        answer = expected_answer(good[0].target)
        assert answer is not None, row.id
        found[row.problem] = answer
    assert len(found) == len(rows) == sum(len(task.splits.of(split)) for split in SPLITS)
    return found


async def scores(place: Workplace, model: FakeModel, task: Task, scope: str) -> dict[str, float]:
    """The score of a workflow that repeats what the model says, by row."""
    session = place.gateway.session(model, Budget(BudgetLimits()), scope=scope, role="executor")
    rows: dict[str, Sequence[Row]] = {split: task.splits.of(split) for split in SCORED}
    evaluator = Evaluator(
        scope=scope,
        rows=rows,
        scorer=task.scorer,
        session=session,
        sandbox=place.sandbox,
        store=place.store,
        scoring=place.scoring,
    )
    found: dict[str, float] = {}
    for split in SCORED:
        if rows[split]:
            result = await evaluator.score(ECHO, RowSet(split, tuple(range(len(rows[split])))))
            found |= zip((row.id for row in rows[split]), result.scores, strict=True)
    kept = await place.store.all_executions(evaluator.scope)
    assert {one.row_id: one.score for one in kept if one.error is None} == found
    return found


@pytest.mark.parametrize("sample", SAMPLES)
async def test_gold_scores_1_and_the_gold_of_another_row_does_not(
    sample: Sample, tmp_path: Path
) -> None:
    task = load_task(
        instructions="Answer.", examples=few_rows(sample.name, tmp_path), scorer=sample.scorer
    )
    rows = [row for split in SPLITS for row in task.splits.of(split)]
    assert task.scorer.kind == sample.kind
    assert len(rows) == ROWS
    said: dict[str, str] = {}

    def answer(request: ChatRequest) -> str:
        return said[request.messages[-1].content]

    right, wrong = FakeModel(answer), FakeModel(answer, spec="scripted:wrong")
    async with open_service(tmp_path / "runs.sqlite3", right) as service:
        place = service.workplace
        checked = await TaskChecker(place).check(TaskDraft(task))
        assert checked.ok == (not sample.faulty), checked.problems
        assert checked.gold is not None
        assert tuple(tried.row_id for tried in checked.gold.failures) == sample.faulty
        assert (checked.gold.rows, checked.gold.skipped) == (ROWS, 0)
        assert checked.gold.wrong_mean is not None
        assert checked.gold.wrong_mean <= sample.by_chance
        assert not right.started
        said |= answers_of(task, rows, 0)
        good = await scores(place, right, task, "right")
        assert good == {row.id: float(row.id not in sample.faulty) for row in rows}
        said |= answers_of(task, rows, 1)
        bad = await scores(place, wrong, task, "wrong")
        assert bad.keys() == good.keys()
        assert fmean(bad.values()) <= sample.by_chance
        await place.scoring.aclose()
