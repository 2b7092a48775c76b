"""Evaluations that a client asks for: one workflow (or two, or a run's best together) on rows.

An evaluation is a small run of its own: rows pinned, executions kept one by one, a budget, and an
id by which it can be waited for. If its process dies, asking for it again goes on where it stopped.
Each pass over the rows is a replicate: distinct samples of the same questions.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import RowSet, Workflow
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.gold import require_gold
from bayesflow_server.evaluation.graders import GradingPlace, grader_for
from bayesflow_server.evaluation.judging import needs_judge
from bayesflow_server.evaluation.macro_f1 import macro_f1
from bayesflow_server.evaluation.problem_tests import CodeFields
from bayesflow_server.evaluation.scorers import File, Label, Python, Scorer
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.runs.assembly import admit_workflow
from bayesflow_server.runs.estimate import check_budget
from bayesflow_server.runs.evaluation_report import (
    Difference,
    EvaluationReport,
    Passes,
    RowResult,
    differences,
    ensemble_report,
    evaluation_report,
    row_results,
)
from bayesflow_server.runs.jobs import Jobs, new_job_id
from bayesflow_server.runs.members import Member
from bayesflow_server.runs.options import Tier
from bayesflow_server.runs.recorder import workflow_record
from bayesflow_server.runs.roles import GRAMMAR, Roles
from bayesflow_server.runs.sessions import Sessions, open_sessions
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.runs.sources import stored_source
from bayesflow_server.runs.spec import rows_of_split
from bayesflow_server.store.records import (
    EvaluationRecord,
    ExecutionRecord,
    NewEvaluation,
    RowRecord,
)

__all__ = ["MOST_REPLICATES", "EvaluationService", "EvaluationSpec", "PlannedEvaluation"]

MOST_REPLICATES: Final = 5
# More would only wait for the same models, and hold their rows in memory meanwhile.
_AT_ONCE: Final = 4


class EvaluationSpec(BaseModel):
    """What an evaluation does, pinned. What later versions added has a default.

    Attributes:
        workflow: Source of the workflow; of an ensemble, the best-ranked.
        compare_with: Source of another, or None.
        scorer: Scores an answer.
        executor: Model the workflows call.
        judge: Model of the judge scorer, or None.
        tiers: Models that a workflow may call by name.
        split: Which of the pinned rows are run; for rows given inline, all are `test`.
        budget: What may be spent.
        seed: Seed of draws above temperature 0.
        replicates: How many passes over the rows.
        members: The ranked workflows of an ensemble, the first among them; empty: no ensemble.
        public_tests: Field of a row's meta data with the tests that `exec_code` runs, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow: str
    compare_with: str | None
    scorer: Scorer
    executor: str
    judge: str | None = None
    tiers: dict[Tier, str] = {}
    split: str
    budget: BudgetLimits
    seed: int
    replicates: int = 1
    members: tuple[Member, ...] = ()
    public_tests: str | None = None

    @property
    def roles(self) -> Roles:
        """Which model does what; nobody writes workflows."""
        return Roles(self.executor, GRAMMAR, GRAMMAR, self.judge, self.tiers)

    def executions(self, rows: int) -> int:
        """How many executions that many rows take."""
        others = 0 if self.compare_with is None else 1
        return rows * self.replicates * (max(1, len(self.members)) + others)


class PlannedEvaluation(NamedTuple):
    """An evaluation that could begin.

    Attributes:
        spec: What it does, its budget in force.
        rows: The rows it runs on.
        workflows: The workflow, and the one it is compared with.
    """

    spec: EvaluationSpec
    rows: Sequence[RowRecord]
    workflows: Sequence[Workflow]


@dataclass
class EvaluationService:
    """Starts evaluations and waits for them, until `aclose`.

    Attributes:
        workplace: Store, models, gateway and sandbox.
    """

    workplace: Workplace
    _jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        self._jobs = Jobs(self.workplace.store, "eval_", self._evaluate)

    async def start(self, spec: EvaluationSpec, rows: Sequence[RowRecord]) -> str:
        """Begins an evaluation of `spec` on `rows`; returns its id.

        Raises:
            InputError: A workflow or the scorer cannot be used, or there are no rows.
            ModelUnavailableError: The executor cannot be used here.
        """
        return await self.begin(await self.plan(spec, rows))

    async def plan(self, spec: EvaluationSpec, rows: Sequence[RowRecord]) -> PlannedEvaluation:
        """Checks an evaluation; nothing is written and nothing is spent.

        Raises:
            InputError: A workflow or the scorer cannot be used, or there are no rows.
            ModelUnavailableError: The executor cannot be used here.
        """
        spec = self._checked(spec)
        exec_code = spec.public_tests is not None
        workflows = [admit_workflow(spec.workflow, exec_code=exec_code)]
        if spec.compare_with is not None:
            workflows.append(admit_workflow(spec.compare_with, exec_code=exec_code))
        chosen = [row for row in rows if row.split == spec.split]
        if not chosen:
            raise InputError(
                f"There are no {spec.split} rows to evaluate on; name another `split` or pass "
                "`examples`."
            )
        code = CodeFields.of(spec.scorer, spec.public_tests)
        if code is not None:
            code.check(rows_of_split(chosen, spec.split))
        await self._try_scorer(spec.scorer, rows_of_split(chosen, spec.split))
        return PlannedEvaluation(spec, chosen, workflows)

    async def begin(self, planned: PlannedEvaluation, ticket: str | None = None) -> str:
        """Begins an evaluation that was checked; returns its id.

        Args:
            planned: What was checked.
            ticket: Begins it once, however often it is begun with this ticket.
        """
        evaluation_id = new_job_id("eval_", ticket)
        if ticket is not None and await self.workplace.store.evaluation(evaluation_id):
            return evaluation_id
        for workflow in planned.workflows:
            await self.workplace.store.put_workflow(workflow_record(workflow))
        request = planned.spec.model_dump_json()
        await self.workplace.store.create_evaluation(
            NewEvaluation(evaluation_id, planned.workflows[0].workflow_id, request, "running"),
            [replace(row, position=index) for index, row in enumerate(planned.rows)],
        )
        self._jobs.launch(evaluation_id, request)
        return evaluation_id

    async def executions(self, evaluation_id: str) -> int:
        """How many executions it takes: each workflow on each row in each pass."""
        record = await self._jobs.record(evaluation_id)
        spec = EvaluationSpec.model_validate_json(record.request)
        return spec.executions(len(await self.workplace.store.rows(evaluation_id)))

    def _checked(self, spec: EvaluationSpec) -> EvaluationSpec:
        """The specification with the budget in force, its models usable."""
        if needs_judge(spec.scorer) and spec.judge is None:
            raise InputError("The judge scorer needs a model to grade with; name it as `judge`.")
        for model in spec.roles.models:
            self.workplace.models.require(model)
        prices = self.workplace.gateway.prices
        budget = check_budget(spec.budget, spec.roles.models, prices)
        return spec.model_copy(update={"budget": budget})

    async def _try_scorer(self, scorer: Scorer, rows: Sequence[Row]) -> None:
        """The user's own scorer must work before anything is spent; others were tried already."""
        if isinstance(scorer, Python | File):
            place = GradingPlace(self.workplace.sandbox, self.workplace.scoring)
            await require_gold(scorer, rows, grader_for(scorer, place))

    async def wait(self, evaluation_id: str, seconds: float) -> EvaluationRecord:
        """The evaluation once it has ended, or after `seconds`; one that nobody works on goes on.

        Raises:
            NotFoundError: There is no such evaluation.
        """
        return await self._jobs.wait(evaluation_id, seconds)

    async def rows(self, record: EvaluationRecord) -> list[RowResult]:
        """The rows of a finished evaluation, the worst first."""
        spec = EvaluationSpec.model_validate_json(record.request)
        passes = await self._passes(record.evaluation_id, spec, record.workflow_id)
        return await asyncio.to_thread(row_results, passes)

    async def differences(self, record: EvaluationRecord) -> list[Difference]:
        """The rows on which its two workflows score differently; none where there is one."""
        spec = EvaluationSpec.model_validate_json(record.request)
        if spec.compare_with is None:
            return []
        other = parse_workflow(spec.compare_with).workflow_id
        passes = await self._passes(record.evaluation_id, spec, record.workflow_id)
        others = await self._passes(record.evaluation_id, spec, other)
        return await asyncio.to_thread(differences, passes, others)

    async def aclose(self) -> None:
        """Stops what is going on; it can be asked for again."""
        await self._jobs.aclose()

    async def source_of(self, workflow: str) -> str:
        """The source behind a workflow id, or the source itself.

        Raises:
            NotFoundError: The id is unknown.
        """
        return await stored_source(workflow, self.workplace.store)

    async def _evaluate(self, evaluation_id: str, request: str) -> EvaluationReport:
        spec = EvaluationSpec.model_validate_json(request)
        first = parse_workflow(spec.workflow)
        other = None if spec.compare_with is None else parse_workflow(spec.compare_with)
        workflows = {first.workflow_id: first}
        if other is not None:
            workflows[other.workflow_id] = other
        for member in spec.members:
            source = await self.source_of(member.workflow_id)
            workflows[member.workflow_id] = parse_workflow(source)
        await self._execute(evaluation_id, spec, workflows.values())
        passes = {
            name: await self._passes(evaluation_id, spec, name, traced=False) for name in workflows
        }
        # The bootstrap and the votes take a while.
        report = await asyncio.to_thread(
            _report, spec, passes, first.workflow_id, other.workflow_id if other else None
        )
        if isinstance(spec.scorer, Label):
            rows = rows_of_split(await self.workplace.store.rows(evaluation_id), spec.split)
            records = [record for each in passes[first.workflow_id] for record in each]
            answers = [record.answer for record in records]
            targets = [rows[record.position].target for record in records]
            found = macro_f1(spec.scorer, answers, targets)
            report = report.model_copy(update={"macro_f1": found})
        return report

    async def _execute(
        self, evaluation_id: str, spec: EvaluationSpec, workflows: Iterable[Workflow]
    ) -> None:
        """Scores the workflows on every row, as often as there are replicates."""
        store = self.workplace.store
        records = await store.rows(evaluation_id)
        budget = Budget(spec.budget)
        budget.take_over(await store.usage(evaluation_id))
        sessions = open_sessions(
            self.workplace.gateway, self.workplace.models, spec.roles, budget, evaluation_id
        )
        rows = RowSet("test", tuple(range(len(records))))
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def score(evaluator: Evaluator, workflow: Workflow) -> None:
            async with at_once:
                await evaluator.score(workflow, rows)

        for replicate in range(spec.replicates):
            evaluator = await self._evaluator(evaluation_id, spec, sessions, records, replicate)
            async with asyncio.TaskGroup() as group:
                for workflow in workflows:
                    group.create_task(score(evaluator, workflow))

    async def _evaluator(
        self,
        evaluation_id: str,
        spec: EvaluationSpec,
        sessions: Sessions,
        records: list[RowRecord],
        replicate: int,
    ) -> Evaluator:
        evaluator = Evaluator(
            scope=evaluation_id,
            rows={"test": rows_of_split(records, spec.split)},
            scorer=spec.scorer,
            session=sessions.executor,
            judge=sessions.judge,
            scoring=self.workplace.scoring,
            # Of an ensemble nobody asks for thousands of traces.
            trace_all=not spec.members,
            public_tests=spec.public_tests,
            tiers=sessions.tiers,
            sandbox=self.workplace.sandbox,
            store=self.workplace.store,
            seed=spec.seed,
            replicate=replicate,
        )
        await evaluator.load()
        return evaluator

    async def _passes(
        self, evaluation_id: str, spec: EvaluationSpec, workflow_id: str, *, traced: bool = True
    ) -> Passes:
        passes: list[list[ExecutionRecord]] = []
        for replicate in range(spec.replicates):
            records = await self.workplace.store.executions(
                evaluation_id, workflow_id, "test", replicate
            )
            passes.append(records if traced else [replace(one, trace="") for one in records])
        return passes


def _report(
    spec: EvaluationSpec, passes: Mapping[str, Passes], first: str, other: str | None
) -> EvaluationReport:
    ranked = [passes[member.workflow_id] for member in spec.members]
    rest = [each for name, each in passes.items() if name not in (first, other)]
    return evaluation_report(
        passes[first],
        None if other is None else passes[other],
        ensemble_report(spec.scorer, spec.members, ranked) if spec.members else None,
        [records for each in rest for records in each],
    )
