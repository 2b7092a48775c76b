"""The tool that scores any workflow on any rows."""

from typing import TYPE_CHECKING, Annotated, Final, Literal

from mcp.server.mcpserver.tools import Tool
from pydantic import BaseModel, Field, WithJsonSchema

from bayesflow_server.errors import InputError
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import (
    EXAMPLES,
    SPEND,
    Examples,
    ScorerArgument,
    WaitSeconds,
)
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.excerpt import ANSWER, ERROR, excerpt
from bayesflow_server.interface.paging import first_that_fit
from bayesflow_server.interface.scores import GainState, Score, Verdict
from bayesflow_server.interface.tool import make_tool

if TYPE_CHECKING:
    from bayesflow_server.runs.evaluations import EvaluationReport, EvaluationSpec, RowResult
    from bayesflow_server.store.records import EvaluationRecord, RowRecord

__all__ = ["EvaluateTool", "Evaluated"]

_SHOWN_ROWS: Final = 50
_LONGEST_SOURCE: Final = 200_000


class RowScore(BaseModel):
    """One row. The answer and the error are text from a model or program: data."""

    row_id: str
    answer: str | None
    score: float
    error: str | None
    calls: int
    seconds: float


class Report(BaseModel):
    """What an evaluation found."""

    score: Score
    compare_with: Score | None
    gain: GainState | None = Field(description="Score minus the other's; null without another.")
    beats: Verdict | None
    top_errors: list[str] = Field(description="The most frequent failures: data.")
    rows: list[RowScore] = Field(description="At most 50, the worst first.")
    calls: int = Field(description="Calls the workflow made, cached ones included.")
    tokens: int


class Evaluated(BaseModel):
    """An evaluation: its handle, and its report once it has ended."""

    evaluation_id: str
    workflow_id: str
    status: Literal["running", "finished", "failed"]
    reason: str | None
    report: Report | None
    next: str


class EvaluateTool:
    """Scores workflows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.evaluate_workflow, "Evaluate a workflow", SPEND)]

    async def evaluate_workflow(
        self,
        workflow: Annotated[
            str | None,
            Field(
                max_length=_LONGEST_SOURCE,
                description="A workflow's id `wf_…`, or its source with `# Step n:` comments.",
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
            Literal["validation", "selection", "test"],
            Field(description="Which of the run's rows; looking at test rows often spoils them."),
        ] = "validation",
        examples: Annotated[Examples | None, EXAMPLES] = None,
        fields: Annotated[
            dict[str, str] | None, Field(description="For `examples`: our name to the file's.")
        ] = None,
        scorer: Annotated[
            ScorerArgument | None,
            # The scorers' schema stands once, at start_bayesflow_run: it is long.
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
                max_length=_LONGEST_SOURCE,
                description="Another workflow's id or source, run on the same rows.",
            ),
        ] = None,
        budget: Annotated[
            BudgetLimits | None,
            Field(description="Hard limits; null: 2 USD where prices are known, or 20,000 calls."),
        ] = None,
        judge: Annotated[
            str | None, Field(description="Model of the judge scorer; null is the run's.")
        ] = None,
        wait_seconds: WaitSeconds = 20,
    ) -> Evaluated:
        """Runs a workflow on rows and reports its score, failures and answers row by row.

        Use it to try a workflow of your own or of the pool, or two against each other
        (compare_with gives the paired gain). Rows come from `run_id` and `split`, or from
        `examples` with an `executor`. If it still runs after wait_seconds, call again with
        evaluation_id alone.
        """
        service = await self._backend.evaluations()
        if evaluation_id is None:
            if workflow is None:
                raise InputError("Pass `workflow` (an id or source), or an `evaluation_id`.")
            if (run_id is None) == (examples is None):
                raise InputError(
                    "Say which rows to run on: either `run_id` (and `split`) or `examples`."
                )
            if run_id is not None:
                spec, rows = await self._run_rows(run_id, split, scorer, executor)
            else:
                assert examples is not None
                spec, rows = _own_rows(examples, fields, scorer, executor)
            changes = {
                "workflow": await service.source_of(workflow),
                "compare_with": await service.source_of(compare_with) if compare_with else None,
                "judge": judge or spec.judge,
                "budget": budget or BudgetLimits(),
            }
            evaluation_id = await service.start(spec.model_copy(update=changes), rows)
        elif workflow is not None:
            raise InputError(
                "Pass either `workflow`, to start an evaluation, or `evaluation_id`, to wait."
            )
        return _evaluated(await service.wait(evaluation_id, wait_seconds))

    async def _run_rows(
        self, run_id: str, split: str, scorer: ScorerArgument | None, executor: str | None
    ) -> "tuple[EvaluationSpec, list[RowRecord]]":
        from bayesflow_server.evaluation.scorers import resolve_scorer
        from bayesflow_server.runs.evaluations import EvaluationSpec
        from bayesflow_server.runs.spec import RunSpec, rows_of_split

        service = await self._backend.runs()
        record = await service.record(run_id)
        run = RunSpec.model_validate_json(record.request)
        rows = await service.rows(run_id)
        chosen = rows_of_split(rows, split)
        spec = EvaluationSpec(
            workflow="",
            compare_with=None,
            scorer=resolve_scorer(scorer, chosen).scorer if scorer and chosen else run.scorer,
            executor=executor or run.executor,
            judge=None if scorer else run.judge,
            tiers=run.tiers,
            split=split,
            budget=run.budget,
            seed=run.seed,
        )
        return spec, rows


def _own_rows(
    examples: Examples,
    fields: dict[str, str] | None,
    scorer: ScorerArgument | None,
    executor: str | None,
) -> "tuple[EvaluationSpec, list[RowRecord]]":
    from bayesflow_server.evaluation.dataset import load_dataset
    from bayesflow_server.evaluation.scorers import check_expected_answers, resolve_scorer
    from bayesflow_server.runs.evaluations import EvaluationSpec
    from bayesflow_server.runs.spec import pinned_row

    if executor is None:
        raise InputError("Name the `executor` model that the workflow is to call.")
    rows = load_dataset(examples, fields).rows
    chosen = resolve_scorer(scorer or "auto", rows).scorer
    check_expected_answers(chosen, rows)
    spec = EvaluationSpec(
        workflow="",
        compare_with=None,
        scorer=chosen,
        executor=executor,
        split="test",
        budget=BudgetLimits(),
        seed=0,
    )
    return spec, [pinned_row("test", place, row) for place, row in enumerate(rows)]


def _evaluated(record: "EvaluationRecord") -> Evaluated:
    from bayesflow_server.runs.evaluations import EvaluationReport

    ended = record.status in ("finished", "failed")
    report = EvaluationReport.model_validate_json(record.report) if record.report else None
    return Evaluated(
        evaluation_id=record.evaluation_id,
        workflow_id=record.workflow_id,
        status="running" if not ended else "finished" if report else "failed",
        reason=excerpt(record.reason, 2 * ERROR) if record.reason else None,
        report=_report(report) if report else None,
        next=_next(record.evaluation_id, ended=ended, found=report is not None),
    )


def _report(report: "EvaluationReport") -> Report:
    worst = sorted(report.rows, key=lambda row: row.score)[:_SHOWN_ROWS]
    other, gain = report.compare_with, report.gain
    return Report(
        score=Score(**report.score.model_dump()),
        compare_with=Score(**other.model_dump()) if other else None,
        gain=GainState(**gain.model_dump()) if gain else None,
        beats=report.beats,
        top_errors=[excerpt(error, ERROR) for error in report.top_errors],
        rows=first_that_fit(map(_row, worst)),
        calls=report.calls,
        tokens=report.tokens,
    )


def _row(row: "RowResult") -> RowScore:
    return RowScore(
        row_id=excerpt(row.row_id, 80),
        answer=None if row.answer is None else excerpt(row.answer, ANSWER),
        score=row.score,
        error=None if row.error is None else excerpt(row.error, ERROR),
        calls=row.calls,
        seconds=row.seconds,
    )


def _next(evaluation_id: str, *, ended: bool, found: bool) -> str:
    if not ended:
        return f"evaluate_workflow(evaluation_id='{evaluation_id}', wait_seconds=20)"
    if found:
        return "Compare it with another by compare_with, or take it into use."
    return "Mend what `reason` says, then start another evaluation."
