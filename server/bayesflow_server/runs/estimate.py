"""What a run may take, before anything of it is known: calls, tokens, money, minutes; and budgets.

executions (a workflow on a row) × what one asks its model (`rehearsal.py`) + what the search asks
its writers. No answer is taken to be cached, so it is an upper figure for simple workflows. What
the search asks its optimizer and refiner is counted exactly but for repairs and for edits that are
known and asked again.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from bayesflow_sampler.final_pick import COMPLETED, RESCORED
from bayesflow_sampler.refinement import KEPT
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import DEFAULT_CALLS, BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.gateway.usage import is_free, total_usd
from bayesflow_server.models.chat import Usage
from bayesflow_server.runs.rehearsal import ANSWER_TOKENS, CHARACTERS_PER_TOKEN
from bayesflow_server.runs.rehearsed import Rehearsal, Use
from bayesflow_server.runs.roles import CLIENT, GRAMMAR
from bayesflow_server.runs.spec import RunSpec

__all__ = [
    "Amount",
    "Estimate",
    "Part",
    "budget_warnings",
    "check_budget",
    "closing_executions",
    "default_cost_cap",
    "estimate",
    "lacking_executions",
    "most_executions",
    "round_executions",
]

# What an execution asks where nothing was rehearsed.
_UNKNOWN_USE: Final = Use(1.0, 150.0, float(ANSWER_TOKENS))
# Calls of a workflow that a model writes, in place of the baseline's: nobody knows it yet.
_WRITTEN_CALLS: Final = 3.0
_JUDGE_CALL: Final = Usage(input_tokens=450, output_tokens=ANSWER_TOKENS)
_WRITING_CALL: Final = Usage(input_tokens=3_500, output_tokens=900)
# Tokens a second of SmolLM2-135M on two cores; a prompt's beginning is mostly remembered.
_LOCAL_READ: Final = 400
_LOCAL_WRITTEN: Final = 80
_REMOTE_SECONDS_PER_CALL: Final = 2.0
_REMOTE_AT_ONCE: Final = 8
_CALLS_PER_EDIT: Final = 2  # critique and edit
_DEFAULT_USD: Final = 2.0
_ZERO_SHOT_OUTPUT: Final = 300


class Amount(NamedTuple):
    """Something that is spent.

    Attributes:
        calls: Calls of models.
        tokens: Tokens in and out of these calls.
        usd: What they cost at list price, or None where a price is unknown.
        minutes: Running time, without the time an agent takes.
    """

    calls: int
    tokens: int
    usd: float | None
    minutes: float


class Part(NamedTuple):
    """What one role may take.

    Attributes:
        role: What the model is asked for.
        model: Its spec, or `client`.
        amount: What its calls come to.
    """

    role: Literal["executor", "judge", "optimizer", "refiner"]
    model: str
    amount: Amount


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may take, were no answer cached.

    Attributes:
        executions: A workflow on a row.
        calls: Calls of every role.
        tokens: Tokens in and out of these calls.
        usd: What they cost at list price, or None where a price is unknown.
        minutes: Running time, without the time an agent takes.
        parts: The same by role.
        first_round: What the first round alone takes.
        basis: What of it is known and what assumed, in a sentence.
    """

    executions: int
    calls: int
    tokens: int
    usd: float | None
    minutes: float
    parts: tuple[Part, ...]
    first_round: Amount
    basis: str


class _Work(NamedTuple):
    """How often something is done: in the whole run, or in a part of it.

    Attributes:
        searched: Executions of workflows that the search finds.
        compared: Executions of the baseline.
        drawn: Calls of the optimizer.
        refined: Calls of the refiner.
    """

    searched: int
    compared: int
    drawn: int
    refined: int


class _Uses(NamedTuple):
    """What one execution asks, of each kind of workflow."""

    searched: Use
    baseline: Use


def estimate(
    spec: RunSpec,
    sizes: Mapping[Split, int],
    prices: PriceTable,
    rehearsal: Rehearsal | None = None,
) -> Estimate:
    """The most the run may take.

    Args:
        spec: The specification.
        sizes: Rows of each split.
        prices: What models cost.
        rehearsal: What executions ask; without it each is reckoned at one call.
    """
    uses = _uses(rehearsal)
    executions = most_executions(spec, sizes)
    whole = _Work(executions - sizes["test"], sizes["test"], _drawn(spec), _refined(spec))
    parts = tuple(_parts(spec, whole, uses, prices))
    total = _sum(parts)
    return Estimate(
        executions=executions,
        calls=total.calls,
        tokens=total.tokens,
        usd=total.usd,
        minutes=total.minutes,
        parts=parts,
        first_round=_sum(tuple(_parts(spec, _first_round(spec, sizes), uses, prices))),
        basis=_basis(spec, uses, rehearsal),
    )


def most_executions(spec: RunSpec, sizes: Mapping[Split, int]) -> int:
    """Executions (a workflow on a row) that the run may need, none remembered."""
    rounds = range(1, spec.options.rounds + 1)
    return sum(_scored(spec, t, sizes["validation"]) for t in rounds) + closing_executions(sizes)


def round_executions(spec: RunSpec, number: int, validation: int) -> int:
    """Executions that round t may need, were it the last: all its workflows scored in full."""
    return _width(spec, number) * validation


def lacking_executions(spec: RunSpec, number: int, rows: int) -> int:
    """Validation rows that workflows of rounds before round t may not have met, in all."""
    return sum(_width(spec, t) * rows - _scored(spec, t, rows) for t in range(1, number))


def closing_executions(sizes: Mapping[Split, int], lacking: float = math.inf) -> int:
    """Executions that the final pick and the test may need, with so many rows not met so far."""
    completed = round(min(COMPLETED * sizes["validation"], lacking))
    return completed + RESCORED * sizes["selection"] + 2 * sizes["test"]


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
    first = expected.first_round
    limits = (
        _Limit("USD", budget.usd, first.usd, expected.usd),
        _Limit("calls", budget.calls, first.calls, expected.calls),
        _Limit("tokens", budget.tokens, first.tokens, expected.tokens),
        _Limit("minutes", budget.minutes, first.minutes, expected.minutes),
    )
    return tuple(filter(None, map(_exceeded, limits)))


class _Limit(NamedTuple):
    """A limit and what it has to hold."""

    unit: str
    limit: float | None
    first_round: float | None
    run: float | None


def _exceeded(held: _Limit) -> str | None:
    """What a limit does not hold, or None."""
    unit, limit, first, run = held
    if limit is None or first is None or run is None or limit >= run:
        return None
    if limit < first:
        return (
            f"The budget of {_figure(limit)} {unit} is below the {_figure(first)} {unit} that "
            "round 1 may take by itself, so it may end before anything was compared; the whole "
            f"run may take {_figure(run)} {unit} at most."
        )
    return (
        f"The budget of {_figure(limit)} {unit} is below the {_figure(run)} {unit} that the run "
        "may need at most; if it is spent, the run pauses, and a larger one resumes it."
    )


def _figure(amount: float) -> str:
    return f"{amount:,}" if isinstance(amount, int) else f"{amount:g}"


def default_cost_cap(
    executor: str, instructions: str, rows: Sequence[str], prices: PriceTable
) -> float:
    """c_max where none is given: what ten zero-shot calls cost, USD per example.

    Raises:
        InputError: The executor's price is unknown or zero, so cost cannot count.
    """
    letters = len(instructions) + sum(len(row) for row in rows) / max(len(rows), 1)
    usage = Usage(round(letters / CHARACTERS_PER_TOKEN), _ZERO_SHOT_OUTPUT)
    price = prices.list_cost_usd(executor, usage)
    if not price:
        raise InputError(
            f"`options.cost_weight` needs to know what {executor} costs, and its price is "
            f"{'zero' if price == 0 else 'unknown'} here; leave it out, or give "
            "`options.cost_cap` together with models of known price."
        )
    return 10 * price


def _width(spec: RunSpec, number: int) -> int:
    """Workflows that round t scores; edits of earlier rounds stay in the refiner's pool."""
    options, warm = spec.options, len(spec.warm)
    fresh = options.refinements + (warm if number == 1 else 0)
    earlier = 0 if number == 1 else (number - 1) * options.refinements + warm
    if not options.lookahead:
        return options.particles + earlier + fresh
    kept = min(KEPT, earlier) if options.refinement == "archive" else 0
    return options.particles * options.rollouts + fresh + kept


def _scored(spec: RunSpec, number: int, validation: int) -> int:
    """Executions of round t."""
    options = spec.options
    whole = number == options.rounds or (number == 1 and options.inverse_temperature is None)
    rows = validation if whole else min(options.minibatch or validation, validation)
    return _width(spec, number) * rows


def _drawn(spec: RunSpec) -> int:
    """Optimizer calls: N·K·(T-1) + N (decision 2)."""
    options = spec.options
    if not options.lookahead:
        return options.particles
    return options.particles * (options.rollouts * (options.rounds - 1) + 1)


def _refined(spec: RunSpec) -> int:
    return _CALLS_PER_EDIT * spec.options.refinements * spec.options.rounds


def _first_round(spec: RunSpec, sizes: Mapping[Split, int]) -> _Work:
    options = spec.options
    alone = options.rounds == 1 or not options.lookahead
    return _Work(
        searched=_scored(spec, 1, sizes["validation"]),
        compared=0,
        drawn=options.particles * (1 if alone else options.rollouts),
        refined=_CALLS_PER_EDIT * options.refinements,
    )


def _uses(rehearsal: Rehearsal | None) -> _Uses:
    """What executions ask, measured as far as it can be."""
    if rehearsal is None:
        return _Uses(_UNKNOWN_USE, _UNKNOWN_USE)
    baseline = rehearsal.baseline or _UNKNOWN_USE
    if rehearsal.drawn is not None:
        return _Uses(rehearsal.drawn, baseline)
    calls = max(baseline.calls, 1.0)
    written = (_WRITTEN_CALLS * figure / calls for figure in baseline)
    return _Uses(Use(*written) if baseline.calls < _WRITTEN_CALLS else baseline, baseline)


def _parts(spec: RunSpec, work: _Work, uses: _Uses, prices: PriceTable) -> Iterator[Part]:
    executed = [
        work.searched * searched + work.compared * compared
        for searched, compared in zip(uses.searched, uses.baseline, strict=True)
    ]
    yield Part("executor", spec.executor, _amount(spec.executor, Use(*executed), prices))
    if spec.judge is not None:
        graded = _times(work.searched + work.compared, _JUDGE_CALL)
        yield Part("judge", spec.judge, _amount(spec.judge, graded, prices))
    if spec.optimizer != GRAMMAR:
        drawn = _times(work.drawn, _WRITING_CALL)
        yield Part("optimizer", spec.optimizer, _amount(spec.optimizer, drawn, prices))
    if spec.refiner != GRAMMAR:
        refined = _times(work.refined, _WRITING_CALL)
        yield Part("refiner", spec.refiner, _amount(spec.refiner, refined, prices))


def _times(calls: int, usage: Usage) -> Use:
    return Use(calls, calls * usage.input_tokens, calls * usage.output_tokens)


def _amount(model: str, use: Use, prices: PriceTable) -> Amount:
    calls = max(use.calls, 1.0)
    # Priced call by call: a long prompt may have a price of its own.
    call = Usage(round(use.input_tokens / calls), round(use.output_tokens / calls))
    price = prices.list_cost_usd(model, call)
    return Amount(
        calls=round(use.calls),
        tokens=round(use.input_tokens + use.output_tokens),
        usd=None if price is None else use.calls * price,
        minutes=_seconds(model, use) / 60,
    )


def _sum(parts: Sequence[Part]) -> Amount:
    amounts = [part.amount for part in parts]
    usd = total_usd(amount.usd for amount in amounts)
    return Amount(
        calls=sum(amount.calls for amount in amounts),
        tokens=sum(amount.tokens for amount in amounts),
        usd=None if usd is None else round(usd, 4),
        minutes=round(sum(amount.minutes for amount in amounts), 1),
    )


def _basis(spec: RunSpec, uses: _Uses, rehearsal: Rehearsal | None) -> str:
    """What is known and what assumed."""
    assumed = f"{ANSWER_TOKENS} tokens an answer and nothing cached are assumed"
    if rehearsal is None:
        return f"One call each time a workflow meets a row, {assumed}."
    if rehearsal.drawn is not None:
        return (
            f"Measured without a model: {rehearsal.executions} trial executions of the grammar's "
            f"workflows asked {uses.searched.calls:.1f} times each; {assumed}."
        )
    writer = "you write" if spec.optimizer == CLIENT else f"{spec.optimizer} writes"
    return (
        f"What {writer} is not known yet: {uses.searched.calls:g} calls an execution, each as "
        f"long as the baseline's (measured), {assumed}."
    )


def _seconds(model: str, use: Use) -> float:
    """What the calls add to a run's time."""
    if model == CLIENT:
        return 0.0
    if is_free(model):
        return use.input_tokens / _LOCAL_READ + use.output_tokens / _LOCAL_WRITTEN
    return use.calls * _REMOTE_SECONDS_PER_CALL / _REMOTE_AT_ONCE
