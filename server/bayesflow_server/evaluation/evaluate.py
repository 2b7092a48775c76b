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
from bayesflow_server.evaluation.sheet import Figures, Sheet
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
    """Names the sheet of a workflow on a split."""

    workflow_id: str
    split: str


class _Slot:
    """Leave to execute; given back once."""

    def __init__(self, room: asyncio.Semaphore) -> None:
        self._room: asyncio.Semaphore | None = room

    def free(self, _task: asyncio.Task[None] | None = None) -> None:
        """Gives it back."""
        room, self._room = self._room, None
        if room is not None:
            room.release()


class _Lane:
    """So many executions at a time, begun in the order in which their workflows came.

    Attributes:
        turn: Whose executions are begun now.
    """

    def __init__(self, room: int) -> None:
        self.turn = asyncio.Lock()
        self._room = asyncio.Semaphore(room)

    async def slot(self) -> _Slot:
        """Leave to execute, when there is room."""
        await self._room.acquire()
        return _Slot(self._room)


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
    _sheets: dict[_Key, Sheet] = field(default_factory=dict[_Key, Sheet], init=False)
    _count: int = field(default=0, init=False)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict[str, asyncio.Lock], init=False)

    def __post_init__(self) -> None:
        # Enough to keep the model busy while answers are read and scored; for edits as many again,
        # or they would queue behind a whole round.
        wanted = 2 * self.session.model.concurrency + 2
        room = min(wanted, _MOST_CONCURRENT)
        self._lanes = {ahead: _Lane(room) for ahead in (False, True)}
        self._penalty = CostPenalty.of(self.cost_weight, self.cost_cap_usd)
        if self._penalty is not None:
            _check_prices([self.session, *self.tiers.values()])
        place = GradingPlace(self.sandbox, self.scoring, self.judge, self.replicate, self.seed)
        self._grader = grader_for(self.scorer, place)
        self._code = CodeFields.of(self.scorer, self.public_tests)

    async def load(self, each: Callable[[ExecutionRecord], None] | None = None) -> None:
        """Finds what earlier sittings executed, and hands each to `each`."""
        async for records in self.store.pages_of_executions(self.scope, self.replicate):
            for record in records:
                self._note(record)
                if each is not None:
                    each(record)

    @property
    def count(self) -> int:
        """How many executions are on record, of all splits."""
        return self._count

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
            await self._executions(workflow_id, source, rows)
            await self._summarise(workflow_id, rows.split)
        figures = self._sheet(workflow_id, rows.split).at(rows.positions)
        if self.on_rows is not None:
            self.on_rows(len(figures))
        failure = await self._common_failure(workflow_id, rows.split, rows.positions, figures)
        return Evaluation(workflow_id, rows, self._rewards(figures), failure)

    async def execute(self, workflow: Workflow, rows: RowSet) -> list[ExecutionRecord]:
        """Runs the workflow on these rows where no execution is on record; no summary is made.

        For a smoke run: what was executed is on record, and a later `score` does not repeat it.

        Raises:
            BudgetSpentError: The budget has no room for a call.
            ProviderError: The provider kept failing.
        """
        workflow_id, source = workflow.workflow_id, workflow.source
        async with self._alone(workflow_id):
            await self._executions(workflow_id, source, rows)
        found = {one.position: one for one in await self.executions(workflow_id, rows.split)}
        return [found[position] for position in rows.positions]

    async def executions(self, workflow_id: str, split: Split) -> list[ExecutionRecord]:
        """What is on record for a workflow and split, by position."""
        return await self.store.executions(self.scope, workflow_id, split, self.replicate)

    def _sheet(self, workflow_id: str, split: str) -> Sheet:
        return self._sheets.setdefault(_Key(workflow_id, split), Sheet())

    def _note(self, record: ExecutionRecord) -> None:
        sheet = self._sheet(record.workflow_id, record.split)
        self._count += sheet.add(record.position, Figures.of(record))

    def _alone(self, workflow_id: str) -> asyncio.Lock:
        """One caller a workflow: the next finds the executions on record."""
        return self._locks.setdefault(workflow_id, asyncio.Lock())

    def _rewards(self, figures: Iterable[Figures]) -> tuple[float, ...]:
        if self._penalty is None:
            return tuple(one.score for one in figures)
        return tuple(self._penalty.reward(one) for one in figures)

    async def _executions(self, workflow_id: str, source: str, rows: RowSet) -> None:
        sheet = self._sheet(workflow_id, rows.split)
        lane = self._lanes[AHEAD.get()]
        # Workflow by workflow, and a task only where there is a slot for it: a round's executions
        # all at once would be more tasks than everything else in memory.
        async with asyncio.TaskGroup() as group, lane.turn:
            for position in rows.positions:
                if position not in sheet:
                    slot = await lane.slot()
                    work = self._execution(slot, workflow_id, source, rows.split, position)
                    group.create_task(work).add_done_callback(slot.free)

    async def _execution(
        self, slot: "_Slot", workflow_id: str, source: str, split: Split, position: int
    ) -> None:
        record = await self._execute(workflow_id, source, split, position)
        slot.free()  # what is left waits for the disk alone
        await self.store.record_execution(record)
        self._note(record)
        if self.on_execution is not None:
            self.on_execution(record)

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
        figures = self._sheet(workflow_id, split).all()
        scores = [one.score for one in figures]
        mean = sum(scores) / len(scores)
        squares = sum((score - mean) ** 2 for score in scores)
        failure = await self._common_failure(workflow_id, split, None, figures)
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
                calls=sum(one.calls for one in figures),
                tokens=sum(one.tokens for one in figures),
                cost_usd=total_usd(one.cost_usd for one in figures),
                seconds=sum(one.seconds for one in figures),
                replicate=self.replicate,
                reward=None if self._penalty is None else fmean(self._rewards(figures)),
            )
        )

    async def _common_failure(
        self,
        workflow_id: str,
        split: Split,
        positions: Sequence[int] | None,
        figures: Sequence[Figures],
    ) -> str | None:
        """Why the workflow does not run at all: every row failed. One line, the most frequent.

        Args:
            workflow_id: The workflow.
            split: The split of the rows.
            positions: The rows, in the order that decides between equally frequent failures; None:
                all that are on record.
            figures: Their executions.
        """
        if not figures or not all(one.failed for one in figures):
            return None
        found = {one.position: one for one in await self.executions(workflow_id, split)}
        lines = [failure_line(found[position]) for position in positions or found]
        return Counter(lines).most_common(1)[0][0]


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
