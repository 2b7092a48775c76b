"""The demo's claim over ten seeds, beside a control of equal cost.

For each seed: the search as the demo runs it, then *prior draws at the same cost*: workflows drawn
from the grammar one by one and scored on all validation rows until they have needed as many calls
as the search with its final pick did; the same final pick and the same test rows. A call counts as
made whether or not the cache already had it; only the first seed's seconds are those of an empty
cache.
"""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import choose
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.types import Candidate, DrawKey, RowSet
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import SPLITS
from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.evaluation.task_file import load_task_file
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.assembly import build_grammar
from bayesflow_server.runs.options import parse_options
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.runs.spec import RunSpec, rows_of_split
from bayesflow_server.store.store import Store
from bench.figures import Figure, say

__all__ = ["arithmetic"]

_TASK = Path(__file__).parents[2] / "examples" / "arithmetic" / "task.toml"
_WANTED = 0.45
_BASELINE = 0.10


@dataclass(frozen=True, slots=True)
class _Seed:
    """One seed's result; calls are those needed with an empty cache."""

    seed: int
    test: float
    baseline: float
    control: float
    control_draws: int
    search_calls: int
    search_seconds: float
    total_seconds: float


def arithmetic(seeds: list[int]) -> list[Figure]:
    """Runs the seeds one after the other over one cache."""
    results = asyncio.run(_run(seeds))
    good = sum(one.test >= _WANTED for one in results)
    control = sum(one.control >= _WANTED for one in results)
    low = sum(one.baseline < _BASELINE for one in results)
    cold = results[0]
    needed = round(0.8 * len(results))
    return [
        Figure(
            f"best workflow on test >= {_WANTED}, baseline < {_BASELINE}, {len(results)} seeds",
            f"at least {needed}",
            f"{good} (baseline below in {low})",
            good >= needed and low == len(results),
        ),
        Figure("control: prior draws at equal cost on test >= 0.45", "none", str(control), None),
        Figure(
            "search, empty cache",
            "at most 150 s",
            f"{cold.search_seconds:.0f} s, {cold.search_calls} calls",
            cold.search_seconds <= 150,
        ),
        Figure(
            "whole demo, empty cache",
            "at most 300 s",
            f"{cold.total_seconds:.0f} s",
            cold.total_seconds <= 300,
        ),
    ]


async def _run(seeds: list[int]) -> list[_Seed]:
    results: list[_Seed] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await Store.open(Path(folder) / "bench.sqlite3") as store,
            Sandbox(workers=8) as sandbox,
        ):
            models = ModelRegistry()
            workplace = Workplace(store, models, Gateway(store), sandbox)
            service = RunService(workplace)
            await service.open()
            try:
                for seed in seeds:
                    result = await _seed(workplace, service, seed)
                    results.append(result)
                    say(_line(result))
            finally:
                await service.aclose()
                await models.aclose()
    return results


async def _seed(workplace: Workplace, service: RunService, seed: int) -> _Seed:
    loaded = load_task_file(_TASK, seed=seed)
    settings = loaded.settings
    assert settings.executor is not None
    began = time.monotonic()
    started = await service.start(
        RunRequest(
            task=loaded.task,
            executor=settings.executor,
            preset=settings.preset,
            options=parse_options(settings.options),
            budget=BudgetLimits.model_validate(settings.budget or {}),
            seed=seed,
            grammar=loaded.grammar.text if loaded.grammar else None,
        )
    )
    run_id = started.record.run_id
    record = await service.wait_until_settled(run_id)
    total = time.monotonic() - began
    assert record.outcome is not None, record.reason
    report = FinalReport.model_validate_json(record.outcome)
    needed = sum(usage.needed_calls for usage in await workplace.store.usage(run_id))
    # The winner and the baseline were asked each test row; what is left is the search's.
    tested = [
        execution.calls
        for workflow in {report.best[0].workflow_id, report.baseline.workflow_id}
        for execution in await workplace.store.executions(run_id, workflow, "test")
    ]
    search = needed - sum(tested)
    assert report.baseline.test is not None
    control, draws = await _control(workplace, run_id, search)
    return _Seed(
        seed=seed,
        test=report.test.score,
        baseline=report.baseline.test.score,
        control=control,
        control_draws=draws,
        search_calls=search,
        search_seconds=report.search_seconds,
        total_seconds=total,
    )


async def _control(workplace: Workplace, run_id: str, calls: int) -> tuple[float, int]:
    """The best of as many prior draws as cost the search's calls, on the test rows."""
    record = await workplace.store.run(run_id)
    assert record is not None
    spec = RunSpec.model_validate_json(record.request)
    records = await workplace.store.rows(run_id)
    rows = {split: rows_of_split(records, split) for split in SPLITS}
    evaluator = Evaluator(
        scope=f"control-{run_id}",
        rows=rows,
        scorer=spec.scorer,
        session=workplace.gateway.session(
            workplace.models.model(spec.executor),
            Budget(BudgetLimits()),
            scope=f"control-{run_id}",
            role="executor",
        ),
        sandbox=workplace.sandbox,
        store=workplace.store,
        seed=spec.seed,
    )
    shown = rows["demonstration"] or rows["validation"]
    grammar = build_grammar(spec.grammar, spec.instructions, spec.answer_format, shown)
    # Draws of their own: not those that the search's first round saw.
    prior = GrammarPrior(grammar, spec.seed + 1_000_003)
    validation = RowSet("validation", tuple(range(len(rows["validation"]))))
    archive = Archive(len(rows["validation"]))
    draws = 0
    while draws == 0 or await _needed(workplace, evaluator.scope) < calls:
        workflow = await prior.extend(prior.root, DrawKey("extend", 1, draws))
        draws += 1
        evaluation = await evaluator.score(workflow, validation)
        archive.add_candidate(Candidate(workflow, evaluation, 1, "prior"))
        if draws >= 5_000:
            break
    winner = (await choose(archive, evaluator))[0].workflow
    test = await evaluator.score(winner, RowSet("test", tuple(range(len(rows["test"])))))
    return test.mean, draws


async def _needed(workplace: Workplace, scope: str) -> int:
    return sum(usage.needed_calls for usage in await workplace.store.usage(scope))


def _line(one: _Seed) -> str:
    return (
        f"seed {one.seed:6d}: best {one.test:.3f}  baseline {one.baseline:.3f}  "
        f"control {one.control:.3f} (best of {one.control_draws} prior draws)  "
        f"search {one.search_calls} calls, {one.search_seconds:.0f} s, "
        f"all {one.total_seconds:.0f} s"
    )
