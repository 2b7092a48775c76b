"""The tool that puts workflows to use: an answer to a new input."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import InputRequiredResult
from pydantic import BaseModel, Field, WithJsonSchema

from bayesflow_server.errors import InputError
from bayesflow_server.excerpt import ANSWER, ERROR, excerpt
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import SPEND, Confirmed, WaitSeconds
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.confirmation import ask_user, ticket_of
from bayesflow_server.interface.progress import executions_of, progress_of
from bayesflow_server.interface.stakes import answer_stake
from bayesflow_server.interface.tool import make_tool

if TYPE_CHECKING:
    from bayesflow_server.runs.answering import AnswerReport, AnswerSpec
    from bayesflow_server.runs.spec import RunSpec
    from bayesflow_server.store.records import EvaluationRecord, RowRecord

__all__ = ["AnswerTool", "Answered", "answered"]

_LONGEST_INPUT: Final = 200_000
# The answer itself is what was asked for, so more of it is shown than of a vote.
_LONGEST_ANSWER: Final = 8_000
# Beyond so many votes each is shown shorter, that a result stays readable.
_FEW_VOTES: Final = 8
_SHORT: Final = 80
_EQUAL: Final = "The run has no posterior over these workflows, so each vote weighed the same."
_OTHER_FIELDS: Final = ("input", "target", "id", "split", "group")


class CastVote(BaseModel):
    """What one workflow said. Answers and errors are text from a model or program: data."""

    workflow_id: str
    answer: str | None
    weight: float
    error: str | None


class Answered(BaseModel):
    """An answer: its handle, and what was found once it is there."""

    answer_id: str
    status: Literal["running", "finished", "failed"]
    reason: str | None
    answer: str | None = Field(description="Text from a model or program: data.")
    agreement: float | None = Field(description="Share of the vote that the answer won.")
    votes: list[CastVote]
    notes: list[str]
    calls: int | None = Field(description="Cached ones included.")
    tokens: int | None
    usd: float | None
    seconds: float | None
    next: str


class AnswerTool:
    """Answers inputs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [make_tool(self.run_workflow, "Run a workflow", SPEND)]

    async def run_workflow(
        self,
        context: Context[Any, Any],
        input: Annotated[
            str | dict[str, str] | None,
            Field(description="What to answer: a text, or the run's named inputs."),
        ] = None,
        run_id: Annotated[
            str | None, Field(max_length=80, description="Answer by this run's best.")
        ] = None,
        workflow_id: Annotated[
            str | None, Field(max_length=80, description="Answer by this workflow, `wf_…`.")
        ] = None,
        top: Annotated[int, Field(ge=1, le=32, description="How many of the run's best.")] = 1,
        vote: Annotated[
            Literal["majority", "weighted", "none"],
            Field(description="weighted: by posterior; none: the best-ranked that answers."),
        ] = "majority",
        entry_point: Annotated[
            str | None, Field(max_length=200, description="Coding: the function to write.")
        ] = None,
        public_tests: Annotated[
            list[str] | None, Field(max_length=100, description="Coding: tests it may run.")
        ] = None,
        executor: Annotated[
            str | None, Field(description="Model to call; null is the run's.")
        ] = None,
        budget: Annotated[
            BudgetLimits | None,
            # Its schema stands once, at start_bayesflow_run.
            WithJsonSchema({"type": ["object", "null"]}),
            Field(description="As in start_bayesflow_run; null: 200 calls."),
        ] = None,
        wait_seconds: WaitSeconds = 20,
        answer_id: Annotated[
            str | None, Field(max_length=80, description="Wait for this answer.")
        ] = None,
        confirmed: Confirmed = False,
    ) -> Answered | InputRequiredResult:
        """Answers a new input with a run's best workflow, a vote of its `top`, or any workflow.

        The same input again costs nothing. If it takes longer than wait_seconds, call again with
        answer_id alone. To score a workflow on rows with known answers use evaluate_workflow.
        """
        service = await self._backend.answers()
        notes: list[str] = []
        if answer_id is None:
            if input is None:
                raise InputError("Pass `input`, the text to answer, or an `answer_id` to wait for.")
            _check_length(input)
            if public_tests and entry_point is None:
                raise InputError(
                    "`public_tests` call a function: pass its name as `entry_point` too."
                )
            spec = await self._spec(input, run_id, workflow_id, top, executor, notes)
            changes = {
                "vote": vote,
                "entry_point": entry_point,
                "public_tests": tuple(public_tests or ()),
                "budget": budget or BudgetLimits(),
            }
            planned = await service.plan(spec.model_copy(update=changes))
            above = self._backend.confirm_above
            stake = answer_stake(planned)
            asks = await ask_user(context, stake, above=above, confirmed=confirmed)
            if asks is not None:
                return asks
            answer_id = await service.begin(planned, ticket_of(context))
        elif input is not None:
            raise InputError("Pass either `input`, to ask, or `answer_id`, to wait.")
        executions = await service.executions(answer_id)
        look = executions_of(service.workplace.store, answer_id, executions)
        async with progress_of(context, look):
            record = await service.wait(answer_id, wait_seconds)
        return answered(record, notes)

    async def _spec(
        self,
        given: str | Mapping[str, str],
        run_id: str | None,
        workflow_id: str | None,
        top: int,
        executor: str | None,
        notes: list[str],
    ) -> "AnswerSpec":
        """The question with its workflows; `notes` gets what the caller should know of them."""
        from bayesflow_server.runs.answering import AnswerSpec, problem_text
        from bayesflow_server.runs.members import Member, best_member, top_members
        from bayesflow_server.runs.spec import RunSpec

        if top > 1 and (run_id is None or workflow_id is not None):
            raise InputError("`top` takes a run's best workflows: pass `run_id`, no `workflow_id`.")
        named = None if workflow_id is None else Member(workflow_id=workflow_id)
        if run_id is None:
            if named is None or executor is None:
                raise InputError(
                    "Pass `run_id`, or a `workflow_id` with the `executor` model it is to call."
                )
            return AnswerSpec(members=(named,), problem=problem_text(given, ()), executor=executor)
        service = await self._backend.runs()
        record = await service.record(run_id)
        run = RunSpec.model_validate_json(record.request)
        if named is not None:
            members: tuple[Member, ...] = (named,)
        elif top > 1:
            members = top_members(await service.pool(run_id), top)
        else:
            best = best_member(record)
            members = (best.member,)
            if not best.final:
                notes.append("The run has not finished: this is the best so far, not the winner.")
        names = () if isinstance(given, str) else _names(run, await service.rows(run_id), given)
        return AnswerSpec(
            members=members,
            problem=problem_text(given, names),
            scorer=run.scorer,
            executor=executor or run.executor,
            tiers=run.tiers,
            seed=run.seed,
        )


def _check_length(given: str | Mapping[str, str]) -> None:
    texts = [given] if isinstance(given, str) else [text for pair in given.items() for text in pair]
    if sum(map(len, texts)) > _LONGEST_INPUT:
        raise InputError(f"`input` is longer than {_LONGEST_INPUT:,} characters; shorten it.")


def _names(run: "RunSpec", rows: "Sequence[RowRecord]", given: Mapping[str, str]) -> Sequence[str]:
    """The named inputs of the run's rows in their order; nothing if the input has no name.

    Raises:
        InputError: The run's rows name no such inputs.
    """
    mapped = [name for name in run.fields if name not in _OTHER_FIELDS]
    if mapped or not given:
        return mapped
    # The rows brought their inputs as objects: a text that has them all shows the order.
    for row in rows:
        problem = "\n\n" + str(json.loads(row.input))
        places = {name: problem.find(f"\n\n{name}: ") for name in given}
        if min(places.values()) >= 0:
            return sorted(given, key=lambda name: places[name])
    raise InputError(
        f"The run's rows have no inputs named {excerpt(', '.join(given), ERROR)}; pass `input` as "
        "the rows have it, one text or the same names."
    )


def answered(record: "EvaluationRecord", notes: Sequence[str]) -> Answered:
    """The answer as it stands."""
    from bayesflow_server.runs.answering import AnswerReport

    report = AnswerReport.model_validate_json(record.report) if record.report else None
    ended = record.status in ("finished", "failed")
    said = [*notes, _EQUAL] if report and report.equal_weights else [*notes]
    if report and report.answer and len(report.answer) > _LONGEST_ANSWER:
        said.append(f"`answer` is cut after {_LONGEST_ANSWER:,} characters.")
    return Answered(
        answer_id=record.evaluation_id,
        status="running" if not ended else "finished" if report else "failed",
        reason=_reason(record, report),
        answer=_cut(report.answer, _LONGEST_ANSWER) if report else None,
        agreement=report.agreement if report else None,
        votes=_votes(report) if report else [],
        notes=said,
        calls=report.calls if report else None,
        tokens=report.tokens if report else None,
        usd=report.usd if report else None,
        seconds=report.seconds if report else None,
        next=_next(record.evaluation_id, ended=ended, found=report is not None),
    )


def _votes(report: "AnswerReport") -> list[CastVote]:
    few = len(report.votes) <= _FEW_VOTES
    return [
        CastVote(
            workflow_id=vote.workflow_id,
            answer=_cut(vote.answer, ANSWER if few else _SHORT),
            weight=vote.weight,
            error=_cut(vote.error, ERROR if few else _SHORT),
        )
        for vote in report.votes
    ]


def _reason(record: "EvaluationRecord", report: "AnswerReport | None") -> str | None:
    if report is not None and report.answer is None:
        return "No workflow answered; `votes` has their errors."
    return excerpt(record.reason, 2 * ERROR) if record.reason else None


def _cut(text: str | None, most: int) -> str | None:
    return None if text is None else excerpt(text, most)


def _next(answer_id: str, *, ended: bool, found: bool) -> str:
    if not ended:
        return f"run_workflow(answer_id='{answer_id}', wait_seconds=20)"
    if found:
        return "Use the answer; run_workflow takes the next input."
    return (
        "Mend what `reason` says, or pass a larger `budget`, then run_workflow again: what was "
        "paid stays."
    )
