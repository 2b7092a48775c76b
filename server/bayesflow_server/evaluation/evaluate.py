"""Running workflows on rows and scoring the answers: the sampler's `Reward`, and more.

workflow × rows → sandbox ⇄ gateway ⇄ model → answer → scorer → one execution record a row.
An execution that is on record is not run again, so a resumed run goes on where it stopped. A
workflow that fails, or that the policy refuses, is data (score 0 and its error); an outage or a
spent budget is an exception. Records and summaries hold accuracy; the sampler gets the reward, from
which the cost may have been taken (`penalty.py`).
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Final, NamedTuple

from bayesflow_sampler.types import Evaluation, RowSet, Workflow
from bayesflow_sampler.urgency import AHEAD
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.outcome import Failure, Outcome, answer_of
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.door import NO_TIERS, Door, Tiers
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.graders import GradingPlace, ScoringTools, grader_for
from bayesflow_server.evaluation.grading import Grade
from bayesflow_server.evaluation.outcomes import UNGRADED, outcomes_json
from bayesflow_server.evaluation.penalty import CostPenalty
from bayesflow_server.evaluation.problem_tests import CodeFields, takes_entry_point
from bayesflow_server.evaluation.scorers import Scorer
from bayesflow_server.gateway.gateway import ModelSession
from bayesflow_server.gateway.usage import total_usd
from bayesflow_server.models.chat import Usage
from bayesflow_server.store.records import ExecutionRecord, Split, SummaryRecord
from bayesflow_server.store.store import Store
from bayesflow_server.store.text import storable

__all__ = ["Evaluator", "failure_line"]

# Waiting for a model, its free slot or its recovery is no fault of the workflow: the gateway bounds
# each call, the sandbox the time between calls, and the wall clock only what neither sees.
EXECUTION_LIMITS: Final = Limits(wall_seconds=86_400.0)
_MOST_CONCURRENT: Final = 256
_NO_ANSWER: Final = Failure(
    "InvalidReturnValue",
    "the workflow ended without an answer; its last step must return one, as in "
    "`return answer, cost`",
)


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
        tiers: Models that a workflow may name by tier, on the scope's account; none: no tiers.
        judge: The judge model, on the scope's account, for a scorer that needs one.
        scoring: What the process has for scorers that do more than compute.
        public_tests: Field of a row's meta data with the tests that `exec_code` runs, or None.
        trace_all: Keep what every execution asked its models; else only that of validation rows
            that could have scored higher, for the refiner.
        cost_weight: λ of the cost penalty, at least 0.
        cost_cap_usd: Cost of a row at which the whole λ is taken; needed where λ > 0.
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
    tiers: Tiers = field(default_factory=lambda: NO_TIERS)
    judge: ModelSession | None = None
    scoring: ScoringTools = field(default_factory=ScoringTools)
    public_tests: str | None = None
    trace_all: bool = False
    cost_weight: float = 0.0
    cost_cap_usd: float | None = None
    on_execution: Callable[[ExecutionRecord], None] | None = None
    on_rows: Callable[[int], None] | None = None
    _known: dict[_Key, ExecutionRecord] = field(
        default_factory=dict[_Key, ExecutionRecord], init=False
    )
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock], init=False)

    def __post_init__(self) -> None:
        # Enough to keep the model busy while answers are read and scored; for edits as many again,
        # or they would queue behind a whole round.
        wanted = 2 * self.session.model.concurrency + 2
        room = min(wanted, _MOST_CONCURRENT)
        self._slots = {ahead: asyncio.Semaphore(room) for ahead in (False, True)}
        self._penalty = CostPenalty.of(self.cost_weight, self.cost_cap_usd)
        if self._penalty is not None:
            _check_prices([self.session, *self.tiers.values()])
        place = GradingPlace(self.sandbox, self.scoring, self.judge, self.replicate, self.seed)
        self._grader = grader_for(self.scorer, place)
        self._code = CodeFields.of(self.scorer, self.public_tests)

    async def load(self) -> None:
        """Reads what earlier sittings executed."""
        for record in await self.store.all_executions(self.scope):
            if record.replicate == self.replicate:
                self._known[_key(record)] = record

    @property
    def records(self) -> Iterable[ExecutionRecord]:
        """Every execution on record, of all splits."""
        return self._known.values()

    def size(self, split: str) -> int:
        """How many rows the split has."""
        return len(self.rows.get(split, ()))

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        """Scores the workflow on these rows, running it where no execution is on record.

        The scores are rewards: accuracy, less the cost penalty if there is one.

        Raises:
            BudgetSpentError: The budget has no room for a call.
            InputError: A row of a coding task has no tests.
            ProviderError: The provider kept failing.
        """
        # Rendered once: for each row it would cost as much as the rest of the bookkeeping.
        workflow_id, source = workflow.workflow_id, workflow.source
        async with self._alone(workflow_id):
            records = await self._executions(workflow_id, source, rows)
            await self._summarise(workflow_id, rows.split)
        if self.on_rows is not None:
            self.on_rows(len(records))
        return Evaluation(workflow_id, rows, self._rewards(records), _common_failure(records))

    async def execute(self, workflow: Workflow, rows: RowSet) -> list[ExecutionRecord]:
        """Runs the workflow on these rows where no execution is on record; no summary is made.

        For a smoke run: what was executed is on record, and a later `score` does not repeat it.

        Raises:
            BudgetSpentError: The budget has no room for a call.
            ProviderError: The provider kept failing.
        """
        workflow_id, source = workflow.workflow_id, workflow.source
        async with self._alone(workflow_id):
            return await self._executions(workflow_id, source, rows)

    def executions(self, workflow_id: str, split: str) -> list[ExecutionRecord]:
        """What is on record for a workflow and split, by position."""
        found = (self._known.get(_Key(workflow_id, split, p)) for p in range(self.size(split)))
        return [record for record in found if record is not None]

    def _alone(self, workflow_id: str) -> asyncio.Lock:
        """One caller a workflow: the next finds the executions on record."""
        return self._locks.setdefault(workflow_id, asyncio.Lock())

    def _rewards(self, records: Iterable[ExecutionRecord]) -> tuple[float, ...]:
        if self._penalty is None:
            return tuple(record.score for record in records)
        return tuple(self._penalty.reward(record) for record in records)

    async def _executions(
        self, workflow_id: str, source: str, rows: RowSet
    ) -> list[ExecutionRecord]:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._execution(workflow_id, source, rows.split, position))
                for position in rows.positions
            ]
        return [task.result() for task in tasks]

    async def _execution(
        self, workflow_id: str, source: str, split: Split, position: int
    ) -> ExecutionRecord:
        known = self._known.get(_Key(workflow_id, split, position))
        if known is not None:
            return known
        async with self._slots[AHEAD.get()]:
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
        door = Door(self.session, row.id, self.replicate, self.seed, self.tiers)
        started = time.monotonic()
        try:
            outcome = _with_an_answer(await self._outcome(source, row, door))
        finally:
            await door.aclose()
        seconds = time.monotonic() - started
        answer = storable(answer_of(outcome.value)) if outcome.ok else None
        grade = await self._grade(row, answer)
        meter = door.meter
        outcomes = meter.outcomes if grade.graded else meter.outcomes | {UNGRADED: 1}
        return ExecutionRecord(
            scope=self.scope,
            workflow_id=workflow_id,
            split=split,
            position=position,
            row_id=row.id,
            answer=answer,
            score=grade.score,
            error=_error_json(outcome),
            calls=meter.calls,
            cached_calls=meter.cached_calls,
            input_tokens=meter.input_tokens,
            output_tokens=meter.output_tokens,
            cost_usd=meter.usd,
            seconds=seconds,
            replicate=self.replicate,
            outcomes=outcomes_json(outcomes),
            trace=storable(door.log.text) if self._traces(split, grade.score) else "",
        )

    async def _outcome(self, source: str, row: Row, door: Door) -> Outcome:
        """What the workflow makes of a problem and, in a coding task, of the function's name.

        Whoever takes the problem alone, like the built-in grammar's workflows, gets it alone.
        """
        code, arguments = self._code, [row.problem]
        if code is not None and takes_entry_point(source):
            arguments.append(code.function(row))
        tests = None if code is None else code.public_tests(row)
        return await self.sandbox.run_workflow(
            source, arguments, door, EXECUTION_LIMITS, public_tests=tests
        )

    def _traces(self, split: Split, score: float) -> bool:
        return self.trace_all or (split == "validation" and score < 1)

    async def _grade(self, row: Row, answer: str | None) -> Grade:
        return Grade(0.0) if answer is None else await self._grader.grade(row, answer)

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
                reward=None if self._penalty is None else fmean(self._rewards(records)),
            )
        )


def failure_line(record: ExecutionRecord) -> str:
    """A failed execution's failure in one line: type, message, step and line."""
    failure = Failure(**json.loads(record.error or "{}"))
    place = f" in {failure.step}" if failure.step else ""
    line = f", line {failure.line}" if failure.line else ""
    return f"{failure.type}: {failure.message}{place}{line}"


def _check_prices(sessions: Iterable[ModelSession]) -> None:
    for session in sessions:
        if session.list_cost_usd(Usage(1, 1)) is None:
            raise InputError(
                f"The price of {session.model.spec} is unknown, so its cost cannot join the "
                "reward: set `cost_weight` to 0, or use a model with a known price."
            )


def _with_an_answer(outcome: Outcome) -> Outcome:
    """The outcome; a workflow that ended without an answer has failed: it lacks a `return`."""
    value = outcome.value
    answer = value[0] if isinstance(value, tuple) and value else value
    if not outcome.ok or not (answer is None or answer == ()):
        return outcome
    return replace(outcome, value=None, failure=_NO_ANSWER)


def _error_json(outcome: Outcome) -> str | None:
    return None if outcome.failure is None else json.dumps(asdict(outcome.failure))


def _common_failure(records: Sequence[ExecutionRecord]) -> str | None:
    """Why the workflow does not run at all: every row failed. One line, the most frequent."""
    if not records or any(record.error is None for record in records):
        return None
    return Counter(failure_line(record) for record in records).most_common(1)[0][0]


def _key(record: ExecutionRecord) -> _Key:
    return _Key(record.workflow_id, record.split, record.position)
