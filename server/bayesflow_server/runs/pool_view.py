"""The pool as a client sees it: ranked workflows with posterior, shrunk score and interval.

Computed from what the store keeps, so any run can be looked at, at any β, while it works or years
later, without a model call. The posterior covers clean prior draws of fully scored rounds. Where
cost counts, posterior, shrunk score and interval are of the reward, the accuracy less its penalty;
accuracy and cost themselves stand apart in each row's summary.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Final, Literal, NamedTuple, cast

from bayesflow_sampler.archive import Draw, Posterior, weigh
from bayesflow_sampler.diagnostics import unique_ancestors
from bayesflow_sampler.shrinkage import posterior_spread, reward_variance, shrink
from bayesflow_server.store.records import PoolRow, RoundRecord, SummaryRecord

__all__ = ["FrontPoint", "PoolItem", "PoolView", "Sort", "StoredPool", "view_pool"]

Sort = Literal["posterior", "validation", "cost", "round"]
_Z: Final = NormalDist().inv_cdf(0.975)
_LEAST_SPREAD: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Measured:
    """A summary as the shrinkage reads it: its reward or its accuracy, and the accuracy's noise.

    The penalty varies little between the rows of a workflow, so the accuracy's variance serves for
    both; only it is on record.
    """

    summary: SummaryRecord
    mean: float

    @property
    def least(self) -> float:
        """Lower end of what a reward can be, as far as the summary says."""
        return 0.0 if self.summary.reward is None else -math.inf

    def noise(self) -> float:
        """v/n: rows that are all equal are not certain; a workflow that never ran is."""
        if self.summary.failed:
            return 0.0
        return max(self.summary.variance, _LEAST_SPREAD) / self.summary.rows


class StoredPool(NamedTuple):
    """A run's pool, its finished rounds, and what its posterior is made by.

    Attributes:
        rows: The pool.
        rounds: The finished rounds.
        validation_rows: Rows of the validation split.
        pool_rounds: Whether all rounds estimate the same law: not with the paper's weighting.
        particles: N; 0 where lineages are not asked for.
        islands: Populations that the particles are divided into.
    """

    rows: list[PoolRow]
    rounds: list[RoundRecord]
    validation_rows: int
    pool_rounds: bool
    particles: int = 0
    islands: int = 1


class PoolItem(NamedTuple):
    """One workflow of the pool.

    Attributes:
        row: How it came in and its validation summary.
        posterior: Its posterior probability, or None: not a clean draw of a fully scored round.
        shrunk: Its validation reward shrunk towards the pool's, or None while it is not scored;
            below 0 where the cost penalty outweighs the accuracy.
        low: Lower end of a 95 % interval around the shrunk reward.
        high: Upper end.
    """

    row: PoolRow
    posterior: float | None
    shrunk: float | None
    low: float | None
    high: float | None


class FrontPoint(NamedTuple):
    """A workflow that no other beats in both accuracy and cost.

    Attributes:
        workflow_id: Which.
        accuracy: Its validation accuracy, shrunk towards the pool's; no penalty taken off.
        usd: US dollars a row at list price, or None where a price of the pool is unknown.
        tokens: Tokens a row.
    """

    workflow_id: str
    accuracy: float
    usd: float | None
    tokens: float


class PoolView(NamedTuple):
    """The ranked pool.

    Attributes:
        items: Every workflow, ranked.
        front: The accuracy-cost front, cheapest first.
        beta: The inverse temperature of the posterior.
        posterior: The weighted draws, or None where there are none.
        structures: Distinct sequences of step titles.
        lineages: For each finished round, how many of its particles have descendants in the last.
        clean_share: Share of the last round's particles without a refined ancestor, or None.
    """

    items: tuple[PoolItem, ...]
    front: tuple[FrontPoint, ...]
    beta: float
    posterior: Posterior | None
    structures: int
    lineages: tuple[int, ...]
    clean_share: float | None


def view_pool(
    stored: StoredPool,
    *,
    beta: float | None = None,
    sort: Sort = "posterior",
    round_number: int | None = None,
) -> PoolView:
    """Ranks a pool.

    Args:
        stored: The run's pool.
        beta: Inverse temperature above 0; None is the one the run used last.
        sort: What the best comes first by.
        round_number: Only workflows first seen in this round.
    """
    stats = [json.loads(record.stats) for record in stored.rounds]
    if beta is None:
        beta = float(stats[-1]["inverse_temperature"]) if stats else 1.0
    posterior = _posterior(stored, stats, beta)
    items = _items(stored.rows, posterior)
    shown = [item for item in items if round_number in (None, item.row.entry.round)]
    return PoolView(
        items=tuple(sorted(shown, key=_ordering(sort, in_usd=_in_usd(stored.rows)))),
        front=_front(stored.rows),
        beta=beta,
        posterior=posterior,
        structures=len({row.steps for row in stored.rows}),
        lineages=_lineages(stored, stats),
        clean_share=float(str(stats[-1]["clean_share"])) if stats else None,
    )


def _posterior(
    stored: StoredPool, stats: Sequence[dict[str, object]], beta: float
) -> Posterior | None:
    rewards: dict[str, float | None] = {}
    for row in stored.rows:
        summary = row.validation
        full = summary is not None and (summary.failed or summary.rows >= stored.validation_rows)
        rewards[row.entry.workflow_id] = _reward(summary) if summary is not None and full else None
    draws = [Draw(int(str(stat["round"])), *drawn) for stat in stats for drawn in _drawn(stat)]
    extinct = [
        int(str(stat["round"]))
        for stat in stats
        if stat["fully_scored"] and stat.get("counts", True) and not _drawn(stat)
    ]
    return weigh(
        draws,
        rewards,
        beta,
        pool_rounds=stored.pool_rounds,
        extinct=extinct,
        islands=stored.islands,
    )


def _drawn(stat: dict[str, object]) -> list[tuple[str, float, int]]:
    """Workflow, log share and island of a round's clean draws; once there were no islands."""
    drawn = cast("list[tuple[str, float] | tuple[str, float, int]]", stat["draws"])
    return [(one[0], one[1], one[2] if len(one) > 2 else 0) for one in drawn]


def _lineages(stored: StoredPool, stats: Sequence[dict[str, object]]) -> tuple[int, ...]:
    if not stats or not stored.particles:
        return ()
    ancestors = [cast("list[int]", stat["ancestors"]) for stat in stats[:-1]]
    return tuple(unique_ancestors(ancestors, stored.particles))


def _items(pool: Sequence[PoolRow], posterior: Posterior | None) -> list[PoolItem]:
    measured = [
        _Measured(row.validation, _reward(row.validation))
        for row in pool
        if row.validation is not None
    ]
    variance = reward_variance(measured)
    centre = fmean(one.mean for one in measured) if measured else 0.0
    items: list[PoolItem] = []
    for row in pool:
        share = None if posterior is None else posterior.probability.get(row.entry.workflow_id)
        if row.validation is None:
            items.append(PoolItem(row, share, None, None, None))
            continue
        one = _Measured(row.validation, _reward(row.validation))
        shrunk = shrink(one.mean, one.noise(), centre, variance)
        spread = posterior_spread(one.noise(), variance)
        low, high = max(one.least, shrunk - _Z * spread), min(1.0, shrunk + _Z * spread)
        items.append(PoolItem(row, share, shrunk, low, high))
    return items


def _reward(summary: SummaryRecord) -> float:
    return summary.mean if summary.reward is None else summary.reward


def _front(pool: Sequence[PoolRow]) -> tuple[FrontPoint, ...]:
    """The workflows that ran and that no other beats: dearer ones must be more accurate."""
    summaries = {row.entry.workflow_id: row.validation for row in pool if row.validation}
    measured = {name: _Measured(summary, summary.mean) for name, summary in summaries.items()}
    variance = reward_variance(list(measured.values()))
    centre = fmean(one.mean for one in measured.values()) if measured else 0.0
    points = [
        FrontPoint(
            name,
            shrink(one.mean, one.noise(), centre, variance),
            None if one.summary.cost_usd is None else one.summary.cost_usd / one.summary.rows,
            one.summary.tokens / one.summary.rows,
        )
        for name, one in measured.items()
        if not one.summary.failed
    ]
    in_usd = _in_usd(pool)
    front: list[FrontPoint] = []
    for point in sorted(points, key=lambda point: (_cost(point, in_usd=in_usd), -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point if in_usd else point._replace(usd=None))
    return tuple(front)


def _cost(point: FrontPoint, *, in_usd: bool) -> float:
    return point.usd if in_usd and point.usd is not None else point.tokens


def _in_usd(pool: Sequence[PoolRow]) -> bool:
    """Whether dollars can rank the pool: every price is known, and not all are free."""
    costs = [row.validation.cost_usd for row in pool if row.validation is not None]
    return None not in costs and any(costs)


def _ordering(sort: Sort, *, in_usd: bool) -> Callable[[PoolItem], tuple[float, float, str]]:
    """Sort key: the wanted figure first, then the shrunk score, then the id."""

    def order(item: PoolItem) -> tuple[float, float, str]:
        shrunk = math.inf if item.shrunk is None else -item.shrunk
        name = item.row.entry.workflow_id
        match sort:
            case "posterior":
                return (-(item.posterior or 0.0), shrunk, name)
            case "round":
                return (float(item.row.entry.round), shrunk, name)
            case "cost":
                return (_cost_of(item.row.validation, in_usd=in_usd), shrunk, name)
            case "validation":
                return (shrunk, shrunk, name)

    return order


def _cost_of(summary: SummaryRecord | None, *, in_usd: bool) -> float:
    """Cost a row: dollars, or tokens where these cannot rank; nothing known comes last."""
    if summary is None or not summary.rows:
        return math.inf
    if in_usd and summary.cost_usd is not None:
        return summary.cost_usd / summary.rows
    return summary.tokens / summary.rows
