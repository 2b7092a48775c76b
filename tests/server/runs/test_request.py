import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import DEFAULT_CALLS, BudgetLimits
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.request import (
    budget_warnings,
    check_budget,
    estimate,
    most_executions,
    resolve,
)
from bayesflow_server.runs.spec import RunSpec, pinned_rows, request_hash, rows_of_split
from fakes.models import FakeModel, FakeRegistry
from fakes.tasks import addition_task, request

SIZES: dict[Split, int] = {"demonstration": 0, "validation": 10, "selection": 5, "test": 7}


@pytest.fixture
async def models() -> FakeRegistry:
    return FakeRegistry(FakeModel())


def test_a_specification_survives_the_store(models: FakeRegistry) -> None:
    spec = resolve(request(), models)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_rows_survive_being_pinned() -> None:
    task = addition_task()
    pinned = pinned_rows(task)
    for split in SIZES:
        again = rows_of_split(pinned, split)
        assert [(row.id, row.problem, row.target) for row in again] == [
            (row.id, row.problem, row.target) for row in task.splits.of(split)
        ]


def test_the_estimate_is_an_upper_bound_made_of_all_phases(models: FakeRegistry) -> None:
    options = SamplerOptions(particles=4, rollouts=2, refinements=1, rounds=3, minibatch=4)
    fitted = resolve(request(options=options), models)
    # 9 workflows a round on 10, 4 and 10 rows; 10 completed, 5 rescored, 2 tested
    assert most_executions(fitted, SIZES) == 9 * (10 + 4 + 10) + 100 + 25 + 14
    fixed = resolve(request(options=options.model_copy(update={"beta": 2.0})), models)
    assert most_executions(fixed, SIZES) == 9 * (4 + 4 + 10) + 100 + 25 + 14
    assert estimate(fixed, SIZES).calls == most_executions(fixed, SIZES)
    assert estimate(fixed, SIZES).usd is None


@pytest.mark.parametrize("name", ["calls", "tokens", "minutes"])
def test_a_budget_below_the_estimate_is_warned_of(models: FakeRegistry, name: str) -> None:
    expected = estimate(resolve(request(), models), SIZES)
    most = getattr(expected, name)
    (warning,) = budget_warnings(
        BudgetLimits.model_validate({name: most / 2 // 1 or 0.01}), expected
    )
    assert name in warning
    assert str(most) in warning
    assert budget_warnings(BudgetLimits.model_validate({name: most}), expected) == ()


def test_without_a_budget_the_default_holds() -> None:
    assert check_budget(None, "scripted:x") == BudgetLimits(calls=DEFAULT_CALLS)
    assert check_budget(BudgetLimits(), "scripted:x") == BudgetLimits(calls=DEFAULT_CALLS)
    assert check_budget(BudgetLimits(minutes=3), "scripted:x") == BudgetLimits(minutes=3)


def test_dollars_need_a_price() -> None:
    with pytest.raises(InputError, match="calls, tokens or minutes"):
        check_budget(BudgetLimits(usd=1), "scripted:x")
    assert check_budget(BudgetLimits(usd=1), "local:smollm2").usd == 1


def test_the_hash_of_a_request_covers_rows_and_splits(models: FakeRegistry) -> None:
    spec = resolve(request(), models)
    rows = pinned_rows(addition_task())
    assert request_hash(spec, rows) == request_hash(spec, pinned_rows(addition_task()))
    assert request_hash(spec, rows) != request_hash(spec, rows[:-1])
    assert request_hash(spec, rows) != request_hash(spec, pinned_rows(addition_task(seed=1)))


@pytest.mark.parametrize("text", ['say "{problem}" \\ {} {{', '\N{SNOWMAN}\'\n"""'])
def test_any_instructions_make_a_baseline_that_runs(models: FakeRegistry, text: str) -> None:
    spec = resolve(request(task=addition_task(instructions=text)), models)
    assert not spec.own_baseline
    assert repr(text) in spec.baseline
