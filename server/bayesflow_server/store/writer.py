"""The one writer: callers queue units of work, the writer commits them in groups.

1. Take everything that waits, up to `GROUP_SIZE` units; leave out those whose caller gave up.
2. In one visit to the connection's thread: ``BEGIN IMMEDIATE``; run the units; ``COMMIT``. If a
   unit fails, begin again and give each a savepoint of its own, so that it is undone alone.
3. Only then tell each caller its result.

So an acknowledged write is on the disk, one fsync serves many callers, a transaction never waits
for a caller, and a cancelled caller leaves all of its unit or nothing.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from sqlite3 import Connection
from sqlite3 import Error as SqliteError
from typing import NamedTuple, TypeAlias, cast

import aiosqlite

from bayesflow_server.errors import StoreError
from bayesflow_server.scheduling import in_background
from bayesflow_server.store.faults import explain
from bayesflow_server.store.table import Row, Statement

__all__ = ["GROUP_SIZE", "Writer"]

# Bounds how long one transaction keeps other processes from writing.
GROUP_SIZE = 512

# What the driver raises for a value that SQLite cannot hold (a lone surrogate, a huge integer).
_UNIT_FAULTS = (SqliteError, ValueError, OverflowError)


_Statements: TypeAlias = tuple[Statement, ...]


class _Unit(NamedTuple):
    statements: _Statements
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
        self._task = in_background(self._run(), name="store writer")

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
        units = [unit.statements for unit in group]
        try:
            results = await _in_thread(self._db, units)
        except SqliteError as error:
            for unit in group:
                self._fail(unit, explain(error, self._path), error)
            return
        for unit, result in zip(group, results, strict=True):
            if result.fault is not None:
                self._fail(unit, explain(result.fault, self._path), result.fault)
            elif not unit.done.done():
                unit.done.set_result(result.rows)

    @staticmethod
    def _fail(unit: _Unit, fault: StoreError, cause: Exception | None = None) -> None:
        if not unit.done.done():
            fault.__cause__ = cause
            unit.done.set_exception(fault)


async def _in_thread(db: aiosqlite.Connection, units: list[_Statements]) -> list[_Result]:
    # The library has no public way to run several statements in one visit to its thread, and a
    # visit costs the event loop more than SQLite takes for a statement.
    visit = cast(
        "Callable[..., Awaitable[list[_Result]]]",
        db._execute,  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
    )
    return await visit(_write, db._conn, units)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]


def _write(db: Connection, units: list[_Statements]) -> list[_Result]:
    """One transaction; what it raises has undone all of it."""
    try:
        db.execute("BEGIN IMMEDIATE")
        results = _together(db, units) or [_apart(db, unit) for unit in units]
        db.execute("COMMIT")
    except SqliteError:
        if db.in_transaction:
            # If even this fails, the next BEGIN fails too, and says why.
            with contextlib.suppress(SqliteError):
                db.execute("ROLLBACK")
        raise
    return results


def _together(db: Connection, units: list[_Statements]) -> list[_Result] | None:
    """Runs the units without savepoints, which cost as much as the units do.

    Returns:
        None if a unit failed; then nothing of the group stands, and each needs its savepoint.
    """
    try:
        return [_Result(_rows(db, unit)) for unit in units]
    except _UNIT_FAULTS:
        if not db.in_transaction:  # SQLite gave up the whole group (a full disk)
            raise
        db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        return None


def _apart(db: Connection, unit: _Statements) -> _Result:
    """Runs a unit in a savepoint: a fault undoes the unit alone."""
    db.execute("SAVEPOINT unit")
    rows: list[Row] = []
    fault: Exception | None = None
    try:
        rows = _rows(db, unit)
    except _UNIT_FAULTS as error:
        if not db.in_transaction:  # SQLite gave up the whole group (a full disk)
            raise
        fault = error
        db.execute("ROLLBACK TO unit")
    db.execute("RELEASE unit")
    return _Result(rows, fault)


def _rows(db: Connection, unit: _Statements) -> list[Row]:
    """Runs the statements; the rows of the last."""
    rows: list[Row] = []
    for statement in unit:
        if statement.repeat is None:
            rows = db.execute(statement.sql, statement.parameters).fetchall()
        else:
            db.executemany(statement.sql, statement.repeat)
            rows = []
    return rows
