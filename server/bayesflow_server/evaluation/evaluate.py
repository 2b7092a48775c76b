"""Running workflows on rows and scoring the answers: the sampler's `Reward`, and more.

workflow × rows → sandbox ⇄ gateway ⇄ model → answer → scorer → one execution record a row.
An execution that is on record is not run again, so a resumed run goes on where it stopped. A
workflow that fails, or that the policy refuses, is data (score 0 and its error); an outage or a
spent budget is an exception.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

from bayesflow_sampler.types import Evaluation, RowSet, Workflow
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.outcome import Failure, Outcome, answer_of
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.door import Door
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.scorers import Scorer
from bayesflow_server.gateway.gateway import ModelSession
from bayesflow_server.gateway.usage import list_price_usd, total_usd
from bayesflow_server.store.records import ExecutionRecord, Split, SummaryRecord
from bayesflow_server.store.store import Store
from bayesflow_server.store.text import storable

__all__ = ["Evaluator", "failure_line"]

# Waiting for a model, its free slot or its recovery is no fault of the workflow: the gateway bounds
# each call, the sandbox the time between calls, and the wall clock only what neither sees.
EXECUTION_LIMITS: Final = Limits(wall_seconds=86_400.0)
_MOST_CONCURRENT: Final = 256


class _Key(NamedTuple):
    """Names one execution within a scope and replicate."""

    workflow_id: str
    split: str
    position: int


@dataclass
class Evaluator:
    """Scores workflows on a scope's rows; implements `bayesflow_sampler.ports.Reward`.

    Attributes:
        scope: The run or evaluation that the executions belong to.
        rows: The rows of each split.
        scorer: Scores an answer.
        session: The executor model, on the scope's account.
        sandbox: Where the workflows run.
        store: Where the executions are kept.
        seed: The run's seed.
        replicate: Which pass over the rows.
        on_execution: Told of each new execution.
        on_rows: Told how many rows a request covered, remembered ones included.
    """

    scope: str
    rows: Mapping[str, Sequence[Row]]
    scorer: Scorer
    session: ModelSession
    sandbox: Sandbox
    store: Store
    seed: int = 0
    replicate: int = 0
    on_execution: Callable[[ExecutionRecord], None] | None = None
    on_rows: Callable[[int], None] | None = None
    _known: dict[_Key, ExecutionRecord] = field(
        default_factory=dict[_Key, ExecutionRecord], init=False
    )
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock], init=False)

    def __post_init__(self) -> None:
        # Enough to keep the model busy while answers are read and scored.
        wanted = 2 * self.session.model.concurrency + 2
        self._slots = asyncio.Semaphore(min(wanted, _MOST_CONCURRENT))

    async def load(self) -> None:
        """Reads what earlier sittings executed."""
        for record in await self.store.all_executions(self.scope):
            if record.replicate == self.replicate:
                self._known[_key(record)] = record

    def size(self, split: str) -> int:
        """How many rows the split has."""
        return len(self.rows.get(split, ()))

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        """Scores the workflow on these rows, running it where no execution is on record.

        Raises:
            BudgetSpentError: The budget has no room for a call.
            ProviderError: The provider kept failing.
        """
        # Rendered once: for each row it would cost as much as the rest of the bookkeeping.
        workflow_id, source = workflow.workflow_id, workflow.source
        lock = self._locks.setdefault(workflow_id, asyncio.Lock())
        async with lock:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._execution(workflow_id, source, rows.split, position))
                    for position in rows.positions
                ]
            records = [task.result() for task in tasks]
            await self._summarise(workflow_id, rows.split)
        if self.on_rows is not None:
            self.on_rows(len(records))
        scores = tuple(record.score for record in records)
        return Evaluation(workflow_id, rows, scores, _common_failure(records))

    def executions(self, workflow_id: str, split: str) -> list[ExecutionRecord]:
        """What is on record for a workflow and split, by position."""
        found = (self._known.get(_Key(workflow_id, split, p)) for p in range(self.size(split)))
        return [record for record in found if record is not None]

    async def _execution(
        self, workflow_id: str, source: str, split: Split, position: int
    ) -> ExecutionRecord:
        known = self._known.get(_Key(workflow_id, split, position))
        if known is not None:
            return known
        async with self._slots:
            record = await self._execute(workflow_id, source, split, position)
        await self.store.record_execution(record)
        self._known[_key(record)] = record
        if self.on_execution is not None:
            self.on_execution(record)
        return record

    async def _execute(
        self, workflow_id: str, source: str, split: Split, position: int
    ) -> ExecutionRecord:
        row = self.rows[split][position]
        door = Door(self.session, row.id, self.replicate, self.seed)
        started = time.monotonic()
        try:
            outcome = await self.sandbox.run_workflow(
                source, (row.problem,), door, EXECUTION_LIMITS
            )
        finally:
            await door.aclose()
        answer = storable(answer_of(outcome.value)) if outcome.ok else None
        meter = door.meter
        return ExecutionRecord(
            scope=self.scope,
            workflow_id=workflow_id,
            split=split,
            position=position,
            row_id=row.id,
            answer=answer,
            score=0.0 if answer is None else self.scorer.score(answer, row.target),
            error=_error_json(outcome),
            calls=meter.calls,
            cached_calls=meter.cached_calls,
            input_tokens=meter.input_tokens,
            output_tokens=meter.output_tokens,
            cost_usd=list_price_usd(self.session.model.spec),
            seconds=time.monotonic() - started,
            replicate=self.replicate,
        )

    async def _summarise(self, workflow_id: str, split: Split) -> None:
        records = self.executions(workflow_id, split)
        scores = [record.score for record in records]
        mean = sum(scores) / len(scores)
        squares = sum((score - mean) ** 2 for score in scores)
        failure = _common_failure(records)
        await self.store.put_summary(
            SummaryRecord(
                run_id=self.scope,
                workflow_id=workflow_id,
                split=split,
                rows=len(scores),
                mean=mean,
                variance=squares / max(len(scores) - 1, 1),
                failed=failure is not None,
                error=None if failure is None else json.dumps(failure),
                calls=sum(record.calls for record in records),
                tokens=sum(record.input_tokens + record.output_tokens for record in records),
                cost_usd=total_usd(record.cost_usd for record in records),
                seconds=sum(record.seconds for record in records),
                replicate=self.replicate,
            )
        )


def failure_line(record: ExecutionRecord) -> str:
    """A failed execution's failure in one line: type, message, step and line."""
    failure = Failure(**json.loads(record.error or "{}"))
    place = f" in {failure.step}" if failure.step else ""
    line = f", line {failure.line}" if failure.line else ""
    return f"{failure.type}: {failure.message}{place}{line}"


def _error_json(outcome: Outcome) -> str | None:
    return None if outcome.failure is None else json.dumps(asdict(outcome.failure))


def _common_failure(records: Sequence[ExecutionRecord]) -> str | None:
    """Why the workflow does not run at all: every row failed. One line, the most frequent."""
    if not records or any(record.error is None for record in records):
        return None
    return Counter(failure_line(record) for record in records).most_common(1)[0][0]


def _key(record: ExecutionRecord) -> _Key:
    return _Key(record.workflow_id, record.split, record.position)
