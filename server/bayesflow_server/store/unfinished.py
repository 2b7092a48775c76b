"""The runs that are not at their end, in a few columns: what a process looks at to find its work.

`peek` reads them without opening the store. So a server may look for work that was left without
paying for anything else, or changing a file that nobody asked it to open.
"""

from pathlib import Path
from typing import Final, NamedTuple

from bayesflow_server.store.access import Access
from bayesflow_server.store.records import RunStatus

__all__ = ["UnfinishedRun", "UnfinishedStore", "peek"]

_PATIENCE_SECONDS: Final = 0.2
_SELECT: Final = (
    "SELECT run_id, status, owner, heartbeat, updated, takeovers FROM runs WHERE status IN "
    "('queued', 'running', 'waiting_for_client', 'interrupted') ORDER BY created, run_id"
)


class UnfinishedRun(NamedTuple):
    """A run that is queued, at work, waiting for its client or interrupted.

    Attributes:
        updated: When it last changed.
        takeovers: How often a process took it over unasked since it last finished a round.
    """

    run_id: str
    status: RunStatus
    owner: str | None
    heartbeat: float | None
    updated: float
    takeovers: int


class UnfinishedStore(Access):
    """The work there is in the file."""

    async def unfinished_runs(self) -> list[UnfinishedRun]:
        """Returns them, the oldest first."""
        return [UnfinishedRun(*row) for row in await self._reader.rows(_SELECT)]


def peek(path: Path) -> list[UnfinishedRun]:
    """The same from a file that is not open; none if there is no such file, or it is not at hand.

    Of a file with an earlier schema too: its runs show no takeovers.
    """
    # Here: a server does not pay for SQLite before its first answer.
    import sqlite3

    from bayesflow_server.store.schema import APPLICATION_ID

    if not path.is_file():
        return []
    address = f"{path.absolute().as_uri()}?mode=rw"  # read-only would leave the log behind
    try:
        db = sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)
        try:
            db.execute("PRAGMA query_only = ON")
            if db.execute("PRAGMA application_id").fetchone() != (APPLICATION_ID,):
                return []
            columns = {row[1] for row in db.execute("PRAGMA table_info(runs)")}
            select = _SELECT if "takeovers" in columns else _SELECT.replace("takeovers", "0")
            return [UnfinishedRun(*row) for row in db.execute(select)]
        finally:
            db.close()
    except sqlite3.Error:  # whoever asks for the database is told
        return []
