"""Reads, on a connection of their own: each query sees everything acknowledged before it."""

from pathlib import Path
from sqlite3 import Error as SqliteError

import aiosqlite

from bayesflow_server.errors import StoreError
from bayesflow_server.store.faults import explain
from bayesflow_server.store.table import Row, SqlValue

__all__ = ["Reader"]


class Reader:
    """Runs queries; each is one snapshot, none holds one open."""

    def __init__(self, db: aiosqlite.Connection, path: Path) -> None:
        self._db = db
        self._path = path
        self._closed = False

    async def rows(self, sql: str, *parameters: SqlValue) -> list[Row]:
        """Returns all rows of a query.

        Raises:
            StoreError: The file cannot be read, or the store is closed.
        """
        if self._closed:
            raise StoreError(f"The database {self._path} is closed; start the server again.")
        try:
            return list(await self._db.execute_fetchall(sql, parameters))
        except (SqliteError, ValueError, OverflowError) as error:
            raise explain(error, self._path) from error

    async def aclose(self) -> None:
        """Refuses further queries and closes the connection."""
        self._closed = True
        await self._db.close()
