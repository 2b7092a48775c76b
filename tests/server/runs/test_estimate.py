"""The estimate, and the budget that goes with it."""

import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import DEFAULT_CALLS, BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.estimate import (
    budget_warnings,
    check_budget,
    estimate,
    most_executions,
)
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.rehearsed import Rehearsal, Use
from bayesflow_server.runs.request import RunRequest, resolve
from bayesflow_server.runs.spec import RunSpec
from fakes.models import SPEC, FakeModel, FakeRegistry
from fakes.tasks import request

PRICES = PriceTable({"scripted": (1.0, 4.0)})
UNPRICED = PriceTable({})
SIZES: dict[Split, int] = {"demonstration": 0, "validation": 10, "selection": 5, "test": 7}


@pytest.fixture
async def models() -> FakeRegistry:
    return FakeRegistry(FakeModel())


def spec_of(models: FakeRegistry, asked: RunRequest | None = None) -> RunSpec:
    return resolve(asked or request(), models, PRICES)


def test_the_estimate_is_an_upper_bound_made_of_all_phases(models: FakeRegistry) -> None:
    options = SamplerOptions(particles=4, rollouts=2, refinements=1, rounds=3, minibatch=4)
    fitted = spec_of(models, request(options=options))
    # 9 workflows a round on 10, 4 and 10 rows, and the edits of earlier rounds again; 10 completed,
    # 5 rescored, 2 tested
    kept = 1 * 4 + 2 * 10
    assert most_executions(fitted, SIZES) == 9 * (10 + 4 + 10) + kept + 100 + 25 + 14
    fixed = spec_of(models, request(options=options.model_copy(update={"beta": 2.0})))
    assert most_executions(fixed, SIZES) == 9 * (4 + 4 + 10) + kept + 100 + 25 + 14
    assert estimate(fixed, SIZES, PRICES).calls == most_executions(fixed, SIZES)
    assert estimate(fixed, SIZES, UNPRICED).usd is None


def test_without_lookahead_every_edit_is_scored_again_in_each_later_round(
    models: FakeRegistry,
) -> None:
    options = SamplerOptions(particles=4, refinements=2, rounds=3, minibatch=4, lookahead=False)
    spec = spec_of(models, request(options=options))
    assert most_executions(spec, SIZES) == 6 * 10 + 8 * 4 + 10 * 10 + 100 + 25 + 14


def test_a_model_that_writes_is_asked_as_often_as_the_search_draws(models: FakeRegistry) -> None:
    options = SamplerOptions(particles=4, rollouts=2, refinements=1, rounds=3, minibatch=4)
    spec = spec_of(models, request(grammar=None, optimizer=SPEC, options=options))
    expected = estimate(spec, SIZES, PRICES)
    drawn, refined = 4 * 2 * 2 + 4, 2 * 1 * 3
    assert expected.calls == most_executions(spec, SIZES) + drawn + refined
    assert expected.usd is not None
    assert expected.usd > 0


@pytest.mark.parametrize("name", ["usd", "calls", "tokens", "minutes"])
def test_a_budget_below_the_estimate_is_warned_of(models: FakeRegistry, name: str) -> None:
    expected = estimate(spec_of(models), SIZES, PRICES)
    most = getattr(expected, name)
    (warning,) = budget_warnings(
        BudgetLimits.model_validate({name: most / 2 // 1 or most / 2}), expected
    )
    assert name.upper() in warning or name in warning
    assert "at most" in warning
    assert "round 1" not in warning
    assert (f"{most:,}" if isinstance(most, int) else f"{most:g}") in warning
    assert budget_warnings(BudgetLimits.model_validate({name: most}), expected) == ()


@pytest.mark.parametrize("name", ["usd", "calls", "tokens", "minutes"])
def test_a_budget_that_cannot_finish_a_round_is_told_so(models: FakeRegistry, name: str) -> None:
    expected = estimate(spec_of(models), SIZES, PRICES)
    first = getattr(expected.first_round, name)
    (warning,) = budget_warnings(
        BudgetLimits.model_validate({name: first / 2 // 1 or first / 2}), expected
    )
    assert "that round 1 may take by itself" in warning
    assert (f"{first:,}" if isinstance(first, int) else f"{first:g}") in warning


def test_the_first_round_is_a_part_of_the_run(models: FakeRegistry) -> None:
    options = SamplerOptions(particles=4, rollouts=2, refinements=1, rounds=3, minibatch=4)
    spec = spec_of(models, request(grammar=None, optimizer=SPEC, options=options))
    first = estimate(spec, SIZES, PRICES).first_round
    drawn, refined = 4 * 2, 2 * 1  # the fitted temperature takes all rows in round 1
    assert first.calls == 9 * 10 + drawn + refined
    single = spec_of(models, request(options=options.model_copy(update={"rounds": 1})))
    whole = estimate(single, SIZES, PRICES)
    assert whole.first_round.calls == 9 * 10 < whole.calls


def test_the_parts_add_up_and_say_who_is_asked(models: FakeRegistry) -> None:
    spec = spec_of(models, request(grammar=None, optimizer=SPEC))
    expected = estimate(spec, SIZES, PRICES)
    assert [part.role for part in expected.parts] == ["executor", "optimizer", "refiner"]
    assert sum(part.amount.calls for part in expected.parts) == expected.calls
    assert sum(part.amount.tokens for part in expected.parts) == expected.tokens
    usd = sum(part.amount.usd or 0.0 for part in expected.parts)
    assert usd == pytest.approx(expected.usd, abs=1e-4)
    assert [part.role for part in estimate(spec_of(models), SIZES, PRICES).parts] == ["executor"]


def test_a_judge_grades_every_execution(models: FakeRegistry) -> None:
    spec = spec_of(models).model_copy(update={"judge": SPEC})
    executor, judge = estimate(spec, SIZES, PRICES).parts
    assert (executor.role, judge.role) == ("executor", "judge")
    assert executor.amount.calls == judge.amount.calls == most_executions(spec, SIZES)


def test_what_was_rehearsed_goes_into_the_estimate(models: FakeRegistry) -> None:
    spec = spec_of(models)
    executions = most_executions(spec, SIZES)
    rehearsal = Rehearsal(baseline=Use(1, 10, 100), drawn=Use(2.5, 400, 250), executions=39)
    expected = estimate(spec, SIZES, PRICES, rehearsal)
    searched = executions - SIZES["test"]
    assert expected.calls == round(2.5 * searched + SIZES["test"])
    assert expected.tokens == round(650 * searched + 110 * SIZES["test"])
    # 1 USD for a million tokens in and 4 for a million out
    price = (400 * searched + 10 * SIZES["test"] + 4 * (250 * searched + 100 * SIZES["test"])) / 1e6
    assert expected.usd == pytest.approx(price, rel=0.01)
    assert "39 trial executions" in expected.basis
    assert "2.5 times" in expected.basis


def test_what_a_model_will_write_is_reckoned_from_the_baseline_and_said_so(
    models: FakeRegistry,
) -> None:
    spec = spec_of(models, request(grammar=None, optimizer=SPEC))
    searched = most_executions(spec, SIZES) - SIZES["test"]
    short = Rehearsal(baseline=Use(1, 50, 100), drawn=None, executions=3)
    expected = estimate(spec, SIZES, PRICES, short)
    assert expected.parts[0].amount.calls == 3 * searched + SIZES["test"]
    assert "3 calls an execution" in expected.basis
    assert "not known yet" in expected.basis
    # a baseline that asks more often is a better guess than the three
    long = Rehearsal(baseline=Use(5, 500, 500), drawn=None, executions=3)
    assert estimate(spec, SIZES, PRICES, long).parts[0].amount.calls == 5 * (
        searched + SIZES["test"]
    )


def test_without_a_rehearsal_it_is_one_call_an_execution(models: FakeRegistry) -> None:
    assert estimate(spec_of(models), SIZES, PRICES).basis.startswith("One call each time")
    nothing = Rehearsal(baseline=None, drawn=None, executions=0)
    assert estimate(spec_of(models), SIZES, PRICES, nothing).calls > 0


def test_without_a_budget_it_is_calls_where_a_price_is_unknown_and_dollars_elsewhere() -> None:
    assert check_budget(None, [SPEC], UNPRICED) == BudgetLimits(calls=DEFAULT_CALLS)
    assert check_budget(BudgetLimits(), [SPEC], UNPRICED) == BudgetLimits(calls=DEFAULT_CALLS)
    assert check_budget(None, [SPEC], PRICES) == BudgetLimits(usd=2)
    assert check_budget(None, ["local:smollm2"], PRICES) == BudgetLimits(calls=DEFAULT_CALLS)
    assert check_budget(BudgetLimits(minutes=3), [SPEC], PRICES) == BudgetLimits(minutes=3)


def test_dollars_need_every_price() -> None:
    with pytest.raises(InputError, match="calls, tokens or minutes"):
        check_budget(BudgetLimits(usd=1), [SPEC], UNPRICED)
    with pytest.raises(InputError, match="lab:x"):
        check_budget(BudgetLimits(usd=1), [SPEC, "lab:x"], PRICES)
    assert check_budget(BudgetLimits(usd=1), ["local:smollm2"], UNPRICED).usd == 1


def test_a_model_on_this_machine_takes_the_time_of_its_tokens(models: FakeRegistry) -> None:
    local = spec_of(models).model_copy(update={"executor": "local:smollm2"})

    def minutes(output_tokens: float) -> float:
        use = Use(1, 100, output_tokens)
        return estimate(local, SIZES, PRICES, Rehearsal(use, use, 1)).minutes

    executions = most_executions(local, SIZES)
    assert minutes(8) == round(executions * (100 / 400 + 8 / 80) / 60, 1)
    assert minutes(80) == round(executions * (100 / 400 + 80 / 80) / 60, 1)
