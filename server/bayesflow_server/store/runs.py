"""Runs: their life, their lease and their revision."""

import asyncio
import contextlib
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from bayesflow_server.errors import NotFoundError
from bayesflow_server.store.access import Access
from bayesflow_server.store.completions import USAGE
from bayesflow_server.store.datasets import insert_rows
from bayesflow_server.store.records import (
    UNSET,
    EventRecord,
    NewRun,
    RowRecord,
    RunCursor,
    RunRecord,
    RunStatus,
    Unset,
    UsageRecord,
)
from bayesflow_server.store.table import SqlValue, Statement, Table, assignments

if TYPE_CHECKING:
    from bayesflow_server.store.reader import Reader
    from bayesflow_server.store.writer import Writer

__all__ = ["RunStore"]

RUNS = Table("runs", RunRecord)
EVENTS = Table("events", EventRecord)

# How soon another process's write is seen; each look is one read by primary key.
POLL_SECONDS = 0.25


class RunStore(Access):
    """The runs in the file, and who owns them."""

    def __init__(self, reader: "Reader", writer: "Writer") -> None:
        super().__init__(reader, writer)
        # Invariant: set, and replaced by a fresh one, after every commit that moves a revision.
        self._moved = asyncio.Event()

    async def create_run(self, run: NewRun, rows: Sequence[RowRecord]) -> None:
        """Stores a run with its pinned rows, in one transaction.

        Raises:
            IdempotencyKeyError: Another run has the same key.
        """
        now = time.time()
        record = RunRecord(
            run_id=run.run_id,
            name=run.name,
            status=run.status,
            reason=None,
            request=run.request,
            request_hash=run.request_hash,
            idempotency_key=run.idempotency_key,
            revision=1,
            owner=None,
            heartbeat=None,
            created=now,
            updated=now,
            active_seconds=0.0,
            phase=run.phase,
            outcome=None,
            warnings=run.warnings,
            takeovers=0,
        )
        await self._writer.submit(RUNS.insert(record), insert_rows(run.run_id, rows))

    async def run(self, run_id: str) -> RunRecord | None:
        """Returns the run, or None."""
        return await self._find(RUNS, "WHERE run_id = ?", run_id)

    async def run_with_usage(self, run_id: str) -> tuple[RunRecord, list[UsageRecord]] | None:
        """Returns the run and what it used by role and model, by one read; or None."""
        width = len(RUNS)
        rows = await self._reader.rows(
            f"SELECT {RUNS.columns_of('r')}, {USAGE.columns_of('u')} FROM runs r "
            "LEFT JOIN usage u ON u.scope = r.run_id WHERE r.run_id = ? ORDER BY u.role, u.model",
            run_id,
        )
        if not rows:
            return None
        usage = [USAGE.load(row[width:]) for row in rows if row[width] is not None]
        return RUNS.load(rows[0][:width]), usage

    async def run_by_idempotency_key(self, key: str) -> RunRecord | None:
        """Returns the run that was created under this key, or None."""
        return await self._find(RUNS, "WHERE idempotency_key = ?", key)

    async def runs(
        self,
        limit: int,
        before: RunCursor | None = None,
        statuses: Collection[RunStatus] | None = None,
    ) -> list[RunRecord]:
        """Returns at most ``limit`` runs, newest first.

        Args:
            limit: The size of the page.
            before: The last run of the page before, or None for the first page.
            statuses: Only runs in one of these, or None for all.
        """
        conditions = ["TRUE"]
        parameters: list[SqlValue] = []
        if before is not None:
            conditions.append("(created, run_id) < (?, ?)")
            parameters += [before.created, before.run_id]
        if statuses is not None:
            conditions.append(f"status IN ({', '.join('?' * len(statuses))})")
            parameters += statuses
        where = " AND ".join(conditions)
        rest = f"WHERE {where} ORDER BY created DESC, run_id DESC LIMIT ?"
        return await self._list(RUNS, rest, *parameters, limit)

    async def update_run(
        self,
        run_id: str,
        *,
        status: RunStatus | Unset = UNSET,
        request: str | Unset = UNSET,
        reason: str | Unset | None = UNSET,
        phase: str | Unset | None = UNSET,
        outcome: str | Unset | None = UNSET,
        active_seconds: float | Unset = UNSET,
        takeovers: int | Unset = UNSET,
    ) -> int:
        """Changes the fields that are given and returns the new revision.

        Raises:
            NotFoundError: There is no such run.
        """
        changes = assignments(
            status=status,
            request=request,
            reason=reason,
            phase=phase,
            outcome=outcome,
            active_seconds=active_seconds,
            takeovers=takeovers,
            updated=time.time(),
        )
        rows = await self._writer.submit(
            Statement(
                f"UPDATE runs SET revision = revision + 1, {changes.sql} WHERE run_id = ? "
                "RETURNING revision",
                (*changes.parameters, run_id),
            )
        )
        if not rows:
            raise _unknown(run_id)
        self._announce()
        return int(rows[0][0])

    async def events(self, run_id: str, after: int = 0, limit: int = -1) -> list[EventRecord]:
        """Returns what happened to a run, in order: at most ``limit`` after that position."""
        rest = "WHERE run_id = ? AND position > ? ORDER BY position LIMIT ?"
        return await self._list(EVENTS, rest, run_id, after, limit)

    async def claim_run(
        self,
        run_id: str,
        owner: str,
        *,
        from_owner: str | None,
        statuses: Collection[RunStatus],
        unasked: bool = False,
    ) -> bool:
        """Takes the run for ``owner`` if ``from_owner`` still holds it in one of ``statuses``.

        Of several processes that try at once, one succeeds. The run is then ``running``, without a
        reason, its heartbeat now. With ``unasked`` its takeovers count one more, otherwise none.

        Returns:
            Whether the run was taken.
        """
        now = time.time()
        marks = ", ".join("?" * len(statuses))
        rows = await self._writer.submit(
            Statement(
                "UPDATE runs SET owner = ?, heartbeat = ?, updated = ?, status = 'running', "
                "reason = NULL, revision = revision + 1, takeovers = (takeovers + 1) * ? "
                f"WHERE run_id = ? AND owner IS ? AND status IN ({marks}) RETURNING revision",
                (owner, now, now, int(unasked), run_id, from_owner, *statuses),
            )
        )
        if rows:
            self._announce()
        return bool(rows)

    async def cancel_run(self, run_id: str, reason: str, *, unless: Collection[RunStatus]) -> bool:
        """Marks the run as cancelled, unless it is in one of these by now; returns whether it was.

        Its owner, if it has one, finds the mark and stops.
        """
        marks = ", ".join("?" * len(unless))
        rows = await self._writer.submit(
            Statement(
                "UPDATE runs SET status = 'cancelled', reason = ?, updated = ?, "
                "revision = revision + 1 "
                f"WHERE run_id = ? AND status NOT IN ({marks}) RETURNING revision",
                (reason, time.time(), run_id, *unless),
            )
        )
        if rows:
            self._announce()
        return bool(rows)

    async def put_down_run(
        self,
        run_id: str,
        *,
        from_owner: str | None,
        statuses: Collection[RunStatus],
        status: RunStatus,
        reason: str | None,
    ) -> bool:
        """Leaves the run to nobody in ``status``, if ``from_owner`` still holds it in ``statuses``.

        Returns:
            Whether it was put down; otherwise somebody else was quicker, and it is as it was.
        """
        marks = ", ".join("?" * len(statuses))
        rows = await self._writer.submit(
            Statement(
                "UPDATE runs SET owner = NULL, heartbeat = NULL, updated = ?, status = ?, "
                "reason = ?, revision = revision + 1 "
                f"WHERE run_id = ? AND owner IS ? AND status IN ({marks}) RETURNING revision",
                (time.time(), status, reason, run_id, from_owner, *statuses),
            )
        )
        if rows:
            self._announce()
        return bool(rows)

    async def heartbeat(self, owner: str) -> frozenset[str]:
        """Renews the lease of every run of this owner, and returns their ids.

        A run that is missing in the answer was taken by another process: stop working on it.
        """
        rows = await self._writer.submit(
            Statement(
                "UPDATE runs SET heartbeat = ? WHERE owner = ? RETURNING run_id",
                (time.time(), owner),
            )
        )
        return frozenset(row[0] for row in rows)

    async def release_run(self, run_id: str, owner: str) -> None:
        """Gives up the lease, if this owner still has it. The status stays."""
        await self._writer.submit(
            Statement(
                "UPDATE runs SET owner = NULL, heartbeat = NULL WHERE run_id = ? AND owner = ?",
                (run_id, owner),
            )
        )

    async def wait_for_revision(self, run_id: str, since: int, seconds: float) -> int:
        """Waits until the run's revision is above ``since``, at most ``seconds``.

        A write by this process wakes it at once, one by another within `POLL_SECONDS`.

        Returns:
            The present revision; not above ``since`` if the time was over.

        Raises:
            NotFoundError: There is no such run.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + seconds
        while True:
            moved = self._moved  # taken before the read, so that no write slips in between
            rows = await self._reader.rows("SELECT revision FROM runs WHERE run_id = ?", run_id)
            if not rows:
                raise _unknown(run_id)
            revision = int(rows[0][0])
            left = deadline - clock()
            if revision > since or left <= 0:
                return revision
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(POLL_SECONDS, left)):
                    await moved.wait()

    def _announce(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()


def _unknown(run_id: str) -> NotFoundError:
    return NotFoundError(f"There is no run {run_id!r}; list_runs shows those there are.")
