"""From a request to a specification: everything is checked here, before anything is written."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

from bayesflow_sampler.prompts import PromptTemplates, load_templates
from bayesflow_sandbox.policy import describe
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.task import Preset, Task
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.assembly import admit_workflow, build_grammar
from bayesflow_server.runs.estimate import check_budget, default_cost_cap
from bayesflow_server.runs.options import SamplerOptions, resolve_options
from bayesflow_server.runs.roles import (
    CLIENT,
    GRAMMAR,
    Roles,
    default_optimizer,
    preset_of,
    resolve_roles,
)
from bayesflow_server.runs.spec import RunSpec, baseline_source, pinned_rows

__all__ = ["RunRequest", "asked_hash", "check_recycling", "resolve", "spec_warnings"]

# The paper's own setting; a model that takes no temperature drops it, and the run says so.
_PRESET_TEMPERATURE: Final[dict[Preset, float]] = {"paper": 0.0}


@dataclass(frozen=True)
class RunRequest:
    """What a client asks for.

    Attributes:
        task: The checked task.
        executor: Model that the workflows call.
        optimizer: What writes the workflows; None chooses (`roles.default_optimizer`).
        preset: Named settings; None is the one that fits the optimizer.
        options: Changes to the preset.
        budget: What may be spent; None is 2 USD where every price is known, else 20,000 calls.
        seed: Seed of every random draw.
        name: What people call the run.
        idempotency_key: The same key and request give the same run.
        grammar: A grammar's TOML text; None is the built-in one.
        agent: Somebody is there who can answer proposals.
    """

    task: Task
    executor: str
    optimizer: str | None = None
    preset: Preset | None = None
    options: SamplerOptions | None = None
    budget: BudgetLimits | None = None
    seed: int = 0
    name: str | None = None
    idempotency_key: str | None = None
    grammar: str | None = None
    agent: bool = True


def asked_hash(request: RunRequest) -> str:
    """Tells apart two requests under one idempotency key: by all that they say, and by the rows.

    What a request resolves to is not in it: a repeat is recognised without a model being there.
    """
    task = request.task
    said = (
        *(task.instructions, task.answer_format, task.baseline, task.public_tests),
        *(task.scorer.model_dump_json(), sorted(task.fields.items())),
        *(request.executor, request.optimizer, request.preset, request.seed, request.name),
        *(part.model_dump_json() if part else None for part in (request.options, request.budget)),
        *(request.grammar, request.agent),
    )
    digest = hashlib.blake2b(json.dumps(said).encode(), digest_size=16)
    for row in pinned_rows(task):
        digest.update(json.dumps(astuple(row)).encode())
    return digest.hexdigest()


def resolve(
    request: RunRequest, models: ModelRegistry, prices: PriceTable, warm: Sequence[str] = ()
) -> RunSpec:
    """The specification to pin.

    Args:
        request: What is asked for.
        models: Every model that may be called.
        prices: What models cost.
        warm: Sources of the workflows that the run starts with (`warm_start`).

    Raises:
        InputError: Options, roles, budget, grammar or baseline are wrong.
        ModelUnavailableError: A model cannot be used here.
    """
    task, options = request.task, request.options or SamplerOptions()
    optimizer = request.optimizer or default_optimizer(
        models, grammar=request.grammar is not None, agent=request.agent
    )
    preset = preset_of(optimizer, request.preset)
    if preset == CLIENT and optimizer != CLIENT:
        raise InputError(
            f"The preset 'client' belongs to optimizer='client', and the optimizer is "
            f"{optimizer!r}; use 'quick', 'balanced' or 'paper'."
        )
    check_recycling(options, optimizer)
    roles = resolve_roles(request.executor, optimizer, options, task.scorer, models)
    _check_grammar(request, roles)
    baseline = baseline_source(task)
    exec_code = task.public_tests is not None
    admit_workflow(baseline, exec_code=exec_code)
    return RunSpec(
        instructions=task.instructions,
        answer_format=task.answer_format,
        scorer=task.scorer,
        executor=roles.executor,
        optimizer=roles.optimizer,
        refiner=roles.refiner,
        judge=roles.judge,
        tiers=dict(roles.tiers),
        operator=options.operator or "best",
        temperature=_temperature(options, preset),
        cost_weight=options.cost_weight or 0.0,
        cost_cap_usd=_cost_cap(task, options, roles, prices),
        prompts=_templates(roles),
        policy=describe(exec_code=exec_code),
        public_tests=task.public_tests,
        warm=tuple(warm),
        grammar=request.grammar,
        baseline=baseline,
        own_baseline=task.baseline is not None,
        preset=preset,
        options=resolve_options(preset, options),
        budget=check_budget(request.budget, roles.models, prices),
        seed=request.seed,
        name=request.name,
        fields=dict(task.fields),
        guesses=(*task.guesses, *_guessed(request, optimizer)),
    )


def check_recycling(options: SamplerOptions, optimizer: str) -> None:
    """Makes sure that rollouts are recycled only where they have the law of later steps.

    Raises:
        InputError: The optimizer is not the grammar.
    """
    if options.recycle and optimizer != GRAMMAR:
        raise InputError(
            f"`options.recycle` takes a rollout for later steps, and {optimizer!r} does not write "
            "rollouts by the law of its steps: leave it out, or use optimizer='grammar'."
        )


def _guessed(request: RunRequest, optimizer: str) -> tuple[str, ...]:
    """Who writes the workflows, where the request leaves it to us."""
    if request.optimizer is not None or request.grammar is not None:
        return ()
    writer = {
        CLIENT: "you write the workflows (optimizer 'client'): the server has no Anthropic key",
        GRAMMAR: "the built-in grammar writes the workflows: there is no Anthropic key",
    }.get(optimizer, f"{optimizer} writes the workflows: the server has its key")
    return (f"No optimizer was named, so {writer}.",)


def spec_warnings(spec: RunSpec) -> tuple[str, ...]:
    """What is odd but allowed, a sentence each."""
    found: list[str] = []
    writes = spec.optimizer not in (GRAMMAR, CLIENT)
    if writes and spec.temperature == 0 and spec.options.particles > 1:
        found.append(
            f"At temperature 0 {spec.optimizer} writes nearly the same workflow "
            f"{spec.options.particles} times, so the prior collapses; leave `options.temperature` "
            "out to sample as the model does by itself."
        )
    if not spec.prior_independent:
        found.append(
            "One agent's answers are not independent draws of a prior: the pool's weights rank, "
            "but no posterior guarantee holds."
        )
    return tuple(found)


def _check_grammar(request: RunRequest, roles: Roles) -> None:
    """Builds the grammar that will write, to find its faults now."""
    task = request.task
    if roles.optimizer != GRAMMAR:
        if request.grammar is not None:
            raise InputError(
                f"`grammar` is given, but {roles.optimizer!r} writes the workflows; leave one of "
                "`grammar` and `optimizer` out."
            )
        return
    build_grammar(
        request.grammar,
        task.instructions,
        task.answer_format,
        task.splits.demonstration or task.splits.validation,
    )


def _temperature(options: SamplerOptions, preset: Preset) -> float | None:
    if options.temperature is not None:
        return options.temperature
    return _PRESET_TEMPERATURE.get(preset)


def _templates(roles: Roles) -> PromptTemplates | None:
    """The prompts, pinned where anybody is asked."""
    asked = {roles.optimizer, roles.refiner} != {GRAMMAR}
    return load_templates() if asked else None


def _cost_cap(
    task: Task, options: SamplerOptions, roles: Roles, prices: PriceTable
) -> float | None:
    """c_max, where cost counts.

    Raises:
        InputError: A model that workflows may call has no known price.
    """
    if not options.cost_weight:
        if options.cost_cap is not None:
            raise InputError("`options.cost_cap` does nothing without `options.cost_weight`.")
        return None
    for spec in (roles.executor, *roles.tiers.values()):
        if not prices.is_known(spec):
            raise InputError(
                f"`options.cost_weight` needs a price, and that of {spec} is not known here; "
                "leave it out, or state the price when the server is launched "
                "(--endpoint NAME=URL,price_in=…,price_out=…)."
            )
    if options.cost_cap is not None:
        return options.cost_cap
    rows = [str(row.problem) for row in task.splits.validation]
    return default_cost_cap(roles.executor, task.instructions, rows, prices)
