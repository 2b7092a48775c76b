"""Runs as clients see them: start, observe, cancel, resume. One per process; owns the sittings.

A sitting is a task that the service keeps until `aclose`. Whoever asks for a run that another
process works on sees it through the store; a cancellation reaches its owner the same way.
"""

import asyncio
import contextlib
import logging
import time
from typing import Final

from bayesflow_server.errors import InputError, NotFoundError, StoreError
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.runs.ending import Ending, ending_of, to_its_end
from bayesflow_server.runs.estimate import check_budget
from bayesflow_server.runs.lease import HEARTBEAT_SECONDS, Lease
from bayesflow_server.runs.options import pools_rounds
from bayesflow_server.runs.pool_view import StoredPool
from bayesflow_server.runs.preparation import Prepared, prepare
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.roles import GRAMMAR
from bayesflow_server.runs.sitting import Sitting, Workplace
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.runs.starting import StartedRun, known_run, put_run, started_run
from bayesflow_server.store.records import (
    RowRecord,
    RunCursor,
    RunRecord,
    RunStatus,
    UsageRecord,
    WorkflowRecord,
)

__all__ = ["RunService"]

_LOG = logging.getLogger(__name__)
_ACTIVE: Final[tuple[RunStatus, ...]] = ("queued", "running", "waiting_for_client")
_RESUMABLE: Final[tuple[RunStatus, ...]] = (
    *_ACTIVE,
    "paused",
    "interrupted",
    "cancelled",
    "failed",
)
_ENDED: Final[tuple[RunStatus, ...]] = ("finished", "failed", "cancelled")
_WATCH_SECONDS: Final = 1.0
# A cancelled sitting of another process notices within `_WATCH_SECONDS` and then stops its calls.
_LET_GO_SECONDS: Final = 5.0


class RunService:
    """Starts and watches runs, between `open` and `aclose`.

    Attributes:
        workplace: Store, models, gateway and sandbox.
    """

    def __init__(self, workplace: Workplace) -> None:
        self.workplace = workplace
        self._store = workplace.store
        self._lease = Lease(workplace.store.path)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: set[str] = set()
        self._heart: asyncio.Task[None] | None = None
        # Invariant: while it is free, each run that this process owns has a task.
        self._claiming = asyncio.Lock()
        self._closing = False

    async def open(self) -> None:
        """Takes the lease; from now on this process counts as alive."""
        self._lease.acquire()
        self._heart = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Stops every sitting, which notes its run as interrupted, and gives the lease back."""
        self._closing = True
        async with self._claiming:  # whoever is claiming has made its task after this
            tasks = [*self._tasks.values()] + ([self._heart] if self._heart else [])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._lease.release()

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
        if put.is_new:
            async with self._claiming:
                await self._begin(put.run_id, None)
        return await started_run(await self.record(put.run_id), self.workplace)

    async def resume(self, run_id: str, budget: BudgetLimits | None = None) -> RunRecord:
        """Goes on with a run that stopped; a finished or living run is returned as it is.

        Args:
            run_id: The run.
            budget: The new *total* budget, or None to keep the present one.

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
            if self._is_alive(record) or self._works_on(run_id):
                if budget not in (None, spec.budget):
                    raise InputError(
                        f"{run_id} works already, with the budget it has; cancel_run first, then "
                        "resume it with another."
                    )
                return record
            if budget is not None:
                limits = check_budget(budget, spec.roles.models, self.workplace.gateway.prices)
                await self._store.update_run(
                    run_id, request=spec.model_copy(update={"budget": limits}).model_dump_json()
                )
            await self._begin(run_id, record.owner)
        return await self.record(run_id)

    async def _let_go(self, run_id: str) -> None:
        """Waits until a sitting that is stopping, here or elsewhere, has given the run back."""
        record = await self.record(run_id)
        task = self._tasks.get(run_id)
        if task is not None and record.status not in _ACTIVE:
            await asyncio.wait([task])
            record = await self.record(run_id)
        deadline = time.monotonic() + _LET_GO_SECONDS
        while record.status not in _ACTIVE and record.owner not in (None, self._lease.owner):
            if not self._lease.is_alive(record.owner, record.heartbeat):
                return
            if time.monotonic() > deadline:
                raise InputError(
                    f"Another process is still stopping {run_id}; try again in a few seconds."
                )
            await asyncio.sleep(0.1)
            record = await self.record(run_id)

    async def _begin(self, run_id: str, previous: str | None) -> None:
        """Claims the run and starts a sitting, unless another process was quicker."""
        if self._closing:
            return
        owner = self._lease.owner
        taken = await self._store.claim_run(run_id, owner, from_owner=previous, statuses=_RESUMABLE)
        if taken:
            sitting = Sitting(self.workplace, await self.record(run_id))
            self._tasks[run_id] = asyncio.create_task(self._sit(sitting))

    # --- observe ----------------------------------------------------------------------------

    async def record(self, run_id: str) -> RunRecord:
        """The run as stored.

        Raises:
            NotFoundError: There is no such run.
        """
        record = await self._store.run(run_id)
        if record is None:
            raise NotFoundError(
                f"There is no run {run_id!r}. Call list_runs to see the runs there are."
            )
        return record

    def status(self, record: RunRecord) -> RunStatus:
        """The run's status; a run whose owner is gone shows as interrupted."""
        if record.status in _ACTIVE and not self._is_alive(record):
            return "interrupted"
        return record.status

    def reason(self, record: RunRecord) -> str | None:
        """Why the run has its status, for a person."""
        if self.status(record) == "interrupted" and record.status != "interrupted":
            return "The process that worked on it is gone; resume_run goes on where it stopped."
        return record.reason

    async def wait(self, run_id: str, *, since: int, seconds: float) -> RunRecord:
        """The run once its revision is above `since`, or after `seconds`."""
        await self._store.wait_for_revision(run_id, since, seconds)
        return await self.record(run_id)

    async def wait_until_settled(self, run_id: str) -> RunRecord:
        """The run once no sitting of this process works on it."""
        task = self._tasks.get(run_id)
        if task is not None:
            await asyncio.wait([task])
        return await self.record(run_id)

    async def newest(self, limit: int, before: RunCursor | None = None) -> list[RunRecord]:
        """The newest runs, at most `limit`, after the cursor."""
        return await self._store.runs(limit, before)

    async def usage(self, run_id: str) -> UsageTotals:
        """What the run used, over all roles and models."""
        return UsageTotals.of(await self._store.usage(run_id))

    async def usage_by_role(self, run_id: str) -> list[UsageRecord]:
        """What the run used, one record for each role and model."""
        return await self._store.usage(run_id)

    async def workflow(self, workflow_id: str) -> WorkflowRecord:
        """A workflow of the store.

        Raises:
            NotFoundError: The id is unknown.
        """
        record = await self._store.workflow(workflow_id)
        if record is None:
            raise NotFoundError(
                f"There is no workflow {workflow_id!r}. Call get_pool to see a run's workflow ids."
            )
        return record

    async def rows(self, run_id: str) -> list[RowRecord]:
        """The run's pinned rows."""
        return await self._store.rows(run_id)

    async def pool(self, run_id: str) -> StoredPool:
        """All that the pool's view is computed from."""
        spec = RunSpec.model_validate_json((await self.record(run_id)).request)
        rows = await self._store.rows(run_id)
        return StoredPool(
            rows=await self._store.pool(run_id),
            rounds=await self._store.rounds(run_id),
            validation_rows=sum(row.split == "validation" for row in rows),
            pool_rounds=spec.optimizer == GRAMMAR and pools_rounds(spec.options),
            particles=spec.options.particles,
            islands=spec.options.islands,
        )

    def _is_alive(self, record: RunRecord) -> bool:
        if record.status not in _ACTIVE:
            return False
        if record.owner == self._lease.owner:
            return self._works_on(record.run_id)
        return self._lease.is_alive(record.owner, record.heartbeat)

    def _works_on(self, run_id: str) -> bool:
        task = self._tasks.get(run_id)
        return task is not None and not task.done()

    # --- stop -------------------------------------------------------------------------------

    async def cancel(self, run_id: str) -> RunRecord:
        """Stops a run; everything it found is kept, and it can be resumed.

        Raises:
            NotFoundError: There is no such run.
        """
        record = await self.record(run_id)
        if record.status not in _ENDED and self._works_on(run_id):
            task = self._tasks[run_id]
            self._cancelled.add(run_id)
            task.cancel()
            await asyncio.wait([task])
            record = await self.record(run_id)
        if record.status not in _ENDED:
            # Another process's sitting finds this in the store and stops.
            await self._store.update_run(run_id, status="cancelled", reason=_CANCELLED)
            record = await self.record(run_id)
        return record

    # --- sittings ---------------------------------------------------------------------------

    async def _sit(self, sitting: Sitting) -> None:
        """Runs a sitting; however it ends, the store says so."""
        run_id = sitting.run_id
        watch = asyncio.create_task(self._watch(run_id, asyncio.current_task()))
        try:
            await self._work(sitting)
        except asyncio.CancelledError:
            await to_its_end(self._note(sitting, "interrupted", _STOPPED))
            raise
        finally:
            watch.cancel()
            self._cancelled.discard(run_id)
            await to_its_end(self._release(run_id))

    async def _work(self, sitting: Sitting) -> None:
        """The sitting, with every error turned into a status and a reason."""
        ending: Ending | None = None
        try:
            await sitting.run()
        except* Exception as group:
            ending = ending_of(group)
            if ending.bug is not None:
                _LOG.error("run %s failed", sitting.run_id, exc_info=ending.bug)
        if ending is not None:
            await self._note(sitting, ending.status, ending.reason)

    async def _note(self, sitting: Sitting, status: RunStatus, reason: str) -> None:
        """Puts on disk how a sitting ended, if the run is still ours; a cancellation goes first."""
        run_id = sitting.run_id
        try:
            record = await self.record(run_id)
            if record.owner != self._lease.owner:
                return
            if run_id in self._cancelled or record.status == "cancelled":
                status, reason = "cancelled", _CANCELLED
            await sitting.write_phase()
            await self._store.update_run(run_id, status=status, reason=reason)
        except StoreError as error:
            # The run stays as it was, without a sitting, and so shows as interrupted.
            _LOG.error("run %s stopped (%s: %s): %s", run_id, status, reason, error)

    async def _release(self, run_id: str) -> None:
        with contextlib.suppress(StoreError):  # the next beat tries again
            await self._store.release_run(run_id, self._lease.owner)

    async def _watch(self, run_id: str, sitting: asyncio.Task[None] | None) -> None:
        """Ends the sitting when another process cancels the run or has taken it over."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                record = await self._store.run(run_id)
            except StoreError:
                continue
            lost = record is None or record.owner != self._lease.owner
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
            for run_id in await self._store.heartbeat(self._lease.owner):
                if not self._works_on(run_id):
                    await self._release(run_id)


_CANCELLED: Final = "Cancelled; everything found is kept, and resume_run goes on."
_STOPPED: Final = "The server stopped; resume_run goes on where it stopped."
