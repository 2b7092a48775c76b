"""The tools for a run's life: look, list, cancel, resume."""

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import InputRequiredResult
from pydantic import BaseModel, Field, WithJsonSchema

from bayesflow_server.errors import InputError
from bayesflow_server.excerpt import TITLE, excerpt
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.arguments import (
    READ,
    SPEND,
    STOP,
    Confirmed,
    Cursor,
    RunId,
    WaitSeconds,
)
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.confirmation import Stake, ask_user
from bayesflow_server.interface.paging import first_that_fit
from bayesflow_server.interface.progress import phase_of, progress_of, run_steps
from bayesflow_server.interface.run_state import (
    WORKING,
    AnyStatus,
    RunState,
    Status,
    going,
    next_step,
    reason_of,
    run_state,
)
from bayesflow_server.interface.stakes import resumed_stake
from bayesflow_server.interface.tool import make_tool

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.records import RunCursor, RunRecord

__all__ = [
    "ListedRun",
    "ListedRuns",
    "RunChange",
    "RunTools",
    "listed_run",
]

_LONGEST_NAME: Final = 200


class RunChange(BaseModel):
    """A run that was stopped or goes on."""

    run_id: str
    status: AnyStatus
    reason: str | None
    revision: int
    next: str


class ListedRun(BaseModel):
    """A run in a list."""

    run_id: str
    name: str | None
    status: AnyStatus
    executor: str
    created: str = Field(description="UTC, ISO 8601.")
    test_score: float | None


class ListedRuns(BaseModel):
    """A page of runs, newest first."""

    runs: list[ListedRun]
    cursor: str | None = Field(description="For the next page; null at the end.")
    next: str


class RunTools:
    """Looks at runs, stops them and goes on with them."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def tools(self) -> list[Tool]:
        """What the server registers."""
        return [
            make_tool(self.get_run, "Look at a run", READ),
            make_tool(self.list_runs, "List runs", READ),
            make_tool(self.cancel_run, "Cancel a run", STOP),
            make_tool(self.resume_run, "Resume a run", SPEND),
        ]

    async def get_run(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        wait_seconds: WaitSeconds = 20,
        since_revision: Annotated[
            int | None,
            Field(description="Wake at any change after this revision, about one each second."),
        ] = None,
    ) -> RunState:
        """Shows what a run does, has spent and found, how long is left, and what to call next.

        While the run works, waits up to wait_seconds until it enters another round or ends (with
        since_revision, for any progress). Call it again until the status is finished, then
        get_best_workflow; resume_run if it is paused, interrupted, cancelled or failed.
        """
        service = await self._backend.runs()
        seen = await service.seen(run_id)
        if wait_seconds > 0:
            async with progress_of(context, run_steps(service, run_id)):
                record = await _awaited(service, seen.record, wait_seconds, since_revision)
            if record is not seen.record:
                seen = await service.seen(run_id)
        return run_state(seen, service)

    async def list_runs(
        self, limit: Annotated[int, Field(ge=1, le=100)] = 20, cursor: Cursor = None
    ) -> ListedRuns:
        """Lists the runs in the database, newest first, those of other servers included.

        Use it to find a run again, and after a restart: an interrupted run goes on by resume_run.
        """
        before = _run_cursor(cursor)
        service = await self._backend.runs()
        records = await service.newest(limit + 1, before)
        runs = first_that_fit(listed_run(record, service) for record in records[:limit])
        more = len(runs) < len(records)
        last = records[len(runs) - 1] if more else None
        shows = f"get_run(run_id='{runs[0].run_id}') shows one. " if runs else ""
        return ListedRuns(
            runs=runs,
            cursor=None if last is None else f"{last.created!r}:{last.run_id}",
            next=f"{shows}start_bayesflow_run begins another.",
        )

    async def cancel_run(self, run_id: RunId) -> RunChange:
        """Stops a run. Everything it found is kept, and resume_run goes on where it stopped.

        A run that has ended already is returned as it is. Next: get_pool or get_best_workflow for
        what was found so far.
        """
        service = await self._backend.runs()
        return _change(await service.cancel(run_id), service)

    async def resume_run(
        self,
        context: Context[Any, Any],
        run_id: RunId,
        budget: Annotated[
            BudgetLimits | None,
            # Its schema stands once, at start_bayesflow_run.
            WithJsonSchema({"type": ["object", "null"]}),
            Field(
                description="The new TOTAL budget, not an addition, {usd?, calls?, tokens?, "
                "minutes?}; null keeps the old one."
            ),
        ] = None,
        confirmed: Confirmed = False,
    ) -> RunChange | InputRequiredResult:
        """Goes on with an interrupted, paused, cancelled or failed run; repeats no finished call.

        If it paused because its budget was spent, give a larger total budget. A finished run is
        returned as it is, and so is one that works, whose budget only a stop can change. Next:
        get_run until finished.
        """
        service = await self._backend.runs()
        stake = None if budget is None else await _raised(service, run_id, budget)
        if stake is not None:
            above = self._backend.confirm_above
            asks = await ask_user(context, stake, above=above, confirmed=confirmed)
            if asks is not None:
                return asks
        # Nobody was asked about the budget of a run that worked, and it may have stopped since.
        agreed = budget is None or stake is not None
        return _change(await service.resume(run_id, budget, agreed=agreed), service)


async def _raised(service: "RunService", run_id: str, budget: BudgetLimits) -> Stake | None:
    """What a new budget lets a run spend, or None if the run does not go on with it.

    Raises:
        InputError: The budget cannot hold.
    """
    from bayesflow_server.runs.estimate import check_budget
    from bayesflow_server.runs.starting import started_run

    record = await service.record(run_id)
    status = service.status(record)
    # One that only waits for a worker takes the new budget; one that works refuses it.
    works = status in (*WORKING, "waiting_for_client") and service.standing.is_alive(record)
    if works or status == "finished":
        return None
    run = await started_run(record, service.workplace)
    limits = check_budget(budget, run.spec.roles.models, service.workplace.gateway.prices)
    return resumed_stake(run, limits, await service.usage(run_id))


async def _awaited(
    service: "RunService", record: "RunRecord", seconds: float, since: int | None
) -> "RunRecord":
    """The run after news, or after so many seconds; the same record if there is nothing new."""
    run_id = record.run_id
    if since is not None:
        if service.status(record) not in WORKING or record.revision > since:
            return record
        return await service.wait(run_id, since=since, seconds=seconds)
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    chapter = _chapter(service, record)
    while _chapter(service, record) == chapter and going(record, service) in WORKING:
        left = deadline - clock()
        if left <= 0:
            break
        record = await service.wait(run_id, since=record.revision, seconds=min(left, 5.0))
    return record


def _chapter(service: "RunService", record: "RunRecord") -> tuple[Status, int]:
    """What a waiting client wants to hear of: the status and the round."""
    return service.status(record), phase_of(record).round


def _change(record: "RunRecord", service: "RunService") -> RunChange:
    from bayesflow_server.runs.spec import RunSpec

    status = service.status(record)
    spec = RunSpec.model_validate_json(record.request)
    return RunChange(
        run_id=record.run_id,
        status=status,
        reason=reason_of(record, service),
        revision=record.revision,
        next=next_step(record.run_id, going(record, service), asks=spec.asks_client),
    )


def listed_run(record: "RunRecord", service: "RunService") -> ListedRun:
    """The run as lists show it."""
    outcome = json.loads(record.outcome) if record.outcome else None
    return ListedRun(
        run_id=record.run_id,
        name=excerpt(record.name, _LONGEST_NAME) if record.name else None,
        status=service.status(record),
        executor=excerpt(json.loads(record.request)["executor"], TITLE),
        created=datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
        test_score=outcome["test"]["score"] if outcome else None,
    )


def _run_cursor(cursor: str | None) -> "RunCursor | None":
    from bayesflow_server.store.records import RunCursor

    if cursor is None:
        return None
    created, _, run_id = cursor.partition(":")
    try:
        moment = float(created)
    except ValueError:
        run_id = ""
        moment = 0.0
    if not run_id.startswith("run_"):
        raise InputError(
            f"The cursor {cursor!r} is not one that list_runs gave; leave it out to begin anew."
        )
    return RunCursor(moment, run_id)
