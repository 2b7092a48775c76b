"""A run with `tolerance` ends where a further round is not worth it, or cannot be paid."""

import json
from pathlib import Path
from typing import Any

import pytest

from bayesflow_server.errors import BudgetSpentError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.estimate import (
    closing_executions,
    lacking_executions,
    round_executions,
)
from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.purse import RunPurse
from bayesflow_server.runs.request import RunRequest, resolve
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.records import RunRecord
from bayesflow_server.store.store import Store
from fakes.houses import footprint, open_service, settled
from fakes.models import FakeModel, FakeRegistry
from fakes.tasks import OPTIONS, answer_addition, request

SIZES: dict[Split, int] = {"demonstration": 0, "validation": 10, "selection": 5, "test": 7}
# Round 1 is scored in full, so the final pick has nothing to complete after it.
CLOSING = 5 * 5 + 2 * 7
ROUND = (4 + 1 + 1) * 10
# Three rounds, the final pick and the test take 127 calls; with one round alone they take 104.
TIGHT = BudgetLimits(calls=110)


def given(**changes: Any) -> RunRequest:
    budget = changes.pop("budget", None)
    return request(options=OPTIONS.model_copy(update=changes), budget=budget)


async def spec_of(**changes: Any) -> RunSpec:
    return resolve(given(**changes), FakeRegistry(FakeModel()), PriceTable({"scripted": (1, 1)}))


def notes(record: RunRecord) -> tuple[str, ...]:
    return Phase.model_validate_json(record.phase or "").notes


async def rounds(store: Store, run_id: str) -> list[dict[str, Any]]:
    return [json.loads(one.stats) for one in await store.rounds(run_id)]


# --- the purse ----------------------------------------------------------------------------------


async def purse(limits: BudgetLimits, done: int, **spent: Any) -> RunPurse:
    budget = Budget(limits, clock=lambda: 0.0, **spent)
    return RunPurse(await spec_of(), SIZES, budget, lambda: done)


async def test_what_is_kept_back_is_a_last_round_the_final_pick_and_the_test() -> None:
    spec = await spec_of()
    assert closing_executions(SIZES) == 10 * 10 + CLOSING
    assert closing_executions(SIZES, 0) == CLOSING
    # Four rollouts and an edit, and the edit of round 1; the last round is scored in full.
    assert round_executions(spec, 2, 10) == ROUND
    assert round_executions(spec, 1, 10) == 5 * 10
    # Round 2 scores its 6 on 4 of 10 rows: the final pick may have that many more to run.
    assert [lacking_executions(spec, number, 10) for number in (1, 2, 3)] == [0, 0, 6 * 6]
    assert closing_executions(SIZES, 36) == 36 + CLOSING
    assert closing_executions(SIZES, 101) == 10 * 10 + CLOSING


@pytest.mark.parametrize(
    ("limits", "spent", "unit"),
    [
        (BudgetLimits(calls=2 * (ROUND + CLOSING) + 100), {"calls": 100}, "calls"),
        (BudgetLimits(tokens=2 * (ROUND + CLOSING) + 100), {"tokens": 100}, "tokens"),
        (BudgetLimits(usd=2.0 * (ROUND + CLOSING) + 100), {"usd": 100.0}, "US dollars"),
        (BudgetLimits(minutes=2.0 * (ROUND + CLOSING) + 100), {"earlier_seconds": 6000.0}, "min"),
    ],
)
async def test_a_round_is_refused_where_the_average_so_far_says_that_it_cannot_be_paid(
    limits: BudgetLimits, spent: dict[str, Any], unit: str
) -> None:
    """Two an execution so far: enough is exactly enough, and a trace more each is too much."""
    assert await (await purse(limits, 50, **spent)).refuses(2) is None
    sentence = await (await purse(limits, 49, **spent)).refuses(2)
    assert sentence is not None
    assert f"the budget has {2 * (ROUND + CLOSING):,.4g} {unit}" in sentence
    assert f"would take about {100 / 49 * (ROUND + CLOSING):,.4g}" in sentence


async def test_the_scarcest_limit_refuses_and_nothing_does_without_one() -> None:
    both = BudgetLimits(calls=10_000, tokens=110)
    assert "tokens left" in str(await (await purse(both, 50, calls=50, tokens=100)).refuses(2))
    assert await (await purse(BudgetLimits(), 50, calls=9**9)).refuses(2) is None
    unpriced = await purse(BudgetLimits(usd=1.0), 50, usd=None)
    assert await unpriced.refuses(2) is None


async def test_before_anything_was_executed_and_where_nothing_was_spent_nothing_is_refused() -> (
    None
):
    tight = BudgetLimits(calls=1)
    assert await (await purse(tight, 0)).refuses(2) is None
    assert await (await purse(tight, 50)).refuses(2) is None  # all from the cache
    spent = await purse(BudgetLimits(calls=5), 50, calls=7)
    assert "has 0 calls left" in str(await spent.refuses(2))


# --- runs that stop early -----------------------------------------------------------------------


async def ran(service: RunService, **changes: Any) -> RunRecord:
    started = await service.start(given(**changes))
    return await settled(service, started.record.run_id)


async def test_a_run_whose_next_round_is_not_worth_it_finishes_and_says_why(
    service: RunService,
) -> None:
    record = await ran(service, tolerance=1.0, rounds=4)
    assert record.status == "finished", record.reason
    (stopped,) = [one for one in notes(record) if one.startswith("stopped after round 1 of 4: ")]
    assert "less than the tolerance of 1" in stopped
    assert "the evidence is not claimed to be unbiased" in stopped
    assert len(stopped) <= 300  # get_run shows no more of a note
    (only,) = await rounds(service.workplace.store, record.run_id)
    assert only["decisions"][-1]["choice"] == "stopped after round 1 of 4"
    assert only["fully_scored"]


async def test_a_round_on_a_minibatch_that_turns_out_the_last_is_scored_in_full(
    service: RunService,
) -> None:
    """At a fixed beta round 1 has 4 rows; the stop gives it all 10, and so it has a posterior."""
    record = await ran(service, tolerance=1.0, beta=3.0, rounds=4)
    (only,) = await rounds(service.workplace.store, record.run_id)
    assert (only["rows"], only["fully_scored"], only["inverse_temperature"]) == (10, True, 3.0)
    pool = await service.pool(record.run_id)
    drawn = [row for row in pool.rows if row.entry.origin == "prior" and row.validation]
    assert drawn
    assert {row.validation.rows for row in drawn if row.validation} == {10}


async def test_where_the_budget_cannot_pay_a_further_round_the_run_finishes_with_what_is_left(
    service: RunService,
) -> None:
    record = await ran(service, tolerance=0.0, budget=TIGHT)
    assert record.status == "finished", record.reason
    (stopped,) = [one for one in notes(record) if one.startswith("stopped after round")]
    assert "calls left, and another round with the final pick and the test" in stopped
    assert "the evidence is not claimed to be unbiased" in stopped
    assert len(stopped) <= 300
    assert (await service.usage(record.run_id)).calls <= (TIGHT.calls or 0)
    assert len(await rounds(service.workplace.store, record.run_id)) == 1


async def test_without_a_tolerance_the_same_budget_pauses_the_run(service: RunService) -> None:
    record = await ran(service, budget=TIGHT)
    assert record.status == "paused"
    assert "110 of 110 calls" in (record.reason or "")
    assert not any(one.startswith("stopped") for one in notes(record))


async def test_a_budget_that_holds_all_rounds_stops_none(service: RunService) -> None:
    record = await ran(service, tolerance=0.0, budget=BudgetLimits(calls=10_000))
    assert record.status == "finished"
    assert len(await rounds(service.workplace.store, record.run_id)) == 3
    assert not any(one.startswith("stopped") for one in notes(record))


@pytest.mark.parametrize("changes", [{"tolerance": 1.0}, {"tolerance": 0.0}])
async def test_a_stopped_run_that_was_interrupted_ends_as_the_one_that_was_not(
    path: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """The refusal is journaled: a later sitting, with a larger budget, stops all the same."""
    async with open_service(tmp_path / "b.sqlite3", FakeModel(answer_addition)) as service:
        record = await ran(service, **changes, budget=TIGHT)
        whole = await footprint(service, record.run_id)
        told = notes(record)
        calls = (await service.usage(record.run_id)).calls
    assert any(one.startswith("stopped after round") for one in told)
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(calls - 3)  # after the stop, in the final pick or the test
        run_id = (await service.start(given(**changes, budget=TIGHT))).record.run_id
        await model.reached()
    model.release()
    async with open_service(path, model) as service:
        await service.resume(run_id, BudgetLimits(calls=10_000))
        record = await settled(service, run_id)
        assert await footprint(service, run_id) == whole
        assert set(told) == set(notes(record))


async def test_a_budget_that_is_spent_within_a_round_pauses_even_with_a_tolerance(
    service: RunService,
) -> None:
    record = await ran(service, tolerance=0.0, budget=BudgetLimits(calls=3))
    assert record.status == "paused"
    assert "3 of 3 calls" in (record.reason or "")
    assert BudgetSpentError.__name__ not in (record.reason or "")
    await service.resume(record.run_id, BudgetLimits(calls=10_000))
    assert (await settled(service, record.run_id)).status == "finished"


async def test_after_an_early_end_of_the_search_no_more_is_planned_than_what_closes_it(
    service: RunService,
) -> None:
    record = await ran(service, tolerance=1.0, rounds=4)
    phase = Phase.model_validate_json(record.phase or "")
    assert (phase.round, phase.of) == (1, 4)
    assert phase.executions_planned == phase.executions_done
