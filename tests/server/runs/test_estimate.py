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
    # 9 workflows a round on 10, 4 and 10 rows; 10 completed, 5 rescored, 2 tested
    assert most_executions(fitted, SIZES) == 9 * (10 + 4 + 10) + 100 + 25 + 14
    fixed = spec_of(models, request(options=options.model_copy(update={"beta": 2.0})))
    assert most_executions(fixed, SIZES) == 9 * (4 + 4 + 10) + 100 + 25 + 14
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
    assert f"{most:g}" in warning
    assert budget_warnings(BudgetLimits.model_validate({name: most}), expected) == ()


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
