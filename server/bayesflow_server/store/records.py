"""What the store keeps, as plain records; no SQL here.

Times are UTC unix seconds. A field that holds JSON is text that the caller made and the store never
reads. A record's field names are its table's column names (`table.py`), so the two cannot drift.
Content-addressed and journalled things are idempotent: the first record under a key stands.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from bayesflow_server.run_status import RunStatus

__all__ = [
    "UNSET",
    "CompletionRecord",
    "EvaluationRecord",
    "EventRecord",
    "ExecutionRecord",
    "NewEvaluation",
    "NewRun",
    "Origin",
    "ParticleRecord",
    "PoolEntry",
    "PoolRow",
    "ProposalRecord",
    "Role",
    "RoundRecord",
    "RowRecord",
    "RunCursor",
    "RunRecord",
    "RunStatus",
    "Split",
    "SubmissionRecord",
    "SummaryRecord",
    "Unset",
    "UsageDelta",
    "UsageRecord",
    "WorkflowRecord",
]

Split = Literal["demonstration", "validation", "selection", "test"]
Origin = Literal["prior", "refined", "baseline", "submitted", "warm"]
Role = Literal["executor", "optimizer", "refiner", "judge"]


class Unset(Enum):
    """The type of `UNSET`, which marks a field that an update leaves alone (None is a value)."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run as its caller asks for it.

    Attributes:
        run_id: Its id, unique for ever.
        request: JSON: the resolved request, pinned.
        request_hash: Tells apart two requests under one idempotency key.
        name: What people call it.
        idempotency_key: At most one run has it.
        status: Where its life begins.
        phase: JSON: what it is doing.
        warnings: JSON: a list.
    """

    run_id: str
    request: str
    request_hash: str
    name: str | None = None
    idempotency_key: str | None = None
    status: RunStatus = "queued"
    phase: str | None = None
    warnings: str = "[]"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as it is stored.

    Attributes:
        reason: Why the status is what it is, in one sentence for a person.
        revision: Starts at 1 and grows with every change that a client can see.
        owner: The process that holds the run, or None.
        heartbeat: When the owner last said that it lives.
        active_seconds: Time spent running, over all its owners.
        outcome: JSON: the final pick and report.
        takeovers: How often a process took it over unasked since it last finished a round.
    """

    run_id: str
    name: str | None
    status: RunStatus
    reason: str | None
    request: str
    request_hash: str
    idempotency_key: str | None
    revision: int
    owner: str | None
    heartbeat: float | None
    created: float
    updated: float
    active_seconds: float
    phase: str | None
    outcome: str | None
    warnings: str
    takeovers: int


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to a run.

    Attributes:
        position: Counts from 1 within the run, without gaps.
        created: When.
        kind: The status the run then had, or `round` when one was finished.
        detail: The reason of the status, or the round's number.
    """

    run_id: str
    position: int
    created: float
    kind: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class RunCursor:
    """Where the next page of runs begins: just after this run, newest first."""

    created: float
    run_id: str


@dataclass(frozen=True, slots=True)
class RowRecord:
    """One pinned row; ``input``, ``target`` and ``meta`` are JSON, ``position`` counts from 0."""

    split: Split
    position: int
    row_id: str
    input: str
    target: str | None = None
    meta: str = "{}"


@dataclass(frozen=True, slots=True)
class WorkflowRecord:
    """A workflow, global and content-addressed. ``steps`` is JSON."""

    workflow_id: str
    source: str
    steps: str


@dataclass(frozen=True, slots=True)
class PoolEntry:
    """How a workflow came into a run's pool. ``clean``: no refinement among its ancestors."""

    run_id: str
    workflow_id: str
    round: int
    origin: Origin
    parent_id: str | None = None
    clean: bool = True


@dataclass(frozen=True, slots=True)
class SummaryRecord:
    """The score of a workflow on one split.

    Attributes:
        run_id: A run or an evaluation (the scope the rows belong to).
        rows: How many rows were scored.
        mean: Mean of the row scores: the accuracy, whatever it cost.
        reward: The mean less the cost penalty, or None where cost does not count (the mean then).
        variance: Sample variance of the row scores.
        failed: The workflow does not run; ``error`` (JSON) says why.
        calls: LLM calls, cached ones included.
        cost_usd: List price as if nothing were cached, or None where a price is unknown.
        seconds: Summed over the rows.
    """

    run_id: str
    workflow_id: str
    split: Split
    rows: int
    mean: float
    variance: float
    failed: bool = False
    error: str | None = None
    calls: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    replicate: int = 0
    reward: float | None = None


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool entry with its workflow's steps and validation score; the source is left out."""

    entry: PoolEntry
    steps: str
    validation: SummaryRecord | None


@dataclass(frozen=True, slots=True)
class ExecutionRecord:
    """One workflow run on one row. ``scope`` is a run or an evaluation; ``error`` is JSON.

    ``outcomes`` is JSON: how many of its calls ended otherwise than well, by stop reason.
    ``trace`` shows its last calls, cut short, where a refiner may ask for them; else it is empty.
    """

    scope: str
    workflow_id: str
    split: Split
    position: int
    row_id: str
    answer: str | None
    score: float
    error: str | None = None
    calls: int = 0
    cached_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0
    replicate: int = 0
    outcomes: str = "{}"
    trace: str = ""


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """A finished round. ``stats`` is JSON."""

    run_id: str
    round: int
    stats: str


@dataclass(frozen=True, slots=True)
class ParticleRecord:
    """One particle of a round.

    Attributes:
        workflow_id: The workflow of its complete rollout (already in the pool), or None.
        prefix_id: Hash of its prefix.
        steps: Steps in the prefix.
        log_weight: Relative to the prior flow; may be minus infinity.
        ancestor: Index of its parent in the round before, or None.
    """

    run_id: str
    round: int
    index: int
    workflow_id: str | None
    prefix_id: str
    steps: int
    log_weight: float
    score: float
    ancestor: int | None
    clean: bool


@dataclass(frozen=True, slots=True)
class ProposalRecord:
    """A question to the agent that optimises a run.

    Attributes:
        name: Names the question within the run; asked again after a crash, it is the same row.
        proposal_id: Its public id.
        kind: What is wanted: extend, complete, repair, critique, edit.
        prompt: The whole question as text.
        answer: The agent's text, or None while the question is open.
        given_until: An agent has it until then; after that it may be given to another.
        answered: When the answer came, or None.
    """

    run_id: str
    name: str
    proposal_id: str
    kind: str
    prompt: str
    answer: str | None
    given_until: float | None
    created: float
    answered: float | None


@dataclass(frozen=True, slots=True)
class SubmissionRecord:
    """A workflow that someone handed in to a run, in the order they came."""

    run_id: str
    position: int
    workflow_id: str
    source: str
    note: str | None
    created: float


@dataclass(frozen=True, slots=True)
class CompletionRecord:
    """A paid answer of a model, shared by every run in the file. ``dropped`` is a JSON list."""

    key: str
    model: str
    text: str
    input_tokens: int
    output_tokens: int
    cached_input_tokens: int
    stop_reason: str
    dropped: str
    created: float


@dataclass(frozen=True, slots=True)
class UsageDelta:
    """Calls to add to the count of (scope, role, model).

    Attributes:
        scope: A run or an evaluation.
        calls: Calls that reached the provider.
        cached_calls: Calls that the cache answered.
        needed_calls: Calls that would have been made without a cache.
        cost_usd: Zero for a cached call, None for an unknown price (and then so is the sum).
    """

    scope: str
    role: Role
    model: str
    calls: int = 0
    cached_calls: int = 0
    needed_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True, slots=True)
class UsageRecord(UsageDelta):
    """The sum of every delta of one (scope, role, model)."""


@dataclass(frozen=True, slots=True)
class NewEvaluation:
    """An evaluation as its caller asks for it. ``request`` is JSON."""

    evaluation_id: str
    workflow_id: str
    request: str
    status: RunStatus = "queued"


@dataclass(frozen=True, slots=True)
class EvaluationRecord:
    """An evaluation as it is stored. ``report`` is JSON."""

    evaluation_id: str
    workflow_id: str
    request: str
    status: RunStatus
    reason: str | None
    report: str | None
    created: float
    updated: float
