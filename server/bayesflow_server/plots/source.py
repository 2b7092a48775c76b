"""What a run's plots are drawn from: read from the store once, then arranged for each plot."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.plots.accuracy_cost import AccuracyCost, FinalPoint, Point, Unit
from bayesflow_server.plots.genealogy import Genealogy, GenealogyRound, Node
from bayesflow_server.plots.posterior import Evidence, RankedWorkflow, RankedWorkflows
from bayesflow_server.plots.rewards import FinalScore, RoundRewards
from bayesflow_server.runs.pool_view import PoolItem, PoolView, StoredPool, view_pool
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.store.records import (
    ParticleRecord,
    RoundRecord,
    RunStatus,
    SummaryRecord,
)

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService

__all__ = [
    "PlotSource",
    "accuracy_cost",
    "final_scores",
    "genealogy",
    "ranked_workflows",
    "read_source",
    "round_rewards",
]

_SHOWN: Final = 12
# At β → 0 the posterior is the prior, as far as the same draws show it.
_NO_REWARD: Final = 1e-9


class PlotSource(NamedTuple):
    """All that a run's plots show.

    Attributes:
        run_id: The run.
        name: What people call it, or None.
        status: Its status.
        pool: Its pool and finished rounds.
        particles: The particles of those rounds.
        tests: Scores on the test rows.
        report: The final report, or None.
        prior_independent: False where one agent wrote the workflows.
    """

    run_id: str
    name: str | None
    status: RunStatus
    pool: StoredPool
    particles: list[ParticleRecord]
    tests: list[SummaryRecord]
    report: FinalReport | None
    prior_independent: bool

    @property
    def called(self) -> str:
        """Its name, or its id."""
        return self.name or self.run_id


class _Round(NamedTuple):
    """What the plots read of a round's figures."""

    rewards: RoundRewards
    beta: float
    effective_sample_size: float
    resampled: bool | None
    full: bool
    draws: int


async def read_source(service: "RunService", run_id: str) -> PlotSource:
    """Reads what a run has stored so far.

    Raises:
        NotFoundError: There is no such run.
    """
    record = await service.record(run_id)
    pool = await service.pool(run_id)
    store = service.workplace.store
    known = {one.round for one in pool.rounds}  # a round may end while we read
    return PlotSource(
        run_id=run_id,
        name=record.name,
        status=service.status(record),
        pool=pool,
        particles=[one for one in await store.particles(run_id) if one.round in known],
        tests=[one for one in await store.summaries(run_id, "test") if one.replicate == 0],
        report=FinalReport.model_validate_json(record.outcome) if record.outcome else None,
        prior_independent=RunSpec.model_validate_json(record.request).prior_independent,
    )


def round_rewards(rounds: Sequence[RoundRecord]) -> tuple[RoundRewards, ...]:
    """Rewards of the finished rounds."""
    return tuple(_round(one).rewards for one in rounds)


def final_scores(report: FinalReport | None) -> tuple[FinalScore, ...]:
    """Winner and baseline on the test rows; none before the end."""
    if report is None:
        return ()
    scores = {"best": report.test, "baseline": report.baseline.test}
    return tuple(
        FinalScore(label, score.score, score.low, score.high)
        for label, score in scores.items()
        if score is not None
    )


def genealogy(source: PlotSource) -> Genealogy:
    """Particles and injected refinements of every finished round."""
    rounds = [_round(one) for one in source.pool.rounds]
    nodes: dict[int, list[ParticleRecord]] = {one.rewards.round: [] for one in rounds}
    for particle in source.particles:
        nodes[particle.round].append(particle)
    alive = _alive(nodes, source.pool.particles)
    return Genealogy(
        rounds=tuple(
            GenealogyRound(
                one.rewards.round,
                tuple(
                    _node(particle, one.beta, alive=particle.index in alive[one.rewards.round])
                    for particle in nodes[one.rewards.round]
                ),
                one.effective_sample_size,
                one.resampled,
            )
            for one in rounds
        ),
        particles=source.pool.particles,
        islands=source.pool.islands,
    )


def ranked_workflows(source: PlotSource) -> RankedWorkflows:
    """The most probable workflows and the winner; by shrunk score where there is no posterior."""
    view = view_pool(source.pool)
    if view.posterior is None:
        view = view_pool(source.pool, sort="validation")
    counted = [
        item
        for item in view.items
        if (item.shrunk if view.posterior is None else item.posterior) is not None
    ]
    shown = counted[:_SHOWN]
    winner = source.report.best[0].workflow_id if source.report else None
    if winner not in {item.row.entry.workflow_id for item in shown}:
        late = [item for item in view.items if item.row.entry.workflow_id == winner]
        shown = [*shown[: _SHOWN - len(late)], *late]
    prior = _prior(source.pool, view)
    return RankedWorkflows(
        shown=tuple(_ranked(item, prior) for item in shown),
        others=sum(item not in shown for item in counted),
        beta=view.beta,
        evidence=_evidence(view, prior),
        reason=None if view.posterior else _no_posterior(source.pool),
        winner=winner,
    )


def accuracy_cost(source: PlotSource) -> AccuracyCost:
    """Every scored workflow by its accuracy, whatever penalty the search took off it."""
    rows = [
        replace(row, validation=row.validation and replace(row.validation, reward=None))
        for row in source.pool.rows
    ]
    view = view_pool(source.pool._replace(rows=rows))
    in_usd = bool(view.front) and all(point.usd is not None for point in view.front)
    unit: Unit = "usd" if in_usd else "tokens"
    return AccuracyCost(
        points=tuple(
            Point(
                workflow_id=item.row.entry.workflow_id,
                accuracy=item.shrunk,
                cost=_cost(item.row.validation, unit) or 0.0,
                origin=item.row.entry.origin,
                failed=item.row.validation.failed,
            )
            for item in view.items
            if item.row.validation is not None and item.shrunk is not None
        ),
        front=tuple(point.workflow_id for point in view.front),
        tests=_tested(source, unit),
        unit=unit,
    )


# --- rounds -----------------------------------------------------------------------------------


def _round(record: RoundRecord) -> _Round:
    stats = json.loads(record.stats)
    ancestors = cast("list[int]", stats["ancestors"])
    draws = cast("list[object]", stats["draws"])
    # Rounds of older releases say nothing of resampling: children other than the particles
    # themselves, one each, were drawn.
    drawn = bool(stats.get("resampled", ancestors != list(range(len(ancestors)))))
    return _Round(
        rewards=RoundRewards(
            round=int(stats["round"]),
            minimum=float(stats["minimum"]),
            mean=float(stats["mean"]),
            maximum=float(stats["maximum"]),
            rows=int(stats["rows"]),
        ),
        beta=float(stats["inverse_temperature"]),
        effective_sample_size=float(stats["effective_sample_size"]),
        resampled=drawn if ancestors else None,
        full=bool(stats["fully_scored"]) and bool(stats.get("counts", True)),
        draws=len(draws),
    )


# --- lineages ---------------------------------------------------------------------------------


def _alive(nodes: dict[int, list[ParticleRecord]], particles: int) -> dict[int, set[int]]:
    """For each round, the places that have descendants in the last."""
    alive: dict[int, set[int]] = {}
    children = set(range(particles))
    for number in sorted(nodes, reverse=True):
        alive[number] = children
        children = {
            one.ancestor
            for one in nodes[number]
            if one.index in children and one.ancestor is not None
        }
    return alive


def _node(particle: ParticleRecord, beta: float, *, alive: bool) -> Node:
    reward = particle.score / beta
    return Node(
        place=particle.index,
        ancestor=particle.ancestor,
        reward=reward if math.isfinite(reward) else None,
        clean=particle.clean,
        alive=alive,
    )


# --- posterior --------------------------------------------------------------------------------


def _ranked(item: PoolItem, prior: dict[str, float]) -> RankedWorkflow:
    name = item.row.entry.workflow_id
    return RankedWorkflow(
        workflow_id=name,
        steps=tuple(json.loads(item.row.steps)),
        posterior=item.posterior,
        prior=prior.get(name),
        shrunk=item.shrunk,
        low=item.low,
        high=item.high,
    )


def _prior(pool: StoredPool, view: PoolView) -> dict[str, float]:
    if view.posterior is None:
        return {}
    flat = view_pool(pool, beta=_NO_REWARD).posterior
    return flat.probability if flat else {}


def _evidence(view: PoolView, prior: dict[str, float]) -> Evidence | None:
    found = view.posterior
    if found is None:
        return None
    gained = math.fsum(
        share * math.log2(share / prior[name])
        for name, share in found.probability.items()
        if share > 0
    )
    return Evidence(
        log_evidence=found.log_evidence,
        evidence_error=found.relative_error,
        effective_sample_size=found.effective_sample_size,
        information_bits=max(0.0, gained),
    )


def _no_posterior(pool: StoredPool) -> str:
    full = [one for one in map(_round, pool.rounds) if one.full]
    if not full:
        return "no round is scored on every validation row yet"
    if not any(one.draws for one in (full if pool.pool_rounds else full[-1:])):
        return "every particle that counts descends from a refinement"
    return "no draw of the prior has a weight above zero"


# --- cost -------------------------------------------------------------------------------------


def _cost(summary: SummaryRecord | None, unit: Unit) -> float | None:
    """Tokens a row, or dollars for 1,000 rows, or None where that is unknown."""
    if summary is None or not summary.rows:
        return None
    if unit == "tokens":
        return summary.tokens / summary.rows
    return None if summary.cost_usd is None else 1000 * summary.cost_usd / summary.rows


def _tested(source: PlotSource, unit: Unit) -> tuple[FinalPoint, ...]:
    report = source.report
    if report is None:
        return ()
    summaries = {one.workflow_id: one for one in source.tests}
    names = {"best": report.best[0].workflow_id, "baseline": report.baseline.workflow_id}
    return tuple(
        FinalPoint(line.label, names[line.label], line.score, line.low, line.high, cost)
        for line in final_scores(report)
        if (cost := _cost(summaries.get(names[line.label]), unit)) is not None
    )
