"""Small reads of what clients watch and type: did a pool grow, how far is a story, ids by prefix.

None reads a source or a row of a dataset.
"""

from typing import NamedTuple

from bayesflow_server.store.access import Access
from bayesflow_server.store.table import SqlValue

__all__ = ["FoundIds", "MarkStore"]


class FoundIds(NamedTuple):
    """Ids that begin with a prefix.

    Attributes:
        ids: The newest of them.
        total: How many there are.
    """

    ids: list[str]
    total: int


class MarkStore(Access):
    """What changed, and what there is, in a few numbers and ids."""

    async def last_event(self, run_id: str) -> int:
        """Returns the position of the run's last event; 0 where there is none."""
        sql = "SELECT COALESCE(MAX(position), 0) FROM events WHERE run_id = ?"
        return int((await self._reader.rows(sql, run_id))[0][0])

    async def pool_mark(self, run_id: str) -> tuple[float, ...]:
        """Returns numbers of which one changes whenever the run's pool does.

        Sums, since a score is stored in place of the one before.
        """
        pool = "SELECT COUNT(*), TOTAL(clean) FROM pool WHERE run_id = ?"
        scores = (
            "SELECT COUNT(*), TOTAL(rows), TOTAL(mean), TOTAL(variance), TOTAL(seconds) "
            "FROM summaries WHERE run_id = ? AND split = 'validation'"
        )
        rounds = "SELECT COUNT(*) FROM rounds WHERE run_id = ?"
        found = [await self._reader.rows(sql, run_id) for sql in (pool, scores, rounds)]
        return tuple(float(value) for rows in found for value in rows[0])

    async def run_ids(self, prefix: str, limit: int) -> FoundIds:
        """Returns at most ``limit`` ids of runs, newest first."""
        return await self._found("run_id", "runs", "created DESC, run_id DESC", prefix, limit)

    async def workflow_ids(self, prefix: str, limit: int, run_id: str | None = None) -> FoundIds:
        """Returns at most ``limit`` ids of workflows, newest first: of a run's pool or of all."""
        if run_id is None:
            return await self._found("workflow_id", "workflows", "rowid DESC", prefix, limit)
        return await self._found("workflow_id", "pool", "rowid DESC", prefix, limit, run_id)

    async def _found(
        self,
        column: str,
        table: str,
        order: str,
        prefix: str,
        limit: int,
        run_id: str | None = None,
    ) -> FoundIds:
        where = f"substr({column}, 1, ?) = ?"
        parameters: list[SqlValue] = [len(prefix), prefix]
        if run_id is not None:
            where += " AND run_id = ?"
            parameters.append(run_id)
        sql = (
            f"SELECT {column}, COUNT(*) OVER () FROM {table} WHERE {where} ORDER BY {order} LIMIT ?"
        )
        rows = await self._reader.rows(sql, *parameters, limit)
        return FoundIds([str(row[0]) for row in rows], int(rows[0][1]) if rows else 0)
