"""What the requests that spend may spend at most, as their user is told."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bayesflow_server.interface.confirmation import Stake

if TYPE_CHECKING:
    from bayesflow_server.gateway.budget import BudgetLimits
    from bayesflow_server.gateway.usage import UsageTotals
    from bayesflow_server.runs.answering import AnswerSpec
    from bayesflow_server.runs.evaluations import EvaluationSpec
    from bayesflow_server.runs.preparation import Prepared
    from bayesflow_server.runs.spec import RunSpec
    from bayesflow_server.runs.starting import StartedRun

__all__ = ["answer_stake", "evaluation_stake", "resumed_stake", "search_stake"]


def search_stake(prepared: "Prepared") -> Stake:
    """A run's: its budget; without one in dollars, the estimate, which assumes answers' lengths."""
    spec, expected = prepared.spec, prepared.estimate
    validation = sum(row.split == "validation" for row in prepared.rows)
    return Stake(
        tool="start_bayesflow_run",
        work="search",
        size=_search_size(spec, validation, expected.calls),
        models=spec.roles.models,
        usd=expected.usd if spec.budget.usd is None else spec.budget.usd,
        calls=spec.budget.calls or expected.calls,
    )


def resumed_stake(run: "StartedRun", budget: "BudgetLimits", spent: "UsageTotals") -> Stake:
    """A resumed run's: its new budget less what it has spent."""
    spec, expected = run.spec, run.estimate
    most = expected.usd if budget.usd is None else budget.usd
    return Stake(
        tool="resume_run",
        work="search",
        size=_search_size(spec, run.sizes["validation"], expected.calls),
        models=spec.roles.models,
        usd=None if most is None else max(0.0, most - (spent.usd or 0.0)),
        calls=max(0, (budget.calls or expected.calls) - spent.calls),
    )


def evaluation_stake(spec: "EvaluationSpec", rows: Sequence[object]) -> Stake:
    """An evaluation's: its budget."""
    executions = spec.executions(len(rows))
    return Stake(
        tool="evaluate_workflow",
        work="evaluation",
        size=f"{executions:,} executions of workflows, on {len(rows):,} rows",
        models=spec.roles.models,
        usd=spec.budget.usd,
        calls=spec.budget.calls or executions,
    )


def answer_stake(spec: "AnswerSpec") -> Stake:
    """An answer's: its budget."""
    count = len(spec.members)
    return Stake(
        tool="run_workflow",
        work="answer",
        size=f"{count} workflow{'s' if count > 1 else ''} on one input",
        models=spec.roles.models,
        usd=spec.budget.usd,
        calls=spec.budget.calls or count,
    )


def _search_size(spec: "RunSpec", validation: int, calls: int) -> str:
    options = spec.options
    return (
        f"{options.rounds} rounds of {options.particles} workflows and {options.refinements} "
        f"edits, on {validation:,} validation rows; {calls:,} calls at most, as estimated"
    )
