"""Decisions 10-16 where the paper is silent, as a whole run shows them (docs/algorithm.md)."""

import json
from collections import Counter, defaultdict
from math import sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import pytest

from bayesflow_server.errors import ProviderError
from bayesflow_server.evaluation.intervals import paired_gain
from bayesflow_server.evaluation.task import Preset, load_task
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.options import PRESETS, SamplerOptions
from bayesflow_server.runs.pool_view import PoolView, StoredPool, view_pool
from bayesflow_server.runs.request import resolve, spec_warnings
from bayesflow_server.store.records import PoolEntry, PoolRow, RoundRecord, SummaryRecord
from fakes.approx import approx
from fakes.llm_runs import WRITER, Ended, House, WaywardModel, asked
from fakes.models import FakeModel, FakeRegistry
from fakes.optimizers import GoodOptimizer
from fakes.tasks import GRAMMAR, OPTIONS, addition_task, answer_addition, workflow

GRAMMAR_RUN: dict[str, Any] = {"optimizer": "grammar", "grammar": GRAMMAR}


def options(**changes: Any) -> SamplerOptions:
    return OPTIONS.model_copy(update=changes)


class Left(NamedTuple):
    """A finished run and what it ran: scores by workflow, split and row."""

    ended: Ended
    scores: dict[tuple[str, str], dict[int, float]]
    stats: list[dict[str, Any]]

    def ran(self, split: str) -> dict[str, int]:
        """How many rows of the split each workflow met."""
        return {name: len(rows) for (name, where), rows in self.scores.items() if where == split}


def rows_of(view: PoolView) -> list[PoolRow]:
    return [item.row for item in view.items]


async def left(house: House, ended: Ended) -> Left:
    store, run_id = house.service.workplace.store, ended.record.run_id
    scores: defaultdict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for one in await store.all_executions(run_id):
        scores[one.workflow_id, one.split][one.position] = one.score
    rounds = [json.loads(one.stats) for one in await store.rounds(run_id)]
    return Left(ended, dict(scores), rounds)


# --- 10: a workflow that does not run -----------------------------------------------------------

BREACH = "return open(problem).read(), 0.0"
FAULT = "return nothing_of_that_name, 0.0"
SOUND = 'return (await self.llm.call_llm(messages=["style4 " + problem]))[0], 0.0'


def one_step(body: str) -> str:
    return (
        "```python\nclass Workflow:\n    async def __call__(self, problem):\n"
        f"        # Step 1: Only\n        {body}\n```"
    )


def mends_itself(request: ChatRequest) -> str:
    """Breaches the policy, then fails when it is run, then works."""
    text = request.messages[-1].content
    if FAULT in text:
        return one_step(SOUND)
    return one_step(FAULT if BREACH in text else BREACH)


def never_mends(request: ChatRequest) -> str:
    """Another fault each time."""
    return one_step(f"return nothing_{len(request.messages[-1].content)}, 0.0")


async def test_decision_10_policy_then_smoke_run_then_at_most_two_repairs(path: Path) -> None:
    async with House.open(path, mends_itself) as house:
        ended = await house.run(options=options(refinements=0, rounds=1))
        run = await left(house, ended)
        store = house.service.workplace.store
        failed = {
            one.workflow_id
            for one in await store.all_executions(ended.record.run_id)
            if one.error is not None
        }
        sources = [one.messages[-1].content for one in house.writer.finished]

    assert ended.used("optimizer").calls == 4 * 3
    assert sum("`open` is not allowed" in text for text in sources) == 4
    assert sum("NameError" in text for text in sources) == 4
    # What breaches the policy is never run; what fails, on one to three rows alone.
    (faulty,) = failed
    assert 1 <= run.ran("validation")[faulty] <= 3
    assert faulty not in run.ran("selection") | run.ran("test")
    assert len(run.ran("validation")) == 2
    assert ended.phase.pool.failed == 0


async def test_decision_10_what_still_fails_is_worth_nothing(path: Path) -> None:
    async with House.open(path, never_mends) as house:
        ended = await house.run(options=options(refinements=0, rounds=2))
        view = await house.pool(ended)

    assert ended.used("optimizer").calls == 4 * 3
    drawn = [row for row in rows_of(view) if row.entry.origin == "prior"]
    assert drawn
    for row in drawn:
        assert row.validation is not None
        assert (row.validation.mean, row.validation.failed) == (0.0, True)
    assert any("gave no workflow that runs" in note for note in ended.phase.notes)


# --- 11: outages --------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["executor", "optimizer"])
async def test_decision_11_an_outage_pauses_the_run_if_it_lasts_and_is_never_a_score(
    path: Path, tmp_path: Path, role: str
) -> None:
    small = options(rounds=2)
    async with House.open(tmp_path / "other.sqlite3") as house:
        whole = await house.footprint(await house.run(options=small))
    async with House.open(path) as house:
        model = house.executor if role == "executor" else house.writer
        down = ProviderError("503: overloaded", transient=False)
        model.fault = lambda number: down if number >= 5 else None
        paused = await house.run(options=small)
        stored = await house.service.workplace.store.all_executions(paused.record.run_id)
        tried = model.started.total()
        busy = ProviderError("429: come again", retry_after=0.0, congestion=True)
        model.fault = lambda number: busy if tried < number < tried + 5 else None
        resumed = await house.footprint(await house.resume(paused.record.run_id))
        assert model.started.total() >= tried + 5

    assert (paused.record.status, paused.record.reason) == ("paused", "503: overloaded")
    assert all(one.error is None for one in stored)
    assert resumed == whole


# --- 12: the optimizer's temperature ------------------------------------------------------------


def warned(optimizer: str = WRITER, **changes: Any) -> bool:
    models = FakeRegistry(FakeModel(answer_addition), {WRITER: FakeModel(spec=WRITER)})
    grammar = GRAMMAR if optimizer == "grammar" else None
    wanted = asked(optimizer=optimizer, options=options(**changes), grammar=grammar)
    warnings = spec_warnings(resolve(wanted, models, PriceTable({})))
    return any("temperature 0" in sentence and "collapses" in sentence for sentence in warnings)


def test_decision_12_temperature_0_is_warned_of_where_it_makes_n_workflows_one() -> None:
    assert warned(temperature=0)
    assert warned(temperature=0.0, particles=2)
    assert not warned(temperature=0.0, particles=1)
    assert not warned(temperature=0.01)
    assert not warned()
    assert not warned("grammar", temperature=0)


@pytest.mark.parametrize(
    ("preset", "changes", "temperature"),
    [
        (None, {}, None),
        ("balanced", {}, None),
        ("quick", {}, None),
        ("paper", {}, 0.0),
        ("paper", {"temperature": 0.6}, 0.6),
        ("quick", {"temperature": 0.6}, 0.6),
    ],
)
def test_decision_12_a_model_samples_as_it_does_by_itself_except_in_the_papers_preset(
    preset: Preset | None, changes: dict[str, float], temperature: float | None
) -> None:
    models = FakeRegistry(FakeModel(answer_addition), {WRITER: FakeModel(spec=WRITER)})
    spec = resolve(asked(preset=preset, options=options(**changes)), models, PriceTable({}))

    assert spec.temperature == temperature


@pytest.mark.parametrize(("preset", "temperature"), [("balanced", None), ("paper", 0.0)])
async def test_decision_12_the_temperature_is_sent_and_what_a_model_drops_is_told(
    path: Path, preset: Preset, temperature: float | None
) -> None:
    writer = WaywardModel(GoodOptimizer(), spec=WRITER, dropped=("temperature",))
    small = options(particles=2, rounds=1, refinements=0)
    async with House.open(path, writer) as house:
        ended = await house.run(preset=preset, options=small)

    assert {one.temperature for one in writer.finished} == {temperature}
    assert len(writer.finished) == 2
    assert any("takes no temperature" in note for note in ended.phase.notes)


# --- 13, 14: beta and minibatches in a run ------------------------------------------------------


async def test_decisions_13_and_14_a_runs_rounds_are_scored_in_full_on_a_few_rows_and_in_full(
    path: Path,
) -> None:
    async with House.open(path) as house:
        ended = await house.run(**GRAMMAR_RUN, options=options(rounds=4, particles=6), seed=3)
        run = await left(house, ended)

    assert [stat["fully_scored"] for stat in run.stats] == [True, False, False, True]
    assert [stat["rows"] for stat in run.stats] == [10, 4, 4, 10]
    betas = {stat["inverse_temperature"] for stat in run.stats}
    assert len(betas) == 1
    assert 1 < betas.pop() <= 50
    (label,) = (note for note in ended.phase.notes if note.startswith("beta = "))
    assert "consistent, not unbiased" in label
    assert any(note.startswith("4 of 10 validation rows score") for note in ended.phase.notes)


async def test_decision_14_a_partly_scored_workflow_has_no_posterior_probability(
    path: Path,
) -> None:
    given = options(beta=3.0, minibatch=2, particles=8, rollouts=2)
    async with House.open(path) as house:
        ended = await house.run(**GRAMMAR_RUN, options=given, seed=1)
        run = await left(house, ended)
        view = await house.pool(ended)
    shares = {item.row.entry.workflow_id: item.posterior for item in view.items}
    failed = {
        row.entry.workflow_id for row in rows_of(view) if row.validation and row.validation.failed
    }
    partly = {name for name, count in run.ran("validation").items() if count < 10} - failed

    assert partly
    assert {shares[name] for name in partly} == {None}
    assert view.posterior is not None
    assert view.posterior.rounds == (3,)
    assert sum(share or 0.0 for share in shares.values()) == approx(1.0)


def test_decision_14_a_stored_round_with_a_partly_scored_draw_is_left_out() -> None:
    """Also of a run that an earlier release left behind, whose rounds list every draw."""
    rows, rounds = list[PoolRow](), list[RoundRecord]()
    for number, name, scored in ((1, "partly", 4), (2, "full", 10), (3, "failed", 4)):
        failed = name == "failed"
        summary = SummaryRecord("run", name, "validation", scored, 0.5, 0.2, failed=failed)
        rows.append(PoolRow(PoolEntry("run", name, number, "prior"), "[]", summary))
        stats = {
            "round": number,
            "inverse_temperature": 2.0,
            "fully_scored": number > 1,
            "draws": [[name, 0.0]],
            "clean_share": 1.0,
            "ancestors": [],
        }
        rounds.append(RoundRecord("run", number, json.dumps(stats)))
    view = view_pool(StoredPool(rows, rounds, validation_rows=10, pool_rounds=True))

    assert view.posterior is not None
    # What does not run at all is worth 0 on every row: it need not be run on all of them.
    assert view.posterior.rounds == (2, 3)
    assert set(view.posterior.probability) == {"full", "failed"}


# --- 15: the archive ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "rounds"),
    [
        (GRAMMAR_RUN, (1, 2, 3)),
        ({}, (3,)),
        ({**GRAMMAR_RUN, "options": options(minibatch="full", weighting="paper")}, (3,)),
    ],
)
async def test_decision_15_rounds_are_pooled_where_the_prior_is_coherent_and_the_weights_exact(
    path: Path, changes: dict[str, Any], rounds: tuple[int, ...]
) -> None:
    given = {"options": options(minibatch="full"), **changes}
    async with House.open(path) as house:
        view = await house.pool(await house.run(**given))

    assert view.posterior is not None
    assert view.posterior.rounds == rounds


async def test_decision_15_beta_is_changed_after_the_run_without_a_call(path: Path) -> None:
    async with House.open(path) as house:
        given = options(minibatch="full", particles=8, rounds=2)
        ended = await house.run(**GRAMMAR_RUN, options=given, seed=1)
        calls = house.executor.started.total()
        stored = await house.service.pool(ended.record.run_id)
        views = [view_pool(stored, beta=beta) for beta in (0.01, 2.0, 50.0)]
        assert house.executor.started.total() == calls
    expected: list[float] = []
    for view in views:
        assert view.posterior is not None
        means = {r.entry.workflow_id: r.validation.mean for r in rows_of(view) if r.validation}
        share = view.posterior.probability
        expected.append(sum(share[name] * means[name] for name in share))

    # E_q[R] grows with beta.
    assert expected[0] + 0.01 < expected[1] < expected[2] - 0.01


# --- 16: the final answer -----------------------------------------------------------------------


async def test_decision_16_finalists_are_rescored_the_winner_is_pooled_and_tested_once(
    path: Path,
) -> None:
    async with House.open(path) as house:
        ended = await house.run(**GRAMMAR_RUN, options=options(particles=12, refinements=3), seed=5)
        run = await left(house, ended)
    report = ended.report
    finalists = [one.workflow_id for one in report.best]
    winner, baseline = finalists[0], report.baseline.workflow_id

    assert 2 <= len(finalists) <= 5
    assert run.ran("selection") == dict.fromkeys(finalists, 5)
    assert run.ran("test") == {winner: 7, baseline: 7}
    assert {run.ran("validation")[name] for name in finalists} == {10}
    for one in report.best:
        rows = [*_of(run, one.workflow_id, "validation"), *_of(run, one.workflow_id, "selection")]
        assert one.pooled == approx(fmean(rows))
    assert [one.pooled for one in report.best] == sorted(
        (one.pooled for one in report.best), reverse=True
    )


async def test_decision_16_the_headline_is_the_test_score_with_its_interval_and_paired_gain(
    path: Path,
) -> None:
    asks = 'return (await self.llm.call_llm(messages=["style1 " + problem], temperature=0.0))[0]'
    task = addition_task(baseline=workflow(f"{asks}, 0.0").source)
    async with House.open(path) as house:
        ended = await house.run(**GRAMMAR_RUN, task=task, seed=5)
        run = await left(house, ended)
    report = ended.report
    assert report.baseline.test is not None
    ours, theirs = (
        _of(run, name, "test") for name in (report.best[0].workflow_id, report.baseline.workflow_id)
    )
    gain, mean, rows, z = paired_gain(ours, theirs), fmean(ours), len(ours), 1.959964
    centre = (mean + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * sqrt(mean * (1 - mean) / rows + z * z / (4 * rows * rows)) / (1 + z * z / rows)

    assert 0 < fmean(theirs) < mean
    assert theirs != theirs[::-1]
    assert report.test.score == mean
    assert report.test.method == "wilson"
    assert report.test.low == approx(centre - half, abs=1e-6)
    assert report.test.high == approx(min(1.0, centre + half), abs=1e-6)
    assert report.baseline.test.score == fmean(theirs)
    assert (report.gain.delta, report.gain.low, report.gain.high) == (
        gain.delta,
        gain.low,
        gain.high,
    )


def _of(run: Left, name: str, split: str) -> list[float]:
    scores = run.scores[name, split]
    return [scores[position] for position in sorted(scores)]


@pytest.mark.parametrize(
    ("preset", "rows", "sizes"),
    [
        (None, 100, (50, 20, 30)),
        ("balanced", 39, (23, 0, 16)),
        ("quick", 40, (20, 8, 12)),
        ("paper", 100, (20, 0, 80)),
    ],
)
def test_decision_16_the_splits_are_disjoint_and_of_the_decided_sizes(
    preset: Preset | None, rows: int, sizes: tuple[int, int, int]
) -> None:
    examples = [{"input": f"{i} plus 1?", "target": str(i + 1)} for i in range(rows)]
    task = load_task(instructions="Add.", examples=examples, scorer="numeric", preset=preset)
    splits = (task.splits.validation, task.splits.selection, task.splits.test)
    names = Counter(row.id for split in splits for row in split)

    assert tuple(map(len, splits)) == sizes
    assert set(names.values()) == {1}


def test_decision_16_the_presets_differ_as_decided() -> None:
    """The paper's own settings; the others are exact, fit β, take minibatches and archive."""
    paper = PRESETS["paper"]
    assert (paper.weighting, paper.inverse_temperature, paper.minibatch) == ("paper", 1.0, None)
    assert (paper.resampling, paper.refinement, paper.ess_threshold) == (
        "multinomial",
        "inject",
        None,
    )
    assert (paper.particles, paper.rollouts, paper.refinements, paper.rounds) == (10, 1, 10, 5)
    for name in ("balanced", "quick", "client"):
        preset = PRESETS[name]
        assert (preset.weighting, preset.inverse_temperature) == ("exact", None)
        assert preset.refinement == "archive"
        assert preset.minibatch is not None
