"""Rows of real benchmarks through every layer: a task, a search, its verdict, the real local model.

Whatever so small a model answers, some things must hold; no test looks at the size of a score. The
rows are not ours to copy: `BAYESFLOW_TEST_DATA` names the folder.
"""

import asyncio
import json
from collections.abc import Callable
from math import comb
from statistics import fmean
from typing import cast

import pytest

from bayesflow_server.models.weights import cache_folder, find_weights
from bayesflow_server.runs.exported import workflow_in
from bayesflow_server.store.records import ExecutionRecord
from fakes.approx import approx
from fakes.journeys import EACH, MODEL, PASSES, TOP, Journey, Sample, travel
from fakes.mcp_sessions import Object

pytestmark = pytest.mark.slow

SAMPLES = (
    Sample("gsm8k", 300, "numeric", "Solve the problem."),
    Sample("mmlu_pro", 300, "choice", "Choose one of the options."),
)


def figures(values: object) -> list[Object]:
    return cast("list[Object]", values)


def number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


@pytest.fixture(scope="module", params=SAMPLES, ids=lambda sample: sample.name)
def journey(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Journey:
    """The way through all tools, gone once for each benchmark."""
    sample = cast("Sample", request.param)
    if not sample.path.is_file():
        pytest.skip(f"BAYESFLOW_TEST_DATA names no folder with {sample.name}.jsonl")
    if find_weights("smollm2", cache_folder()) is None:
        pytest.skip("needs the weights: bayesflow-mcp pull smollm2")
    pytest.importorskip("xllamacpp")
    return asyncio.run(travel(sample, tmp_path_factory.mktemp(sample.name)))


def test_the_file_is_understood_as_it_is(journey: Journey) -> None:
    told, sample = journey.told["file"], journey.sample
    preview = cast("Object", told["preview"])
    assert told["ok"] is True
    assert preview["fields"] == {name: name for name in ("input", "target", "id", "split")}
    [guess] = cast("list[str]", preview["guesses"])
    assert f"'{sample.scorer}'" in guess
    assert cast("Object", told["scorer"])["kind"] == sample.scorer
    assert told["splits"] == {"demonstration": 0, "validation": 150, "selection": 0, "test": 150}
    check = cast("Object", told["scorer_check"])
    assert (check["rows"], check["gold_mean"], check["wrong_mean"]) == (sample.rows, 1.0, 0.0)
    rows = {json.loads(line)["id"]: json.loads(line) for line in sample.lines()}
    for shown in figures(preview["rows"]):
        # Neither `metric` nor `meta`, which holds the solution, is in what a workflow gets.
        whole = str(rows[shown["row_id"]]["input"])
        assert whole.startswith(str(shown["input"]).partition("… (+")[0])
        assert shown["target"] == rows[shown["row_id"]]["target"]


def test_the_check_foretells_the_run_and_spends_nothing(journey: Journey) -> None:
    check, run = journey.told["check"], journey.told["run"]
    assert check["ok"] is True
    assert journey.asked["check"] == (0, 0)
    assert check["splits"] == cast("Object", run["resolved"])["splits"]
    estimate = cast("Object", check["estimate"])
    assert estimate["calls"] == cast("Object", run["estimate"])["calls"]
    spent = cast("Object", journey.told["state"]["spent"])
    assert number(spent["calls"]) + number(spent["cached"]) <= number(estimate["calls"])


def test_every_score_is_that_of_the_stored_answer(journey: Journey) -> None:
    targets, scorer = journey.targets, journey.scorer
    for step in ("run", "pair", "again", "top"):
        assert journey.executed[step]
        for one in journey.executed[step]:
            assert one.score == scorer.score(one.answer, targets[one.row_id])


def test_usage_adds_up(journey: Journey) -> None:
    spent = cast("Object", journey.told["state"]["spent"])
    records = journey.executed["run"]
    assert number(spent["calls"]) + number(spent["cached"]) == sum(one.calls for one in records)
    assert spent["cached"] == sum(one.cached_calls for one in records)
    # what was asked is on record once, and the run is the first that asked
    assert (spent["calls"], spent["tokens"]) == journey.asked["run"]
    [role] = figures(spent["roles"])
    assert [role[name] for name in ("role", "model", "calls", "cached", "tokens", "usd")] == [
        "executor",
        MODEL,
        *(spent[name] for name in ("calls", "cached", "tokens", "usd")),
    ]
    usage = cast("Object", journey.told["best"]["usage"])
    assert all(usage[name] == spent[name] for name in ("calls", "cached", "tokens", "usd"))
    for step in ("pair", "again", "top"):
        report, executed = journey.report(step), journey.executed[step]
        assert report["calls"] == sum(one.calls for one in executed)
        assert report["tokens"] == sum(one.input_tokens + one.output_tokens for one in executed)
        new = sum(one.calls - one.cached_calls for one in executed)
        assert sum(one.calls for one in journey.used[step]) == new
    for before, step in (("run", "pair"), ("pair", "again"), ("again", "top"), ("top", "vote")):
        made = journey.asked[step][0] - journey.asked[before][0]
        assert made == sum(one.calls for one in journey.used[step])


def test_the_test_rows_wait_for_the_end_and_for_two_workflows(journey: Journey) -> None:
    best = journey.told["best"]
    splits = [one.split for one in journey.executed["run"]]
    first = splits.index("test")
    assert "test" not in splits[:first]
    assert set(splits[first:]) == {"test"}
    baseline = cast("Object", best["baseline"])["workflow_id"]
    tested = [(one.workflow_id, one.position) for one in journey.executed["run"][first:]]
    assert sorted(tested) == sorted(
        (str(name), place) for name in (best["workflow_id"], baseline) for place in range(EACH)
    )


def test_the_verdict_is_that_of_the_executions(journey: Journey) -> None:
    told, records = journey.told["best"], journey.executed["run"]
    baseline = cast("Object", told["baseline"])

    def mean(workflow_id: object, split: str) -> float:
        of = [one.score for one in records if (one.workflow_id, one.split) == (workflow_id, split)]
        assert len(of) == EACH
        return fmean(of)

    test, other = cast("Object", told["test"]), cast("Object", baseline["test"])
    assert (test["rows"], other["rows"]) == (EACH, EACH)
    assert test["score"] == mean(told["workflow_id"], "test")
    assert other["score"] == mean(baseline["workflow_id"], "test")
    gain = cast("Object", told["gain"])
    assert gain["delta"] == approx(number(test["score"]) - number(other["score"]))
    sign = (number(gain["low"]) > 0) - (number(gain["high"]) < 0)
    assert told["beats_baseline"] == {1: "yes", 0: "unclear", -1: "no"}[sign]
    scored = [one for one in figures(journey.told["pool"]["items"]) if one["validation"]]
    assert scored
    for item in scored:
        validation = cast("Object", item["validation"])
        if validation["rows"] == EACH:
            assert validation["mean"] == mean(item["workflow_id"], "validation")
    posterior = [number(one["posterior"]) for one in scored if one["posterior"] is not None]
    assert sum(posterior) == approx(1.0)


def by_row(records: list[ExecutionRecord], workflow_id: object) -> dict[str, list[float]]:
    """The scores of each pass, by row."""
    found: dict[str, list[float]] = {}
    for one in sorted(records, key=lambda one: one.replicate):
        if one.workflow_id == workflow_id:
            found.setdefault(one.row_id, []).append(one.score)
    assert len(found) == EACH
    assert all(len(scores) == PASSES for scores in found.values())
    return found


def test_two_workflows_are_compared_row_by_row(journey: Journey) -> None:
    report, records = journey.report("pair"), journey.executed["pair"]
    best = journey.told["best"]
    ours = by_row(records, best["workflow_id"])
    theirs = by_row(records, cast("Object", best["baseline"])["workflow_id"])
    assert report["replicates"] == [fmean(one[n] for one in ours.values()) for n in range(PASSES)]
    shown = {str(row["row_id"]): row for row in figures(report["rows"])}
    assert {name: row["score"] for name, row in shown.items()} == {
        name: fmean(scores) for name, scores in ours.items()
    }
    for one in records:
        if one.workflow_id == best["workflow_id"]:
            row = shown[one.row_id]
            answers = [row["answer"], *cast("list[object]", row["later_answers"])]
            assert answers[one.replicate] == one.answer
    score, other = cast("Object", report["score"]), cast("Object", report["compare_with"])
    assert score["score"] == approx(fmean(fmean(one) for one in ours.values()))
    assert other["score"] == approx(fmean(fmean(one) for one in theirs.values()))
    signs = [fmean(ours[name]) - fmean(theirs[name]) for name in ours]
    wins, losses = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
    paired, decided = cast("Object", report["paired"]), wins + losses
    assert [paired[name] for name in ("wins", "losses", "ties")] == [wins, losses, EACH - decided]
    tail = sum(comb(decided, k) for k in range(min(wins, losses) + 1)) / 2**decided
    assert paired["p_value"] == approx(min(1.0, 2 * tail))
    assert report["differ"] == len(figures(report["differences"])) == decided


def test_the_exported_file_scores_the_same_without_a_call(journey: Journey) -> None:
    script, best = str(journey.told["script"]["text"]), journey.told["best"]
    assert workflow_in(script) == best["source"]
    compile(script, "workflow.py", "exec")
    assert journey.told["again"]["workflow_id"] == best["workflow_id"]
    assert journey.asked["again"] == journey.asked["pair"]
    assert all(one.calls == one.cached_calls > 0 for one in journey.executed["again"])

    def lasting(report: Object) -> Object:
        rows = [{**row, "seconds": 0} for row in figures(report["rows"])]
        return {**report, "seconds": 0, "rows": cast("list[object]", rows)}  # type: ignore[dict-item]  # pyright: ignore[reportReturnType]

    assert lasting(journey.report("again")) == lasting(journey.report("pair"))


def elected(votes: list[tuple[str, float]]) -> int:
    """Which of (key, weight) wins: the heaviest key, of equals the first; none: the first vote."""
    weights: dict[str, float] = {}
    for key, weight in votes:
        if key:
            weights[key] = weights.get(key, 0.0) + weight
    if not weights:
        return 0
    most = max(weights.values())
    winner = next(key for key, weight in weights.items() if weight >= most - 1e-12)
    return [key for key, _ in votes].index(winner)


def test_an_ensemble_is_worth_what_its_rows_say(journey: Journey) -> None:
    report, scorer = journey.report("top"), journey.scorer
    members = figures(report["members"])
    pool = figures(journey.told["pool"]["items"])
    assert [one["workflow_id"] for one in members] == [one["workflow_id"] for one in pool[:TOP]]
    weights = [number(one["weight"] or 0) for one in members]
    assert weights == [number(one["posterior"] or 0) for one in pool[:TOP]]
    table = {(o.workflow_id, o.replicate, o.position): o for o in journey.executed["top"]}
    assert len(table) == TOP * PASSES * EACH
    cells = [(replicate, place) for replicate in range(PASSES) for place in range(EACH)]
    lines = [[table[(str(one["workflow_id"]), *cell)] for one in members] for cell in cells]
    for size, told in zip((1, 2, 3), figures(report["ensemble"]), strict=True):

        def voted(heavy: Callable[[int], float], size: int = size) -> float:
            keys = [[scorer.normalise(one.answer) for one in line[:size]] for line in lines]
            places = [elected([(key, heavy(n)) for n, key in enumerate(row)]) for row in keys]
            return fmean(line[place].score for line, place in zip(lines, places, strict=True))

        assert told["size"] == size
        assert told["best"] == approx(fmean(max(o.score for o in line[:size]) for line in lines))
        assert told["mean"] == approx(fmean(fmean(o.score for o in row[:size]) for row in lines))
        assert told["majority"] == approx(voted(lambda _: 1.0))
        assert told["weighted"] == approx(voted(lambda n: weights[n]))


def test_a_vote_on_a_new_row_is_counted_right_and_free_the_second_time(journey: Journey) -> None:
    told, again = journey.told["vote"], journey.told["vote again"]
    votes = figures(told["votes"])
    assert len(votes) == TOP
    assert all(vote["error"] is None for vote in votes)
    keys = [journey.scorer.normalise(vote["answer"]) for vote in votes]
    ballots = [(key, number(vote["weight"])) for key, vote in zip(keys, votes, strict=True)]
    winner = elected(ballots)
    assert told["answer"] == votes[winner]["answer"]
    everybody = sum(weight for key, weight in ballots if key)
    share = sum(weight for key, weight in ballots if key == keys[winner]) if keys[winner] else 0.0
    assert told["agreement"] == approx(share / everybody if everybody else 0.0)
    assert again["votes"] == votes
    assert again["answer"] == told["answer"]
    assert journey.asked["vote again"] == journey.asked["vote"]
