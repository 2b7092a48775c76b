"""Dataset rows, copied in when a run or an evaluation starts: editing the file changes nothing."""

from collections.abc import Iterable

from bayesflow_server.store.access import Access
from bayesflow_server.store.records import RowRecord
from bayesflow_server.store.table import Statement, Table

__all__ = ["DatasetStore", "insert_rows"]

ROWS = Table("dataset_rows", RowRecord)


def insert_rows(scope: str, rows: Iterable[RowRecord]) -> Statement:
    """Returns the statement that pins the rows under a run's or an evaluation's id."""
    return ROWS.insert_all(rows, scope=scope)


class DatasetStore(Access):
    """The pinned rows."""

    async def rows(self, scope: str) -> list[RowRecord]:
        """Returns the rows of a run or an evaluation, ordered by split (by name) and position."""
        return await self._list(ROWS, "WHERE scope = ? ORDER BY split, position", scope)
