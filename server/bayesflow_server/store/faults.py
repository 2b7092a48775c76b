"""Turns what SQLite says into one sentence with what to do next."""

import sqlite3
from pathlib import Path

from bayesflow_server.errors import StoreError
from bayesflow_server.store.errors import IdempotencyKeyError

__all__ = ["explain"]

_ELSEWHERE = "or name another file with --db or BAYESFLOW_DB"

_SENTENCES = {
    sqlite3.SQLITE_BUSY: "is locked by another process; close the program that holds it, and try "
    f"again, {_ELSEWHERE}",
    sqlite3.SQLITE_READONLY: f"may not be written; give yourself write permission, {_ELSEWHERE}",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened for writing; check that it is a file in a folder "
    f"you may write to, {_ELSEWHERE}",
    sqlite3.SQLITE_FULL: "has no room to grow: the disk is full; free some space, then resume",
    sqlite3.SQLITE_IOERR: "could not be read or written by the operating system; check the disk, "
    "then resume",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a copy, or move it away to start with an empty "
    f"one, {_ELSEWHERE}",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database, or is damaged; move it away to start with an "
    f"empty one, {_ELSEWHERE}",
}
_SENTENCES[sqlite3.SQLITE_LOCKED] = _SENTENCES[sqlite3.SQLITE_BUSY]
_SENTENCES[sqlite3.SQLITE_PERM] = _SENTENCES[sqlite3.SQLITE_READONLY]


def explain(error: Exception, path: Path) -> StoreError:
    """Returns the error to raise for one that SQLite or its driver raised on ``path``."""
    if not isinstance(error, sqlite3.Error):  # the driver could not bind a value
        return StoreError(
            f"A value cannot be stored in {path} ({error}); text must be valid Unicode and "
            "integers must fit 64 bits."
        )
    if "runs.idempotency_key" in str(error):
        return IdempotencyKeyError(
            "Another run already has this idempotency key; look that run up, or use another key."
        )
    code = getattr(error, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return StoreError(
            f"The database {path} refused a record that refers to a run, round or workflow it does "
            "not hold; store that first."
        )
    sentence = _SENTENCES.get(primary, "refused the request; this is a bug, please report it")
    detail = "" if primary == sqlite3.SQLITE_BUSY else f" ({error})"
    return StoreError(f"The database {path} {sentence}{detail}.")
