"""What every part of `Store` stands on: one reader, one writer."""

import asyncio
from typing import TYPE_CHECKING

from bayesflow_server.store.table import Record, SqlValue, Table

if TYPE_CHECKING:  # they import SQLite, which `Store.open` does when it is needed
    from bayesflow_server.store.reader import Reader
    from bayesflow_server.store.writer import Writer

__all__ = ["Access"]

# Records built before other tasks get their turn: a few milliseconds' worth.
SLICE = 500


class Access:
    """The base of the parts of `Store`."""

    def __init__(self, reader: "Reader", writer: "Writer") -> None:
        self._reader = reader
        self._writer = writer

    async def _find(self, table: Table[Record], rest: str, *parameters: SqlValue) -> Record | None:
        """Returns the record that ``rest`` (a WHERE clause) selects, or None."""
        rows = await self._reader.rows(table.select(rest), *parameters)
        return table.load(rows[0]) if rows else None

    async def _list(self, table: Table[Record], rest: str, *parameters: SqlValue) -> list[Record]:
        """Returns all records that ``rest`` selects; a long list does not stall the event loop."""
        rows = await self._reader.rows(table.select(rest), *parameters)
        records: list[Record] = []
        for start in range(0, len(rows), SLICE):
            records += map(table.load, rows[start : start + SLICE])
            await asyncio.sleep(0)
        return records
