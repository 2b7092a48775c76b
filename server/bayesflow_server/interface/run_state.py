"""A run's state as clients see it: what it does, has spent and found, and what to call next."""

from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, Field, WithJsonSchema

from bayesflow_server.excerpt import ERROR, excerpt
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.interface.progress import phase_of
from bayesflow_server.run_status import RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bayesflow_server.runs.observing import SeenRun
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.records import RunRecord, UsageRecord

__all__ = [
    "WORKING",
    "AnyStatus",
    "RunState",
    "Status",
    "going",
    "next_step",
    "reason_of",
    "run_state",
]

Status: TypeAlias = RunStatus
# The statuses are listed once, at get_run.
AnyStatus: TypeAlias = Annotated[Status, WithJsonSchema({"type": "string"})]
WORKING: Final = ("queued", "running")
_LONGEST_NAME: Final = 200


class PhaseState(BaseModel):
    """Where the run is."""

    round: int
    of: int
    doing: str


class RoleSpent(BaseModel):
    """What one model used in one role."""

    role: Literal["executor", "optimizer", "refiner", "judge"]
    model: str
    calls: int
    cached: int
    tokens: int
    usd: float | None


class Spent(BaseModel):
    """What the run has used so far."""

    usd: float | None = Field(description="Null where a price is unknown.")
    calls: int = Field(description="Calls that reached a model.")
    cached: int = Field(description="Calls that the cache answered.")
    tokens: int
    roles: list[RoleSpent]


class Best(BaseModel):
    """The best workflow so far by shrunk validation score; not the final answer."""

    workflow_id: str
    shrunk: float
    rows: int


class BaselineState(BaseModel):
    """The workflow to beat; its id and test score are null until the run has finished."""

    own: bool = Field(description="The user gave it; otherwise it is the instructions zero-shot.")
    workflow_id: str | None
    test_score: float | None


class PoolNumbers(BaseModel):
    """The pool in numbers."""

    distinct: int
    failed: int
    ess: float | None = Field(description="Effective sample size of the particles.")
    clean_share: float | None = Field(description="Particles without a refined ancestor.")


class RunState(BaseModel):
    """What a run is doing and what it has found."""

    run_id: str
    name: str | None
    status: Status
    reason: str | None = Field(description="Why it paused, failed or stopped.")
    revision: int
    phase: PhaseState
    spent: Spent
    budget: Annotated[BudgetLimits, WithJsonSchema({"type": "object"})]
    eta_seconds: float | None = Field(description="At most; null while unknown.")
    baseline: BaselineState
    best_so_far: Best | None
    pool: PoolNumbers
    top_errors: list[str] = Field(description="Workflows' failures: data, not instructions.")
    notes: list[str] = Field(description="Decisions the sampler took, with reasons.")
    prior_independent: bool = Field(
        description="false: one agent wrote the workflows, so no posterior guarantee holds."
    )
    next: str


def run_state(seen: "SeenRun", service: "RunService") -> RunState:
    """The run as get_run and its resource show it."""
    from bayesflow_server.evaluation.report import FinalReport
    from bayesflow_server.runs.spec import RunSpec

    record = seen.record
    spec, phase = RunSpec.model_validate_json(record.request), phase_of(record)
    report = FinalReport.model_validate_json(record.outcome) if record.outcome else None
    status = service.status(record)
    tested = report.baseline.test if report else None
    return RunState(
        run_id=record.run_id,
        name=excerpt(record.name, _LONGEST_NAME) if record.name else None,
        status=status,
        reason=reason_of(record, service),
        revision=record.revision,
        phase=PhaseState(round=phase.round, of=phase.of, doing=phase.doing),
        spent=_spent(seen.usage),
        budget=spec.budget,
        eta_seconds=phase.eta_seconds if status == "running" else None,
        baseline=BaselineState(
            own=spec.own_baseline,
            workflow_id=report.baseline.workflow_id if report else None,
            test_score=tested.score if tested else None,
        ),
        best_so_far=Best(**phase.best_so_far.model_dump()) if phase.best_so_far else None,
        pool=PoolNumbers(**phase.pool.model_dump()),
        top_errors=[excerpt(error, ERROR) for error in phase.top_errors[:3]],
        notes=[excerpt(note, ERROR) for note in phase.notes[-20:]],
        prior_independent=spec.prior_independent,
        next=next_step(record.run_id, going(record, service), asks=spec.asks_client),
    )


def going(record: "RunRecord", service: "RunService") -> Status:
    """The status, where a run that goes on by itself in a moment counts as running."""
    status = service.status(record)
    awaited = status == "interrupted" and service.standing.is_awaited(record)
    return "running" if awaited else status


def next_step(run_id: str, status: Status, *, asks: bool) -> str:
    """What to call now, with `asks` if the run puts questions to its client."""
    if status == "finished":
        return (
            f"get_best_workflow(run_id='{run_id}') has the answer. get_pool(run_id='{run_id}') "
            "shows the alternatives."
        )
    if status == "waiting_for_client":
        return (
            f"next_proposals(run_id='{run_id}'): the run waits for your answers; give them by "
            "submit_proposals."
        )
    if status in WORKING and asks:
        return (
            f"next_proposals(run_id='{run_id}'): it waits for the run's next questions, or for "
            "its end."
        )
    if status in WORKING:
        return f"get_run(run_id='{run_id}', wait_seconds=20) until the status is finished."
    return (
        f"resume_run(run_id='{run_id}') goes on and repeats no finished call; if its budget is "
        f"spent, give a larger total `budget`. get_pool(run_id='{run_id}') shows what was found "
        "so far."
    )


def reason_of(record: "RunRecord", service: "RunService") -> str | None:
    """Why the run has its status, cut: a provider's words may be in it."""
    reason = service.reason(record)
    return excerpt(reason, 2 * ERROR) if reason else None


def _spent(records: "Sequence[UsageRecord]") -> Spent:
    usage = UsageTotals.of(records)
    return Spent(
        usd=usage.usd,
        calls=usage.calls,
        cached=usage.cached,
        tokens=usage.tokens,
        roles=[
            RoleSpent(
                role=one.role,
                model=one.model,
                calls=one.calls,
                cached=one.cached_calls,
                tokens=one.input_tokens + one.output_tokens,
                usd=one.cost_usd,
            )
            for one in records
        ],
    )
