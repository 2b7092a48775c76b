"""Answers to new inputs: one workflow, or a vote of a run's best.

Each workflow runs once on the input, with a small budget, its execution kept; an answer has an id
by which it can be waited for. The same input again gives the same answer and pays for nothing: the
completions are on record. A workflow that fails abstains, and its error is shown.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, JsonValue

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import RowSet, Workflow
from bayesflow_server.errors import InputError, NotFoundError
from bayesflow_server.evaluation.ensembles import chosen
from bayesflow_server.evaluation.evaluate import Evaluator, failure_line
from bayesflow_server.evaluation.example import Row, render_inputs
from bayesflow_server.evaluation.problem_tests import CodeFields, takes_entry_point
from bayesflow_server.evaluation.scorers import Exact, Regex, Scorer
from bayesflow_server.evaluation.voting import Vote, majority, vote_key
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.usage import total_usd
from bayesflow_server.runs.estimate import check_budget
from bayesflow_server.runs.jobs import Jobs, new_job_id
from bayesflow_server.runs.members import Member, posterior_weights
from bayesflow_server.runs.options import Tier
from bayesflow_server.runs.roles import GRAMMAR, Roles
from bayesflow_server.runs.sessions import open_sessions
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.store.records import EvaluationRecord, ExecutionRecord, NewEvaluation

__all__ = [
    "AnswerReport",
    "AnswerService",
    "AnswerSpec",
    "VoteKind",
    "VoteReport",
    "problem_text",
]

VoteKind: TypeAlias = Literal["majority", "weighted", "none"]

_DEFAULT_CALLS: Final = 200
# Nothing is graded, as nobody knows what to expect; this takes whatever there is.
_UNGRADED: Final = Regex(pattern="")
_TESTS: Final = "public_tests"
# Where nobody gives tests, `exec_code` says whether the code runs at all.
_NO_TEST: Final = ("pass",)
_ALONE: Final = RowSet("test", (0,))


class AnswerSpec(BaseModel):
    """A question, pinned.

    Attributes:
        members: The workflows, best-ranked first.
        problem: The input as the workflows get it.
        entry_point: Name of the function to write, or None outside coding tasks.
        public_tests: Tests that `exec_code` runs.
        vote: How the answers become one; `none`: the best-ranked workflow that has one gives it.
        scorer: Says which answers are one answer.
        executor: Model the workflows call.
        tiers: Models that a workflow may call by name.
        budget: What may be spent.
        seed: Seed of draws above temperature 0.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: tuple[Member, ...]
    problem: str
    entry_point: str | None = None
    public_tests: tuple[str, ...] = ()
    vote: VoteKind = "majority"
    scorer: Scorer = Exact()
    executor: str
    tiers: dict[Tier, str] = {}
    budget: BudgetLimits = BudgetLimits()
    seed: int = 0

    @property
    def roles(self) -> Roles:
        """Which model does what; nobody writes workflows or grades."""
        return Roles(self.executor, GRAMMAR, GRAMMAR, None, self.tiers)

    @property
    def row(self) -> Row:
        """The input as a row; equal inputs share an id, and so their completions."""
        digest = hashlib.blake2b(self.problem.encode("utf-8", "surrogatepass"), digest_size=12)
        meta: dict[str, JsonValue] = {}
        if self.entry_point is not None:
            meta = {"entry_point": self.entry_point, _TESTS: [*(self.public_tests or _NO_TEST)]}
        return Row(id=f"input:{digest.hexdigest()}", problem=self.problem, meta=meta)

    @property
    def tests_field(self) -> str | None:
        """The row's field with public tests, or None outside coding tasks."""
        return None if self.entry_point is None else _TESTS


class VoteReport(BaseModel):
    """What one workflow said; `error` is None where it answered."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    answer: str | None
    weight: float
    error: str | None


class AnswerReport(BaseModel):
    """An answer.

    Attributes:
        answer: The winner, or None: every workflow failed.
        agreement: Share of the votes' weight that the answer has, or None without a vote.
        equal_weights: A weighted vote was asked for, and there is no posterior to weigh by.
        votes: One for each workflow, best-ranked first.
        calls: Calls of all workflows, cached ones included.
        tokens: Tokens, as if nothing had been cached.
        usd: List price of these, or None where a price is unknown.
        seconds: Of the slowest workflow, which is what the caller waited for.
    """

    model_config = ConfigDict(frozen=True)

    answer: str | None
    agreement: float | None
    equal_weights: bool
    votes: tuple[VoteReport, ...]
    calls: int
    tokens: int
    usd: float | None
    seconds: float


@dataclass
class AnswerService:
    """Answers inputs and waits for the answers, until `aclose`.

    Attributes:
        workplace: Store, models, gateway and sandbox.
    """

    workplace: Workplace
    _jobs: Jobs = field(init=False)

    def __post_init__(self) -> None:
        self._jobs = Jobs(self.workplace.store, "ans_", self._answer)

    async def start(self, spec: AnswerSpec) -> str:
        """Begins to answer; returns the answer's id.

        Raises:
            InputError: The request makes no sense, or a workflow is not there.
            ModelUnavailableError: The executor cannot be used here.
        """
        return await self.begin(await self.plan(spec))

    async def plan(self, spec: AnswerSpec) -> AnswerSpec:
        """The question with its budget in force, checked; nothing is written or spent.

        Raises:
            InputError: The request makes no sense, or a workflow is not there.
            ModelUnavailableError: The executor cannot be used here.
        """
        for model in spec.roles.models:
            self.workplace.models.require(model)
        limits = (
            BudgetLimits(calls=_DEFAULT_CALLS) if spec.budget == BudgetLimits() else spec.budget
        )
        budget = check_budget(limits, spec.roles.models, self.workplace.gateway.prices)
        spec = spec.model_copy(update={"budget": budget})
        _check_coding(spec, await self._workflows(spec))
        return spec

    async def begin(self, spec: AnswerSpec, ticket: str | None = None) -> str:
        """Begins to answer a question that was checked; returns the answer's id.

        Args:
            spec: What `plan` gave.
            ticket: Begins it once, however often it is begun with this ticket.
        """
        answer_id = new_job_id("ans_", ticket)
        if ticket is not None and await self.workplace.store.evaluation(answer_id):
            return answer_id
        request = spec.model_dump_json()
        first = spec.members[0].workflow_id
        await self.workplace.store.create_evaluation(
            NewEvaluation(answer_id, first, request, "running"), []
        )
        self._jobs.launch(answer_id, request)
        return answer_id

    async def wait(self, answer_id: str, seconds: float) -> EvaluationRecord:
        """The answer once there is one, or after `seconds`; one that nobody works on goes on.

        Raises:
            NotFoundError: There is no such answer.
        """
        return await self._jobs.wait(answer_id, seconds)

    async def executions(self, answer_id: str) -> int:
        """How many executions it takes: one of each workflow."""
        record = await self._jobs.record(answer_id)
        return len(AnswerSpec.model_validate_json(record.request).members)

    async def aclose(self) -> None:
        """Stops what is going on; it can be asked for again."""
        await self._jobs.aclose()

    async def _answer(self, answer_id: str, request: str) -> AnswerReport:
        spec = AnswerSpec.model_validate_json(request)
        workflows = await self._workflows(spec)
        evaluator = await self._evaluator(answer_id, spec)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(evaluator.execute(one, _ALONE)) for one in workflows]
        return _report(spec, [task.result()[0] for task in tasks])

    async def _workflows(self, spec: AnswerSpec) -> list[Workflow]:
        workflows: list[Workflow] = []
        for member in spec.members:
            record = await self.workplace.store.workflow(member.workflow_id)
            if record is None:
                raise NotFoundError(
                    f"There is no workflow {member.workflow_id!r}. Call get_pool to see a run's "
                    "workflow ids."
                )
            workflows.append(parse_workflow(record.source))
        return workflows

    async def _evaluator(self, answer_id: str, spec: AnswerSpec) -> Evaluator:
        place = self.workplace
        budget = Budget(spec.budget)
        budget.take_over(await place.store.usage(answer_id))
        sessions = open_sessions(place.gateway, place.models, spec.roles, budget, answer_id)
        evaluator = Evaluator(
            scope=answer_id,
            rows={"test": [spec.row]},
            scorer=_UNGRADED,
            session=sessions.executor,
            tiers=sessions.tiers,
            sandbox=place.sandbox,
            store=place.store,
            seed=spec.seed,
            public_tests=spec.tests_field,
        )
        await evaluator.load()
        return evaluator


def problem_text(given: str | Mapping[str, str], names: Sequence[str]) -> str:
    """The text a workflow gets: named inputs are rendered as those of the run's rows are.

    Args:
        given: One text, or named texts.
        names: The named inputs of the run's rows, in their order; empty: unknown, or one text.

    Raises:
        InputError: It is empty, or its names are others.
    """
    texts = [given] if isinstance(given, str) else list(given.values())
    if not any(text.strip() for text in texts):
        raise InputError("`input` is empty; pass the text that is to be answered.")
    if not isinstance(given, str):
        if names and set(names) != set(given):
            raise InputError(
                f"`input` must name {', '.join(names)}, as the run's rows do, not "
                f"{', '.join(given) or 'nothing'}."
            )
        given = render_inputs({name: given[name] for name in names or given})
    return given


def _check_coding(spec: AnswerSpec, workflows: Sequence[Workflow]) -> None:
    fields = CodeFields.of(_UNGRADED, spec.tests_field)
    if fields is not None:
        name = spec.entry_point or ""
        if not name.isidentifier() or iskeyword(name):
            raise InputError("`entry_point` is no name of a function; pass one such as add_one.")
        fields.check([spec.row])
    elif all(takes_entry_point(workflow.source) for workflow in workflows):
        raise InputError(
            "The workflow takes the name of the function to write beside the problem; pass it as "
            "`entry_point`."
        )


def _report(spec: AnswerSpec, records: Sequence[ExecutionRecord]) -> AnswerReport:
    posterior = posterior_weights(spec.members) if spec.vote == "weighted" else None
    weights = posterior or [1.0] * len(spec.members)
    votes = [
        Vote(record.answer, vote_key(spec.scorer, record.answer), weight)
        for record, weight in zip(records, weights, strict=True)
    ]
    agreement: float | None = None
    if spec.vote == "none":
        place = next((n for n, vote in enumerate(votes) if vote.answer is not None), None)
    else:
        place, winner = chosen(votes), majority(votes)
        agreement = None if place is None else winner.share if winner else 0.0
    return AnswerReport(
        answer=None if place is None else votes[place].answer,
        agreement=agreement,
        equal_weights=spec.vote == "weighted" and posterior is None,
        votes=tuple(
            VoteReport(
                workflow_id=record.workflow_id,
                answer=record.answer,
                weight=weight,
                error=None if record.error is None else failure_line(record),
            )
            for record, weight in zip(records, weights, strict=True)
        ),
        calls=sum(record.calls for record in records),
        tokens=sum(record.input_tokens + record.output_tokens for record in records),
        usd=total_usd(record.cost_usd for record in records),
        seconds=round(max(record.seconds for record in records), 3),
    )
