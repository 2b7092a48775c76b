"""Goes on, unasked, with runs that nobody works on: their process is gone, or they are queued.

    look at the unfinished runs, the oldest first → claim what is left, a few at a time
    → look again at each heartbeat, and as soon as one of them has ended

Of several processes that look, one gets the run (`Store.claim_run`). A run that ends its process
must not end every later one as well: after `MOST_TAKEOVERS` takeovers without a finished round it
is put down, and goes on when somebody asks for it.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bayesflow_server.errors import ServerError
from bayesflow_server.runs.lease import HEARTBEAT_SECONDS, LEASE_SECONDS, Lease, worker_lives
from bayesflow_server.runs.standing import GIVEN_UP, MOST_TAKEOVERS
from bayesflow_server.store.unfinished import UnfinishedRun, peek

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService

__all__ = ["Adoption", "is_left", "work_is_left"]

_LOG = logging.getLogger(__name__)

# Runs that nobody waits for leave most of the machine to those that somebody has asked for.
_AT_ONCE: Final = 2


@dataclass
class Adoption:
    """Takes runs into a service for as long as `run` runs.

    Attributes:
        service: Works on them.
        everything: This is a worker: it takes queued runs at once, also those that came just now.
        told: Is given a sentence whenever a run is taken or has ended.
    """

    service: "RunService"
    everything: bool = False
    told: Callable[[str], None] = lambda _: None
    _going: dict[str, asyncio.Task[None]] = field(
        default_factory=dict[str, asyncio.Task[None]], init=False
    )
    _unasked: set[str] = field(default_factory=set[str], init=False)
    _looked: float | None = field(default=None, init=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self, seconds: float = HEARTBEAT_SECONDS, *, once: bool = False) -> None:
        """Looks every so many seconds, until cancelled.

        Args:
            seconds: Between two looks.
            once: Return when nothing is left to do.

        Raises:
            ServerError, OSError: One cannot look, and this is to end by itself.
        """
        while True:
            self._wake.clear()
            try:
                left = await self.look()
            except (ServerError, OSError) as error:  # a full disk, too many open files: it passes
                if once:
                    raise
                _LOG.warning("looking for runs that were left: %s", error)
            else:
                if once and not left:
                    return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()

    async def look(self) -> bool:
        """Takes what may be taken now; returns whether this process has work, or soon will."""
        now = time.monotonic()
        # After a sleep of the machine every process looks dead until its next heartbeat.
        awake = self._looked is not None and now - self._looked < 2 * HEARTBEAT_SECONDS
        self._looked = now
        if not self.everything and worker_lives(self.service.workplace.store.path):
            return False
        left = False
        for run in await self.service.workplace.store.unfinished_runs():
            try:
                left = await self._consider(run, awake=awake) or left
            except OSError as error:  # of this run's lock: the others are looked at all the same
                _LOG.warning("looking for runs that were left: %s: %s", run.run_id, error)
        return left or bool(self._going)

    async def _consider(self, run: UnfinishedRun, *, awake: bool) -> bool:
        """Takes the run if nobody works on it; returns whether it is this process's to do."""
        if run.run_id in self._going or not self._is_left(run, awake=awake):
            return False
        asked = run.status == "queued" and run.owner is None
        if not asked:
            if run.takeovers >= MOST_TAKEOVERS:
                await self._give_up(run)
                return False
            record = await self.service.workplace.store.run(run.run_id)
            if record is None or not self.service.standing.is_able(record):
                return False  # a process that was started otherwise may be able
            if len(self._unasked) >= _AT_ONCE:
                return True
        task = await self.service.take(run, unasked=not asked)
        if task is not None:
            self._keep(run.run_id, task, asked=asked)
        return task is not None

    async def _give_up(self, run: UnfinishedRun) -> None:
        if run.status != "interrupted":
            await self.service.put_down(run)
            self.told(f"{run.run_id}: {GIVEN_UP}")

    def _keep(self, run_id: str, task: asyncio.Task[None], *, asked: bool) -> None:
        self._going[run_id] = task
        if not asked:
            self._unasked.add(run_id)
        task.add_done_callback(lambda _: self._ended(run_id))
        self.told(f"{run_id}: {'begins' if asked else 'goes on'}")

    def _is_left(self, run: UnfinishedRun, *, awake: bool) -> bool:
        if self.service.works_on(run.run_id):
            return False
        patience = 0.0 if self.everything else LEASE_SECONDS
        return is_left(run, self.service.lease, awake=awake, patience=patience)

    def _ended(self, run_id: str) -> None:
        del self._going[run_id]
        self._unasked.discard(run_id)
        self.told(f"{run_id}: has ended or stopped")
        self._wake.set()


def is_left(run: UnfinishedRun, lease: Lease, *, awake: bool, patience: float) -> bool:
    """Whether nobody works on the run, as far as this process can tell.

    Args:
        run: The run.
        lease: This process's.
        awake: Whether a silent owner counts as gone too.
        patience: How long a queued run is left to the process that queued it, in seconds.
    """
    if run.owner is None and run.status == "queued":
        return time.time() - run.updated >= patience
    if run.owner == lease.owner:
        return True
    return lease.is_gone(run.owner) or (awake and not lease.is_alive(run.owner, run.heartbeat))


def work_is_left(database: Path) -> bool:
    """Whether a server would find a run to go on with; the database is not opened for it."""
    found = peek(database)
    if not found or worker_lives(database):
        return False
    lease = Lease(database)
    try:
        return any(
            run.takeovers < MOST_TAKEOVERS
            and is_left(run, lease, awake=False, patience=LEASE_SECONDS)
            for run in found
        )
    except OSError:  # a lock that cannot be looked at; `Adoption` says so, and looks again
        return True
