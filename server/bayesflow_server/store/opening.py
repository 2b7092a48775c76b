"""Opens the database file: private to its owner, checked, migrated, in WAL mode.

Only `Store.open` imports this module, and then: starting the server must not pay for SQLite.
Whatever is wrong is found before anything is changed: a file of another program, of a newer
version, damaged, locked or read-only is left as it was.
"""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

import aiosqlite

from bayesflow_server.errors import StoreError
from bayesflow_server.store.faults import explain
from bayesflow_server.store.schema import APPLICATION_ID, MIGRATIONS, migrate

__all__ = ["Connections", "open_connections"]

_OLDEST_SQLITE = (3, 37, 0)  # the first with STRICT tables
_RETRY_SECONDS = 0.02


class Connections(NamedTuple):
    """The writer's connection and the readers'; both in autocommit mode."""

    writer: aiosqlite.Connection
    reader: aiosqlite.Connection


async def open_connections(path: Path, busy_seconds: float) -> Connections:
    """Opens ``path``, creating it where there is none.

    Args:
        path: The database file.
        busy_seconds: How long to wait for another process's lock.

    Raises:
        StoreError: It cannot be used; the sentence says what to do. Nothing was changed.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreError(
            f"This Python has SQLite {sqlite3.sqlite_version}, but 3.37 is needed; "
            "use a newer Python."
        )
    _create_private(path)
    _check_permission(path)
    opened: list[aiosqlite.Connection] = []
    try:
        writer = await _connect(path, busy_seconds, opened)
        await _prepare(writer, path, busy_seconds)
        _make_private(path)
        reader = await _connect(path, busy_seconds, opened)
        await reader.execute_fetchall("PRAGMA query_only = ON")
    except BaseException as error:
        for connection in opened:
            await connection.close()
        if isinstance(error, sqlite3.Error):
            raise explain(error, path) from error
        raise
    return Connections(writer, reader)


async def _connect(
    path: Path, busy_seconds: float, opened: list[aiosqlite.Connection]
) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(
        _address(path), uri=True, timeout=busy_seconds, isolation_level=None
    )
    opened.append(connection)
    return connection


async def _prepare(db: aiosqlite.Connection, path: Path, busy_seconds: float) -> None:
    await db.execute_fetchall("BEGIN")
    await _checked_version(db, path)
    await db.execute_fetchall("ROLLBACK")
    await _enter_wal_mode(db, path, busy_seconds)
    await db.execute_fetchall("PRAGMA synchronous = FULL")
    await db.execute_fetchall("PRAGMA foreign_keys = ON")
    # The version is read again, as another process may have migrated the file in the meantime.
    # Where nothing is to migrate, `migrate` still writes: this proves that the file can be written.
    await db.execute_fetchall("BEGIN IMMEDIATE")
    version = await _checked_version(db, path)
    await migrate(db, version)
    await db.execute_fetchall("COMMIT" if version < len(MIGRATIONS) else "ROLLBACK")


async def _checked_version(db: aiosqlite.Connection, path: Path) -> int:
    version = await _pragma(db, "user_version")
    application = await _pragma(db, "application_id")
    tables = await db.execute_fetchall("SELECT 1 FROM sqlite_schema LIMIT 1")
    fresh = version == 0 and application == 0 and not tables
    if not fresh and application != APPLICATION_ID:
        raise StoreError(
            f"{path} is a database of another program; name another file with --db or BAYESFLOW_DB."
        )
    if version > len(MIGRATIONS):
        raise StoreError(
            f"{path} was written by a newer bayesflow-mcp (schema {version}, this one knows "
            f"{len(MIGRATIONS)}); upgrade bayesflow-mcp, or name another file with --db or "
            "BAYESFLOW_DB."
        )
    return version


async def _pragma(db: aiosqlite.Connection, name: str) -> int:
    ((value,),) = await db.execute_fetchall(f"PRAGMA {name}")
    return int(value)


async def _enter_wal_mode(db: aiosqlite.Connection, path: Path, busy_seconds: float) -> None:
    """Switches to WAL. SQLite's own busy wait does not cover two processes switching at once."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + busy_seconds
    while True:
        try:
            ((mode,),) = await db.execute_fetchall("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or clock() >= deadline:
                raise
            await asyncio.sleep(_RETRY_SECONDS)
    if mode != "wal":
        raise StoreError(
            f"The place of {path} does not support SQLite's write-ahead log (a network folder?); "
            "name a file on a local disk with --db or BAYESFLOW_DB."
        )


def _address(path: Path) -> str:
    return f"{path.absolute().as_uri()}?mode=rw"  # never create: that is done, with the mode


def _create_private(path: Path) -> None:
    """Creates the file (0600) and the folders above it (0700), whatever the umask."""
    try:
        for folder in reversed([parent for parent in path.parents if not parent.exists()]):
            folder.mkdir(mode=0o700, exist_ok=True)
            folder.chmod(0o700)
        path.touch(mode=0o600, exist_ok=False)
        path.chmod(0o600)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(
            f"The database {path} cannot be created ({error.strerror}); name a file in a folder "
            "you may write to with --db or BAYESFLOW_DB."
        ) from error


def _check_permission(path: Path) -> None:
    # SQLite would open a read-only file and leave companions behind, and the driver's thread does
    # not end cleanly where opening fails. Opening the file here to try is no way either: closing it
    # would drop the locks of this process's other connections.
    effective = os.access in os.supports_effective_ids
    permitted = os.access(path, os.R_OK | os.W_OK, effective_ids=effective)
    if not (permitted and path.is_file()):
        raise StoreError(
            f"The database {path} is not a file that you may read and write; give yourself the "
            "permission, or name another file with --db or BAYESFLOW_DB."
        )


def _make_private(path: Path) -> None:
    """Takes every permission of others from the file; SQLite gives its companions the same mode."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        file = path.with_name(name)
        try:
            if file.exists() and file.stat().st_mode & 0o077:
                file.chmod(0o600)
        except OSError as error:
            raise StoreError(
                f"{file} can be read by other users, and it is not yours to change; name a "
                "file of your own with --db or BAYESFLOW_DB."
            ) from error
