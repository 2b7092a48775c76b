"""What the plots show is what the store holds, number by number."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from bayesflow_sampler.archive import Draw, weigh
from bayesflow_server.plots.source import (
    PlotSource,
    accuracy_cost,
    final_scores,
    genealogy,
    ranked_workflows,
    read_source,
    round_rewards,
)
from bayesflow_server.runs.pool_view import StoredPool, view_pool
from bayesflow_server.store.records import (
    Origin,
    ParticleRecord,
    PoolEntry,
    PoolRow,
    RoundRecord,
    SummaryRecord,
)
from fakes.approx import approx
from fakes.pictures import KINDS_OF_RUN, run_to_draw

REWARDS = {"wf_a": 0.2, "wf_b": 0.9, "wf_c": 0.5, "wf_d": 0.7}


def round_record(number: int, **changes: object) -> RoundRecord:
    figures: dict[str, object] = {
        "round": number,
        "minimum": 0.2,
        "mean": 0.5,
        "maximum": 0.9,
        "rows": 10,
        "inverse_temperature": 2.0,
        "effective_sample_size": 3.5,
        "fully_scored": True,
        "counts": True,
        "draws": [[name, -math.log(4), 0] for name in REWARDS],
        "clean_share": 1.0,
        "ancestors": [],
        "resampled": False,
    }
    return RoundRecord("run_1", number, json.dumps(figures | changes))


def pool_row(name: str, mean: float, origin: Origin = "prior", **changes: object) -> PoolRow:
    summary = SummaryRecord("run_1", name, "validation", 10, mean, 0.2, tokens=70, cost_usd=0.01)
    for field, value in changes.items():
        object.__setattr__(summary, field, value)
    return PoolRow(PoolEntry("run_1", name, 1, origin), '["Ask", "Answer"]', summary)


def made(
    rows: Sequence[PoolRow] | None = None,
    rounds: Sequence[RoundRecord] | None = None,
    particles: Sequence[ParticleRecord] = (),
    *,
    pool_rounds: bool = True,
) -> PlotSource:
    pool = StoredPool(
        rows=list(rows or [pool_row(name, mean) for name, mean in REWARDS.items()]),
        rounds=list(rounds or [round_record(1)]),
        validation_rows=10,
        pool_rounds=pool_rounds,
        particles=4,
    )
    return PlotSource("run_1", None, "paused", pool, list(particles), [], None, True)


@pytest.mark.parametrize("kind", KINDS_OF_RUN)
async def test_every_round_and_particle_is_drawn_as_it_is_stored(tmp_path: Path, kind: str) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", kind) as (service, run_id):
        source = await read_source(service, run_id)
        stored = await service.workplace.store.particles(run_id)
        stats = [json.loads(one.stats) for one in await service.workplace.store.rounds(run_id)]
        lineages = view_pool(await service.pool(run_id)).lineages
    rewards = round_rewards(source.pool.rounds)
    assert [one._asdict() for one in rewards] == [
        {name: stat[name] for name in ("round", "minimum", "mean", "maximum", "rows")}
        for stat in stats
    ]
    found = genealogy(source)
    assert [one.round for one in found.rounds] == [stat["round"] for stat in stats]
    count, beta = found.particles, {stat["round"]: stat["inverse_temperature"] for stat in stats}
    assert [
        (one.round, node.place, node.ancestor, node.clean, node.reward)
        for one in found.rounds
        for node in one.nodes
    ] == [
        (one.round, one.index, one.ancestor, one.clean, approx(one.score / beta[one.round]))
        for one in stored
    ]
    assert lineages == tuple(sum(node.alive for node in one.nodes[:count]) for one in found.rounds)
    for earlier, later, stat in zip(found.rounds, found.rounds[1:], stats, strict=False):
        assert [node.ancestor for node in later.nodes[:count]] == stat["ancestors"]
        assert earlier.resampled is stat["resampled"] is (kind != "kept")
    if stats[-1]["ancestors"] == []:
        assert found.rounds[-1].resampled is None
    assert found.injected == (4 if kind == "inject" else 9 if kind == "extinct" else 0)


async def test_the_reward_of_a_last_particle_is_its_workflows_own(tmp_path: Path) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", "archive") as (service, run_id):
        source = await read_source(service, run_id)
    means = {
        row.entry.workflow_id: row.validation.mean for row in source.pool.rows if row.validation
    }
    last = genealogy(source).rounds[-1]
    drawn = [one for one in source.particles if one.round == last.round]
    assert [node.reward for node in last.nodes] == [
        approx(means[str(one.workflow_id)]) for one in drawn
    ]


@pytest.mark.parametrize("kind", ["archive", "inject", "islands"])
async def test_bars_are_the_pools_own_posterior_and_its_own_prior(
    tmp_path: Path, kind: str
) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", kind) as (service, run_id):
        source = await read_source(service, run_id)
    found, view = ranked_workflows(source), view_pool(source.pool)
    assert found.evidence is not None
    assert view.posterior is not None
    assert found.beta == view.beta
    assert found.evidence.log_evidence == view.posterior.log_evidence
    assert found.evidence.effective_sample_size == view.posterior.effective_sample_size
    assert found.evidence.evidence_error == view.posterior.relative_error
    assert (found.evidence.evidence_error is not None) is (kind == "islands")
    items = {item.row.entry.workflow_id: item for item in view.items}
    for one in found.shown:
        item = items[one.workflow_id]
        assert (one.posterior, one.shrunk, one.low, one.high) == (
            item.posterior,
            item.shrunk,
            item.low,
            item.high,
        )
    weighed = [one for one in found.shown if one.posterior is not None]
    assert len(weighed) + found.others == len(view.posterior.probability)
    assert sum(one.posterior or 0.0 for one in weighed) + found.mass_of_others == approx(1.0)
    assert found.winner in {one.workflow_id for one in found.shown}


def test_the_information_is_the_divergence_of_posterior_from_prior() -> None:
    found = ranked_workflows(made())
    weights = {name: math.exp(2.0 * reward) for name, reward in REWARDS.items()}
    law = {name: weight / sum(weights.values()) for name, weight in weights.items()}
    assert {one.workflow_id: one.posterior for one in found.shown} == approx(law)
    assert [one.workflow_id for one in found.shown] == ["wf_b", "wf_d", "wf_c", "wf_a"]
    assert [one.prior for one in found.shown] == approx([0.25] * 4)
    assert found.evidence is not None
    assert found.evidence.information_bits == approx(
        sum(share * math.log2(4 * share) for share in law.values())
    )
    assert found.evidence.log_evidence == approx(math.log(sum(weights.values()) / 4))


def test_an_unequal_prior_is_read_off_the_draws() -> None:
    draws: list[tuple[str, float]] = [
        ("wf_a", math.log(0.5)),
        ("wf_b", math.log(0.125)),
        ("wf_b", math.log(0.125)),
        ("wf_c", math.log(0.25)),
    ]
    rounds = [round_record(1, draws=[[name, share, 0] for name, share in draws])]
    found = ranked_workflows(made(rounds=rounds))
    flat = weigh([Draw(1, *draw) for draw in draws], {**REWARDS}, 1e-12)
    assert flat is not None
    assert {one.workflow_id: one.prior for one in found.shown} == approx(flat.probability)


def test_without_a_posterior_the_best_scores_come_first_and_the_reason_is_said() -> None:
    minibatch = round_record(1, fully_scored=False, counts=False)
    rows = [pool_row(name, mean, rows=4) for name, mean in REWARDS.items()]
    found = ranked_workflows(made(rows, [minibatch]))
    assert found.evidence is None
    assert found.reason == "no round is scored on every validation row yet"
    assert [one.workflow_id for one in found.shown] == ["wf_b", "wf_d", "wf_c", "wf_a"]
    assert all(one.posterior is None and one.prior is None for one in found.shown)
    assert all(one.shrunk is not None for one in found.shown)
    last = [round_record(1, ancestors=[0, 1, 2, 3]), round_record(2, draws=[])]
    for rounds, pooled in (([round_record(1, draws=[])], True), (last, False)):
        assert ranked_workflows(made(rounds=rounds, pool_rounds=pooled)).reason == (
            "every particle that counts descends from a refinement"
        )
    assert ranked_workflows(made(rounds=last, pool_rounds=True)).evidence is not None
    nothing = [pool_row(name, -math.inf, reward=-math.inf) for name in REWARDS]
    assert ranked_workflows(made(nothing)).reason == "no draw of the prior has a weight above zero"


async def test_a_run_without_clean_lineages_says_so(tmp_path: Path) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", "extinct") as (service, run_id):
        found = ranked_workflows(await read_source(service, run_id))
    assert (found.evidence, found.reason) == (
        None,
        "every particle that counts descends from a refinement",
    )


def test_a_reward_of_minus_infinity_has_no_colour_and_no_place() -> None:
    particles = [
        ParticleRecord("run_1", 1, place, "wf_a", "p", 1, 0.0, score, None, True)
        for place, score in enumerate((0.4, -math.inf, 1.8, 0.0))
    ]
    found = genealogy(made(particles=particles))
    assert [node.reward for node in found.rounds[0].nodes] == [0.2, None, 0.9, 0.0]


def test_a_round_of_an_older_release_tells_by_its_children_whether_it_resampled() -> None:
    def old(ancestors: list[int]) -> RoundRecord:
        stats = json.loads(round_record(1, ancestors=ancestors).stats)
        del stats["resampled"]
        return RoundRecord("run_1", 1, json.dumps(stats))

    seen = [genealogy(made(rounds=[old(one)])) for one in ([0, 1, 2, 3], [0, 0, 2, 3], [])]
    assert [one.rounds[0].resampled for one in seen] == [False, True, None]


def test_accuracy_has_no_penalty_and_cost_is_for_a_thousand_examples() -> None:
    rows = [pool_row(name, mean, reward=mean - 0.3) for name, mean in REWARDS.items()]
    found, plain = accuracy_cost(made(rows)), accuracy_cost(made())
    assert found == plain
    assert found.unit == "usd"
    assert {point.cost for point in found.points} == {1.0}
    view = view_pool(made().pool)
    assert {point.workflow_id: point.accuracy for point in found.points} == {
        item.row.entry.workflow_id: item.shrunk for item in view.items
    }
    assert found.front == tuple(point.workflow_id for point in view.front) == ("wf_b",)


def test_tokens_count_where_a_price_is_unknown_or_all_are_free() -> None:
    unknown = [*(pool_row(n, m) for n, m in REWARDS.items()), pool_row("wf_e", 0.1, cost_usd=None)]
    free = [pool_row(name, mean, cost_usd=0.0) for name, mean in REWARDS.items()]
    for rows in (unknown, free):
        found = accuracy_cost(made(rows))
        assert found.unit == "tokens"
        assert {point.cost for point in found.points} == {7.0}


def test_the_front_rises_with_cost_and_leaves_out_what_does_not_run() -> None:
    rows = [
        pool_row("wf_a", 0.2, cost_usd=0.001),
        pool_row("wf_b", 0.9, cost_usd=0.1),
        pool_row("wf_c", 0.5, cost_usd=0.01),
        pool_row("wf_d", 0.3, cost_usd=0.05),
        pool_row("wf_e", 0.0, cost_usd=0.0, failed=True, error='"no"'),
    ]
    found = accuracy_cost(made(rows))
    assert found.front == ("wf_a", "wf_c", "wf_b")
    costs, scores = zip(*((one.cost, one.accuracy) for one in found.front_points), strict=True)
    assert list(costs) == sorted(costs)
    assert list(scores) == sorted(scores)
    assert [point.workflow_id for point in found.points if point.failed] == ["wf_e"]


@pytest.mark.parametrize("priced", [True, False])
async def test_winner_and_baseline_stand_where_the_test_rows_put_them(
    tmp_path: Path, priced: bool
) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", "archive", priced=priced) as (service, run):
        source = await read_source(service, run)
        tests = {
            one.workflow_id: one for one in await service.workplace.store.summaries(run, "test")
        }
    report = source.report
    assert report is not None
    found = accuracy_cost(source)
    assert found.unit == ("usd" if priced else "tokens")
    assert [test.label for test in found.tests] == ["best", "baseline"]
    scored = (report.best[0].workflow_id, report.baseline.workflow_id)
    for test, name, score in zip(
        found.tests, scored, (report.test, report.baseline.test), strict=True
    ):
        summary = tests[name]
        spent = 1000 * (summary.cost_usd or 0.0) if priced else summary.tokens
        assert score is not None
        assert (test.workflow_id, test.cost) == (name, approx(spent / summary.rows))
        assert (test.accuracy, test.low, test.high) == (score.score, score.low, score.high)
    assert [(one.label, one.score) for one in final_scores(report)] == [
        (test.label, test.accuracy) for test in found.tests
    ]


@pytest.mark.parametrize("kind", ["paused", "running"])
async def test_before_the_end_there_is_no_winner(tmp_path: Path, kind: str) -> None:
    async with run_to_draw(tmp_path / "runs.sqlite3", kind) as (service, run_id):
        source = await read_source(service, run_id)
    assert source.status == kind
    assert final_scores(source.report) == ()
    assert accuracy_cost(source).tests == ()
    assert ranked_workflows(source).winner is None
