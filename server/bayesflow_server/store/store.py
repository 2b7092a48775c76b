"""The store: everything that must outlive the process, in one SQLite file.

`Store` is made of parts, one a subject: runs, pinned rows, journal, pool, executions, completions,
evaluations, proposals, marks. Reads go to one connection; writes are queued to one writer, which
commits them in groups (`writer.py`) and returns once they are on the disk. Several processes may
use one file. Other packages import `Store` and `records`, nothing else from here.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bayesflow_server.store.completions import CompletionStore
from bayesflow_server.store.datasets import DatasetStore
from bayesflow_server.store.evaluations import EvaluationStore
from bayesflow_server.store.executions import ExecutionStore
from bayesflow_server.store.journal import JournalStore
from bayesflow_server.store.marks import MarkStore
from bayesflow_server.store.pool import PoolStore
from bayesflow_server.store.proposals import ProposalStore
from bayesflow_server.store.runs import RunStore
from bayesflow_server.store.unfinished import UnfinishedStore

if TYPE_CHECKING:
    from bayesflow_server.store.opening import Connections

__all__ = ["Store"]

# How long a write waits for another process's transaction; ours take milliseconds.
BUSY_SECONDS = 10.0


class Store(
    RunStore,
    DatasetStore,
    JournalStore,
    PoolStore,
    ExecutionStore,
    CompletionStore,
    EvaluationStore,
    ProposalStore,
    MarkStore,
    UnfinishedStore,
):
    """One open database file. Every method may raise `StoreError`, and then wrote nothing.

    Close it, or use it as an async context manager: an open store keeps the process alive.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, connections: "Connections") -> None:
        """Takes over open connections; use `open` instead."""
        from bayesflow_server.store.reader import Reader  # with SQLite, so not before `open`
        from bayesflow_server.store.writer import Writer

        self.path = path
        self._connections = connections
        super().__init__(Reader(connections.reader, path), Writer(connections.writer, path))

    @classmethod
    async def open(cls, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> Self:
        """Opens the file, creating and migrating it as needed.

        Args:
            path: The database file; folders above it are made (0700), the file is private (0600).
            busy_seconds: How long to wait for another process's lock.

        Raises:
            StoreError: The file is locked, damaged, read-only, of a newer version or of another
                program. It was left as it is.
        """
        # Here, so that starting the server does not pay for importing SQLite.
        from bayesflow_server.store.opening import open_connections

        return cls(path, await open_connections(path, busy_seconds))

    async def aclose(self) -> None:
        """Commits what is queued and closes the file. Safe to call twice."""
        try:
            await self._writer.aclose()
            await self._reader.aclose()
        finally:  # the last connection to close folds the log into the file
            await self._connections.writer.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()
