"""Runs as they stand in the store, for whoever looks at one: no process need work on it."""

from collections.abc import Sequence
from typing import NamedTuple

from bayesflow_server.errors import NotFoundError
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.runs.options import pools_rounds
from bayesflow_server.runs.pool_cache import PoolCache, ShownPool
from bayesflow_server.runs.pool_view import Sort, StoredPool
from bayesflow_server.runs.roles import GRAMMAR
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.records import (
    RowRecord,
    RunCursor,
    RunRecord,
    UsageRecord,
    WorkflowRecord,
)

__all__ = ["Observer", "SeenRun"]


class SeenRun(NamedTuple):
    """A run at one moment.

    Attributes:
        record: As it is stored.
        usage: What it used, one record for each role and model.
    """

    record: RunRecord
    usage: Sequence[UsageRecord]


class Observer:
    """Reads runs.

    Attributes:
        workplace: Store, models, gateway and sandbox.
    """

    def __init__(self, workplace: Workplace) -> None:
        self.workplace = workplace
        self._store = workplace.store
        self._pools = PoolCache(workplace.store, self._read_pool)

    async def record(self, run_id: str) -> RunRecord:
        """The run as stored.

        Raises:
            NotFoundError: There is no such run.
        """
        record = await self._store.run(run_id)
        if record is None:
            raise _unknown(run_id)
        return record

    async def seen(self, run_id: str) -> SeenRun:
        """The run and what it used, at one moment.

        Raises:
            NotFoundError: There is no such run.
        """
        found = await self._store.run_with_usage(run_id)
        if found is None:
            raise _unknown(run_id)
        return SeenRun(*found)

    async def wait(self, run_id: str, *, since: int, seconds: float) -> RunRecord:
        """The run once its revision is above `since`, or after `seconds`."""
        await self._store.wait_for_revision(run_id, since, seconds)
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
        return await self._pools.pool(run_id)

    async def shown_pool(
        self,
        run_id: str,
        *,
        beta: float | None = None,
        sort: Sort = "posterior",
        round_number: int | None = None,
    ) -> ShownPool:
        """The pool and its view; see `view_pool`, which keeps the event loop long."""
        return await self._pools.show(run_id, beta=beta, sort=sort, round_number=round_number)

    async def _read_pool(self, run_id: str) -> StoredPool:
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


def _unknown(run_id: str) -> NotFoundError:
    return NotFoundError(f"There is no run {run_id!r}. Call list_runs to see the runs there are.")
