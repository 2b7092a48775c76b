"""Executions: one workflow on one row. What was paid for once is never run again."""

from collections.abc import AsyncIterator

from bayesflow_server.store.access import SLICE, Access
from bayesflow_server.store.records import ExecutionRecord, Split
from bayesflow_server.store.table import Table

__all__ = ["ExecutionStore"]

EXECUTIONS = Table("executions", ExecutionRecord)


class ExecutionStore(Access):
    """The answers, scores and costs row by row."""

    async def record_execution(self, record: ExecutionRecord) -> None:
        """Stores an execution, unless there is one of this workflow, row and replicate."""
        await self._writer.submit(EXECUTIONS.insert(record, "ON CONFLICT DO NOTHING"))

    async def executions(
        self, scope: str, workflow_id: str, split: Split, replicate: int = 0
    ) -> list[ExecutionRecord]:
        """Returns the executions of one workflow on one split, by position."""
        rest = (
            "WHERE scope = ? AND workflow_id = ? AND split = ? AND replicate = ? ORDER BY position"
        )
        return await self._list(EXECUTIONS, rest, scope, workflow_id, split, replicate)

    async def count_executions(self, scope: str) -> int:
        """Returns how many executions a run, an evaluation or an answer has."""
        sql = "SELECT COUNT(*) FROM executions WHERE scope = ?"
        return int((await self._reader.rows(sql, scope))[0][0])

    async def pages_of_executions(
        self, scope: str, replicate: int = 0
    ) -> AsyncIterator[list[ExecutionRecord]]:
        """Yields every execution of a run or an evaluation, some hundred at a time."""
        after = ("", "", -1)
        while True:
            rest = (
                "WHERE scope = ? AND (workflow_id, split, replicate, position) > (?, ?, ?, ?) "
                "AND replicate = ? ORDER BY workflow_id, split, replicate, position LIMIT ?"
            )
            workflow_id, split, position = after
            page = await self._list(
                EXECUTIONS, rest, scope, workflow_id, split, replicate, position, replicate, SLICE
            )
            if page:
                yield page
            if len(page) < SLICE:
                return
            after = (page[-1].workflow_id, page[-1].split, page[-1].position)

    async def all_executions(self, scope: str) -> list[ExecutionRecord]:
        """Returns every execution of a run or an evaluation, in the order they were stored."""
        return await self._list(EXECUTIONS, "WHERE scope = ? ORDER BY rowid", scope)
