"""Workflows, the pool a run makes of them, and their scores."""

import asyncio
from typing import NamedTuple

from bayesflow_server.store.access import SLICE, Access
from bayesflow_server.store.records import (
    PoolEntry,
    PoolRow,
    Split,
    SummaryRecord,
    WorkflowRecord,
)
from bayesflow_server.store.table import Row, Table

__all__ = ["PoolStore", "PoolVersion"]

WORKFLOWS = Table("workflows", WorkflowRecord)
POOL = Table("pool", PoolEntry)
SUMMARIES = Table("summaries", SummaryRecord)

# A clean entry replaces one that is not; otherwise the first stands.
KEEP_THE_CLEANER = (
    "ON CONFLICT DO UPDATE SET round = excluded.round, origin = excluded.origin, "
    "parent_id = excluded.parent_id, clean = excluded.clean WHERE excluded.clean > clean"
)


# Whatever changes a pool makes one of these counts larger: entries are only added or become clean,
# and a score is replaced when it covers more rows.
VERSION = """
SELECT (SELECT COUNT(*) FROM pool WHERE run_id = ?1),
  (SELECT COALESCE(SUM(clean), 0) FROM pool WHERE run_id = ?1),
  (SELECT COUNT(*) FROM rounds WHERE run_id = ?1),
  (SELECT COALESCE(SUM(LENGTH(stats)), 0) FROM rounds WHERE run_id = ?1),
  (SELECT COUNT(*) FROM summaries WHERE run_id = ?1 AND split = 'validation' AND replicate = 0),
  (SELECT COALESCE(SUM(rows), 0) FROM summaries
    WHERE run_id = ?1 AND split = 'validation' AND replicate = 0)
"""


class PoolVersion(NamedTuple):
    """Tells two states of a run's pool apart: it has entries, clean ones, rounds, scores."""

    entries: int
    clean: int
    rounds: int
    rounds_length: int
    scores: int
    scored_rows: int


class PoolStore(Access):
    """Every complete workflow a run saw."""

    async def put_workflow(self, workflow: WorkflowRecord) -> None:
        """Stores a workflow that belongs to no pool. Idempotent."""
        await self._writer.submit(WORKFLOWS.insert(workflow, "ON CONFLICT DO NOTHING"))

    async def workflow(self, workflow_id: str) -> WorkflowRecord | None:
        """Returns the workflow, or None."""
        return await self._find(WORKFLOWS, "WHERE workflow_id = ?", workflow_id)

    async def add_to_pool(self, workflow: WorkflowRecord, entry: PoolEntry) -> None:
        """Stores the workflow and how it came into the pool. Idempotent.

        The first entry of a workflow stands, except that a clean one replaces one that is not.
        """
        await self._writer.submit(
            WORKFLOWS.insert(workflow, "ON CONFLICT DO NOTHING"),
            POOL.insert(entry, KEEP_THE_CLEANER),
        )

    async def pool(self, run_id: str) -> list[PoolRow]:
        """Returns the pool in the order it grew."""
        width = len(POOL)
        sql = (
            f"SELECT {POOL.columns_of('p')}, w.steps, {SUMMARIES.columns_of('s')} FROM pool p "
            "JOIN workflows w ON w.workflow_id = p.workflow_id LEFT JOIN summaries s "
            "ON s.run_id = p.run_id AND s.workflow_id = p.workflow_id "
            "AND s.split = 'validation' AND s.replicate = 0 WHERE p.run_id = ? ORDER BY p.rowid"
        )
        rows = await self._reader.rows(sql, run_id)

        def load() -> list[PoolRow]:
            return [
                PoolRow(POOL.load(row[:width]), row[width], _summary(row[width + 1 :]))
                for row in rows
            ]

        return load() if len(rows) < SLICE else await asyncio.to_thread(load)

    async def pool_version(self, run_id: str) -> PoolVersion:
        """Returns the version of a run's pool, its rounds and its validation scores."""
        return PoolVersion(*(await self._reader.rows(VERSION, run_id))[0])

    async def commits(self) -> int:
        """Returns a number that is another one after any commit to the file, by any process."""
        return int((await self._reader.rows("PRAGMA data_version"))[0][0])

    async def put_summary(self, record: SummaryRecord) -> None:
        """Stores a score, in place of the one stored of that run, workflow, split and replicate."""
        await self._writer.submit(SUMMARIES.replace(record))

    async def summaries(self, run_id: str, split: Split | None = None) -> list[SummaryRecord]:
        """Returns the scores of a run or an evaluation, on one split or on all."""
        order = "ORDER BY split, workflow_id, replicate"
        if split is None:
            return await self._list(SUMMARIES, f"WHERE run_id = ? {order}", run_id)
        rest = f"WHERE run_id = ? AND split = ? {order}"
        return await self._list(SUMMARIES, rest, run_id, split)


def _summary(row: Row) -> SummaryRecord | None:
    return None if row[0] is None else SUMMARIES.load(row)
