"""One sitting of a run: from its claim until it finishes, pauses, is cancelled, or dies.

    baseline and operators → search (rounds) → final pick → test → report

A later sitting repeats the same path; the journal, the executions and the completions on record
make it catch up without a draw, an execution or a call of its own.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import Finalist, choose, shrunk_rewards
from bayesflow_sampler.ports import TextModel
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Generation, RowSet, Workflow
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.errors import StoreError
from bayesflow_server.evaluation.evaluate import Evaluator, failure_line
from bayesflow_server.evaluation.example import SPLITS, Row, Split
from bayesflow_server.evaluation.feedback import StoredFeedback
from bayesflow_server.evaluation.graders import ScoringTools
from bayesflow_server.evaluation.outcomes import outcome_sentences, outcome_totals
from bayesflow_server.evaluation.report import BaselineReport, FinalReport, RunnerUp, compare
from bayesflow_server.evaluation.smoke import SmokeChecker
from bayesflow_server.gateway.budget import Budget
from bayesflow_server.gateway.gateway import Gateway, ModelSession
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.assembly import Hands, admit_workflow, build_operators
from bayesflow_server.runs.estimate import closing_executions, most_executions
from bayesflow_server.runs.needs import require_all
from bayesflow_server.runs.options import pools_rounds
from bayesflow_server.runs.progress import BestSoFar, Phase, PoolState, Progress
from bayesflow_server.runs.proposals import ProposalBoard, Submissions
from bayesflow_server.runs.purse import RunPurse
from bayesflow_server.runs.recorder import Recorder, workflow_record
from bayesflow_server.runs.roles import CLIENT
from bayesflow_server.runs.sessions import Sessions, open_sessions
from bayesflow_server.runs.spec import RunSpec, rows_of_split
from bayesflow_server.runs.writer import ModelWriter
from bayesflow_server.runs.writing import Writing
from bayesflow_server.store.records import ExecutionRecord, PoolEntry, RunRecord
from bayesflow_server.store.store import Store

__all__ = ["Sitting", "Workplace"]

_WRITE_SECONDS = 1.0


@dataclass(frozen=True)
class Workplace:
    """What every sitting of this process shares.

    Attributes:
        store: Where everything is kept.
        models: Every model that may be called.
        gateway: The way to them.
        sandbox: Where workflows run.
        waiting: Specs of local models that another process holds at this moment.
        scoring: What scorers need that do more than compute.
    """

    store: Store
    models: ModelRegistry
    gateway: Gateway
    sandbox: Sandbox
    waiting: set[str] = field(default_factory=set[str])
    scoring: ScoringTools = field(default_factory=ScoringTools)


@dataclass
class Sitting:
    """One sitting of one run.

    Attributes:
        workplace: Store, models, gateway and sandbox.
        record: The run as it was claimed.
    """

    workplace: Workplace
    record: RunRecord

    def __post_init__(self) -> None:
        self.run_id = self.record.run_id
        self.spec = RunSpec.model_validate_json(self.record.request)
        options = self.spec.options
        self.progress = Progress(rounds=options.rounds, planned=0)
        self.budget = Budget(self.spec.budget, earlier_seconds=self.record.active_seconds)
        self._recorder = Recorder(self.workplace.store, self.run_id)
        self._board = ProposalBoard(self.workplace.store, self.run_id, self._waits_for_client)
        self._open_proposals = 0
        self._outcomes: Counter[str] = Counter()
        self._writing = Writing()
        self._sessions: Sessions | None = None
        earlier = Phase.model_validate_json(self.record.phase or "{}")
        self._dropped = set(earlier.dropped)
        self._news = asyncio.Event()

    async def run(self) -> FinalReport:
        """Works until the final report is on disk.

        Raises:
            BudgetSpentError, ProviderError, ModelUnavailableError, ScorerError: The run must pause.
        """
        require_all(self.spec, self.workplace.models, self.workplace.scoring)
        rows = await self._rows()
        evaluator = await self._evaluator(rows)
        self.progress.planned = most_executions(
            self.spec, {split: len(rows[split]) for split in SPLITS}
        )
        async with self._written():
            archive = await self._search(evaluator, rows)
            self.progress.doing = "picking the best: scoring the finalists on all rows"
            finalists = await choose(archive, evaluator)
            self._update_best(archive)
            searched = self.budget.seconds
            report = await self._test(evaluator, finalists, searched)
        await self._finish(report)
        return report

    # --- preparation ------------------------------------------------------------------------

    async def _rows(self) -> dict[str, Sequence[Row]]:
        records = await self.workplace.store.rows(self.run_id)
        return {split: rows_of_split(records, split) for split in SPLITS}

    async def _evaluator(self, rows: dict[str, Sequence[Row]]) -> Evaluator:
        store = self.workplace.store
        self.budget.take_over(await store.usage(self.run_id))
        place, spec = self.workplace, self.spec
        sessions = self._sessions = open_sessions(
            place.gateway, place.models, spec.roles, self.budget, self.run_id
        )
        evaluator = Evaluator(
            scope=self.run_id,
            rows=rows,
            scorer=self.spec.scorer,
            session=sessions.executor,
            judge=sessions.judge,
            scoring=place.scoring,
            public_tests=spec.public_tests,
            tiers=sessions.tiers,
            cost_weight=spec.cost_weight,
            cost_cap_usd=spec.cost_cap_usd,
            sandbox=self.workplace.sandbox,
            store=store,
            seed=self.spec.seed,
            on_execution=self._executed,
            on_rows=self.progress.executed,
        )
        await evaluator.load(self._executed)
        await self._recorder.load()
        return evaluator

    def _executed(self, record: ExecutionRecord) -> None:
        self._outcomes.update(outcome_totals([record]))
        if record.error is not None:
            self.progress.error(failure_line(record))

    # --- the search -------------------------------------------------------------------------

    async def _search(self, evaluator: Evaluator, rows: dict[str, Sequence[Row]]) -> Archive:
        spec = self.spec
        shown = rows["demonstration"] or rows["validation"]
        sizes: dict[Split, int] = {split: len(rows[split]) for split in SPLITS}
        prior, refiner = build_operators(spec, shown, self._hands(evaluator))
        search = Search(
            prior,
            evaluator,
            refiner,
            self._recorder,
            spec.options,
            spec.seed,
            suggestions=Submissions(self.workplace.store, self.run_id),
            warm=[
                admit_workflow(source, exec_code=spec.public_tests is not None)
                for source in spec.warm
            ],
            purse=RunPurse(spec, sizes, self.budget, lambda: evaluator.count),
        )
        pooled = prior.coherent and pools_rounds(spec.options)
        archive = Archive(
            evaluator.size("validation"), pool_rounds=pooled, islands=spec.options.islands
        )
        self._begin_round(1)
        # Closed at once if a record cannot be written: the search works ahead, and its calls cost.
        async with aclosing(search.generations()) as generations:
            async for generation in generations:
                archive.add(generation)
                await self._recorder.record_generation(generation)
                self._update_pool(generation, archive)
                if generation.last:  # perhaps before the last round that was planned
                    self.progress.planned = self.progress.done + closing_executions(sizes)
                else:
                    self._begin_round(generation.round + 1)
        return archive

    def _hands(self, evaluator: Evaluator) -> Hands:
        """Who answers the prompts of the prior and the refiner."""
        sessions = self._sessions
        assert sessions is not None  # opened with the evaluator
        return Hands(
            optimizer=self._writer(self.spec.optimizer, sessions.optimizer),
            refiner=self._writer(self.spec.refiner, sessions.refiner),
            checker=SmokeChecker(evaluator),
            feedback=StoredFeedback(evaluator),
        )

    def _writer(self, spec: str, session: ModelSession | None) -> TextModel | None:
        if spec == CLIENT:
            return self._board
        if session is None:
            return None
        return ModelWriter(session, self.spec.temperature, self.spec.seed)

    def _waits_for_client(self, open_proposals: int) -> None:
        """Told how many questions the agent has not answered yet."""
        self._open_proposals = open_proposals
        self.budget.client_asked(open_proposals > 0)
        self._news.set()

    def _begin_round(self, number: int) -> None:
        self.progress.round = number
        self.progress.doing = f"round {number} of {self.spec.options.rounds}: growing step {number}"

    def _update_pool(self, generation: Generation, archive: Archive) -> None:
        entries = archive.entries.values()
        clean = [particle.clean for particle in generation.particles]
        self.progress.pool = PoolState(
            distinct=len(archive.entries),
            failed=sum(entry.failure is not None for entry in entries),
            ess=round(generation.effective_sample_size, 2),
            clean_share=sum(clean) / len(clean),
        )
        self.progress.notes += generation.notes
        self._writing.add(generation)
        self._update_best(archive)

    def _update_best(self, archive: Archive) -> None:
        shrunk = shrunk_rewards(archive)
        best = max(shrunk, key=lambda name: (shrunk[name], name))
        self.progress.best = BestSoFar(
            workflow_id=best, shrunk=shrunk[best], rows=len(archive.entries[best].scores)
        )

    # --- the answer -------------------------------------------------------------------------

    async def _test(
        self, evaluator: Evaluator, finalists: Sequence[Finalist], searched: float
    ) -> FinalReport:
        """The winner and the baseline on the test split, once."""
        self.progress.doing = "testing the winner and the baseline on the test rows"
        winner = finalists[0].workflow
        baseline = await self._baseline()
        rows = RowSet("test", tuple(range(evaluator.size("test"))))
        async with asyncio.TaskGroup() as group:
            for workflow in (winner, baseline):
                group.create_task(evaluator.score(workflow, rows))
        result = await asyncio.to_thread(  # the bootstrap takes a while on many rows
            compare,
            await evaluator.executions(winner.workflow_id, "test"),
            await evaluator.executions(baseline.workflow_id, "test"),
        )
        return FinalReport(
            best=tuple(_runner_up(finalist) for finalist in finalists),
            test=result.first,
            baseline=BaselineReport(
                workflow_id=baseline.workflow_id, own=self.spec.own_baseline, test=result.second
            ),
            gain=result.gain,
            beats_baseline=result.beats,
            cost_ratio=result.cost_ratio,
            search_seconds=round(searched, 1),
        )

    async def _baseline(self) -> Workflow:
        """The baseline, in the store and in the run's pool."""
        baseline = admit_workflow(self.spec.baseline, exec_code=self.spec.public_tests is not None)
        entry = PoolEntry(self.run_id, baseline.workflow_id, 0, "baseline", None, False)
        await self.workplace.store.add_to_pool(workflow_record(baseline), entry)
        return baseline

    async def _finish(self, report: FinalReport) -> None:
        self.progress.doing = "finished"
        self.progress.planned = self.progress.done
        await self.workplace.store.update_run(
            self.run_id,
            status="finished",
            reason=None,
            outcome=report.model_dump_json(),
            phase=self.phase(),
            active_seconds=self.budget.seconds,
        )

    # --- progress ---------------------------------------------------------------------------

    @asynccontextmanager
    async def _written(self) -> AsyncGenerator[None, None]:
        """Writes the phase about every second while the block runs."""
        writer = asyncio.create_task(self._keep_writing())
        try:
            yield
        finally:
            writer.cancel()
            await asyncio.wait([writer])

    async def _keep_writing(self) -> None:
        """Writes what has changed each second, and at once when the run begins to wait."""
        written, waited = "", False
        while True:
            started = time.monotonic()
            self._news.clear()
            phase, waiting = self.phase(), self._open_proposals > 0
            with suppress(StoreError):  # only news: the run itself meets a lasting fault
                if phase != written:
                    await self._write_phase()
                if waiting != waited:
                    await self._write_waiting(waiting)
            written, waited = phase, waiting
            pause = max(0.1, _WRITE_SECONDS - (time.monotonic() - started))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()

    async def _write_waiting(self, waits: bool) -> None:
        owner = self.record.owner
        if owner is not None:
            await self.workplace.store.set_waiting(self.run_id, owner, time.time(), waits=waits)

    async def _write_phase(self) -> None:
        """Puts the present phase and running time on disk."""
        await self.workplace.store.update_run(
            self.run_id,
            phase=self.phase(),
            active_seconds=self.budget.seconds,
        )

    def phase(self) -> str:
        """The present phase as JSON, with the reason if everything waits."""
        phase = self.progress.phase
        written = self._writing.sentences()
        self._dropped.update(self._sessions.notes() if self._sessions else ())
        dropped = tuple(sorted(self._dropped))
        notes = (*phase.notes, *dropped, *written, *outcome_sentences(self._outcomes))
        phase = phase.model_copy(update={"notes": notes, "dropped": dropped})
        held = [spec for spec in self.spec.roles.models if spec in self.workplace.waiting]
        troubles = list(self._sessions.troubles()) if self._sessions else []
        if troubles:
            waits = f"trying again, for {troubles[0]} Then {phase.doing}"
            phase = phase.model_copy(update={"doing": waits})
        elif held:
            waits = f"waiting: another process uses {held[0]}; then {phase.doing}"
            phase = phase.model_copy(update={"doing": waits})
        elif self._open_proposals:
            waits = (
                f"{phase.doing}; questions for the agent (next_proposals): {self._open_proposals}"
            )
            phase = phase.model_copy(update={"doing": waits})
        return phase.model_dump_json()


def _runner_up(finalist: Finalist) -> RunnerUp:
    return RunnerUp(
        workflow_id=finalist.workflow.workflow_id,
        step_titles=tuple(step.title for step in finalist.workflow.steps),
        validation_shrunk=finalist.shrunk,
        pooled=finalist.pooled,
    )
