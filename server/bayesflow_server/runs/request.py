"""From a request to a specification: everything is checked here, before anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bayesflow_server.errors import InputError, ModelUnavailableError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.evaluation.task import Preset, Task
from bayesflow_server.gateway.budget import DEFAULT_CALLS, BudgetLimits
from bayesflow_server.gateway.usage import is_free, list_price_usd
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.assembly import admit_workflow, build_grammar
from bayesflow_server.runs.options import SamplerOptions, resolve_options
from bayesflow_server.runs.spec import RunSpec, baseline_source

__all__ = [
    "Estimate",
    "RunRequest",
    "budget_warnings",
    "check_budget",
    "estimate",
    "most_executions",
    "resolve",
]

# What an execution is reckoned with before anything is known of it.
_CALLS_PER_EXECUTION: Final = 1.0
_TOKENS_PER_CALL: Final = 250
_LOCAL_SECONDS_PER_CALL: Final = 0.4
_REMOTE_SECONDS_PER_CALL: Final = 2.0


@dataclass(frozen=True)
class RunRequest:
    """What a client asks for.

    Attributes:
        task: The checked task.
        executor: Model that the workflows call.
        optimizer: What writes the workflows; None chooses.
        preset: Named settings.
        options: Changes to the preset.
        budget: What may be spent; None is 20,000 calls.
        seed: Seed of every random draw.
        name: What people call the run.
        idempotency_key: The same key and request give the same run.
        grammar: A grammar's TOML text; None is the built-in one.
    """

    task: Task
    executor: str
    optimizer: str | None = None
    preset: Preset = "balanced"
    options: SamplerOptions | None = None
    budget: BudgetLimits | None = None
    seed: int = 0
    name: str | None = None
    idempotency_key: str | None = None
    grammar: str | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run may take at one call an execution, were no answer cached."""

    executions: int
    calls: int
    tokens: int
    usd: float | None
    minutes: float


def resolve(request: RunRequest, models: ModelRegistry) -> RunSpec:
    """The specification to pin.

    Raises:
        InputError: Options, budget, grammar or baseline are wrong.
        ModelUnavailableError: A model cannot be used here.
    """
    optimizer = request.optimizer or "grammar"
    if optimizer != "grammar":
        raise ModelUnavailableError(
            f"The optimizer {optimizer!r} is not available; leave `optimizer` out or set it to "
            "'grammar', which writes workflows from a step grammar and needs no key."
        )
    if request.preset == "client":
        raise InputError(
            "The preset 'client' belongs to optimizer='client', which is not available; "
            "use 'quick', 'balanced' or 'paper'."
        )
    models.require(request.executor)
    task = request.task
    build_grammar(
        request.grammar,
        task.instructions,
        task.answer_format,
        task.splits.demonstration or task.splits.validation,
    )
    baseline = baseline_source(task)
    admit_workflow(baseline)
    return RunSpec(
        instructions=task.instructions,
        answer_format=task.answer_format,
        scorer=task.scorer,
        executor=request.executor,
        optimizer="grammar",
        grammar=request.grammar,
        baseline=baseline,
        own_baseline=task.baseline is not None,
        preset=request.preset,
        options=resolve_options(request.preset, request.options),
        budget=check_budget(request.budget, request.executor),
        seed=request.seed,
        name=request.name,
        fields=dict(task.fields),
        guesses=task.guesses,
    )


def check_budget(budget: BudgetLimits | None, executor: str) -> BudgetLimits:
    """The budget in force.

    Raises:
        InputError: A budget in dollars for a model whose price is not known.
    """
    if budget is None or budget == BudgetLimits():
        return BudgetLimits(calls=DEFAULT_CALLS)
    if budget.usd is not None and not is_free(executor):
        raise InputError(
            f"The price of {executor} is not known here, so a budget in dollars cannot hold; "
            "give `budget` as calls, tokens or minutes."
        )
    return budget


def estimate(spec: RunSpec, sizes: Mapping[Split, int]) -> Estimate:
    """The most the run may take.

    Args:
        spec: The specification.
        sizes: Rows of each split.
    """
    executions = most_executions(spec, sizes)
    calls = round(executions * _CALLS_PER_EXECUTION)
    pace = _LOCAL_SECONDS_PER_CALL if is_free(spec.executor) else _REMOTE_SECONDS_PER_CALL / 8
    return Estimate(
        executions=executions,
        calls=calls,
        tokens=calls * _TOKENS_PER_CALL,
        usd=list_price_usd(spec.executor),
        minutes=round(calls * pace / 60, 1),
    )


def budget_warnings(budget: BudgetLimits, expected: Estimate) -> tuple[str, ...]:
    """A sentence for each limit that the estimate exceeds."""
    pairs = (
        ("calls", budget.calls, expected.calls),
        ("tokens", budget.tokens, expected.tokens),
        ("minutes", budget.minutes, expected.minutes),
    )
    return tuple(
        f"The budget of {limit} {name} is below the {most} {name} that the run may need at "
        "most; if it is spent, the run pauses, and a larger one resumes it."
        for name, limit, most in pairs
        if limit is not None and limit < most
    )


def most_executions(spec: RunSpec, sizes: Mapping[Split, int]) -> int:
    """Executions (a workflow on a row) that the run may need, none remembered."""
    options = spec.options
    validation = sizes["validation"]
    batch = min(options.minibatch or validation, validation)
    width = options.particles * options.rollouts + options.refinements
    fitted = options.inverse_temperature is None
    rounds: Sequence[int] = [
        validation if number == options.rounds or (number == 1 and fitted) else batch
        for number in range(1, options.rounds + 1)
    ]
    final = 10 * validation + 5 * sizes["selection"] + 2 * sizes["test"]
    return width * sum(rounds) + final
