"""What a finished run says, against what it did."""

from statistics import fmean

from bayesflow_server.evaluation.intervals import paired_gain, score_interval
from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import ExecutionRecord
from fakes.approx import approx
from fakes.houses import settled
from fakes.models import FakeModel
from fakes.tasks import request


async def test_the_report_is_what_the_executions_say(service: RunService) -> None:
    run_id = (await service.start(request())).record.run_id
    record = await settled(service, run_id)
    report = FinalReport.model_validate_json(record.outcome or "null")
    executions = await service.workplace.store.all_executions(run_id)

    def of(workflow_id: str, *splits: str) -> list[ExecutionRecord]:
        chosen = [e for e in executions if e.workflow_id == workflow_id and e.split in splits]
        return sorted(chosen, key=lambda e: (e.split, e.position))

    def scores(workflow_id: str, *splits: str) -> list[float]:
        return [one.score for one in of(workflow_id, *splits)]

    winner, baseline = report.best[0].workflow_id, report.baseline.workflow_id
    ours, theirs = scores(winner, "test"), scores(baseline, "test")
    interval, gain = score_interval(ours), paired_gain(ours, theirs)
    assert (report.test.score, report.test.low, report.test.high, report.test.rows) == approx(
        (interval.score, interval.low, interval.high, 7)
    )
    assert report.baseline.test is not None
    assert report.baseline.test.score == approx(fmean(theirs))
    assert (report.gain.delta, report.gain.low, report.gain.high) == approx(
        (gain.delta, gain.low, gain.high)
    )
    tokens = [
        sum(e.input_tokens + e.output_tokens for e in of(name, "test"))
        for name in (winner, baseline)
    ]
    assert report.cost_ratio == approx(tokens[0] / tokens[1], abs=1e-3)
    pooled = [fmean(scores(one.workflow_id, "validation", "selection")) for one in report.best]
    assert [one.pooled for one in report.best] == approx(pooled)
    assert pooled == sorted(pooled, reverse=True)
    assert {e.workflow_id for e in executions if e.split == "test"} == {winner, baseline}
    phase = Phase.model_validate_json(record.phase or "null")
    assert (phase.doing, phase.executions_done) == ("finished", phase.executions_planned)


async def test_a_search_that_finds_only_refused_workflows_still_ends_in_a_report(
    service: RunService,
) -> None:
    grammar = '''
title = "t"
start = "a"
[[production]]
state = "a"
title = "Peek"
code = """
return open(problem).read(), 0.0
"""
'''
    run_id = (await service.start(request(grammar=grammar))).record.run_id
    record = await settled(service, run_id)
    assert (record.status, record.reason) == ("finished", None)
    report = FinalReport.model_validate_json(record.outcome or "null")
    assert report.test.score == 0.0


async def test_usage_counts_each_paid_call_once(service: RunService, model: FakeModel) -> None:
    run_id = (await service.start(request())).record.run_id
    await settled(service, run_id)
    (usage,) = await service.workplace.store.usage(run_id)
    executions = await service.workplace.store.all_executions(run_id)
    asked = sum(one.calls for one in executions)
    assert usage.calls == usage.needed_calls == model.finished.total()
    assert usage.calls + usage.cached_calls == asked
    assert usage.cached_calls == sum(one.cached_calls for one in executions)
