"""The sampler's options as a run takes them: what contradicts is refused, what is set works."""

import asyncio
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from bayesflow_sampler.errors import RewardError, WeightError
from bayesflow_sampler.types import Evaluation as Scored
from bayesflow_sampler.types import RowSet, Workflow
from bayesflow_server.errors import InputError, StoreError
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.runs.check import TaskChecker, TaskDraft
from bayesflow_server.runs.ending import ending_of
from bayesflow_server.runs.options import (
    PRESETS,
    SamplerOptions,
    parse_options,
    resolve_options,
)
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import RunRecord
from fakes.houses import footprint, left_over, open_service, settled
from fakes.llm_runs import WRITER, House
from fakes.models import SPEC, FakeModel
from fakes.tasks import OPTIONS, addition_task, answer_addition, request


def options(**changes: Any) -> SamplerOptions:
    return SamplerOptions.model_validate(OPTIONS.model_dump(exclude_none=True) | changes)


# --- one by one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"resampling": "stratified"},
        {"resampling": "residual"},
        {"ess_threshold": 0.5},
        {"ess_threshold": 1.0},
        {"tempering": 0.8},
        {"islands": 5},
        {"refiner_lag": 1},
        {"recycle": True, "rollouts": 2},
        {"tolerance": 0.0},
        {"tolerance": 0.02},
    ],
)
def test_each_option_changes_its_own_setting_and_no_other(given: dict[str, JsonValue]) -> None:
    resolved = resolve_options("balanced", parse_options(given))
    assert asdict(resolved) == asdict(PRESETS["balanced"]) | given
    # What a run starts with is the server's affair, not the search's.
    warm = resolve_options("balanced", parse_options({**given, "warm_start": ["run_1"]}))
    assert warm == resolved


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ess_threshold", 0),
        ("ess_threshold", 1.01),
        ("tempering", 0),
        ("tempering", 1.01),
        ("islands", 0),
        ("islands", 101),
        ("islands", 2.5),
        ("refiner_lag", 2),
        ("refiner_lag", -1),
        ("recycle", "perhaps"),
        ("tolerance", -0.01),
        ("tolerance", 1.01),
        ("tolerance", "small"),
        ("resampling", "fair"),
        ("warm_start", 7),
        ("warm_start", [7]),
    ],
)
def test_a_value_out_of_range_names_its_option(name: str, value: JsonValue) -> None:
    with pytest.raises(InputError, match=rf"`options\.{name}` is wrong: .+ \(got ") as said:
        parse_options({name: value})
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["ess_threshold", "tempering", "tolerance"])
def test_not_a_number_is_no_share(name: str) -> None:
    with pytest.raises(InputError, match=name):
        resolve_options("balanced", parse_options({name: math.nan}))


# --- refusals -----------------------------------------------------------------------------------

TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"ess_threshold": 0.8, "weighting": "paper"}, "`ess_threshold` needs `weighting` exact"),
    ({"ess_threshold": 0.8, "refinement": "inject"}, "set `refinement` to `archive`, or leave"),
    ({"tempering": 0.5, "weighting": "paper"}, "`tempering` needs `weighting` exact"),
    ({"islands": 2, "weighting": "paper"}, "`islands` needs `weighting` exact"),
    ({"islands": 3}, "`islands` must divide `particles` into groups of 2 or more; 3 do not"),
    ({"islands": 4}, "`islands` must divide `particles` into groups of 2 or more; 4 do not"),
    ({"recycle": True}, "set `rollouts` to 2 or more"),
    ({"recycle": True, "rollouts": 2, "lookahead": False}, "leave `recycle` and `islands` out"),
    ({"islands": 2, "lookahead": False}, "leave `recycle` and `islands` out"),
]
WRITERS = ({"optimizer": "client"}, {"optimizer": WRITER})


async def refused(service: RunService, model: FakeModel, sentence: str, **fields: Any) -> None:
    """Start and check, with an executor or without, say the same; nothing was written or asked."""
    asked = request(**fields)
    with pytest.raises(InputError) as said:
        await service.start(asked)
    assert sentence in str(said.value)
    assert "\n" not in str(said.value)
    for executor in (SPEC, None):
        draft = TaskDraft(
            asked.task,
            executor,
            asked.optimizer,
            asked.preset,
            asked.options,
            grammar=asked.grammar,
        )
        with pytest.raises(InputError) as again:
            await TaskChecker(service.workplace).check(draft)
        assert str(again.value) == str(said.value)
    assert await service.newest(5) == []
    assert model.started.total() == 0


@pytest.mark.parametrize(("changes", "sentence"), TOGETHER)
async def test_options_that_contradict_are_refused_in_start_and_check(
    service: RunService, model: FakeModel, changes: dict[str, Any], sentence: str
) -> None:
    await refused(service, model, sentence, options=options(**changes))


@pytest.mark.parametrize("name", ["ess_threshold", "tempering"])
async def test_the_papers_preset_takes_no_option_that_its_weighting_has_no_law_for(
    service: RunService, model: FakeModel, name: str
) -> None:
    given = SamplerOptions.model_validate({name: 0.5})
    await refused(service, model, f"`{name}` needs", preset="paper", options=given)


@pytest.mark.parametrize("writer", WRITERS)
async def test_rollouts_are_recycled_under_a_grammar_alone(
    path: Path, writer: dict[str, str]
) -> None:
    executor = FakeModel(answer_addition)
    async with House.open(path, executor=executor) as house:
        sentence = f"{writer['optimizer']!r} does not write rollouts by the law of its steps"
        given = options(recycle=True, rollouts=2)
        await refused(house.service, executor, sentence, grammar=None, options=given, **writer)
        draft = TaskDraft(addition_task(), None, options=given, agent=True)
        with pytest.raises(InputError, match="'client' does not write rollouts"):
            await TaskChecker(house.service.workplace).check(draft)  # the optimizer that is chosen


# --- runs with them -----------------------------------------------------------------------------


async def ran(service: RunService, given: SamplerOptions, seed: int = 0) -> RunRecord:
    started = await service.start(request(seed, options=given))
    record = await settled(service, started.record.run_id)
    assert record.status == "finished", record.reason
    return record


async def stats_of(service: RunService, record: RunRecord) -> list[dict[str, Any]]:
    return [json.loads(one.stats) for one in await service.workplace.store.rounds(record.run_id)]


@pytest.mark.parametrize(
    "changes",
    [
        {"resampling": "stratified", "ess_threshold": 0.8},
        {"resampling": "residual", "islands": 2},
        {"tempering": 0.9, "refiner_lag": 1, "refinements": 2},
        {"recycle": True, "rollouts": 2},
    ],
)
async def test_a_run_with_these_options_finishes_and_ends_alike_after_an_interruption(
    path: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    given = options(**changes, beta=20.0)
    async with open_service(tmp_path / "whole.sqlite3", FakeModel(answer_addition)) as service:
        whole = await footprint(service, (await ran(service, given)).run_id)
    model = FakeModel(answer_addition, latency_seed=3, turns=9)
    async with open_service(path, model) as service:
        model.hold_at(40)
        run_id = (await service.start(request(options=given))).record.run_id
        await model.reached()
        await service.cancel(run_id)
        model.release()
        await service.resume(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == whole


async def test_the_ess_trigger_keeps_the_particles_of_rounds_that_agree(
    service: RunService,
) -> None:
    kept = await stats_of(service, await ran(service, options(ess_threshold=0.1, beta=2.0)))
    drawn = await stats_of(service, await ran(service, options(ess_threshold=1.0, beta=50.0)))
    assert [stat["resampled"] for stat in kept] == [False, False, False]
    assert kept[0]["ancestors"] == [0, 1, 2, 3]
    assert drawn[0]["resampled"]


async def test_recycling_asks_the_grammar_for_fewer_workflows(service: RunService) -> None:
    given = options(rollouts=2, beta=2.0, refinements=0, particles=8)
    fresh = await ran(service, given)
    recycled = await ran(service, given.model_copy(update={"recycle": True}))
    draws = [await service.workplace.store.draws(one.run_id) for one in (fresh, recycled)]
    extended = [sum(name.startswith("extend/") for name in one) for one in draws]
    assert extended[1] < extended[0]


async def test_every_choice_is_stored_with_its_reason_and_what_it_does_to_the_guarantees(
    service: RunService,
) -> None:
    record = await ran(service, options())
    stats = await stats_of(service, record)
    decisions = [decision for stat in stats for decision in stat["decisions"]]
    choices = [decision["choice"] for decision in decisions]
    assert any(choice.startswith("beta = ") for choice in choices)
    assert any("4 of 10 validation rows" in choice for choice in choices)
    for decision in decisions:
        assert set(decision) == {"choice", "reason", "guarantee"}
        assert all(decision.values())
    phase = json.loads(record.phase or "")
    for one in decisions:
        assert f"{one['choice']}: {one['reason']}; {one['guarantee']}." in phase["notes"]


async def test_refined_lineages_that_are_held_back_are_told_of_with_what_it_does(
    service: RunService,
) -> None:
    given = options(refinement="inject", refinements=9, minibatch="full", beta=20.0)
    stats = await stats_of(service, await ran(service, given))
    held = [
        one for stat in stats for one in stat["decisions"] if "refined lineages" in one["choice"]
    ]
    assert held
    assert all("no estimate is moved" in one["guarantee"] for one in held)


# --- rewards no weight can be made of -----------------------------------------------------------


def test_what_the_sampler_says_fails_a_run_in_its_own_words() -> None:
    for error in (RewardError("why"), WeightError("why")):
        assert ending_of(ExceptionGroup("", [ExceptionGroup("", [error])])) == (
            "failed",
            "why",
            None,
        )


@pytest.mark.parametrize(
    ("score", "words"),
    [(math.nan, "is nan; a reward must be"), (math.inf, "is inf"), (-math.inf, "every reward is")],
)
async def test_a_reward_that_is_no_number_fails_the_run_with_a_sentence(
    service: RunService,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    score: float,
    words: str,
) -> None:
    async def broken(_: Evaluator, workflow: Workflow, rows: RowSet) -> Scored:
        return Scored(workflow.workflow_id, rows, (score,) * len(rows.positions))

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "score", broken)
        run_id = (await service.start(request())).record.run_id
        record = await settled(service, run_id)
    assert record.status == "failed"
    assert words in (record.reason or "")
    assert "Internal error" not in (record.reason or "")
    assert "\n" not in (record.reason or "")
    assert caplog.text == ""  # nothing that nobody foresaw
    await service.resume(run_id)
    assert (await settled(service, run_id)).status == "finished"


# --- a store that cannot keep a round -----------------------------------------------------------


@pytest.mark.parametrize("refinement", ["archive", "inject"])
async def test_a_round_that_cannot_be_recorded_stops_the_calls_of_those_after_it(
    service: RunService,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    refinement: str,
) -> None:
    """The search works ahead of the store: at the fault it must not go on paying."""
    store, begun = service.workplace.store, list[int]()
    before = asyncio.all_tasks()
    given = options(refinement=refinement, rounds=6, minibatch="full", particles=8)

    async def full(*_: object) -> None:
        begun.append(model.started.total())
        raise StoreError("the disk is full; free some space, then resume")

    with monkeypatch.context() as patch:
        patch.setattr(store, "record_round", full)
        run_id = (await service.start(request(options=given))).record.run_id
        record = await settled(service, run_id)
    assert (record.status, record.reason) == (
        "paused",
        "the disk is full; free some space, then resume",
    )
    stopped = model.started.total()
    assert len(begun) == 1
    assert stopped - begun[0] <= model.concurrency
    assert await left_over(before) == set()
    assert model.started.total() == stopped
    await service.resume(run_id)
    assert (await settled(service, run_id)).status == "finished"
    assert model.started.total() > stopped + model.concurrency
