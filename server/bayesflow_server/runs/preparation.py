"""From a request to everything that a run is begun with. Nothing is written and nothing is spent.

The specification is resolved, the scorer is tried on expected answers, and a few workflows are
rehearsed without a model to estimate what the run may take. `service.start` is the caller.
"""

from typing import NamedTuple

from bayesflow_server.evaluation.gold import require_gold
from bayesflow_server.evaluation.graders import GradingPlace, grader_for
from bayesflow_server.evaluation.judging import needs_judge
from bayesflow_server.evaluation.task import Task
from bayesflow_server.runs.estimate import Estimate, budget_warnings, estimate
from bayesflow_server.runs.power import size_warnings
from bayesflow_server.runs.rehearsal import rehearse
from bayesflow_server.runs.request import RunRequest, resolve, spec_warnings
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.runs.spec import RunSpec, pinned_rows
from bayesflow_server.runs.warm_start import warm_of
from bayesflow_server.store.records import RowRecord

__all__ = ["Prepared", "prepare"]


class Prepared(NamedTuple):
    """What a run is begun with.

    Attributes:
        spec: What it does.
        rows: Its rows, as the store keeps them.
        estimate: What it may take.
        warnings: What is odd but allowed, a sentence each.
    """

    spec: RunSpec
    rows: list[RowRecord]
    estimate: Estimate
    warnings: tuple[str, ...]


async def prepare(request: RunRequest, workplace: Workplace) -> Prepared:
    """Checks and resolves a request.

    Raises:
        InputError: The request is wrong, names what is not there, or its scorer gives expected
            answers less than 1.
        ModelUnavailableError: A model cannot be used here.
    """
    task, prices = request.task, workplace.gateway.prices
    warm = await warm_of(request.options, task, workplace.store)
    spec = resolve(request, workplace.models, prices, warm)
    await _try_scorer(task, workplace)
    sizes = task.splits.sizes()
    rehearsal = await rehearse(spec, task.splits, workplace.sandbox)
    spec = spec.model_copy(update={"rehearsal": rehearsal})
    expected = estimate(spec, sizes, prices, rehearsal)
    warnings = (
        *task.warnings,
        *size_warnings(sizes),
        *spec_warnings(spec),
        *budget_warnings(spec.budget, expected),
    )
    return Prepared(spec, pinned_rows(task), expected, warnings)


async def _try_scorer(task: Task, workplace: Workplace) -> None:
    """A scorer that fails expected answers would make every reward of the run wrong."""
    if needs_judge(task.scorer):
        return  # asking it costs
    grader = grader_for(task.scorer, GradingPlace(workplace.sandbox, workplace.scoring))
    await require_gold(task.scorer, task.splits.validation, grader)
