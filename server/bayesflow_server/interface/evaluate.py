"""The tool that scores any workflow on any rows."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import InputRequiredResult
from pydantic import Field, WithJsonSchema

from bayesflow_server.errors import InputError
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import (
    EXAMPLES,
    SPEND,
    Confirmed,
    Cursor,
    Examples,
    ScorerArgument,
    WaitSeconds,
)
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.confirmation import ask_user, ticket_of
from bayesflow_server.interface.evaluated import Evaluated, Page, Show, evaluated
from bayesflow_server.interface.paging import offset_of
from bayesflow_server.interface.progress import executions_of, progress_of
from bayesflow_server.interface.stakes import evaluation_stake
from bayesflow_server.interface.tool import make_tool
from bayesflow_server.runs.sources import LONGEST_SOURCE, source_given

if TYPE_CHECKING:
    from bayesflow_server.runs.evaluations import EvaluationSpec
    from bayesflow_server.runs.members import Member
    from bayesflow_server.store.records import RowRecord

__all__ = ["EvaluateTool"]

Split = Literal["demonstration", "validation", "selection", "test"]


class _Rows(NamedTuple):
    """What rows to run on, and a specification without its workflows."""

    spec: "EvaluationSpec"
    rows: "list[RowRecord]"


class EvaluateTool:
    """Scores workflows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.evaluate_workflow, "Evaluate a workflow", SPEND)]

    async def evaluate_workflow(
        self,
        context: Context[Any, Any],
        workflow: Annotated[
            str | None,
            Field(
                max_length=LONGEST_SOURCE,
                description="A workflow's id `wf_…`, its source with `# Step n:` comments, or an "
                "exported script: its text or its absolute path `….py`.",
            ),
        ] = None,
        evaluation_id: Annotated[
            str | None,
            Field(max_length=80, description="Wait for this one instead of starting another."),
        ] = None,
        run_id: Annotated[
            str | None,
            Field(max_length=80, description="Use this run's rows, scorer and executor."),
        ] = None,
        split: Annotated[
            Split,
            Field(description="Which of the run's rows; looking at test rows often spoils them."),
        ] = "validation",
        top: Annotated[
            int | None,
            Field(
                ge=1,
                le=32,
                description="In place of `workflow`: the run's best so many, as ensembles too.",
            ),
        ] = None,
        examples: Annotated[Examples | None, EXAMPLES] = None,
        fields: Annotated[
            dict[str, str] | None, Field(description="For `examples`: our name to the file's.")
        ] = None,
        public_tests: Annotated[
            str | None, Field(description="For `examples`: field of the tests for exec_code.")
        ] = None,
        scorer: Annotated[
            ScorerArgument | None,
            # Its schema stands once, at start_bayesflow_run: it is long. So does the budget's.
            WithJsonSchema({"type": ["string", "object", "null"]}),
            Field(
                description="As in start_bayesflow_run; null is the run's, or a guess for "
                "`examples`."
            ),
        ] = None,
        executor: Annotated[
            str | None, Field(description="Model to call; null is the run's.")
        ] = None,
        compare_with: Annotated[
            str | None,
            Field(
                max_length=LONGEST_SOURCE,
                description="Another workflow, in the same forms, run on the same rows.",
            ),
        ] = None,
        replicates: Annotated[
            int, Field(ge=1, le=5, description="Passes over the rows, each a distinct sample.")
        ] = 1,
        budget: Annotated[
            BudgetLimits | None,
            WithJsonSchema({"type": ["object", "null"]}),
            Field(
                description="As in start_bayesflow_run; null: 2 USD where prices are known, or "
                "20,000 calls."
            ),
        ] = None,
        judge: Annotated[
            str | None, Field(description="Model of the judge scorer; null is the run's.")
        ] = None,
        show: Annotated[
            Show, Field(description="traces: what each row asked; differences: with compare_with.")
        ] = "rows",
        cursor: Cursor = None,
        wait_seconds: WaitSeconds = 20,
        confirmed: Confirmed = False,
    ) -> Evaluated | InputRequiredResult:
        """Runs a workflow on rows and reports its score, failures and answers row by row.

        Use it to try a workflow of your own or of the pool, two against each other (compare_with
        gives the paired gain and test), or a run's `top` together. Rows come from `run_id` and
        `split`, or from `examples` with an `executor`. If it still runs after wait_seconds, call
        again with evaluation_id alone; with `cursor` it gives further rows.
        """
        page = Page(show, offset_of(cursor, "evaluate_workflow"))
        service = await self._backend.evaluations()
        if evaluation_id is None:
            members = await self._members(workflow, run_id, top)
            if (run_id is None) == (examples is None):
                raise InputError(
                    "Say which rows to run on: either `run_id` (and `split`) or `examples`."
                )
            if run_id is not None and (fields is not None or public_tests is not None):
                raise InputError(
                    "`fields` and `public_tests` are for `examples`; a run has its own: leave them "
                    "out."
                )
            if run_id is not None:
                given = await self._run_rows(run_id, split, scorer, executor)
            else:
                assert examples is not None
                given = _own_rows(examples, fields, scorer, executor, public_tests)
            source = members[0].workflow_id if workflow is None else workflow
            changes = {
                "workflow": await source_given(source, service.workplace.store),
                "compare_with": None
                if compare_with is None
                else await source_given(compare_with, service.workplace.store),
                "judge": judge or given.spec.judge,
                "budget": budget or BudgetLimits(),
                "replicates": replicates,
                "members": members,
            }
            spec = given.spec.model_copy(update=changes)
            planned = await service.plan(spec, given.rows)
            asks = await ask_user(
                context,
                evaluation_stake(planned.spec, planned.rows),
                above=self._backend.confirm_above,
                confirmed=confirmed,
            )
            if asks is not None:
                return asks
            evaluation_id = await service.begin(planned, ticket_of(context))
        elif workflow is not None or top is not None:
            raise InputError(
                "Pass either `workflow`, to start an evaluation, or `evaluation_id`, to wait."
            )
        executions = await service.executions(evaluation_id)
        look = executions_of(service.workplace.store, evaluation_id, executions)
        async with progress_of(context, look):
            record = await service.wait(evaluation_id, wait_seconds)
        return await evaluated(record, service, page)

    async def _members(
        self, workflow: str | None, run_id: str | None, top: int | None
    ) -> "tuple[Member, ...]":
        """The run's best workflows; none where one workflow is given."""
        from bayesflow_server.runs.members import top_members

        if workflow is None and top is None:
            raise InputError("Pass `workflow` (an id or source), or an `evaluation_id`.")
        if top is None:
            return ()
        if workflow is not None or run_id is None:
            raise InputError("`top` takes a run's best workflows: pass `run_id`, no `workflow`.")
        return top_members(await (await self._backend.runs()).pool(run_id), top)

    async def _run_rows(
        self, run_id: str, split: Split, scorer: ScorerArgument | None, executor: str | None
    ) -> _Rows:
        from bayesflow_server.evaluation.example import SPLITS
        from bayesflow_server.evaluation.scorers import check_expected_answers, resolve_scorer
        from bayesflow_server.runs.evaluations import EvaluationSpec
        from bayesflow_server.runs.spec import RunSpec, rows_of_split

        service = await self._backend.runs()
        record = await service.record(run_id)
        run = RunSpec.model_validate_json(record.request)
        rows = await service.rows(run_id)
        chosen, grades = rows_of_split(rows, split), run.scorer
        if scorer is not None and chosen:
            # By all rows: a split may lack some of the labels.
            every = [row for name in SPLITS for row in rows_of_split(rows, name)]
            grades = resolve_scorer(scorer, every).scorer
            check_expected_answers(grades, chosen)
        spec = EvaluationSpec(
            workflow="",
            compare_with=None,
            scorer=grades,
            executor=executor or run.executor,
            judge=None if scorer else run.judge,
            tiers=run.tiers,
            public_tests=run.public_tests,
            split=split,
            budget=run.budget,
            seed=run.seed,
        )
        return _Rows(spec, rows)


def _own_rows(
    examples: Examples,
    fields: dict[str, str] | None,
    scorer: ScorerArgument | None,
    executor: str | None,
    public_tests: str | None,
) -> _Rows:
    from bayesflow_server.evaluation.dataset import load_dataset
    from bayesflow_server.evaluation.scorers import check_expected_answers
    from bayesflow_server.evaluation.task import scorer_for
    from bayesflow_server.runs.evaluations import EvaluationSpec
    from bayesflow_server.runs.spec import pinned_row

    if executor is None:
        raise InputError("Name the `executor` model that the workflow is to call.")
    dataset = load_dataset(examples, fields)
    rows = dataset.rows
    chosen = scorer_for(scorer or "auto", dataset).scorer
    check_expected_answers(chosen, rows)
    spec = EvaluationSpec(
        workflow="",
        compare_with=None,
        scorer=chosen,
        executor=executor,
        public_tests=public_tests,
        split="test",
        budget=BudgetLimits(),
        seed=0,
    )
    return _Rows(spec, [pinned_row("test", place, row) for place, row in enumerate(rows)])
