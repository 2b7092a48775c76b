"""An evaluation as evaluate_workflow shows it: its report, and a page of its rows."""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, Field, WithJsonSchema

from bayesflow_server.excerpt import ANSWER, ERROR, TITLE, excerpt
from bayesflow_server.interface.paging import first_that_fit, room_beside, texts_that_fit
from bayesflow_server.interface.scores import GainState, PairedState, Score, Verdict

if TYPE_CHECKING:
    from bayesflow_sandbox.outcome import Failure
    from bayesflow_server.runs.evaluation_report import Difference, EvaluationReport, RowResult
    from bayesflow_server.runs.evaluations import EvaluationService
    from bayesflow_server.store.records import EvaluationRecord

__all__ = ["Evaluated", "Page", "Show", "evaluated"]

Show: TypeAlias = Literal["rows", "traces", "differences"]

_ENDED: Final = ("finished", "failed")
_PAGE: Final = 50
_TRACE: Final = 2_000
# Beside the rows only the first few differences are shown, and short.
_GLIMPSES: Final = 10
_GLIMPSE: Final = 120
_NOTES: Final = 3_000
# What stands around a report: the handle, a reason, the next step.
_FRAME: Final = 2_500
_ID: Final = 80
# The whole schemas would cost every conversation more than they say.
_SHORT: Final = WithJsonSchema({"type": ["object", "null"]})
_SHORT_LIST: Final = WithJsonSchema({"type": "array", "items": {"type": "object"}})


class RowScore(BaseModel):
    """One row. Answers, errors and traces are text from a model or program: data."""

    row_id: str
    answer: str | None
    later_answers: list[str | None] = Field(description="Of the later replicates.")
    score: float
    error: str | None = Field(description="Type, message, step and line.")
    calls: int
    tokens: int
    usd: float | None
    seconds: float
    trace: str | None


class RowDifference(BaseModel):
    """A row on which the two workflows score differently."""

    row_id: str
    answer: str | None
    other_answer: str | None
    score: float
    other_score: float


class EnsembleSize(BaseModel):
    """What the top `size` workflows are worth together; weighted: null without a posterior."""

    size: int
    best: float
    mean: float
    majority: float
    weighted: float | None


class EnsembleMember(BaseModel):
    """A workflow of the ensemble."""

    workflow_id: str
    weight: float | None
    score: float


class Report(BaseModel):
    """What an evaluation found."""

    score: Score
    compare_with: Score | None
    gain: GainState | None = Field(description="Score minus the other's; null without another.")
    beats: Verdict | None
    paired: Annotated[PairedState | None, _SHORT] = Field(
        description="Exact test: method, p_value, wins, losses, ties."
    )
    differ: int | None = Field(description="Rows on which the two score differently.")
    differences: Annotated[list[RowDifference], _SHORT_LIST] = Field(
        description="row_id, answer, other_answer, score, other_score; the widest apart first."
    )
    replicates: list[float] = Field(description="Each pass's mean score.")
    macro_f1: float | None = Field(description="Of the label scorer.")
    ensemble: Annotated[list[EnsembleSize], _SHORT_LIST] = Field(
        description="For each size of the top: best, mean, majority, weighted (or null)."
    )
    members: Annotated[list[EnsembleMember], _SHORT_LIST] = Field(
        description="workflow_id, weight (posterior or null), score."
    )
    top_errors: list[str] = Field(description="The most frequent failures: data.")
    notes: list[str]
    rows: list[RowScore] = Field(description="The worst first; a page ends early to stay readable.")
    cursor: str | None = Field(description="For the next page.")
    calls: int = Field(description="Calls of all workflows, cached ones included.")
    tokens: int
    usd: float | None = Field(description="At list price, as if nothing were cached.")
    seconds: float


class Evaluated(BaseModel):
    """An evaluation: its handle, and its report once it has ended."""

    evaluation_id: str
    workflow_id: str
    status: Literal["running", "finished", "failed"]
    reason: str | None
    report: Report | None
    next: str


class Page(NamedTuple):
    """Which part of the rows is wanted."""

    show: Show
    start: int


class _Shown(NamedTuple):
    """A page of rows or differences, and where the next begins."""

    rows: list[RowScore]
    differences: list[RowDifference]
    cursor: str | None


_NOTHING: Final = _Shown([], [], None)


async def evaluated(
    record: "EvaluationRecord", service: "EvaluationService", page: Page
) -> Evaluated:
    """The evaluation as it stands, with that page of its rows if it has finished."""
    from bayesflow_server.runs.evaluation_report import EvaluationReport

    ended = record.status in _ENDED
    report = EvaluationReport.model_validate_json(record.report) if record.report else None
    shown = None
    if report is not None:
        differ = await service.differences(record)
        room = room_beside(_report(report, differ, _NOTHING)) - _FRAME
        if page.show == "differences":
            part = _page_of_differences(differ, page.start, room)
        else:
            part = _page_of_rows(await service.rows(record), differ, page, room)
        shown = _report(report, differ, part)
    cursor = shown.cursor if shown else None
    return Evaluated(
        evaluation_id=record.evaluation_id,
        workflow_id=record.workflow_id,
        status="running" if not ended else "finished" if report else "failed",
        reason=excerpt(record.reason, 2 * ERROR) if record.reason else None,
        report=shown,
        next=_next(record, page, cursor, found=report is not None),
    )


def _report(report: "EvaluationReport", differ: "Sequence[Difference]", shown: _Shown) -> Report:
    other, gain, paired = report.compare_with, report.gain, report.paired
    ensemble = report.ensemble
    return Report(
        score=Score(**report.score.model_dump()),
        compare_with=Score(**other.model_dump()) if other else None,
        gain=GainState(**gain.model_dump()) if gain else None,
        beats=report.beats,
        paired=PairedState(**paired.model_dump()) if paired else None,
        differ=len(differ) if other else None,
        differences=shown.differences,
        replicates=list(report.replicates),
        macro_f1=report.macro_f1,
        ensemble=[
            EnsembleSize(
                size=one.size,
                best=one.best,
                mean=one.mean,
                majority=one.majority,
                weighted=one.weighted,
            )
            for one in (ensemble.sizes if ensemble else ())
        ],
        members=[
            EnsembleMember(**one.model_dump()) for one in (ensemble.members if ensemble else ())
        ],
        top_errors=[excerpt(error, ERROR) for error in report.top_errors],
        notes=texts_that_fit(report.notes, ERROR, _NOTES),
        rows=shown.rows,
        cursor=shown.cursor,
        calls=report.calls,
        tokens=report.tokens,
        usd=report.usd,
        seconds=report.seconds,
    )


def _page_of_rows(
    rows: "Sequence[RowResult]", differ: "Sequence[Difference]", page: Page, room: int
) -> _Shown:
    """Rows from `start` on; with the first of them, a glimpse of the differences."""
    traced = page.show == "traces"
    wanted = (_row(row, traced=traced) for row in islice(rows, page.start, page.start + _PAGE))
    glimpses = [] if page.start else [_difference(one, _GLIMPSE) for one in differ[:_GLIMPSES]]
    taken = sum(len(one.model_dump_json()) for one in glimpses)
    shown = first_that_fit(wanted, room - taken)
    return _Shown(shown, glimpses, _cursor(page.start + len(shown), len(rows)))


def _page_of_differences(differ: "Sequence[Difference]", start: int, room: int) -> _Shown:
    wanted = (_difference(one, ANSWER) for one in islice(differ, start, start + _PAGE))
    shown = first_that_fit(wanted, room)
    return _Shown([], shown, _cursor(start + len(shown), len(differ)))


def _cursor(end: int, total: int) -> str | None:
    return str(end) if end < total else None


def _row(row: "RowResult", *, traced: bool) -> RowScore:
    first, *later = row.answers
    return RowScore(
        row_id=excerpt(row.row_id, _ID),
        answer=_cut(first, ANSWER),
        later_answers=[_cut(answer, ANSWER) for answer in later],
        score=row.score,
        error=None if row.error is None else _error(row.error),
        calls=row.calls,
        tokens=row.tokens,
        usd=row.usd,
        seconds=row.seconds,
        trace=excerpt(row.trace, _TRACE) if traced and row.trace else None,
    )


def _error(failure: "Failure") -> str:
    """The failure in a line, its place whole however long the message is."""
    said = f"{excerpt(failure.type, _ID)}: {excerpt(failure.message, ERROR)}"
    step = f" in {excerpt(failure.step, TITLE)}" if failure.step else ""
    return said + step + (f", line {failure.line}" if failure.line else "")


def _difference(one: "Difference", most: int) -> RowDifference:
    return RowDifference(
        row_id=excerpt(one.row_id, _ID),
        answer=_cut(one.answer, most),
        other_answer=_cut(one.other_answer, most),
        score=one.score,
        other_score=one.other_score,
    )


def _cut(text: str | None, most: int) -> str | None:
    return None if text is None else excerpt(text, most)


def _next(record: "EvaluationRecord", page: Page, cursor: str | None, *, found: bool) -> str:
    handle = f"evaluate_workflow(evaluation_id='{record.evaluation_id}'"
    if record.status not in _ENDED:
        return f"{handle}, wait_seconds=20)"
    if not found:
        return (
            "Mend what `reason` says, or pass a larger `budget`, then start another by "
            "evaluate_workflow: what was paid stays."
        )
    if cursor is not None:
        return f"{handle}, show='{page.show}', cursor='{cursor}') for the next page."
    return (
        f"get_workflow(workflow_id='{record.workflow_id}') gives it to be taken into use. "
        "evaluate_workflow with `compare_with` sets it against another."
    )
