"""Measures a benchmark: searches, tests of their winners, fixed baselines, ablation, transfer.

    for seed: run → winner → its test rows, several passes        (Tables 1 and 2)
    IO, CoT, CoT-SC → the same rows, as often                     (Table 1)
    other N at N + M fixed; M = 0 round by round; another executor (Tables 3, Figure 2, Table 4)

A run has an idempotency key, and an evaluation an id, made of everything that its result depends
on. So the same command again goes on where it stopped and repeats nothing. `terminal/bench.py` is
the caller.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from bayesflow_server.benchmarks.blueprint import Blueprint
from bayesflow_server.benchmarks.ledger import BenchStoppedError, Ledger, Spent
from bayesflow_server.benchmarks.measuring import Measuring, Watch
from bayesflow_server.benchmarks.outlook import BASELINE_CALLS, Left, Outlook, outlook
from bayesflow_server.benchmarks.paper import quoted_rows
from bayesflow_server.benchmarks.plan import TOP, BenchRequest, PlannedRun
from bayesflow_server.benchmarks.results import (
    BaselineResult,
    BenchResult,
    MeasuredFile,
    QuotedFigure,
    RoleUsage,
    RoundReward,
    SearchResult,
    TestPasses,
    TransferResult,
    Versions,
)
from bayesflow_server.evaluation.example import SPLITS
from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.runs.estimate import Estimate, estimate
from bayesflow_server.runs.evaluation_report import EvaluationReport
from bayesflow_server.runs.evaluations import EvaluationService, EvaluationSpec
from bayesflow_server.runs.members import Member
from bayesflow_server.runs.pool_view import view_pool
from bayesflow_server.runs.rehearsal import rehearse
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.records import RunRecord, UsageRecord

__all__ = ["BenchDriver", "Provenance"]


@dataclass(frozen=True)
class Provenance:
    """What a result says of itself beside its figures."""

    command: tuple[str, ...]
    versions: Versions
    file: str
    digest: str


class _Left(NamedTuple):
    """Searches that are not finished, winners and baselines not tested, and the transfer."""

    searches: Sequence[RunSpec]
    winners: int
    baselines: Sequence[str]
    transfer: bool


@dataclass
class BenchDriver:
    """Does what a request asks for, one piece after the other.

    Attributes:
        runs: Starts and resumes searches.
        evaluations: Tests workflows.
        request: What is asked for.
        watch: Told how far it is.
        blueprint: What the request comes to.
    """

    runs: RunService
    evaluations: EvaluationService
    request: BenchRequest
    watch: Watch
    blueprint: Blueprint = field(init=False)
    _searches: list[SearchResult] = field(default_factory=list[SearchResult], init=False)
    _baselines: list[BaselineResult] = field(default_factory=list[BaselineResult], init=False)
    _transfer: TransferResult | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Checks everything that can be checked.

        Raises:
            InputError: The request cannot be met.
            ModelUnavailableError: A model cannot be used here.
        """
        place = self.runs.workplace
        self.blueprint = Blueprint(self.request, place.models, place.gateway.prices)
        self._ledger = Ledger(place.store, self.blueprint.limits)
        self._measuring = Measuring(self.evaluations, self._ledger, self.watch)

    async def look_ahead(self) -> Outlook:
        """What is left to do and what it may take, were no answer cached; spends nothing."""
        place, plan = self.runs.workplace, self.blueprint
        splits, prices = plan.task.splits, place.gateway.prices
        rehearsal = await rehearse(plan.specs[0], splits, place.sandbox)

        def expected(spec: RunSpec) -> Estimate:
            return estimate(spec, splits.sizes(), prices, rehearsal)

        known, passes = await self._known(), self.request.repeats * len(plan.test_rows)
        left = Left(
            searches=tuple(expected(spec) for spec in known.searches),
            winners=known.winners * passes,
            baseline_calls=sum(BASELINE_CALLS[method] for method in known.baselines) * passes,
            transferred=TOP * len(plan.transfer_rows) if known.transfer else 0,
        )
        return outlook(left, expected(plan.specs[0]), self.request.transfer, prices)

    async def work(self) -> str | None:
        """Does all of it; returns None, or why it stopped. What is done is in `result`."""
        await self._known()
        try:
            await self._work()
        except BenchStoppedError as stop:
            return str(stop)
        return None

    async def spent(self) -> Spent:
        """What everything together has spent, over every time the command was given."""
        return await self._ledger.spent()

    async def _known(self) -> _Left:
        """What is not finished; whatever is known from before is on the account from now on."""
        store, plan = self.runs.workplace.store, self.blueprint
        searches: list[RunSpec] = []
        winners, transfer = 0, self.request.transfer
        for planned, spec in zip(plan.plan, plan.specs, strict=True):
            record = await store.run_by_idempotency_key(plan.key(spec))
            if record is not None:
                self._ledger.enter(record.run_id)
            if record is None or record.status != "finished":
                searches.append(spec)
                winners += planned.tested
            elif planned.tested:
                test = await self._test_of(record, spec)
                winners += not await self._measuring.is_done(test, plan.test_rows)
            if transfer is not None and spec == plan.specs[0] and spec not in searches:
                assert record is not None  # it is finished
                moved = await self._transfer_of(transfer, record.run_id, planned.seed)
                if await self._measuring.is_done(moved, plan.transfer_rows):
                    transfer = None
        baselines = [
            method
            for method, test in plan.baselines.items()
            if not await self._measuring.is_done(test, plan.test_rows)
        ]
        return _Left(searches, winners, baselines, transfer is not None)

    # --- the work -------------------------------------------------------------------------------

    async def _work(self) -> None:
        plan = self.blueprint
        jobs = list(zip(plan.plan, plan.specs, strict=True))
        for planned, spec in (job for job in jobs if job[0].purpose == "search"):
            self._searches.append(await self._search(planned, spec))
        for method, test in plan.baselines.items():
            passes = await self._tested(method, test)
            self._baselines.append(BaselineResult(method=method, test=passes))
        for planned, spec in (job for job in jobs if job[0].purpose != "search"):
            self._searches.append(await self._search(planned, spec))
        if self.request.transfer is not None:
            self._transfer = await self._transferred(self.request.transfer, self._searches[0])

    async def _search(self, planned: PlannedRun, spec: RunSpec) -> SearchResult:
        """A search to its end, and its winner on the test rows."""
        record = await self._run(planned, spec)
        test = None
        if planned.tested:
            label = f"{planned.label}: testing the winner"
            test = await self._tested(label, await self._test_of(record, spec))
        return SearchResult(
            purpose=planned.purpose,
            run_id=record.run_id,
            seed=planned.seed,
            particles=planned.particles,
            refinements=planned.refinements,
            usage=tuple(map(_role_usage, await self.runs.usage_by_role(record.run_id))),
            rounds=tuple(await self._rounds(record.run_id)),
            winner=_winner(record),
            test=test,
        )

    async def _run(self, planned: PlannedRun, spec: RunSpec) -> RunRecord:
        """The finished run of a search: as it is, resumed, or begun."""
        runs, key = self.runs, self.blueprint.key(spec)
        record = await runs.workplace.store.run_by_idempotency_key(key)
        if record is None:
            room = await self._ledger.room()
            request = self.blueprint.run_request(planned, room, key)
            record = (await runs.start(request)).record
            self._ledger.enter(record.run_id)
        elif record.status == "finished":
            return record
        else:
            record = await runs.resume(record.run_id, await self._ledger.room(record.run_id))
        self.watch.say(f"{planned.label}: {record.run_id}")
        try:
            await self.watch.follow(record.run_id)
        except asyncio.CancelledError:
            await runs.pause(record.run_id)  # else a server on the same file would go on with it
            raise
        record = await runs.record(record.run_id)
        await self._check_finished(record)
        return record

    async def _check_finished(self, record: RunRecord) -> None:
        status = self.runs.status(record)
        if status == "finished":
            return
        if status in ("queued", "running"):
            raise BenchStoppedError(f"Another process works on {record.run_id}; wait for its end.")
        await self._ledger.room()  # a spent budget is told as such
        raise BenchStoppedError(f"{record.run_id} is {status}: {self.runs.reason(record)}")

    async def _rounds(self, run_id: str) -> Sequence[RoundReward]:
        stored = await self.runs.pool(run_id)
        every = (json.loads(one.stats) for one in stored.rounds)
        return [
            RoundReward(
                round=stats["round"],
                minimum=stats["minimum"],
                mean=stats["mean"],
                maximum=stats["maximum"],
                rows=stats["rows"],
                complete=stats["rows"] == stored.validation_rows,
            )
            for stats in every
        ]

    async def _tested(self, label: str, test: EvaluationSpec) -> TestPasses:
        record = await self._measuring.measure(label, test, self.blueprint.test_rows)
        return await self._measuring.passes(record)

    async def _test_of(self, record: RunRecord, spec: RunSpec) -> EvaluationSpec:
        """The evaluation of a finished run's winner."""
        source = (await self.runs.workflow(_winner(record))).source
        return self.blueprint.test(source, spec.seed)

    async def _transfer_of(self, executor: str, run_id: str, seed: int) -> EvaluationSpec:
        """The best of a search's pool by shrunk validation score, run by another executor."""
        view = view_pool(await self.runs.pool(run_id), sort="validation")
        best = [item for item in view.items if item.row.entry.origin != "baseline"][:TOP]
        members = tuple(
            Member(workflow_id=item.row.entry.workflow_id, weight=item.posterior) for item in best
        )
        source = (await self.runs.workflow(members[0].workflow_id)).source
        return self.blueprint.transfer(executor, source, members, seed)

    async def _transferred(self, executor: str, search: SearchResult) -> TransferResult:
        test = await self._transfer_of(executor, search.run_id, search.seed)
        rows = self.blueprint.transfer_rows
        record = await self._measuring.measure(f"transfer to {executor}", test, rows)
        report = EvaluationReport.model_validate_json(record.report or "")
        assert report.ensemble is not None  # the specification names members
        return TransferResult(
            executor=executor,
            run_id=search.run_id,
            evaluation_id=record.evaluation_id,
            row_ids=tuple(row.row_id for row in rows),
            votes=report.ensemble,
        )

    # --- after ----------------------------------------------------------------------------------

    def result(self, origin: Provenance, stopped: str | None) -> BenchResult:
        """Everything that is done so far.

        Args:
            origin: Where it is from.
            stopped: Why it is not complete, or None.
        """
        request, spec = self.request, self.blueprint.specs[0]
        loaded, splits = request.benchmark, self.blueprint.task.splits
        return BenchResult(
            command=origin.command,
            versions=origin.versions,
            benchmark=MeasuredFile(
                name=loaded.benchmark.name,
                title=loaded.benchmark.title,
                metric=loaded.benchmark.metric,
                file=origin.file,
                digest=origin.digest,
                total=loaded.total,
                data_seed=loaded.data_seed,
            ),
            rows={split: tuple(row.id for row in splits.of(split)) for split in SPLITS},
            preset=request.preset,
            options=asdict(spec.options),
            optimizer=spec.optimizer,
            refiner=spec.refiner,
            executor=spec.executor,
            seeds=request.seeds,
            repeats=request.repeats,
            ablation=request.ablation,
            budget=self.blueprint.limits,
            searches=tuple(self._searches),
            baselines=tuple(self._baselines),
            transfer=self._transfer,
            quoted=tuple(_quoted(loaded.benchmark.name)),
            stopped=stopped,
        )


def _winner(record: RunRecord) -> str:
    return FinalReport.model_validate_json(record.outcome or "").best[0].workflow_id


def _role_usage(record: UsageRecord) -> RoleUsage:
    return RoleUsage(
        role=record.role,
        model=record.model,
        calls=record.calls,
        cached_calls=record.cached_calls,
        input_tokens=record.input_tokens,
        output_tokens=record.output_tokens,
        usd=record.cost_usd,
    )


def _quoted(name: str) -> Sequence[QuotedFigure]:
    return [
        QuotedFigure(
            method=row.method,
            optimizer=row.optimizer,
            executor=row.executor,
            mean=row.scores[name].mean,
            std=row.scores[name].std,
        )
        for row in quoted_rows(name)
    ]
