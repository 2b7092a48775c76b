"""Keeping a database small and safe: runs deleted, space given back, a copy made.

Blocking calls on a connection of its own, for a command line and nothing else. Other processes may
write meanwhile: a run goes in one transaction, and only if nobody has touched it since it was
looked at; completions go some thousands at a time; a copy is one snapshot.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

from bayesflow_server.errors import InputError, StoreError
from bayesflow_server.store.faults import explain
from bayesflow_server.store.records import RunRecord
from bayesflow_server.store.schema import APPLICATION_ID

__all__ = ["Copied", "Housekeeper", "Share", "copy_database"]

_BUSY_SECONDS: Final = 10.0
# Bounds how long one transaction keeps other processes from writing.
_BATCH: Final = 5000
# What a record takes beside its text: its numbers, its keys in an index, its head.
_ROW_BYTES: Final = 120
# A job that has not ended may be going on; after a day nobody works on it.
_STALE_SECONDS: Final = 86_400.0

# Invariant: every table with records of a run, and the column that names the run there.
_OF_A_RUN: Final = {
    "draws": "run_id",
    "submissions": "run_id",
    "proposals": "run_id",
    "particles": "run_id",
    "rounds": "run_id",
    "events": "run_id",
    "pool": "run_id",
    "summaries": "run_id",
    "executions": "scope",
    "usage": "scope",
    "dataset_rows": "scope",
}
_OF_AN_EVALUATION: Final = {
    "summaries": "run_id",
    "executions": "scope",
    "usage": "scope",
    "dataset_rows": "scope",
}
# Invariant: every column that names a workflow.
_REFERENCES: Final = (
    "SELECT workflow_id FROM pool UNION SELECT workflow_id FROM summaries "
    "UNION SELECT workflow_id FROM executions UNION SELECT workflow_id FROM submissions "
    "UNION SELECT workflow_id FROM evaluations "
    "UNION SELECT workflow_id FROM particles WHERE workflow_id IS NOT NULL"
)


class Share(NamedTuple):
    """A part of a database.

    Attributes:
        records: How many.
        size: Bytes they take, about.
    """

    records: int
    size: int


class Copied(NamedTuple):
    """A copy of a database.

    Attributes:
        size: Bytes of the file.
        runs: Runs in it.
    """

    size: int
    runs: int


class Housekeeper:
    """Deletes what is no longer wanted. A context manager.

    Every method may raise `StoreError`, and then deleted nothing in that call.
    """

    def __init__(self, path: Path) -> None:
        """Opens a database that `Store.open` has opened before, so it is checked and migrated."""
        self._path = path
        self._size = _size(path)
        with self._explained():
            self._db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            # Everything that refers to a run goes with it, and a workflow only if nothing refers
            # to it; the check by record would read whole tables for each workflow.
            self._db.execute("PRAGMA foreign_keys = OFF")
            self._db.execute("PRAGMA synchronous = FULL")
            # A workflow stored after this may wait for what will refer to it.
            row = self._db.execute("SELECT COALESCE(MAX(rowid), 0) FROM workflows").fetchone()
            self._newest_workflow = int(row[0])

    def weigh(self, run_id: str) -> int:
        """Bytes that a run's own records take, about; workflows and completions are shared."""
        with self._explained():
            return sum(
                self._share(table, f"{column} = ?", run_id).size
                for table, column in {"runs": "run_id", **_OF_A_RUN}.items()
            )

    def delete_run(self, record: RunRecord) -> bool:
        """Deletes a run, what belongs to it, and evaluations of workflows that no other run has.

        Returns:
            Whether it is gone; not if it was claimed or changed since `record` was read.
        """
        with self._explained(), self._transaction():
            same = self._db.execute(
                "SELECT 1 FROM runs WHERE run_id = ? AND owner IS ? AND revision = ?",
                (record.run_id, record.owner, record.revision),
            ).fetchone()
            if same is None:
                return False
            evaluations = self._evaluations_of(record.run_id)
            for table, column in _OF_A_RUN.items():
                self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (record.run_id,))
            self._db.execute("DELETE FROM runs WHERE run_id = ?", (record.run_id,))
            for evaluation_id in evaluations:
                self._delete_evaluation(evaluation_id)
            return True

    def old_completions(self, before: float) -> Share:
        """What was answered by models before a time, in UTC unix seconds."""
        with self._explained():
            return self._share("completions", "created < ?", before)

    def delete_completions(self, before: float) -> int:
        """Deletes what models answered before a time; returns how many answers."""
        deleted = 0
        while True:
            with self._explained(), self._transaction():
                gone = self._db.execute(
                    "DELETE FROM completions WHERE rowid IN "
                    "(SELECT rowid FROM completions WHERE created < ? LIMIT ?)",
                    (before, _BATCH),
                ).rowcount
            deleted += gone
            if gone < _BATCH:
                return deleted

    def delete_workflows(self) -> int:
        """Deletes the workflows that nothing refers to; returns how many.

        None while an evaluation goes on: of those that it compares, some stand in its request only.
        """
        with self._explained(), self._transaction():
            return self._db.execute(
                f"DELETE FROM workflows WHERE rowid <= ? AND workflow_id NOT IN ({_REFERENCES}) "
                "AND NOT EXISTS (SELECT 1 FROM evaluations WHERE updated > ? "
                "AND status NOT IN ('finished', 'failed'))",
                (self._newest_workflow, time.time() - _STALE_SECONDS),
            ).rowcount

    def give_back(self) -> int:
        """Gives free space back to the disk; other processes cannot write meanwhile.

        Returns:
            By how many bytes the database became smaller since it was opened here.
        """
        with self._explained():
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return max(self._size - _size(self._path), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def _evaluations_of(self, run_id: str) -> list[str]:
        """Ended evaluations of workflows that are in this run's pool and in no other's."""
        rows = self._db.execute(
            "SELECT evaluation_id FROM evaluations e WHERE (status IN ('finished', 'failed') "
            "OR updated < ?) AND workflow_id IN (SELECT workflow_id FROM pool WHERE run_id = ?) "
            "AND NOT EXISTS (SELECT 1 FROM pool p WHERE p.workflow_id = e.workflow_id "
            "AND p.run_id <> ?)",
            (time.time() - _STALE_SECONDS, run_id, run_id),
        )
        return [str(row[0]) for row in rows.fetchall()]

    def _delete_evaluation(self, evaluation_id: str) -> None:
        for table, column in _OF_AN_EVALUATION.items():
            self._db.execute(f"DELETE FROM {table} WHERE {column} = ?", (evaluation_id,))
        self._db.execute("DELETE FROM evaluations WHERE evaluation_id = ?", (evaluation_id,))

    def _share(self, table: str, where: str, parameter: str | float) -> Share:
        columns = self._db.execute(f"PRAGMA table_info({table})").fetchall()
        texts = [
            f'COALESCE(LENGTH(CAST("{column[1]}" AS BLOB)), 0)'
            for column in columns
            if column[2] == "TEXT"
        ]
        count, size = self._db.execute(
            f"SELECT COUNT(*), COALESCE(SUM({' + '.join(texts)}), 0) FROM {table} WHERE {where}",
            (parameter,),
        ).fetchone()
        return Share(int(count), int(size) + int(count) * _ROW_BYTES)

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise explain(error, self._path) from error


def copy_database(path: Path, target: Path) -> Copied:
    """Copies a database as it is at one moment, while others write to it, and checks the copy.

    The copy appears under its name when it is whole, readable by its owner alone.

    Args:
        path: The database, of any version.
        target: A name that nothing has yet.

    Raises:
        InputError: Something has the name, or its folder cannot be written.
        StoreError: The database cannot be read, or the copy is not sound; nothing is left of it.
    """
    if not path.is_file():
        raise StoreError(f"There is no database {path}; name one with --db or BAYESFLOW_DB.")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    if os.path.lexists(target):
        raise _taken(target)
    try:
        _create(partial)
        copied = _copied(path, partial)
        _publish(partial, target)
    except OSError as error:
        raise InputError(
            f"'{target}' cannot be written ({error.strerror}); name a file in a folder you may "
            "write to."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return copied


def _copied(path: Path, partial: Path) -> Copied:
    with (
        contextlib.closing(_opened(path)) as source,
        contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as copy,
    ):
        try:
            source.backup(copy)
            # One file, without companions; whoever opens it turns the log on again.
            copy.execute("PRAGMA journal_mode = DELETE")
            sound = copy.execute("PRAGMA integrity_check(1)").fetchone()[0]
            runs = copy.execute("SELECT COUNT(*) FROM runs").fetchone()[0]
        except sqlite3.Error as error:
            full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            raise explain(error, partial if full else path) from error
    if sound != "ok":
        raise StoreError(
            f"The database {path} is damaged ({sound}), and so would be its copy; none was made."
        )
    return Copied(partial.stat().st_size, int(runs))


def _opened(path: Path) -> sqlite3.Connection:
    """The database for reading, if it is one of ours."""
    try:
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        application = db.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.Error as error:
        raise explain(error, path) from error
    if application != APPLICATION_ID:
        db.close()
        raise StoreError(
            f"{path} is not a database of BayesFlow MCP; name another with --db or BAYESFLOW_DB."
        )
    return db


def _create(partial: Path) -> None:
    """An empty file, private whatever the umask."""
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _publish(partial: Path, target: Path) -> None:
    """Gives the whole copy its name, on disk, unless something got it in between."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(partial, target)
    except FileExistsError:
        raise _taken(target) from None
    except OSError:  # a file system without links
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        partial.replace(target)


def _taken(target: Path) -> InputError:
    return InputError(f"'{target}' is there already: name a file that is not.")


def _size(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
