"""What a run may take, before anything of it is known: calls, tokens, money, minutes; and budgets.

Counted at one call an execution (a workflow on a row) with none remembered, so it is an upper
figure for simple workflows and a lower one for those that vote. What the search asks its optimizer
and refiner is counted exactly but for repairs and for edits that are known and asked again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import DEFAULT_CALLS, BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.gateway.usage import is_free
from bayesflow_server.models.chat import Usage
from bayesflow_server.runs.roles import CLIENT, GRAMMAR
from bayesflow_server.runs.spec import RunSpec

__all__ = [
    "Estimate",
    "budget_warnings",
    "check_budget",
    "default_cost_cap",
    "estimate",
    "most_executions",
]

# What a call is reckoned with before anything is known of it.
_EXECUTOR_CALL: Final = Usage(input_tokens=150, output_tokens=100)
_WRITING_CALL: Final = Usage(input_tokens=3_500, output_tokens=900)
_LOCAL_SECONDS_PER_CALL: Final = 0.4
_REMOTE_SECONDS_PER_CALL: Final = 2.0
_REMOTE_AT_ONCE: Final = 8
_CALLS_PER_EDIT: Final = 2  # critique and edit
_DEFAULT_USD: Final = 2.0
_ZERO_SHOT_OUTPUT: Final = 300
_CHARACTERS_PER_TOKEN: Final = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may take at one call an execution, were no answer cached.

    Attributes:
        executions: A workflow on a row.
        calls: Calls of every role.
        tokens: Tokens in and out of these calls.
        usd: What they cost at list price, or None where a price is unknown.
        minutes: Running time, without the time an agent takes.
    """

    executions: int
    calls: int
    tokens: int
    usd: float | None
    minutes: float


def estimate(spec: RunSpec, sizes: Mapping[Split, int], prices: PriceTable) -> Estimate:
    """The most the run may take.

    Args:
        spec: The specification.
        sizes: Rows of each split.
        prices: What models cost.
    """
    executions = most_executions(spec, sizes)
    counted = [(spec.executor, executions, _EXECUTOR_CALL)]
    if spec.judge is not None:
        counted.append((spec.judge, executions, _EXECUTOR_CALL))
    for writer, calls in ((spec.optimizer, _drawn(spec)), (spec.refiner, _refined(spec))):
        if writer != GRAMMAR:
            counted.append((writer, calls, _WRITING_CALL))
    usd = 0.0
    unknown = False
    seconds = 0.0
    for model, calls, usage in counted:
        price = prices.list_cost_usd(model, usage)
        unknown = unknown or price is None
        usd += calls * (price or 0.0)
        seconds += calls * _pace(model)
    return Estimate(
        executions=executions,
        calls=sum(calls for _, calls, _ in counted),
        tokens=sum(calls * (use.input_tokens + use.output_tokens) for _, calls, use in counted),
        usd=None if unknown else round(usd, 4),
        minutes=round(seconds / 60, 1),
    )


def most_executions(spec: RunSpec, sizes: Mapping[Split, int]) -> int:
    """Executions (a workflow on a row) that the run may need, none remembered."""
    options = spec.options
    validation = sizes["validation"]
    batch = min(options.minibatch or validation, validation)
    fitted = options.inverse_temperature is None
    searched = sum(
        _width(options, number)
        * (validation if number == options.rounds or (number == 1 and fitted) else batch)
        for number in range(1, options.rounds + 1)
    )
    return searched + 10 * validation + 5 * sizes["selection"] + 2 * sizes["test"]


def check_budget(
    budget: BudgetLimits | None, models: Sequence[str], prices: PriceTable
) -> BudgetLimits:
    """The budget in force: what was given, else 2 USD where every price is known, else calls.

    Raises:
        InputError: A budget in dollars, and the price of a model is not known.
    """
    unknown = [spec for spec in models if not prices.is_known(spec)]
    if budget is None or budget == BudgetLimits():
        paid = any(not is_free(spec) for spec in models)
        if paid and not unknown:
            return BudgetLimits(usd=_DEFAULT_USD)
        return BudgetLimits(calls=DEFAULT_CALLS)
    if budget.usd is not None and unknown:
        raise InputError(
            f"The price of {' and '.join(unknown)} is not known here, so a budget in dollars "
            "cannot hold; give `budget` as calls, tokens or minutes, or state the price when the "
            "server is launched (--endpoint NAME=URL,price_in=…,price_out=…)."
        )
    return budget


def budget_warnings(budget: BudgetLimits, expected: Estimate) -> tuple[str, ...]:
    """A sentence for each limit that the estimate exceeds."""
    pairs = (
        ("usd", budget.usd, expected.usd),
        ("calls", budget.calls, expected.calls),
        ("tokens", budget.tokens, expected.tokens),
        ("minutes", budget.minutes, expected.minutes),
    )
    return tuple(
        f"The budget of {limit:g} {_UNITS.get(name, name)} is below the {most:g} "
        f"{_UNITS.get(name, name)} that the run may need at most; if it is spent, the run pauses, "
        "and a larger one resumes it."
        for name, limit, most in pairs
        if limit is not None and most is not None and limit < most
    )


def default_cost_cap(
    executor: str, instructions: str, rows: Sequence[str], prices: PriceTable
) -> float:
    """c_max where none is given: what ten zero-shot calls cost, USD per example.

    Raises:
        InputError: The executor's price is unknown or zero, so cost cannot count.
    """
    letters = len(instructions) + sum(len(row) for row in rows) / max(len(rows), 1)
    usage = Usage(round(letters / _CHARACTERS_PER_TOKEN), _ZERO_SHOT_OUTPUT)
    price = prices.list_cost_usd(executor, usage)
    if not price:
        raise InputError(
            f"`options.cost_weight` needs to know what {executor} costs, and its price is "
            f"{'zero' if price == 0 else 'unknown'} here; leave it out, or give "
            "`options.cost_cap` together with models of known price."
        )
    return 10 * price


_UNITS: Final[Mapping[str, str]] = {"usd": "USD"}


def _width(options: SearchOptions, number: int) -> int:
    """Workflows that round t scores; without look-ahead all edits stay in the pool."""
    if not options.lookahead:
        return options.particles + number * options.refinements
    return options.particles * options.rollouts + options.refinements


def _drawn(spec: RunSpec) -> int:
    """Optimizer calls: N·K·(T-1) + N (decision 2)."""
    options = spec.options
    if not options.lookahead:
        return options.particles
    return options.particles * (options.rollouts * (options.rounds - 1) + 1)


def _refined(spec: RunSpec) -> int:
    return _CALLS_PER_EDIT * spec.options.refinements * spec.options.rounds


def _pace(model: str) -> float:
    """Seconds that a call adds to a run."""
    if model == CLIENT:
        return 0.0
    return _LOCAL_SECONDS_PER_CALL if is_free(model) else _REMOTE_SECONDS_PER_CALL / _REMOTE_AT_ONCE
