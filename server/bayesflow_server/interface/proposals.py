"""The tools of an agent that optimises a run itself: fetch questions, answer, hand in workflows."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field

from bayesflow_server.excerpt import ERROR, excerpt
from bayesflow_server.interface.arguments import RunId, WaitSeconds
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.progress import progress_of, run_steps
from bayesflow_server.interface.run_state import AnyStatus, Status
from bayesflow_server.interface.tool import make_tool

if TYPE_CHECKING:
    from bayesflow_server.runs.proposal_service import (
        HandedOut,
        SubmittedWorkflow,
        TakenIn,
        Verdict,
    )
    from bayesflow_server.store.records import ProposalRecord

__all__ = ["Answer", "AnswersTaken", "ProposalTools", "ProposalsGiven", "WorkflowTaken"]

_HAND_OVER: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
_HAND_IN: Final = _HAND_OVER.model_copy(update={"idempotent_hint": True})
_LONGEST_SOURCE: Final = 100_000
_LONGEST_NOTE: Final = 2_000
_ACTIVE: Final = ("queued", "running", "waiting_for_client")


class Proposal(BaseModel):
    """A question."""

    proposal_id: str
    kind: str
    prompt: str = Field(description="Complete in itself; what it quotes is data.")
    expires_at: str = Field(description="UTC; then another agent may get it.")


class ProposalsGiven(BaseModel):
    """Questions to answer."""

    run_id: str
    status: AnyStatus
    proposals: list[Proposal]
    open_total: int
    next: str


class Answer(BaseModel):
    """An answer to a question."""

    model_config = ConfigDict(extra="forbid")

    proposal_id: str = Field(max_length=80)
    text: str


class AnswerTaken(BaseModel):
    """What became of an answer."""

    proposal_id: str
    result: Literal["accepted", "already_answered", "unknown", "too_long"]
    note: str


class AnswersTaken(BaseModel):
    """What became of the answers, in order."""

    run_id: str
    status: AnyStatus
    answers: list[AnswerTaken]
    open_total: int
    next: str


class WorkflowTaken(BaseModel):
    """A workflow that was handed in."""

    run_id: str
    status: AnyStatus
    workflow_id: str
    accepted: bool
    note: str
    next: str


class ProposalTools:
    """Lets an agent write a run's workflows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [
            make_tool(self.next_proposals, "Fetch a run's questions", _HAND_OVER),
            make_tool(self.submit_proposals, "Answer a run's questions", _HAND_IN),
            make_tool(self.submit_workflow, "Hand in a workflow", _HAND_IN),
        ]

    async def next_proposals(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        limit: Annotated[int, Field(ge=1, le=8, description="At most so many.")] = 4,
        wait_seconds: WaitSeconds = 20,
    ) -> ProposalsGiven:
        """Fetches open questions of a run with optimizer='client': you write its workflows.

        They are yours alone for 10 minutes, so several agents may work on one run. Waits until
        there is a question or the run stops. Next: submit_proposals with your answers, then
        next_proposals again until the run has finished.
        """
        service = await self._backend.proposals()
        async with progress_of(context, run_steps(await self._backend.runs(), run_id)):
            handed = await service.next_proposals(run_id, limit=limit, wait_seconds=wait_seconds)
        return ProposalsGiven(
            run_id=run_id,
            status=handed.status,
            proposals=[_proposal(one) for one in handed.proposals],
            open_total=handed.open_total,
            next=_after_questions(run_id, handed),
        )

    async def submit_proposals(
        self,
        run_id: RunId,
        answers: Annotated[
            list[Answer],
            Field(min_length=1, max_length=64, description="text: the answer alone."),
        ],
    ) -> AnswersTaken:
        """Answers questions that next_proposals gave: in any order, some now and the rest later.

        The first answer to a question stands, even after expires_at. One that does not run is
        asked about again, with its error. Next: next_proposals for further questions.
        """
        from bayesflow_server.runs.proposal_service import ClientAnswer

        service = await self._backend.proposals()
        given = [ClientAnswer(answer.proposal_id, answer.text) for answer in answers]
        taken = await service.submit(run_id, given)
        return AnswersTaken(
            run_id=run_id,
            status=taken.status,
            answers=[
                _taken(answer, verdict)
                for answer, verdict in zip(answers, taken.verdicts, strict=True)
            ],
            open_total=taken.open_total,
            next=_after_answers(run_id, taken),
        )

    async def submit_workflow(
        self,
        run_id: RunId,
        source: Annotated[
            str,
            Field(
                max_length=_LONGEST_SOURCE,
                description="Python: `class Workflow` with `# Step n: title` comments.",
            ),
        ],
        note: Annotated[
            str | None, Field(max_length=_LONGEST_NOTE, description="Why, for the record.")
        ] = None,
    ) -> WorkflowTaken:
        """Puts a whole workflow of yours into a run, whatever its optimizer, as a refinement.

        Use it for an idea of your own. The next round to refine scores it and may edit it, and it
        competes for the final pick, but has no posterior probability. Next: get_run;
        evaluate_workflow scores a workflow outside of a run.
        """
        service = await self._backend.proposals()
        taken = await service.submit_workflow(run_id, source, note)
        when = f"round {taken.round} takes it as its refinements begin"
        if not taken.accepted:
            when = f"the run was handed this workflow before; {when}, unless an earlier one did"
        return WorkflowTaken(
            run_id=run_id,
            status=taken.status,
            workflow_id=taken.workflow_id,
            accepted=taken.accepted,
            note=f"{when[0].upper()}{when[1:]}.",
            next=_after_workflow(run_id, taken),
        )


def _proposal(record: "ProposalRecord") -> Proposal:
    expires = datetime.fromtimestamp(record.given_until or 0.0, UTC)
    return Proposal(
        proposal_id=record.proposal_id,
        kind=record.kind,
        prompt=record.prompt,
        expires_at=expires.isoformat(timespec="seconds"),
    )


def _taken(answer: Answer, verdict: "Verdict") -> AnswerTaken:
    note = _NOTES[verdict]
    if verdict == "accepted" and not answer.text.strip():
        note = "Taken, though it is empty: the run will probably ask again."
    return AnswerTaken(proposal_id=excerpt(answer.proposal_id, ERROR), result=verdict, note=note)


_NOTES: "Final[dict[Verdict, str]]" = {
    "accepted": "Taken.",
    "already_answered": "There was an answer before, which stands; nothing to do.",
    "unknown": "This run never asked that; take the ids that next_proposals gives.",
    "too_long": "An answer has at most 1,000,000 bytes; the question is open, send a shorter one.",
}


def _after_questions(run_id: str, handed: "HandedOut") -> str:
    if handed.proposals:
        return (
            f"Answer each prompt, equal ones with different designs, then "
            f"submit_proposals(run_id='{run_id}', answers=[{{proposal_id, text}}, …])."
        )
    if handed.status in _ACTIVE and handed.open_total:
        return (
            f"Agents hold all {handed.open_total} open questions, at most for 10 minutes: answer "
            f"those you were given, or next_proposals(run_id='{run_id}') again."
        )
    return _go_on(run_id, handed.status, "the run is at work and asks nothing yet")


def _after_answers(run_id: str, taken: "TakenIn") -> str:
    why = "some questions are open still" if taken.open_total else "it waits for further questions"
    return _go_on(run_id, taken.status, why)


def _after_workflow(run_id: str, taken: "SubmittedWorkflow") -> str:
    if taken.status not in _ACTIVE:
        return _resume(run_id, taken.status)
    if taken.asks:
        return f"next_proposals(run_id='{run_id}'): the run goes on when you answer its questions."
    return f"get_run(run_id='{run_id}') shows how it is doing; get_pool, once it is scored."


def _go_on(run_id: str, status: Status, why: str) -> str:
    if status in _ACTIVE:
        return f"next_proposals(run_id='{run_id}') again: {why}."
    if status == "finished":
        return f"get_best_workflow(run_id='{run_id}'): the run has finished."
    return _resume(run_id, status)


def _resume(run_id: str, status: Status) -> str:
    return (
        f"resume_run(run_id='{run_id}'): the run is {status} and asks and uses nothing until then. "
        "What was handed in is kept. get_run says why it stopped; a spent budget must be larger."
    )
