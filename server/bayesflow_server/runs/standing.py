"""How a run stands: its stored status read with an eye on who is alive, and why it is so.

A run whose owner is gone shows as `interrupted`, whatever it was; one that is queued for a worker,
or that this server is about to begin, as `queued`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bayesflow_server.runs.ending import Ending
from bayesflow_server.runs.lease import LEASE_SECONDS, Lease, worker_lives
from bayesflow_server.store.records import RunRecord, RunStatus

__all__ = ["ACTIVE", "GIVEN_UP", "MOST_TAKEOVERS", "Standing"]

ACTIVE: Final[tuple[RunStatus, ...]] = ("queued", "running", "waiting_for_client")

MOST_TAKEOVERS: Final = 3
GIVEN_UP: Final = (
    f"Its process ended {MOST_TAKEOVERS + 1} times without finishing another round, so none takes "
    "it over by itself any more; resume_run goes on where it stopped."
)
_GONE: Final = "The process that worked on it is gone; resume_run goes on where it stopped."
_ADOPTED: Final = (
    "The process that worked on it is gone; {who} goes on with it by itself, in a few seconds if "
    "it has a hand free."
)
_QUEUED: Final = "It waits for the worker, which takes it in about a second."
_LATE: Final = (
    "The worker it waited for is gone; this server begins it by itself within "
    f"{LEASE_SECONDS:.0f} seconds."
)


@dataclass
class Standing:
    """Tells how runs stand, as this process sees it.

    Attributes:
        database: The file.
        lease: This process's.
        works_on: Whether this process has a sitting of the run.
        is_able: Whether it has all that the run needs.
        adopts: Whether it goes on, unasked, with runs that nobody works on.
        unwritten: How sittings of this process ended that the disk did not take down yet.
    """

    database: Path
    lease: Lease
    works_on: Callable[[str], bool]
    is_able: Callable[[RunRecord], bool]
    adopts: bool = False
    unwritten: dict[str, Ending] = field(default_factory=dict[str, Ending])

    def status(self, record: RunRecord) -> RunStatus:
        """The run's status; a run whose owner is gone shows as interrupted."""
        ending = self._unwritten(record)
        if ending is not None:
            return ending.status
        if record.status not in ACTIVE or self.is_alive(record) or self._is_due(record):
            return record.status
        return "interrupted"

    def reason(self, record: RunRecord) -> str | None:
        """Why the run has its status, for a person."""
        ending = self._unwritten(record)
        if ending is not None:
            return ending.reason
        status = self.status(record)
        if self._is_due(record):
            return _QUEUED if worker_lives(self.database) else _LATE
        if status != "interrupted":
            return record.reason
        if record.takeovers >= MOST_TAKEOVERS:
            return GIVEN_UP
        if self.is_awaited(record):
            who = "the worker" if worker_lives(self.database) else "this server"
            return _ADOPTED.format(who=who)
        return record.reason if record.status == "interrupted" else _GONE

    def is_alive(self, record: RunRecord) -> bool:
        """Whether a process works on the run."""
        if record.status not in ACTIVE:
            return False
        if record.owner == self.lease.owner:
            return self.works_on(record.run_id)
        return self.lease.is_alive(record.owner, record.heartbeat)

    def is_awaited(self, record: RunRecord) -> bool:
        """Whether a process begins the run or goes on with it soon, without being asked."""
        if self._is_due(record):
            return True
        if record.takeovers >= MOST_TAKEOVERS or self.status(record) != "interrupted":
            return False
        return worker_lives(self.database) or (self.adopts and self.is_able(record))

    def _unwritten(self, record: RunRecord) -> Ending | None:
        """How the run's sitting ended here, where the store does not tell."""
        if record.owner != self.lease.owner or record.status not in ACTIVE:
            return None
        return self.unwritten.get(record.run_id)

    def _is_due(self, record: RunRecord) -> bool:
        """Whether the run is queued for whoever takes it."""
        if record.status != "queued" or record.owner is not None:
            return False
        return self.adopts or worker_lives(self.database)
