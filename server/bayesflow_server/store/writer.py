"""The one writer: callers queue units of work, the writer commits them in groups.

1. Take everything that waits, up to `GROUP_SIZE` units; leave out those whose caller gave up.
2. ``BEGIN IMMEDIATE``; run each unit in a savepoint of its own; ``COMMIT``.
3. Only then tell each caller its result. A unit that failed is undone alone.

So an acknowledged write is on the disk, one fsync serves many callers, a transaction never waits
for a caller, and a cancelled caller leaves all of its unit or nothing.
"""

import asyncio
import contextlib
from collections import deque
from pathlib import Path
from sqlite3 import Error as SqliteError
from typing import NamedTuple

import aiosqlite

from bayesflow_server.errors import StoreError
from bayesflow_server.store.faults import explain
from bayesflow_server.store.table import Row, Statement

__all__ = ["GROUP_SIZE", "Writer"]

# Bounds how long one transaction keeps other processes from writing.
GROUP_SIZE = 512

# What the driver raises for a value that SQLite cannot hold (a lone surrogate, a huge integer).
_UNIT_FAULTS = (SqliteError, ValueError, OverflowError)


class _Unit(NamedTuple):
    statements: tuple[Statement, ...]
    done: asyncio.Future[list[Row]]


class _Result(NamedTuple):
    rows: list[Row]
    fault: Exception | None = None


class Writer:
    """Owns the writing connection for as long as it lives.

    Nothing else may execute on that connection, nor commit or roll back in a unit.
    """

    def __init__(self, db: aiosqlite.Connection, path: Path) -> None:
        """Starts the writer's task in the running event loop."""
        self._db = db
        self._path = path
        self._waiting: deque[_Unit] = deque()
        self._wake = asyncio.Event()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name="store writer")

    @property
    def closed(self) -> bool:
        """Whether new work is refused."""
        return self._closed

    async def submit(self, *statements: Statement) -> list[Row]:
        """Runs the statements as one atomic unit and returns once it is on the disk.

        Returns:
            The rows of the last statement (its RETURNING clause).

        Raises:
            StoreError: Nothing of the unit was written.
        """
        if self._closed:
            raise StoreError(f"The database {self._path} is closed; start the server again.")
        unit = _Unit(statements, asyncio.get_running_loop().create_future())
        self._waiting.append(unit)
        self._wake.set()
        return await unit.done

    async def aclose(self) -> None:
        """Commits what is queued, then refuses more."""
        self._closed = True
        self._wake.set()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        group: list[_Unit] = []
        try:
            while self._waiting or not self._closed:
                group = self._next_group()
                if group:
                    await self._commit(group)
                if not self._waiting and not self._closed:
                    self._wake.clear()
                    await self._wake.wait()
        finally:  # Invariant: however the writer ends, no caller waits for ever.
            self._closed = True
            for unit in (*group, *self._waiting):
                self._fail(unit, StoreError(f"The writer of {self._path} stopped; start again."))

    def _next_group(self) -> list[_Unit]:
        size = min(GROUP_SIZE, len(self._waiting))
        units = [self._waiting.popleft() for _ in range(size)]
        return [unit for unit in units if not unit.done.cancelled()]

    async def _commit(self, group: list[_Unit]) -> None:
        try:
            await self._db.execute_fetchall("BEGIN IMMEDIATE")
            results = [await self._apply(unit) for unit in group]
            await self._db.execute_fetchall("COMMIT")
        except SqliteError as error:
            await self._roll_back()
            for unit in group:
                self._fail(unit, explain(error, self._path), error)
            return
        for unit, result in zip(group, results, strict=True):
            if result.fault is not None:
                self._fail(unit, explain(result.fault, self._path), result.fault)
            elif not unit.done.done():
                unit.done.set_result(result.rows)

    async def _apply(self, unit: _Unit) -> _Result:
        # SQLite undoes a single failing statement by itself, without a savepoint.
        alone = len(unit.statements) == 1 and unit.statements[0].repeat is None
        if not alone:
            await self._db.execute_fetchall("SAVEPOINT unit")
        rows: list[Row] = []
        fault: Exception | None = None
        try:
            for statement in unit.statements:
                rows = await self._execute(statement)
        except _UNIT_FAULTS as error:
            if not self._db.in_transaction:  # SQLite gave up the whole group (a full disk)
                raise
            fault = error
        if fault is not None and not alone:
            await self._db.execute_fetchall("ROLLBACK TO unit")
        if not alone:
            await self._db.execute_fetchall("RELEASE unit")
        return _Result(rows, fault)

    async def _execute(self, statement: Statement) -> list[Row]:
        if statement.repeat is None:
            return list(await self._db.execute_fetchall(statement.sql, statement.parameters))
        cursor = await self._db.executemany(statement.sql, statement.repeat)
        await cursor.close()
        return []

    async def _roll_back(self) -> None:
        if self._db.in_transaction:
            # If even this fails, the next BEGIN fails too, and says why.
            with contextlib.suppress(SqliteError):
                await self._db.execute_fetchall("ROLLBACK")

    @staticmethod
    def _fail(unit: _Unit, fault: StoreError, cause: Exception | None = None) -> None:
        if not unit.done.done():
            fault.__cause__ = cause
            unit.done.set_exception(fault)
