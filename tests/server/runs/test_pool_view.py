import json
import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import Finalist, choose
from bayesflow_sampler.ports import Reward
from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.pool_view import PoolView, Sort, StoredPool, view_pool
from bayesflow_server.store.records import PoolEntry, PoolRow, RoundRecord, SummaryRecord
from fakes.approx import approx
from fakes.houses import open_service, settled
from fakes.models import FakeModel
from fakes.tasks import OPTIONS, answer_addition, request


class Searched(NamedTuple):
    archive: Archive
    pool: StoredPool
    report: FinalReport


async def searched(
    path: Path, monkeypatch: pytest.MonkeyPatch, options: SamplerOptions, seed: int = 0
) -> Searched:
    archives: list[Archive] = []

    async def spy(archive: Archive, reward: Reward) -> list[Finalist]:
        archives.append(archive)
        return await choose(archive, reward)

    monkeypatch.setattr("bayesflow_server.runs.sitting.choose", spy)
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(request(seed, options=options))).record.run_id
        record = await settled(service, run_id)
        report = FinalReport.model_validate_json(record.outcome or "null")
        return Searched(archives[0], await service.pool(run_id), report)


def view(pool: StoredPool, beta: float | None = None, sort: Sort = "posterior") -> PoolView:
    return view_pool(pool, beta=beta, sort=sort)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"minibatch": "full", "rollouts": 2},
        {"refinement": "inject", "refinements": 4, "minibatch": "full"},
        {"weighting": "paper", "refinement": "inject", "resampling": "multinomial", "beta": 2.0},
        # Nine edits to one particle: no clean lineage is left in later rounds.
        {"particles": 1, "refinement": "inject", "refinements": 9, "minibatch": "full"},
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
async def test_the_view_gives_the_samplers_own_posterior_at_every_beta(
    path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], seed: int
) -> None:
    options = SamplerOptions.model_validate(OPTIONS.model_dump(exclude_none=True) | changes)
    found = await searched(path, monkeypatch, options, seed)
    for beta in (0.5, view(found.pool).beta, 20.0):
        expected = found.archive.posterior(beta)
        posterior = view(found.pool, beta).posterior
        assert posterior is not None
        assert expected is not None
        assert posterior.probability == approx(expected.probability)
        assert posterior.log_evidence == approx(expected.log_evidence)
        assert posterior.effective_sample_size == approx(expected.effective_sample_size)
        assert posterior.rounds == expected.rounds
    items = view(found.pool).items
    assert sum(item.posterior or 0.0 for item in items) == approx(1.0)
    if changes.get("particles") == 1:
        assert found.archive.extinct


async def test_the_winner_is_in_the_pool_and_beta_is_the_last_one_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await searched(path, monkeypatch, OPTIONS)
    shown = view(found.pool)
    assert found.report.best[0].workflow_id in {i.row.entry.workflow_id for i in shown.items}
    stats = [json.loads(one.stats) for one in found.pool.rounds]
    assert shown.beta == stats[-1]["inverse_temperature"]
    assert shown.structures == len({item.row.steps for item in shown.items})
    baseline = next(item for item in shown.items if item.row.entry.origin == "baseline")
    assert (baseline.posterior, baseline.shrunk, baseline.low) == (None, None, None)


@pytest.mark.parametrize("sort", get_args(Sort))
async def test_every_order_is_total_so_that_pages_do_not_shift(
    path: Path, monkeypatch: pytest.MonkeyPatch, sort: Sort
) -> None:
    found = await searched(path, monkeypatch, OPTIONS)
    first = [item.row.entry.workflow_id for item in view(found.pool, sort=sort).items]
    shuffled = found.pool._replace(rows=found.pool.rows[::-1])
    assert [item.row.entry.workflow_id for item in view(shuffled, sort=sort).items] == first


async def test_each_order_puts_its_best_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = await searched(path, monkeypatch, OPTIONS)

    def cost(row: PoolRow) -> float:
        return (
            float("inf") if row.validation is None else row.validation.tokens / row.validation.rows
        )

    posterior = [item.posterior or 0.0 for item in view(found.pool, sort="posterior").items]
    shrunk = [item.shrunk or -1.0 for item in view(found.pool, sort="validation").items]
    rounds = [item.row.entry.round for item in view(found.pool, sort="round").items]
    costs = [cost(item.row) for item in view(found.pool, sort="cost").items]
    assert posterior == sorted(posterior, reverse=True)
    assert rounds == sorted(rounds)
    assert costs == sorted(costs)
    scored = [value for value in shrunk if value >= 0]
    assert scored == sorted(scored, reverse=True)


async def test_a_round_shows_what_it_wrote_first_with_the_weights_of_the_whole_pool(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await searched(path, monkeypatch, OPTIONS)
    whole = {item.row.entry.workflow_id: item.posterior for item in view(found.pool).items}
    one = view_pool(found.pool, round_number=1)
    assert 0 < len(one.items) < len(whole)
    assert all(item.row.entry.round == 1 for item in one.items)
    assert all(item.posterior == whole[item.row.entry.workflow_id] for item in one.items)


async def test_intervals_hold_their_score_and_narrow_with_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await searched(path, monkeypatch, OPTIONS)
    for item in view(found.pool).items:
        if item.shrunk is not None:
            assert item.low is not None
            assert item.high is not None
            assert 0 <= item.low <= item.shrunk <= item.high <= 1
    row = next(row for row in found.pool.rows if row.validation and not row.validation.failed)
    assert row.validation is not None
    more = replace(row, validation=replace(row.validation, rows=row.validation.rows * 100))
    wide, narrow = (
        next(
            item
            for item in view(found.pool._replace(rows=[*others, changed])).items
            if item.row is changed
        )
        for changed in (row, more)
        for others in [[other for other in found.pool.rows if other is not row]]
    )
    assert wide.high is not None
    assert wide.low is not None
    assert narrow.high is not None
    assert narrow.low is not None
    assert narrow.high - narrow.low < wide.high - wide.low


def test_an_empty_pool_is_an_empty_view() -> None:
    shown = view_pool(StoredPool([], [], validation_rows=10, pool_rounds=True))
    assert (shown.items, shown.front, shown.beta) == ((), (), 1.0)
    assert (shown.posterior, shown.structures) == (None, 0)


def weighed(name: str, mean: float, reward: float | None, *, failed: bool = False) -> PoolRow:
    """A workflow of round 1, drawn from the prior and scored on all 10 rows."""
    summary = SummaryRecord(
        "run", name, "validation", 10, mean, 0.2, failed=failed, cost_usd=0.1, reward=reward
    )
    return PoolRow(PoolEntry("run", name, 1, "prior"), "[]", summary)


def stored(*rows: PoolRow) -> StoredPool:
    draws = [[row.entry.workflow_id, -math.log(len(rows))] for row in rows]
    stats = {
        "round": 1,
        "inverse_temperature": 2.0,
        "fully_scored": True,
        "draws": draws,
        "clean_share": 1.0,
        "ancestors": [],
    }
    rounds = [RoundRecord("run", 1, json.dumps(stats))]
    return StoredPool(list(rows), rounds, validation_rows=10, pool_rounds=True)


def test_where_cost_counts_posterior_and_shrunk_score_are_of_the_reward() -> None:
    dear, cheap = weighed("dear", 0.9, 0.5), weighed("cheap", 0.8, 0.8)
    broken = weighed("broken", 0.0, -0.4, failed=True)
    shown = {item.row.entry.workflow_id: item for item in view(stored(dear, cheap, broken)).items}
    assert list(shown) == ["cheap", "dear", "broken"]
    law = [math.exp(2 * reward) for reward in (0.8, 0.5, -0.4)]
    assert [item.posterior for item in shown.values()] == approx([one / sum(law) for one in law])
    assert shown["broken"].shrunk == approx(-0.4)
    assert (shown["broken"].low, shown["broken"].high) == (approx(-0.4), approx(-0.4))
    # Accuracy and cost stand beside it, untouched.
    summary = shown["dear"].row.validation
    assert summary is not None
    assert (summary.mean, summary.cost_usd) == (0.9, 0.1)


def test_where_cost_does_not_count_the_same_pool_is_ranked_by_accuracy() -> None:
    shown = view(stored(weighed("dear", 0.9, None), weighed("cheap", 0.8, None))).items
    assert [item.row.entry.workflow_id for item in shown] == ["dear", "cheap"]
    assert all(item.low is not None and item.low >= 0 for item in shown)


def test_a_workflow_without_a_score_comes_after_those_below_0() -> None:
    unscored = PoolRow(PoolEntry("run", "a", 0, "baseline"), "[]", None)
    costly = weighed("z", 0.0, -3.0, failed=True)
    pool = stored(costly)._replace(rows=[unscored, costly])
    assert [item.row.entry.workflow_id for item in view(pool, sort="validation").items] == [
        "z",
        "a",
    ]


def priced(
    name: str, mean: float, usd: float | None, tokens: int, *, failed: bool = False
) -> PoolRow:
    summary = SummaryRecord(
        "run", name, "validation", 10, mean, 0.2, failed, tokens=tokens, cost_usd=usd
    )
    return PoolRow(PoolEntry("run", name, 1, "prior"), "[]", summary)


def test_the_front_holds_what_nothing_beats_in_both_accuracy_and_cost() -> None:
    pool = stored(
        priced("best", 0.9, 0.5, 100),
        priced("middling", 0.6, 0.2, 100),
        priced("waste", 0.6, 0.4, 100),
        priced("cheap", 0.3, 0.1, 100),
        priced("no better", 0.3, 0.1, 100),
        priced("broken", 0.0, 0.01, 1, failed=True),
    )
    front = view(pool).front
    assert [point.workflow_id for point in front] == ["cheap", "middling", "best"]
    assert [point.usd for point in front] == approx([0.01, 0.02, 0.05])
    assert [point.accuracy for point in front] == sorted(point.accuracy for point in front)
    assert front[0].accuracy > 0.3  # shrunk towards the pool's mean
    assert front[-1].accuracy < 0.9


def test_the_front_is_of_accuracy_even_where_the_cost_was_taken_off_the_reward() -> None:
    dear, cheap = weighed("dear", 0.9, -0.5), weighed("cheap", 0.8, 0.8)
    assert view(stored(dear, cheap)).front[-1].workflow_id == "dear"


@pytest.mark.parametrize("unknown", [None, 0.0])
def test_without_prices_tokens_make_the_front_and_the_order_by_cost(unknown: float | None) -> None:
    pool = stored(priced("long", 0.9, unknown, 900), priced("short", 0.4, unknown, 100))
    if unknown is None:
        pool.rows.append(priced("between", 0.5, 7.0, 500))
    shown = view_pool(pool, sort="cost")
    names = ["short", "between", "long"] if unknown is None else ["short", "long"]
    assert [point.workflow_id for point in shown.front] == names
    assert {point.usd for point in shown.front} == {None}
    assert shown.front[0].tokens == approx(10.0)
    assert [item.row.entry.workflow_id for item in shown.items] == names


def test_with_prices_the_order_by_cost_is_in_dollars() -> None:
    pool = stored(priced("few tokens", 0.4, 0.9, 10), priced("many tokens", 0.4, 0.1, 900))
    items = view(pool, sort="cost").items
    assert [item.row.entry.workflow_id for item in items] == ["many tokens", "few tokens"]
