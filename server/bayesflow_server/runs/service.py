"""Runs as clients see them: start, observe, cancel, resume. One per process; owns the sittings.

A sitting is a task that the service keeps until `aclose`. Whoever asks for a run that another
process works on sees it through the store; a cancellation reaches its owner the same way.
"""

import asyncio
import contextlib
import logging
import time
import uuid
from dataclasses import dataclass
from typing import Final, NamedTuple

from bayesflow_server.errors import (
    BudgetSpentError,
    InputError,
    ModelUnavailableError,
    NotFoundError,
    ProviderError,
    ServerError,
    StoreError,
)
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.lease import HEARTBEAT_SECONDS, Lease
from bayesflow_server.runs.request import (
    Estimate,
    RunRequest,
    check_budget,
    estimate,
    resolve,
)
from bayesflow_server.runs.sitting import Sitting, Workplace
from bayesflow_server.runs.spec import RunSpec, pinned_rows, request_hash
from bayesflow_server.store.records import (
    NewRun,
    PoolRow,
    RoundRecord,
    RowRecord,
    RunCursor,
    RunRecord,
    RunStatus,
    UsageRecord,
    WorkflowRecord,
)

__all__ = ["RunService", "StartedRun", "StoredPool"]

_LOG = logging.getLogger(__name__)
_ACTIVE: Final[tuple[RunStatus, ...]] = ("queued", "running", "waiting_for_client")
_RESUMABLE: Final[tuple[RunStatus, ...]] = (
    *_ACTIVE,
    "paused",
    "interrupted",
    "cancelled",
    "failed",
)
_WATCH_SECONDS: Final = 1.0


@dataclass(frozen=True)
class StartedRun:
    """A run that has begun, or that an earlier equal request began."""

    record: RunRecord
    spec: RunSpec
    estimate: Estimate
    warnings: tuple[str, ...]


class StoredPool(NamedTuple):
    """A run's pool, its finished rounds, and the size of its validation split."""

    rows: list[PoolRow]
    rounds: list[RoundRecord]
    validation_rows: int


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

    async def open(self) -> None:
        """Takes the lease; from now on this process counts as alive."""
        self._lease.acquire()
        self._heart = asyncio.create_task(self._beat())

    async def aclose(self) -> None:
        """Stops every sitting, which notes its run as interrupted, and gives the lease back."""
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
        spec = resolve(request, self.workplace.models)
        digest = request_hash(spec, request.task.content_hash)
        known = await self._same_request(request.idempotency_key, digest)
        sizes = {
            split: len(request.task.splits.of(split))
            for split in ("validation", "selection", "test")
        }
        expected = estimate(spec, sizes)
        warnings = (*request.task.warnings, *_budget_warnings(spec.budget, expected))
        if known is not None:
            return StartedRun(known, spec, expected, warnings)
        run_id = "run_" + uuid.uuid4().hex[:12]
        run = NewRun(
            run_id=run_id,
            request=spec.model_dump_json(),
            request_hash=digest,
            name=request.name,
            idempotency_key=request.idempotency_key,
        )
        await self._store.create_run(run, pinned_rows(request.task))
        await self._begin(run_id, None)
        return StartedRun(await self.record(run_id), spec, expected, warnings)

    async def _same_request(self, key: str | None, digest: str) -> RunRecord | None:
        if key is None:
            return None
        known = await self._store.run_by_idempotency_key(key)
        if known is not None and known.request_hash != digest:
            raise InputError(
                f"The idempotency key {key!r} belongs to {known.run_id}, whose request differs; "
                "use another key for another request."
            )
        return known

    async def resume(self, run_id: str, budget: BudgetLimits | None = None) -> RunRecord:
        """Goes on with a run that stopped; a finished or living run is returned as it is.

        Args:
            run_id: The run.
            budget: The new *total* budget, or None to keep the present one.

        Raises:
            NotFoundError: There is no such run.
            InputError: The budget cannot hold.
        """
        record = await self.record(run_id)
        if record.status == "finished" or self._is_alive(record):
            return record
        if budget is not None:
            spec = RunSpec.model_validate_json(record.request)
            limits = check_budget(budget, spec.executor)
            await self._store.update_run(
                run_id, request=spec.model_copy(update={"budget": limits}).model_dump_json()
            )
        await self._begin(run_id, record.owner)
        return await self.record(run_id)

    async def _begin(self, run_id: str, previous: str | None) -> None:
        """Claims the run and starts a sitting, unless another process was quicker."""
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

    async def usage(self, run_id: str) -> list[UsageRecord]:
        """What the run used, one record a role and model."""
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
        rows = await self._store.rows(run_id)
        return StoredPool(
            rows=await self._store.pool(run_id),
            rounds=await self._store.rounds(run_id),
            validation_rows=sum(row.split == "validation" for row in rows),
        )

    def _is_alive(self, record: RunRecord) -> bool:
        if record.status not in _ACTIVE:
            return False
        if record.owner == self._lease.owner:
            task = self._tasks.get(record.run_id)
            return task is not None and not task.done()
        return self._lease.is_alive(record.owner, record.heartbeat)

    # --- stop -------------------------------------------------------------------------------

    async def cancel(self, run_id: str) -> RunRecord:
        """Stops a run; everything it found is kept, and it can be resumed.

        Raises:
            NotFoundError: There is no such run.
        """
        record = await self.record(run_id)
        if record.status in ("finished", "failed", "cancelled"):
            return record
        task = self._tasks.get(run_id)
        if task is not None and not task.done():
            self._cancelled.add(run_id)
            task.cancel()
            await asyncio.wait([task])
        else:
            # Another process's sitting finds this in the store and stops.
            await self._store.update_run(run_id, status="cancelled", reason=_CANCELLED)
        return await self.record(run_id)

    # --- sittings ---------------------------------------------------------------------------

    async def _sit(self, sitting: Sitting) -> None:
        """Runs a sitting; however it ends, the store says so."""
        run_id = sitting.run_id
        watch = asyncio.create_task(self._watch(run_id, asyncio.current_task()))
        try:
            await self._work(sitting)
        except asyncio.CancelledError:
            await asyncio.shield(self._note_stop(sitting))
            raise
        except StoreError as error:
            # Nothing can be noted; the lease runs out and the run shows as interrupted.
            _LOG.error("run %s stopped: %s", run_id, error)
        finally:
            watch.cancel()
            self._cancelled.discard(run_id)
            with contextlib.suppress(StoreError):
                await asyncio.shield(self._store.release_run(run_id, self._lease.owner))

    async def _work(self, sitting: Sitting) -> None:
        """The sitting, with every error turned into a status and a reason."""
        try:
            await sitting.run()
        except* ServerError as group:
            await self._note_trouble(sitting, _first(group))
        except* Exception as group:
            error = _first(group)
            _LOG.error("run %s failed", sitting.run_id, exc_info=error)
            await self._note(sitting, "failed", f"Internal error: {type(error).__name__}: {error}")

    async def _note_stop(self, sitting: Sitting) -> None:
        """A cancelled task: by a client, by another owner, or because the server stops."""
        record = await self.record(sitting.run_id)
        if record.owner != self._lease.owner:
            return
        if sitting.run_id in self._cancelled or record.status == "cancelled":
            await self._note(sitting, "cancelled", _CANCELLED)
        else:
            await self._note(
                sitting,
                "interrupted",
                "The server stopped; resume_run goes on where it stopped.",
            )

    async def _note_trouble(self, sitting: Sitting, error: BaseException) -> None:
        pauses = isinstance(error, BudgetSpentError | ProviderError | ModelUnavailableError)
        status: RunStatus = "paused" if pauses or isinstance(error, StoreError) else "failed"
        await self._note(sitting, status, str(error))

    async def _note(self, sitting: Sitting, status: RunStatus, reason: str) -> None:
        await sitting.write_phase()
        await self._store.update_run(sitting.run_id, status=status, reason=reason)

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
                await self._store.heartbeat(self._lease.owner)
            await asyncio.sleep(max(0.1, HEARTBEAT_SECONDS - (time.monotonic() - started)))


_CANCELLED: Final = "Cancelled; everything found is kept, and resume_run goes on."


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group of groups."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _budget_warnings(budget: BudgetLimits, expected: Estimate) -> tuple[str, ...]:
    if budget.calls is not None and budget.calls < expected.calls:
        return (
            f"The budget of {budget.calls} calls is below the {expected.calls} calls that the run "
            "may need at most; if it is spent, the run pauses, and a larger one resumes it.",
        )
    return ()
