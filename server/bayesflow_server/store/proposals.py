"""Questions to the agent that optimises a run, its answers, and the workflows handed in to a run.

Whoever waits for news reads `proposal_changes`, looks, and then waits for that count to move: a
change by this process wakes it at once, one by another at its next look.
"""

import asyncio
import contextlib
import json
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from bayesflow_server.store.access import Access
from bayesflow_server.store.completions import ADD_UP, DELTAS
from bayesflow_server.store.records import ProposalRecord, SubmissionRecord, UsageDelta
from bayesflow_server.store.table import Statement, Table

if TYPE_CHECKING:
    from bayesflow_server.store.reader import Reader
    from bayesflow_server.store.writer import Writer

__all__ = ["OpenCount", "ProposalStore"]

PROPOSALS = Table("proposals", ProposalRecord)
SUBMISSIONS = Table("submissions", SubmissionRecord)

# Unanswered, and in nobody's hands.
FREE = "answer IS NULL AND (given_until IS NULL OR given_until <= ?)"

GIVE = f"""
UPDATE proposals SET given_until = ? WHERE proposal_id IN (
  SELECT proposal_id FROM (
    SELECT proposal_id, created, name,
      ROW_NUMBER() OVER (ORDER BY created, name) AS place,
      SUM(LENGTH(CAST(prompt AS BLOB))) OVER (ORDER BY created, name) AS bytes
    FROM proposals WHERE run_id = ? AND {FREE}
  ) WHERE place = 1 OR (place <= ? AND bytes <= ?)
) RETURNING {PROPOSALS.columns}
"""


class OpenCount(NamedTuple):
    """How many questions of a run have no answer yet.

    Attributes:
        total: All of them.
        free: Those that nobody holds.
    """

    total: int
    free: int


class ProposalStore(Access):
    """What a run asks its client, and what clients hand in."""

    def __init__(self, reader: "Reader", writer: "Writer") -> None:
        super().__init__(reader, writer)
        self._changes = 0
        # Invariant: set, and replaced by a fresh one, whenever the count of changes moves.
        self._changed = asyncio.Event()

    # --- news -------------------------------------------------------------------------------

    @property
    def proposal_changes(self) -> int:
        """How many questions and answers this process has written; take it before you look."""
        return self._changes

    async def wait_for_proposal_change(self, since: int, seconds: float) -> None:
        """Waits until `proposal_changes` is above ``since``, at most ``seconds``."""
        if self._changes > since:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _announce_proposals(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed = asyncio.Event()

    # --- questions --------------------------------------------------------------------------

    async def open_proposal(self, proposal: ProposalRecord) -> ProposalRecord:
        """Stores a question and returns the one that stands.

        That is ``proposal``, unless the run asked under this name before: then the first one
        stands, perhaps with its answer. It is in nobody's hands then: a run asks again when it is
        resumed, and whoever was given it may be gone.
        """
        first_stands = "ON CONFLICT (run_id, name) DO UPDATE SET given_until = NULL"
        rows = await self._writer.submit(
            PROPOSALS.insert(proposal, f"{first_stands} RETURNING {PROPOSALS.columns}")
        )
        self._announce_proposals()
        return PROPOSALS.load(rows[0])

    async def proposal(self, run_id: str, proposal_id: str) -> ProposalRecord | None:
        """Returns a question of this run, or None."""
        rest = "WHERE proposal_id = ? AND run_id = ?"
        return await self._find(PROPOSALS, rest, proposal_id, run_id)

    async def open_proposals(self, run_id: str, now: float) -> OpenCount:
        """Counts the questions of a run that have no answer."""
        sql = f"SELECT COUNT(*), SUM({FREE}) FROM proposals WHERE run_id = ? AND answer IS NULL"
        rows = await self._reader.rows(sql, now, run_id)
        return OpenCount(int(rows[0][0]), int(rows[0][1] or 0))

    async def give_proposals(
        self, run_id: str, *, limit: int, size: int, now: float, until: float
    ) -> list[ProposalRecord]:
        """Hands out the oldest questions that nobody holds; of two callers, one gets each.

        Args:
            run_id: Whose questions.
            limit: At most so many.
            size: Their prompts together have no more bytes, but for the first.
            now: The present time; what was given until then is free again.
            until: Nobody else is given them before.
        """
        rows = await self._writer.submit(Statement(GIVE, (until, run_id, now, limit, size)))
        given = [PROPOSALS.load(row) for row in rows]
        return sorted(given, key=lambda proposal: (proposal.created, proposal.name))

    # --- answers ----------------------------------------------------------------------------

    async def answer_proposal(
        self, proposal_id: str, answer: str, now: float, usage: UsageDelta
    ) -> bool:
        """Stores an answer and counts its usage, in one transaction.

        Returns:
            Whether this is the answer: False if there was one before, which then stands, or if
            there is no such question; nothing is counted then.
        """
        marks = ", ".join("?" * len(DELTAS))
        rows = await self._writer.submit(
            Statement(
                f"INSERT INTO usage ({DELTAS.columns}) SELECT {marks} FROM proposals "
                f"WHERE proposal_id = ? AND answer IS NULL {ADD_UP}",
                (*DELTAS.values(usage), proposal_id),
            ),
            Statement(
                "UPDATE proposals SET answer = ?, answered = ? WHERE proposal_id = ? "
                "AND answer IS NULL RETURNING name",
                (answer, now, proposal_id),
            ),
        )
        if rows:
            self._announce_proposals()
        return bool(rows)

    async def answers(self, run_id: str, names: Collection[str]) -> dict[str, str]:
        """Returns the answers there are to the questions of these names."""
        sql = (
            "SELECT name, answer FROM proposals WHERE run_id = ? AND answer IS NOT NULL "
            "AND name IN (SELECT value FROM json_each(?))"
        )
        rows = await self._reader.rows(sql, run_id, json.dumps(list(names)))
        return {row[0]: row[1] for row in rows}

    async def set_waiting(self, run_id: str, owner: str, now: float, *, waits: bool) -> bool:
        """Notes that a run waits for its client, or works again, if this owner still holds it.

        Any other status stays: a run that another process cancelled is not brought back to life.

        Returns:
            Whether the status changed.
        """
        statuses = ("waiting_for_client", "running")
        new, old = statuses if waits else statuses[::-1]
        rows = await self._writer.submit(
            Statement(
                "UPDATE runs SET status = ?, updated = ?, revision = revision + 1 "
                "WHERE run_id = ? AND owner = ? AND status = ? RETURNING revision",
                (new, now, run_id, owner, old),
            )
        )
        return bool(rows)

    # --- workflows handed in ----------------------------------------------------------------

    async def add_submission(self, submission: SubmissionRecord) -> SubmissionRecord | None:
        """Stores a workflow behind those of the run so far; its position is given here, from 1.

        Returns:
            What was stored, or None if the run has this workflow already.
        """
        rows = await self._writer.submit(
            Statement(
                f"INSERT INTO submissions ({SUBMISSIONS.columns}) SELECT ?1, "
                "COALESCE(MAX(position), 0) + 1, ?3, ?4, ?5, ?6 FROM submissions "
                "WHERE run_id = ?1 ON CONFLICT DO NOTHING "
                f"RETURNING {SUBMISSIONS.columns}",
                SUBMISSIONS.values(submission),
            )
        )
        return SUBMISSIONS.load(rows[0]) if rows else None

    async def submissions(self, run_id: str, after: int = 0) -> list[SubmissionRecord]:
        """Returns the workflows handed in behind this position, in order."""
        rest = "WHERE run_id = ? AND position > ? ORDER BY position"
        return await self._list(SUBMISSIONS, rest, run_id, after)
