"""The client's side of ask/tell: open questions out, answers and whole workflows in.

It works over the store alone, so the run may be in another process, or in none at the moment.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from pydantic import BaseModel

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.errors import InputError
from bayesflow_server.runs.assembly import admit_workflow
from bayesflow_server.runs.proposals import suggestion_key
from bayesflow_server.runs.roles import CLIENT
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import (
    ProposalRecord,
    RunRecord,
    RunStatus,
    SubmissionRecord,
    UsageDelta,
)
from bayesflow_server.store.text import storable

__all__ = [
    "LONGEST_ANSWER",
    "ClientAnswer",
    "HandedOut",
    "ProposalService",
    "SubmittedWorkflow",
    "TakenIn",
    "Verdict",
]

Verdict = Literal["accepted", "already_answered", "unknown", "too_long"]

# Bytes of an answer, in UTF-8.
LONGEST_ANSWER: Final = 1_000_000
# Bytes of prompts that go out at once, but for the first, which goes whole: what a result holds
# once their quotes and line ends are escaped.
_MOST_BYTES: Final = 24_000
_LEASE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 0.5
_ACTIVE: Final = ("queued", "running", "waiting_for_client")


class ClientAnswer(NamedTuple):
    """A client's answer to one question."""

    proposal_id: str
    text: str


class HandedOut(NamedTuple):
    """Questions for a client.

    Attributes:
        proposals: Its own until their lease ends, oldest first.
        open_total: All questions of the run that have no answer, whoever holds them.
        status: What the run does.
    """

    proposals: tuple[ProposalRecord, ...]
    open_total: int
    status: RunStatus


class TakenIn(NamedTuple):
    """What became of a client's answers.

    Attributes:
        verdicts: One for each answer, in order.
        open_total: Questions of the run that still have no answer.
        status: What the run does.
    """

    verdicts: tuple[Verdict, ...]
    open_total: int
    status: RunStatus


class SubmittedWorkflow(NamedTuple):
    """A workflow that was handed in.

    Attributes:
        workflow_id: Its id.
        accepted: False if the run was handed the same workflow before.
        round: The round whose refinements it will be the first of.
        asks: Whether the run has questions for its client, too.
        status: What the run does.
    """

    workflow_id: str
    accepted: bool
    round: int
    asks: bool
    status: RunStatus


class _Pinned(BaseModel):
    """What matters here of a run's specification."""

    optimizer: str
    refiner: str | None = None
    options: SearchOptions
    public_tests: str | None = None

    @property
    def asks_client(self) -> bool:
        return CLIENT in (self.optimizer, self.refiner)


class ProposalService:
    """Questions and answers of every run in the store."""

    def __init__(self, runs: RunService) -> None:
        self._runs = runs
        self._store = runs.workplace.store

    async def next_proposals(
        self,
        run_id: str,
        *,
        limit: int,
        wait_seconds: float = 0.0,
        lease_seconds: float = _LEASE_SECONDS,
    ) -> HandedOut:
        """Hands out open questions; nobody else is given them while the lease holds.

        Waits until there is one, the run stops, or the time is over.

        Raises:
            NotFoundError: There is no such run.
            InputError: The run does not ask its client.
        """
        await self._require_client(run_id)
        clock = asyncio.get_running_loop().time
        deadline = clock() + wait_seconds
        while True:
            since = self._store.proposal_changes
            status = self._runs.status(await self._runs.record(run_id))
            active = status in _ACTIVE
            given = await self._give(run_id, limit, lease_seconds) if active else []
            left = deadline - clock()
            if given or not active or left <= 0:
                break
            await self._store.wait_for_proposal_change(since, min(left, _LOOK_SECONDS))
        return HandedOut(tuple(given), await self._open_total(run_id), status)

    async def _give(self, run_id: str, limit: int, seconds: float) -> list[ProposalRecord]:
        now = time.time()
        if (await self._store.open_proposals(run_id, now)).free == 0:
            return []
        return await self._store.give_proposals(
            run_id, limit=limit, size=_MOST_BYTES, now=now, until=now + seconds
        )

    async def submit(self, run_id: str, answers: Sequence[ClientAnswer]) -> TakenIn:
        """Takes answers, in any order and however late; the first to a question stands.

        Raises:
            NotFoundError: There is no such run.
            InputError: The run does not ask its client.
        """
        record = await self._require_client(run_id)
        verdicts: list[Verdict] = [await self._submit(run_id, answer) for answer in answers]
        return TakenIn(tuple(verdicts), await self._open_total(run_id), self._runs.status(record))

    async def _submit(self, run_id: str, answer: ClientAnswer) -> Verdict:
        question = await self._store.proposal(run_id, storable(answer.proposal_id))
        if question is None:
            return "unknown"
        if question.answer is not None:
            return "already_answered"
        text = storable(answer.text)
        if len(text.encode()) > LONGEST_ANSWER:
            return "too_long"
        accepted = await self._store.answer_proposal(
            question.proposal_id, text, time.time(), _one_call(question)
        )
        return "accepted" if accepted else "already_answered"

    async def submit_workflow(
        self, run_id: str, source: str, note: str | None = None
    ) -> SubmittedWorkflow:
        """Hands a workflow in to a run of any optimizer.

        Raises:
            NotFoundError: There is no such run.
            InputError: It is no workflow, breaks the static policy, or comes too late.
        """
        record = await self._runs.record(run_id)
        status = self._runs.status(record)
        source = storable(source)
        pinned = _Pinned.model_validate_json(record.request)
        workflow = admit_workflow(source, exec_code=pinned.public_tests is not None)
        number = await self._next_round(run_id, pinned.options.rounds)
        if status == "finished" or number is None:
            raise InputError(
                f"{run_id} takes no more workflows: its last round has begun its refinements. "
                f"evaluate_workflow(workflow=…, run_id='{run_id}') scores one on its rows."
            )
        submission = SubmissionRecord(
            run_id=run_id,
            position=0,
            workflow_id=workflow.workflow_id,
            source=source,
            note=None if note is None else storable(note),
            created=time.time(),
        )
        stored = await self._store.add_submission(submission)
        return SubmittedWorkflow(
            workflow.workflow_id, stored is not None, number, pinned.asks_client, status
        )

    async def _next_round(self, run_id: str, rounds: int) -> int | None:
        """The first round that has not taken what was handed in, or None if all have."""
        for number in range(1, rounds + 1):
            if await self._store.recall_draw(run_id, suggestion_key(number)) is None:
                return number
        return None

    async def _open_total(self, run_id: str) -> int:
        return (await self._store.open_proposals(run_id, time.time())).total

    async def _require_client(self, run_id: str) -> RunRecord:
        record = await self._runs.record(run_id)
        pinned = _Pinned.model_validate_json(record.request)
        if not pinned.asks_client:
            raise InputError(
                f"{run_id} asks you nothing, because {pinned.optimizer!r} writes its workflows; "
                "submit_workflow puts an idea of yours into it, get_run shows how it is doing."
            )
        return record


def _one_call(question: ProposalRecord) -> UsageDelta:
    """What an answer counts as: a call that costs nothing here."""
    refines = question.kind in ("critique", "edit") or question.name.startswith("refine/")
    return UsageDelta(
        scope=question.run_id,
        role="refiner" if refines else "optimizer",
        model="client",
        calls=1,
        needed_calls=1,
    )
