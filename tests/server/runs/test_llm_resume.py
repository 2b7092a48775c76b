"""A run that models write, stopped anywhere: resumed, it ends the same and repeats no call."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from bayesflow_server.evaluation.task import load_task
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs import sitting
from bayesflow_server.runs.progress import Phase
from fakes.approx import approx
from fakes.houses import Footprint
from fakes.llm_runs import (
    CHEAP,
    EDITOR,
    JUDGE,
    WRITER,
    CheapAtZero,
    Ended,
    House,
    WaywardModel,
    asked,
    judged,
)
from fakes.models import SPEC
from fakes.optimizers import MessyOptimizer
from fakes.tasks import OPTIONS, answer_addition

TASK = load_task(
    instructions="Add.",
    examples=[
        {"input": f"What is {i} plus {i * 7 % 13}?", "target": str(i + i * 7 % 13)}
        for i in range(22)
    ],
    scorer={"kind": "judge", "rubric": "The sum must be right."},
    splits={"validation": 10, "selection": 5, "test": 7},
)
REQUEST: dict[str, Any] = {
    "task": TASK,
    "options": OPTIONS.model_copy(
        update={
            "rollouts": 2,
            "refinements": 2,
            "refiner": EDITOR,
            "judge": JUDGE,
            "tiers": {"cheap": CHEAP},
            "cost_weight": 0.2,
        }
    ),
}
UNLIMITED: Final = BudgetLimits(calls=100_000)
ANSWERS: Final[Mapping[str, Callable[[ChatRequest], str]]] = {
    SPEC: answer_addition,
    WRITER: CheapAtZero(MessyOptimizer()),
    EDITOR: CheapAtZero(MessyOptimizer(7)),
    JUDGE: judged,
    CHEAP: answer_addition,
}


def question(request: ChatRequest) -> str:
    return request.messages[-1].content


def is_repair(request: ChatRequest) -> bool:
    return "# Your answer to this cannot be used" in question(request)


# What is in flight when the run is stopped, and whose call it is.
KINDS: dict[str, tuple[str, Callable[[ChatRequest], bool]]] = {
    "first draw": (WRITER, lambda _: True),
    "later draw": (WRITER, lambda one: "A workflow is begun" in question(one)),
    "repair of a draw": (WRITER, is_repair),
    "critique": (EDITOR, lambda one: "Write no code." in question(one)),
    "edit": (EDITOR, lambda one: "Make one consequential edit" in question(one)),
    "edit that is asked again": (EDITOR, lambda one: "make a different one" in question(one)),
    "repair of an edit": (EDITOR, is_repair),
    "grade": (JUDGE, lambda one: one.messages[1].content.count("<answer") > 0),
    "reminder of the judge": (JUDGE, lambda one: "reminder 1" in question(one)),
    "cheap call": (CHEAP, lambda _: True),
    "sampled call": (SPEC, lambda one: one.temperature == 0.8),
    "call of the baseline": (SPEC, lambda one: one.messages[0].role == "system"),
}


class Models(NamedTuple):
    """The models of one run, by their specs."""

    known: dict[str, WaywardModel]

    @classmethod
    def new(cls, latency_seed: int | None = None) -> "Models":
        return cls(
            {
                spec: WaywardModel(
                    answer,
                    spec=spec,
                    dropped=("temperature",) if spec in (EDITOR, JUDGE) else (),
                    latency_seed=latency_seed,
                    turns=9,
                )
                for spec, answer in ANSWERS.items()
            }
        )

    def house(self, path: Path) -> AbstractAsyncContextManager[House]:
        others = {spec: model for spec, model in self.known.items() if spec not in (SPEC, WRITER)}
        return House.open(path, self.known[WRITER], self.known[SPEC], others)

    @property
    def finished(self) -> dict[str, Counter[ChatRequest]]:
        return {spec: model.finished for spec, model in self.known.items()}


class Undisturbed(NamedTuple):
    """A run that nothing got in the way of."""

    footprint: Footprint
    phase: Phase
    finished: dict[str, Counter[ChatRequest]]
    totals: UsageTotals


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    async def run() -> Undisturbed:
        models = Models.new()
        path = tmp_path_factory.mktemp("undisturbed") / "bayesflow.sqlite3"
        async with models.house(path) as house:
            ended: Ended = await house.run(**REQUEST, budget=UNLIMITED)
            totals = UsageTotals.of(ended.usage)
            left = await house.footprint(ended)
            return Undisturbed(left, ended.phase, models.finished, totals)

    return asyncio.run(run())


@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_stopped_in_the_middle_of_a_call_repeats_that_call_alone(
    path: Path, undisturbed: Undisturbed, kind: str
) -> None:
    spec, holds = KINDS[kind]
    models = Models.new(latency_seed=len(kind))
    model = models.known[spec]
    model.stops_at = holds
    async with models.house(path) as house:
        run_id = (await house.service.start(asked(**REQUEST, budget=UNLIMITED))).record.run_id
        await model.reached()
        assert any(holds(one) for one in model.started - model.finished)
    model.release()
    async with models.house(path) as house:
        ended = await house.resume(run_id)
        assert await house.footprint(ended) == undisturbed.footprint
    assert models.finished == undisturbed.finished
    assert ended.phase == undisturbed.phase
    assert UsageTotals.of(ended.usage).calls == undisturbed.totals.calls
    assert UsageTotals.of(ended.usage).tokens == undisturbed.totals.tokens


async def test_a_run_stopped_again_and_again_still_ends_the_same(
    path: Path, undisturbed: Undisturbed
) -> None:
    models, chance, run_id, ended = Models.new(latency_seed=5), Random(6), "", None
    sittings = 0
    while ended is None:
        sittings += 1
        model = chance.choice(list(models.known.values()))
        async with models.house(path) as house:
            model.hold_at(chance.randint(0, 9))
            if run_id:
                await house.service.resume(run_id)
            else:
                started = await house.service.start(asked(**REQUEST, budget=UNLIMITED))
                run_id = started.record.run_id
            waits = [asyncio.create_task(model.reached()), asyncio.create_task(house.ended(run_id))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if waits[1].done():
                ended = await house.ended(run_id)
                assert await house.footprint(ended) == undisturbed.footprint
            for wait in waits:
                wait.cancel()
        model.release()
    assert sittings > 2
    assert models.finished == undisturbed.finished
    assert ended.phase == undisturbed.phase


def test_the_undisturbed_run_has_something_to_tell(undisturbed: Undisturbed) -> None:
    notes = "\n".join(undisturbed.phase.notes)
    for words in (
        "beta = ",
        f"{EDITOR} takes no temperature",
        f"{JUDGE} takes no temperature",
        "draws of the optimizer gave no workflow",
    ):
        assert words in notes
    assert len(undisturbed.phase.top_errors) == 3


def test_no_request_is_answered_twice(undisturbed: Undisturbed) -> None:
    for finished in undisturbed.finished.values():
        assert max(finished.values()) == 1


@pytest.mark.parametrize(
    ("limit", "share"),
    [("usd", 0.4), ("usd", 0.9), ("calls", 0.4), ("tokens", 0.6)],
)
async def test_a_budget_that_is_spent_pauses_the_run_unexceeded_and_a_larger_one_finishes_it(
    path: Path, undisturbed: Undisturbed, limit: str, share: float
) -> None:
    whole: float = getattr(undisturbed.totals, limit)
    # A writer's question reserves far more than it takes.
    room = {"usd": 0.16, "calls": 0, "tokens": 20_000}[limit]
    granted = type(whole)(share * whole) + room
    models = Models.new(latency_seed=3)
    async with models.house(path) as house:
        ended = await house.run(**REQUEST, budget=BudgetLimits.model_validate({limit: granted}))
        assert ended.record.status == "paused"
        assert "budget is spent" in (ended.record.reason or "")
        spent = getattr(UsageTotals.of(ended.usage), limit)
        assert 0 < spent <= granted
        assert UsageTotals.of(ended.usage).calls == sum(
            model.finished.total() for model in models.known.values()
        )
        ended = await house.resume(ended.record.run_id, UNLIMITED)
        assert await house.footprint(ended) == undisturbed.footprint
        assert getattr(UsageTotals.of(ended.usage), limit) == approx(whole)
    assert models.finished == undisturbed.finished


async def test_minutes_that_run_out_between_two_drafts_pause_the_run(
    path: Path, undisturbed: Undisturbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models.new()
    writer = models.known[WRITER]
    # A clock that goes a minute for each answer of the writer.
    clock = partial(Budget, clock=lambda: 60.0 * writer.finished.total())
    monkeypatch.setattr(sitting, "Budget", clock)
    async with models.house(path) as house:
        ended = await house.run(**REQUEST, budget=BudgetLimits(minutes=6))
        assert ended.record.status == "paused"
        assert "of 6.0 minutes" in (ended.record.reason or "")
        assert 6 <= writer.finished.total() <= 6 + writer.concurrency
        ended = await house.resume(ended.record.run_id, BudgetLimits(minutes=10_000))
        assert await house.footprint(ended) == undisturbed.footprint
    assert models.finished == undisturbed.finished


async def test_a_budget_too_small_for_one_draft_pauses_the_run_before_any_call(
    path: Path,
) -> None:
    models = Models.new()
    async with models.house(path) as house:
        ended = await house.run(**REQUEST, budget=BudgetLimits(usd=0.05))
        assert ended.record.status == "paused"
        assert "0.0000 of 0.05 US dollars, and the next call may cost" in (
            ended.record.reason or ""
        )
        assert ended.usage == []
    assert not any(model.started for model in models.known.values())
