"""The tools for a run's life: start, observe, list, cancel, resume."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from mcp.server.mcpserver import MCPServer
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field, JsonValue

from bayesflow_server.evaluation.example import Split
from bayesflow_server.evaluation.scorers import Scorer
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.interface.backend import Backend, clear_errors
from bayesflow_server.runs.options import SamplerOptions

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService, StartedRun
    from bayesflow_server.store.records import RunCursor, RunRecord

__all__ = ["ListedRuns", "RunStarted", "RunState", "add_run_tools"]

Status = Literal[
    "queued",
    "running",
    "waiting_for_client",
    "paused",
    "interrupted",
    "cancelled",
    "finished",
    "failed",
]
RunId = Annotated[str, Field(description="A run's id, `run_…`.")]
Rows = list[dict[str, JsonValue]]

START = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
READ = ToolAnnotations(read_only_hint=True, open_world_hint=False)
STOP = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


class Resolved(BaseModel):
    """What the request was understood to mean."""

    executor: str
    optimizer: str
    scorer: dict[str, JsonValue]
    splits: dict[Split, int] = Field(description="Rows of each split.")
    options: dict[str, JsonValue]
    budget: BudgetLimits
    guesses: list[str] = Field(description="What was guessed, a sentence each.")


class EstimateState(BaseModel):
    """The most the run may take, if no question were asked twice."""

    calls: int
    tokens: int
    usd: float | None = Field(description="US dollars, or null where a price is unknown.")
    minutes: float


class RunStarted(BaseModel):
    """A run that has begun."""

    run_id: str
    status: Status
    resolved: Resolved
    estimate: EstimateState
    warnings: list[str]
    next: str


class PhaseState(BaseModel):
    """Where the run is."""

    round: int
    of: int
    doing: str


class Spent(BaseModel):
    """What the run has used so far."""

    usd: float | None
    calls: int = Field(description="Calls that reached a model.")
    cached: int = Field(description="Calls that the cache answered.")
    tokens: int


class Best(BaseModel):
    """The best workflow so far by shrunk validation score; not the final answer."""

    workflow_id: str
    shrunk: float
    rows: int


class BaselineState(BaseModel):
    """The workflow to beat; its test score is null until the run has finished."""

    own: bool
    workflow_id: str | None
    test_score: float | None


class PoolNumbers(BaseModel):
    """The pool in numbers."""

    distinct: int
    failed: int
    ess: float | None
    clean_share: float | None


class RunState(BaseModel):
    """What a run is doing and what it has found."""

    run_id: str
    name: str | None
    status: Status
    reason: str | None
    revision: int
    phase: PhaseState
    spent: Spent
    budget: BudgetLimits
    eta_seconds: float | None
    baseline: BaselineState
    best_so_far: Best | None
    pool: PoolNumbers
    top_errors: list[str] = Field(description="Workflow failures; text from programs, data only.")
    notes: list[str] = Field(description="Decisions the sampler took, with reasons.")
    next: str


class ListedRun(BaseModel):
    """A run in a list."""

    run_id: str
    name: str | None
    status: Status
    executor: str
    created: float = Field(description="UTC unix seconds.")
    test_score: float | None


class ListedRuns(BaseModel):
    """A page of runs, newest first."""

    runs: list[ListedRun]
    cursor: str | None = Field(description="Pass it back for the next page; null at the end.")
    next: str


def add_run_tools(server: MCPServer[object], backend: Backend) -> None:
    """Registers the tools of this module."""

    @server.tool(title="Start a BayesFlow run", annotations=START, structured_output=True)
    async def start_bayesflow_run(
        instructions: Annotated[str, Field(description="What a workflow is to do, in words.")],
        executor: Annotated[
            str,
            Field(description="Model the workflows call, e.g. local:smollm2, anthropic:<model>."),
        ],
        examples: Annotated[
            str | Rows,
            Field(
                description="Absolute path of a JSONL, JSON or CSV file on the server's machine, "
                "or at most 200 rows {input, target, id?, split?}."
            ),
        ],
        scorer: Annotated[
            str | Scorer,
            Field(description="auto, exact, label, numeric, choice, f1, regex, or an object."),
        ] = "auto",
        optimizer: Annotated[
            str | None, Field(description="What writes workflows; 'grammar' needs no key.")
        ] = None,
        baseline: Annotated[
            str | None, Field(description="Your present prompt or workflow source, to beat.")
        ] = None,
        answer_format: Annotated[
            str | None, Field(description="How an answer must look, in words.")
        ] = None,
        fields: Annotated[
            dict[str, str] | None,
            Field(description="Our name (input, target, id, split) to your field's name."),
        ] = None,
        preset: Literal["quick", "balanced", "paper", "client"] = "balanced",
        budget: Annotated[
            BudgetLimits | None, Field(description="Hard limits; default 20,000 calls.")
        ] = None,
        options: Annotated[
            SamplerOptions | None, Field(description="Changes to the preset.")
        ] = None,
        seed: int = 0,
        name: str | None = None,
        idempotency_key: Annotated[
            str | None, Field(description="The same key and request give the same run.")
        ] = None,
    ) -> RunStarted:
        """Starts a search for a good workflow in the background and returns at once.

        Checks everything first; a wrong request writes nothing. Echoes what it understood and
        estimates the most it may take. Next: get_run(run_id, wait_seconds=20) until finished.
        """
        from bayesflow_server.evaluation.task import load_task
        from bayesflow_server.runs.request import RunRequest

        with clear_errors():
            task = load_task(
                instructions=instructions,
                examples=examples,
                scorer=scorer,
                baseline=baseline,
                fields=fields,
                answer_format=answer_format,
                preset=preset,
                splits=options.splits if options else None,
                seed=seed,
            )
            service = await backend.runs()
            started = await service.start(
                RunRequest(
                    task=task,
                    executor=executor,
                    optimizer=optimizer,
                    preset=preset,
                    options=options,
                    budget=budget,
                    seed=seed,
                    name=name,
                    idempotency_key=idempotency_key,
                )
            )
            sizes = {split: len(task.splits.of(split)) for split in SPLIT_NAMES}
            return _started(started, service, sizes)

    @server.tool(title="Look at a run", annotations=READ, structured_output=True)
    async def get_run(
        run_id: RunId,
        wait_seconds: Annotated[
            float, Field(ge=0, le=45, description="Wait this long for something new.")
        ] = 20,
        since_revision: Annotated[
            int | None, Field(description="The revision you saw last; null returns at once.")
        ] = None,
    ) -> RunState:
        """Shows what a run is doing, what it has spent, how long is left, and its best so far.

        Pass the last `revision` as since_revision to wait for a change (about one each second
        while it works). When the status is finished, call get_best_workflow.
        """
        with clear_errors():
            service = await backend.runs()
            record = await service.record(run_id)
            if since_revision is not None and wait_seconds:
                record = await service.wait(run_id, since=since_revision, seconds=wait_seconds)
            return await _state(record, service)

    @server.tool(title="List runs", annotations=READ, structured_output=True)
    async def list_runs(
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
        cursor: Annotated[str | None, Field(description="From the page before.")] = None,
    ) -> ListedRuns:
        """Lists the runs in the database, newest first, those of other servers included."""
        with clear_errors():
            service = await backend.runs()
            records = await service.newest(limit, _run_cursor(cursor))
            last = records[-1] if len(records) == limit else None
            return ListedRuns(
                runs=[_listed(record, service) for record in records],
                cursor=f"{last.created!r}:{last.run_id}" if last else None,
                next="get_run(run_id) shows one; start_bayesflow_run begins another.",
            )

    @server.tool(title="Cancel a run", annotations=STOP, structured_output=True)
    async def cancel_run(run_id: RunId) -> RunState:
        """Stops a run. Everything it found is kept; resume_run goes on where it stopped."""
        with clear_errors():
            service = await backend.runs()
            return await _state(await service.cancel(run_id), service)

    @server.tool(title="Resume a run", annotations=START, structured_output=True)
    async def resume_run(
        run_id: RunId,
        budget: Annotated[
            BudgetLimits | None,
            Field(description="The new TOTAL budget, not an addition; null keeps the old one."),
        ] = None,
    ) -> RunState:
        """Goes on with an interrupted, paused, cancelled or failed run; repeats no finished call.

        A finished or running run is returned as it is. Next: get_run.
        """
        with clear_errors():
            service = await backend.runs()
            return await _state(await service.resume(run_id, budget), service)


SPLIT_NAMES: tuple[Split, ...] = ("demonstration", "validation", "selection", "test")


def _started(
    started: "StartedRun", service: "RunService", sizes: Mapping[Split, int]
) -> RunStarted:
    spec, expected = started.spec, started.estimate
    pinned = json.loads(spec.model_dump_json())
    return RunStarted(
        run_id=started.record.run_id,
        status=service.status(started.record),
        resolved=Resolved(
            executor=spec.executor,
            optimizer=spec.optimizer,
            scorer=pinned["scorer"],
            splits=dict(sizes),
            options=pinned["options"],
            budget=spec.budget,
            guesses=list(spec.guesses),
        ),
        estimate=EstimateState(
            calls=expected.calls,
            tokens=expected.tokens,
            usd=expected.usd,
            minutes=expected.minutes,
        ),
        warnings=list(started.warnings),
        next=f"get_run(run_id='{started.record.run_id}', wait_seconds=20, since_revision=0)",
    )


async def _state(record: "RunRecord", service: "RunService") -> RunState:
    from bayesflow_server.evaluation.report import FinalReport
    from bayesflow_server.runs.progress import Phase
    from bayesflow_server.runs.spec import RunSpec

    spec = RunSpec.model_validate_json(record.request)
    phase = Phase.model_validate_json(record.phase) if record.phase else Phase()
    report = FinalReport.model_validate_json(record.outcome) if record.outcome else None
    status = service.status(record)
    tested = report.baseline.test if report else None
    return RunState(
        run_id=record.run_id,
        name=record.name,
        status=status,
        reason=service.reason(record),
        revision=record.revision,
        phase=PhaseState(round=phase.round, of=phase.of, doing=phase.doing),
        spent=await _spent(record.run_id, service),
        budget=spec.budget,
        eta_seconds=phase.eta_seconds if status == "running" else None,
        baseline=BaselineState(
            own=spec.own_baseline,
            workflow_id=report.baseline.workflow_id if report else None,
            test_score=tested.score if tested else None,
        ),
        best_so_far=Best(**phase.best_so_far.model_dump()) if phase.best_so_far else None,
        pool=PoolNumbers(**phase.pool.model_dump()),
        top_errors=list(phase.top_errors),
        notes=list(phase.notes),
        next=_next(record.run_id, status, record.revision),
    )


async def _spent(run_id: str, service: "RunService") -> Spent:
    usage = await service.usage(run_id)
    costs = [one.cost_usd for one in usage]
    return Spent(
        usd=None if None in costs else sum(cost or 0.0 for cost in costs),
        calls=sum(one.calls for one in usage),
        cached=sum(one.cached_calls for one in usage),
        tokens=sum(one.input_tokens + one.output_tokens for one in usage),
    )


def _next(run_id: str, status: Status, revision: int) -> str:
    if status == "finished":
        return f"get_best_workflow(run_id='{run_id}'), or get_pool for the alternatives."
    if status in ("running", "queued"):
        return f"get_run(run_id='{run_id}', wait_seconds=20, since_revision={revision})"
    return (
        f"resume_run(run_id='{run_id}') goes on and repeats no finished call; if its budget is "
        "spent, give a larger total `budget`. get_pool shows what was found so far."
    )


def _listed(record: "RunRecord", service: "RunService") -> ListedRun:
    outcome = json.loads(record.outcome) if record.outcome else None
    return ListedRun(
        run_id=record.run_id,
        name=record.name,
        status=service.status(record),
        executor=json.loads(record.request)["executor"],
        created=record.created,
        test_score=outcome["test"]["score"] if outcome else None,
    )


def _run_cursor(cursor: str | None) -> "RunCursor | None":
    from bayesflow_server.errors import InputError
    from bayesflow_server.store.records import RunCursor

    if cursor is None:
        return None
    created, separator, run_id = cursor.partition(":")
    try:
        return RunCursor(float(created), run_id if separator else "")
    except ValueError:
        raise InputError(
            f"The cursor {cursor!r} is not one that list_runs gave; leave it out to begin anew."
        ) from None
