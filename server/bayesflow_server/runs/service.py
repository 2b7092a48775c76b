"""Runs as clients see them: start, observe, cancel, resume. One per process; owns the sittings.

A sitting is a task that the service keeps until `aclose`. Whoever asks for a run that another
process works on sees it through the store; a cancellation reaches its owner the same way.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Collection
from typing import Final

from bayesflow_server.errors import InputError, StoreError
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.ending import Ending, ending_of, to_its_end
from bayesflow_server.runs.estimate import check_budget
from bayesflow_server.runs.lease import HEARTBEAT_SECONDS, Lease, worker_lives
from bayesflow_server.runs.needs import is_able
from bayesflow_server.runs.observing import Observer
from bayesflow_server.runs.preparation import Prepared, prepare
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.sitting import Sitting, Workplace
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.runs.standing import ACTIVE, GIVEN_UP, Standing
from bayesflow_server.runs.starting import StartedRun, known_run, put_run, started_run
from bayesflow_server.scheduling import in_background
from bayesflow_server.store.records import (
    UNSET,
    RunRecord,
    RunStatus,
)
from bayesflow_server.store.unfinished import UnfinishedRun

__all__ = ["RunService"]

_LOG = logging.getLogger(__name__)
_RESUMABLE: Final[tuple[RunStatus, ...]] = (
    *ACTIVE,
    "paused",
    "interrupted",
    "cancelled",
    "failed",
)
_NEW: Final[tuple[RunStatus, ...]] = ("queued",)
_ENDED: Final[tuple[RunStatus, ...]] = ("finished", "failed", "cancelled")
_WATCH_SECONDS: Final = 1.0
# A cancelled sitting of another process notices within `_WATCH_SECONDS` and then stops its calls.
_LET_GO_SECONDS: Final = 5.0


class RunService(Observer):
    """Starts and watches runs, between `open` and `aclose`.

    Attributes:
        workplace: Store, models, gateway and sandbox.
        lease: This process's claim to life.
        standing: How runs stand, as this process sees it.
    """

    def __init__(self, workplace: Workplace, *, hosted: bool = False) -> None:
        """Prepares; `open` begins.

        Args:
            workplace: Store, models, gateway and sandbox.
            hosted: Whether this process may be closed at any time by a program that knows nothing
                of its runs; they are left to a worker then, if one lives.
        """
        super().__init__(workplace)
        self._hosted = hosted
        self.lease = Lease(workplace.store.path)
        self.standing = Standing(workplace.store.path, self.lease, self.works_on, self._is_able)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        # How a sitting that is being stopped is to be noted.
        self._stops: dict[str, Ending] = {}
        self._heart: asyncio.Task[None] | None = None
        # Invariant: while it is free, each run that this process owns has a task.
        self._claiming = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Takes the lease; from now on this process counts as alive."""
        self.lease.acquire()
        self._heart = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Stops every sitting, which notes its run as interrupted, and gives the lease back."""
        self._closing = True
        async with self._claiming:  # whoever is claiming has made its task after this
            tasks = [*self._tasks.values()] + ([self._heart] if self._heart else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.lease.release()

    # --- start ------------------------------------------------------------------------------

    async def start(self, request: RunRequest) -> StartedRun:
        """Begins a run and returns at once; the run is on disk by then.

        Raises:
            InputError, ModelUnavailableError: The request is wrong; nothing was written.
        """
        known = await known_run(request, self.workplace)
        if known is not None:
            return await started_run(known, self.workplace)
        return await self.begin(request, await prepare(request, self.workplace))

    async def begin(self, request: RunRequest, prepared: Prepared) -> StartedRun:
        """Begins a run that was prepared, unless an equal request under its key did so meanwhile.

        Raises:
            InputError: Another request took the key meanwhile; nothing was written.
        """
        put = await put_run(request, prepared, self.workplace)
        if put.is_new and not self._leaves_to_worker():
            async with self._claiming:
                await self._begin(put.run_id, None, _NEW)
        return await started_run(await self.record(put.run_id), self.workplace)

    async def resume(
        self, run_id: str, budget: BudgetLimits | None = None, *, agreed: bool = True
    ) -> RunRecord:
        """Goes on with a run that stopped; a finished or living run is returned as it is.

        Args:
            run_id: The run.
            budget: The new *total* budget, or None to keep the present one.
            agreed: Whether another budget may hold, should the run have stopped by now.

        Raises:
            NotFoundError: There is no such run.
            InputError: The budget cannot hold, or the run works with another, or another process
                is still stopping the run.
        """
        await self._let_go(run_id)
        async with self._claiming:
            record = await self.record(run_id)
            spec = RunSpec.model_validate_json(record.request)
            if record.status == "finished":
                return record
            if self.standing.is_alive(record) or self.works_on(run_id):
                if budget not in (None, spec.budget):
                    raise InputError(
                        f"{run_id} works already, with the budget it has; cancel_run first, then "
                        "resume it with another."
                    )
                return record
            if not agreed and budget not in (None, spec.budget):
                raise InputError(f"{run_id} stopped just now; call resume_run again.")
            if budget is not None:
                limits = check_budget(budget, spec.roles.models, self.workplace.gateway.prices)
                await self._store.update_run(
                    run_id, request=spec.model_copy(update={"budget": limits}).model_dump_json()
                )
            if self._leaves_to_worker():
                await self._store.put_down_run(
                    run_id,
                    from_owner=record.owner,
                    statuses=_RESUMABLE,
                    status="queued",
                    reason=None,
                )
            else:
                await self._begin(run_id, record.owner, _RESUMABLE)
        return await self.record(run_id)

    async def take(self, run: UnfinishedRun, *, unasked: bool) -> asyncio.Task[None] | None:
        """Goes on with a run that nobody works on; returns its sitting, or None if others do."""
        async with self._claiming:
            if self.works_on(run.run_id) or run.run_id in self.standing.unwritten:
                return None
            await self._begin(run.run_id, run.owner, (run.status,), unasked=unasked)
            return self._tasks[run.run_id] if self.works_on(run.run_id) else None

    async def put_down(self, run: UnfinishedRun) -> None:
        """Leaves a run that seems to end every process that works on it."""
        await self._store.put_down_run(
            run.run_id,
            from_owner=run.owner,
            statuses=(run.status,),
            status="interrupted",
            reason=GIVEN_UP,
        )

    def _leaves_to_worker(self) -> bool:
        return self._hosted and worker_lives(self._store.path)

    async def _let_go(self, run_id: str) -> None:
        """Waits until a sitting that is stopping, here or elsewhere, has given the run back."""
        record = await self.record(run_id)
        task = self._tasks.get(run_id)
        stopping = record.status not in ACTIVE or run_id in self.standing.unwritten
        if task is not None and stopping:
            await asyncio.wait([task])
            record = await self.record(run_id)
        deadline = time.monotonic() + _LET_GO_SECONDS
        while record.status not in ACTIVE and record.owner not in (None, self.lease.owner):
            if not self.lease.is_alive(record.owner, record.heartbeat):
                return
            if time.monotonic() > deadline:
                raise InputError(
                    f"Another process is still stopping {run_id}; try again in a few seconds."
                )
            await asyncio.sleep(0.1)
            record = await self.record(run_id)

    async def _begin(
        self,
        run_id: str,
        previous: str | None,
        statuses: Collection[RunStatus],
        *,
        unasked: bool = False,
    ) -> None:
        """Claims the run and starts a sitting, unless another process was quicker."""
        if self._closing:
            return
        owner = self.lease.owner
        taken = await self._store.claim_run(
            run_id, owner, from_owner=previous, statuses=statuses, unasked=unasked
        )
        if taken:
            self.standing.unwritten.pop(run_id, None)
            self._tasks[run_id] = in_background(self._sit(await self.record(run_id)))

    # --- observe ----------------------------------------------------------------------------

    def status(self, record: RunRecord) -> RunStatus:
        """The run's status; a run whose owner is gone shows as interrupted."""
        return self.standing.status(record)

    def reason(self, record: RunRecord) -> str | None:
        """Why the run has its status, for a person."""
        return self.standing.reason(record)

    async def wait_until_settled(self, run_id: str) -> RunRecord:
        """The run once no sitting of this process works on it."""
        task = self._tasks.get(run_id)
        if task is not None:
            await asyncio.wait([task])
        return await self.record(run_id)

    def _is_able(self, record: RunRecord) -> bool:
        return is_able(record, self.workplace.models, self.workplace.scoring)

    def works_on(self, run_id: str) -> bool:
        """Whether this process has a sitting of the run."""
        task = self._tasks.get(run_id)
        return task is not None and not task.done()

    # --- stop -------------------------------------------------------------------------------

    async def cancel(self, run_id: str) -> RunRecord:
        """Stops a run; everything it found is kept, and it can be resumed.

        Raises:
            NotFoundError: There is no such run.
        """
        record = await self.record(run_id)
        if record.status not in _ENDED and self.works_on(run_id):
            record = await self._stop(run_id, Ending("cancelled", _CANCELLED))
        if record.status not in _ENDED:
            # Another process's sitting finds this in the store and stops.
            await self._store.cancel_run(run_id, _CANCELLED, unless=_ENDED)
            record = await self.record(run_id)
        return record

    async def pause(self, run_id: str) -> RunRecord:
        """Stops a sitting of this process, so that no process goes on with the run unasked.

        Raises:
            NotFoundError: There is no such run.
        """
        if self.works_on(run_id):
            return await self._stop(run_id, Ending("paused", _PAUSED))
        return await self.record(run_id)

    async def _stop(self, run_id: str, ending: Ending) -> RunRecord:
        task = self._tasks[run_id]
        self._stops[run_id] = ending
        task.cancel()
        await asyncio.wait([task])
        self._stops.pop(run_id, None)  # it may have ended before it was told
        return await self.record(run_id)

    # --- sittings ---------------------------------------------------------------------------

    async def _sit(self, record: RunRecord) -> None:
        """Sits for the run; however that ends, the store says so."""
        run_id = record.run_id
        watch = asyncio.create_task(self._watch(run_id, asyncio.current_task()))
        sitting: Sitting | None = None
        try:
            sitting = Sitting(self.workplace, record)
            ending = await self._work(sitting)
            if ending is not None:
                await self._note(run_id, ending, sitting)
        except asyncio.CancelledError:
            ending = self._stops.get(run_id, Ending("interrupted", _STOPPED))
            await to_its_end(self._note(run_id, ending, sitting))
            raise
        except ValueError as error:
            _LOG.error("run %s cannot be read: %s", run_id, error)
            await self._note(run_id, Ending("failed", _UNREADABLE), None)
        finally:
            watch.cancel()
            self._stops.pop(run_id, None)
            await to_its_end(self._release(run_id))

    async def _work(self, sitting: Sitting) -> Ending | None:
        """The sitting, with every error turned into a status and a reason."""
        ending: Ending | None = None
        try:
            await sitting.run()
        except* Exception as group:
            ending = ending_of(group)
            if ending.bug is not None:
                _LOG.error("run %s failed", sitting.run_id, exc_info=ending.bug)
        return ending

    async def _note(self, run_id: str, ending: Ending, sitting: Sitting | None) -> None:
        """Puts on disk how a sitting ended, if the run is still ours; a cancellation goes first."""
        unwritten = self.standing.unwritten
        try:
            record = await self._store.run(run_id)
            if record is None or record.owner != self.lease.owner:
                unwritten.pop(run_id, None)
                return
            if record.status == "cancelled":
                ending = Ending("cancelled", _CANCELLED)
            await self._store.update_run(
                run_id,
                status=ending.status,
                reason=ending.reason,
                phase=sitting.phase() if sitting else UNSET,
                active_seconds=sitting.budget.seconds if sitting else UNSET,
                # A process that stops in order was not ended by its run.
                takeovers=0 if ending.status == "interrupted" else UNSET,
            )
            unwritten.pop(run_id, None)
        except StoreError as error:
            # Here it shows as what it is, and the next beat tries again.
            unwritten[run_id] = ending
            _LOG.error("run %s stopped (%s: %s): %s", run_id, *ending[:2], error)

    async def _release(self, run_id: str) -> None:
        if run_id in self.standing.unwritten:
            return
        with contextlib.suppress(StoreError):  # the next beat tries again
            await self._store.release_run(run_id, self.lease.owner)

    async def _watch(self, run_id: str, sitting: asyncio.Task[None] | None) -> None:
        """Ends the sitting when another process cancels the run or has taken it over."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                record = await self._store.run(run_id)
            except StoreError:
                continue
            lost = record is None or record.owner != self.lease.owner
            if sitting is not None and (lost or (record and record.status == "cancelled")):
                sitting.cancel()
                return

    async def _beat(self) -> None:
        while True:
            started = time.monotonic()
            with contextlib.suppress(StoreError):  # the next beat may find the disk well again
                await self._beat_once()
            await asyncio.sleep(max(0.1, HEARTBEAT_SECONDS - (time.monotonic() - started)))

    async def _beat_once(self) -> None:
        """Renews the lease of our runs, and gives back those that no sitting works on."""
        async with self._claiming:
            for run_id, ending in list(self.standing.unwritten.items()):
                await self._note(run_id, ending, None)
            for run_id in await self._store.heartbeat(self.lease.owner):
                if not self.works_on(run_id):
                    await self._release(run_id)


_CANCELLED: Final = "Cancelled; everything found is kept, and resume_run goes on."
_UNREADABLE: Final = (
    "This version of bayesflow-mcp cannot read the run's request, which another version wrote; use "
    "that version, or start a new run."
)
_PAUSED: Final = "Stopped by its user; resume_run goes on where it stopped."
_STOPPED: Final = "The server stopped; resume_run goes on where it stopped."
