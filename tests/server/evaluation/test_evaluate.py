import asyncio
import json
import statistics
from collections.abc import Callable

import pytest

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import RowSet, Workflow
from bayesflow_sampler.urgency import AHEAD
from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.host import WorkflowHost
from bayesflow_sandbox.llm_call import LLMCall, parse_llm_call
from bayesflow_sandbox.locked.kernel import missing
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.errors import BudgetSpentError, InputError, ProviderError, ServerError
from bayesflow_server.evaluation.evaluate import Evaluator, failure_line
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.scorers import Judge, Numeric, PassAt1
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.store.records import ExecutionRecord
from bayesflow_server.store.store import Store
from fakes.approx import approx
from fakes.models import FakeModel
from fakes.sessions import Ending, EndingModel, free_session, priced_session
from fakes.tasks import workflow

ECHO = workflow("return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0")
ROWS = {
    "validation": [Row(id=f"v{n}", problem=f"v {n}", target=n % 2) for n in range(6)],
    "test": [Row(id=f"t{n}", problem=f"t {n}", target=0) for n in range(3)],
}
DOUBLED = workflow("a = await self.llm.call_llm(messages=[problem]); return a[0], 0.0")
VALIDATION = RowSet("validation", tuple(range(6)))


def parity(request: ChatRequest) -> str:
    """1 for an odd number, else 0: right on validation; on test right for even ones."""
    return str(int(request.messages[-1].content.split()[-1]) % 2)


Make = Callable[..., Evaluator]


@pytest.fixture
def make(store: Store, sandbox: Sandbox) -> Make:
    def build(model: FakeModel, limits: BudgetLimits | None = None, **changes: object) -> Evaluator:
        session = Gateway(store).session(
            model, Budget(limits or BudgetLimits()), scope="run", role="executor"
        )
        values: dict[str, object] = {
            "scope": "run",
            "rows": ROWS,
            "scorer": Numeric(),
            "session": session,
            "sandbox": sandbox,
            "store": store,
        }
        return Evaluator(**(values | changes))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    return build


async def failed_with(evaluator: Evaluator, candidate: Workflow, kind: type[ServerError]) -> None:
    """Scores; the errors inside whatever groups must be of this kind."""
    with pytest.raises(BaseExceptionGroup) as raised:
        await evaluator.score(candidate, VALIDATION)
    assert raised.value.split(kind)[1] is None  # nothing of another kind in it


async def test_an_edit_is_executed_though_a_whole_round_waits_for_room(make: Make) -> None:
    model = FakeModel(parity, concurrency=1)
    model.gate.clear()
    evaluator = make(model, rows={"validation": ROWS["validation"] * 4})

    async def score(rows: range, *, ahead: bool) -> None:
        AHEAD.set(ahead)
        await evaluator.score(ECHO if ahead else DOUBLED, RowSet("validation", tuple(rows)))

    async with asyncio.TaskGroup() as group:
        growth = group.create_task(score(range(24), ahead=False))
        for _ in range(50):
            await asyncio.sleep(0)
        edit = group.create_task(score(range(2), ahead=True))
        model.gate.set()
        await edit

        assert not growth.done()


async def test_rows_are_scored_in_their_order_and_on_record(make: Make, store: Store) -> None:
    model = FakeModel(parity, latency_seed=5, turns=9)
    evaluator = make(model)
    result = await evaluator.score(ECHO, RowSet("validation", (1, 2, 5)))
    assert result.scores == (1.0, 1.0, 1.0)
    assert result.rows.positions == (1, 2, 5)
    assert result.failure is None
    records = await store.all_executions("run")
    assert sorted(record.position for record in records) == [1, 2, 5]
    assert {record.row_id for record in records} == {"v1", "v2", "v5"}
    assert all(
        (r.calls, r.cached_calls, r.input_tokens, r.output_tokens) == (1, 0, 2, 1) for r in records
    )


async def test_what_is_on_record_is_not_run_again_even_by_another_evaluator(make: Make) -> None:
    model = FakeModel(lambda request: str(request.sample), deterministic=False)
    first = make(model)
    halves = [
        await first.score(ECHO, RowSet("validation", half)) for half in ((0, 1, 2), (3, 4, 5))
    ]
    second = make(model)
    ran: list[object] = []
    second.on_execution = ran.append
    await second.load()
    whole = await second.score(ECHO, VALIDATION)
    assert whole.scores == (*halves[0].scores, *halves[1].scores)
    assert ran == []
    assert model.started.total() == 6
    assert second.count == first.count == 6


async def test_two_particles_with_one_workflow_share_its_executions(make: Make) -> None:
    model = FakeModel(parity)
    evaluator = make(model)
    ran: list[object] = []
    evaluator.on_execution = ran.append
    results = await asyncio.gather(*(evaluator.score(ECHO, VALIDATION) for _ in range(4)))
    assert len(ran) == 6
    assert all(result == results[0] for result in results)


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
async def test_a_workflow_that_changes_engine_pays_for_its_calls_once(
    make: Make, store: Store
) -> None:
    candidate = workflow(
        "ask = self.llm.call_llm\n"
        "        answers = [(await ask([problem], temperature=0.9))[0] for _ in range(2)]\n"
        "        return (answers[-1] if callable(print) else '0'), 0.0"  # Monty has no callable
    )
    model = FakeModel(lambda request: str(request.sample), deterministic=False)
    await make(model).score(candidate, VALIDATION)
    records = await store.all_executions("run")
    assert {(r.error, r.calls, r.cached_calls) for r in records} == {(None, 2, 0)}
    assert model.started.total() == 2 * len(VALIDATION.positions)
    assert set(model.started.values()) == {1}


async def test_one_workflow_on_two_splits_is_kept_apart(make: Make, store: Store) -> None:
    evaluator = make(FakeModel(parity))
    tested = RowSet("test", (0, 1, 2))
    on_validation, on_test = await asyncio.gather(
        evaluator.score(ECHO, VALIDATION), evaluator.score(ECHO, tested)
    )
    assert on_validation.mean == 1.0
    assert on_test.scores == (1.0, 0.0, 1.0)
    again = make(FakeModel(parity))
    await again.load()
    assert (await again.score(ECHO, tested)).scores == (1.0, 0.0, 1.0)
    summaries = {summary.split: summary for summary in await store.summaries("run")}
    assert summaries["validation"].mean == 1.0
    assert summaries["test"].mean == approx(2 / 3)


async def test_another_replicate_is_another_measurement(make: Make, store: Store) -> None:
    model = FakeModel(lambda request: str(request.sample), deterministic=False)
    for replicate in (0, 1):
        evaluator = make(model, replicate=replicate)
        await evaluator.load()
        await evaluator.score(ECHO, VALIDATION)
    assert model.finished.total() == 12
    assert len(await store.all_executions("run")) == 12
    assert len(await store.summaries("run")) == 2


async def test_a_failure_on_a_row_scores_0_and_says_where(make: Make, store: Store) -> None:
    odd = workflow("return 1 // (1 - int(problem[-1]) % 2), 0.0")
    errors: list[str] = []
    evaluator = make(FakeModel())

    def note(record: ExecutionRecord) -> None:
        if record.error is not None:
            errors.append(failure_line(record))

    evaluator.on_execution = note
    result = await evaluator.score(odd, VALIDATION)
    assert result.scores == (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)  # 1 is wrong on even rows
    assert result.failure is None  # it runs on some rows
    assert len(errors) == 3
    assert errors[0].startswith("ZeroDivisionError: ")
    assert errors[0].endswith("in Step 1: Only, line 7")
    records = await store.executions("run", odd.workflow_id, "validation")
    failure = json.loads(records[1].error or "null")
    assert (failure["type"], failure["line"]) == ("ZeroDivisionError", 7)
    assert failure["step"] == "Step 1: Only"
    assert records[1].answer is None
    assert records[0].error is None


async def test_a_workflow_that_fails_on_every_row_does_not_run(make: Make, store: Store) -> None:
    result = await make(FakeModel()).score(workflow("return nothing, 0.0"), VALIDATION)
    assert result.failure is not None
    assert "nothing" in result.failure
    assert result.noise() == 0.0
    (summary,) = await store.summaries("run")
    assert summary.failed
    assert json.loads(summary.error or "null") == result.failure


async def test_a_workflow_that_the_policy_refuses_scores_0_with_the_reason_and_no_call(
    make: Make, store: Store
) -> None:
    model = FakeModel()
    forbidden = workflow("""await self.llm.call_llm(messages=[problem])
        return open("/etc/passwd").read(), 0.0""")
    evaluator = make(model)
    covered: list[int] = []
    evaluator.on_rows = covered.append
    result = await evaluator.score(forbidden, VALIDATION)
    assert result.scores == (0.0,) * 6
    assert result.failure is not None
    assert "open" in result.failure
    assert model.started.total() == 0
    assert covered == [6]
    assert len(await evaluator.executions(forbidden.workflow_id, "validation")) == 6
    (summary,) = await store.summaries("run")
    assert (summary.failed, summary.mean, summary.rows) == (True, 0.0, 6)


async def test_an_outage_is_no_score_and_other_rows_keep_theirs(make: Make, store: Store) -> None:
    model = FakeModel(parity)

    def down(request: ChatRequest) -> str:
        if request.messages[-1].content == "v 3":
            raise ProviderError("the network is gone", transient=False)
        return parity(request)

    broken = make(FakeModel(down, turns=0))
    # A workflow that swallows every exception must not turn the outage into an answer.
    stubborn = workflow("""try:
            return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0
        except Exception:
            return "0", 0.0""")
    for position in (0, 1):
        await broken.score(stubborn, RowSet("validation", (position,)))
    await failed_with(broken, stubborn, ProviderError)
    kept = await store.executions("run", stubborn.workflow_id, "validation")
    assert {0, 1} <= {record.position for record in kept}
    assert 3 not in {record.position for record in kept}
    assert all(record.score == 1.0 and record.error is None for record in kept)
    well = make(model)
    await well.load()
    assert (await well.score(stubborn, VALIDATION)).mean == 1.0
    assert model.started.total() <= 6 - len(kept)


async def test_a_spent_budget_is_no_score_and_the_rest_follows_with_a_larger_one(
    make: Make, store: Store
) -> None:
    model = FakeModel(parity)
    poor = make(model, BudgetLimits(calls=4))
    await failed_with(poor, ECHO, BudgetSpentError)
    kept = await store.all_executions("run")
    assert len(kept) <= 4
    assert model.finished.total() == 4
    rich = make(model)
    await rich.load()
    assert (await rich.score(ECHO, VALIDATION)).mean == 1.0
    assert model.finished.total() == 6


@pytest.mark.parametrize("text", ["\ud83d 1", "a\x00b", "\udfff", "\U0001f600"])
async def test_any_answer_can_be_kept_and_read_again(make: Make, text: str) -> None:
    evaluator = make(FakeModel(lambda _: text))
    await evaluator.score(ECHO, VALIDATION)
    again = make(FakeModel())
    await again.load()
    records = await again.executions(ECHO.workflow_id, "validation")
    assert [record.answer for record in records] == [text.encode("utf-8", "replace").decode()] * 6


async def test_the_answer_of_another_engine_may_hold_lone_surrogates(
    make: Make, store: Store, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(*_: object, **__: object) -> Outcome:
        return Outcome(value="1 \ud800")

    monkeypatch.setattr(sandbox, "run_workflow", answer)
    await make(FakeModel()).score(ECHO, VALIDATION)
    assert {record.answer for record in await store.all_executions("run")} == {"1 ?"}


async def test_a_row_may_hold_a_lone_surrogate(make: Make) -> None:
    rows = {"validation": [Row(id="r", problem="4 \ud800", target=4)]}
    sampling = workflow("return (await self.llm.call_llm(messages=[problem]))[0], 0.0")
    result = await make(FakeModel(), rows=rows).score(sampling, RowSet("validation", (0,)))
    assert result.scores == (1.0,)


async def test_a_summary_covers_all_rows_seen_and_counts_cached_tokens_too(
    make: Make, store: Store
) -> None:
    model = FakeModel(lambda request: "1")
    twice = workflow("""await self.llm.call_llm(messages=["same"], temperature=0.0)
        return (await self.llm.call_llm(messages=[problem], temperature=0.0))[0], 0.0""")
    evaluator = make(model)
    await evaluator.score(twice, RowSet("validation", (0, 1)))
    await evaluator.score(twice, RowSet("validation", (1, 2, 3, 4)))
    (summary,) = await store.summaries("run")
    scores = [0.0, 1.0, 0.0, 1.0, 0.0]
    assert summary.rows == 5
    assert summary.mean == approx(statistics.fmean(scores))
    assert summary.variance == approx(statistics.variance(scores))
    assert (summary.calls, summary.tokens) == (10, 5 * (1 + 1 + 2 + 1))
    assert not summary.failed
    assert model.finished.total() == 6


async def test_one_row_has_a_summary_of_variance_0(make: Make, store: Store) -> None:
    await make(FakeModel(parity)).score(ECHO, RowSet("validation", (1,)))
    (summary,) = await store.summaries("run")
    assert (summary.rows, summary.mean, summary.variance) == (1, 1.0, 0.0)


async def test_sizes_are_those_of_the_rows(make: Make) -> None:
    evaluator = make(FakeModel())
    assert [evaluator.size(split) for split in ("validation", "selection", "test")] == [6, 0, 3]


async def test_a_call_that_comes_after_the_execution_is_not_made(
    make: Make, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[asyncio.Task[list[str]]] = []

    async def hasty(_s: str, _a: object, host: WorkflowHost, *_: object, **__: object) -> Outcome:
        call = parse_llm_call((["q"],), {})
        late.append(asyncio.create_task(_made(host, call)))
        return Outcome(value="1")

    async def _made(host: WorkflowHost, call: LLMCall) -> list[str]:
        return await host.call_llm(call)

    monkeypatch.setattr(sandbox, "run_workflow", hasty)
    model = FakeModel()
    await make(model).score(ECHO, VALIDATION)
    ends = await asyncio.gather(*late, return_exceptions=True)
    assert {type(end) for end in ends} == {CallRefusedError}
    assert model.started.total() == 0


# --- cost in the reward ---------------------------------------------------------------------

# One call of two tokens on even rows, four of eight on odd ones.
UNEVEN = workflow("""for _ in range(1 + 3 * (int(problem[-1]) % 2)):
            answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        return "0", 0.0""")


@pytest.fixture
def weighed(make: Make, store: Store) -> Make:
    """An evaluator that takes λ = 0.5 off at 0.06 USD a row; three cents a call."""

    def build(**changes: object) -> Evaluator:
        session = priced_session(store, FakeModel(parity), 0.01)
        values: dict[str, object] = {"cost_weight": 0.5, "cost_cap_usd": 0.06, "session": session}
        return make(FakeModel(), **(values | changes))

    return build


async def test_the_sampler_gets_the_reward_and_the_record_keeps_the_accuracy(
    weighed: Make, store: Store
) -> None:
    result = await weighed().score(UNEVEN, VALIDATION)
    assert result.scores == approx([0.75, -0.5, 0.75, -0.5, 0.75, -0.5])
    assert result.mean == approx(0.125)
    records = await store.executions("run", UNEVEN.workflow_id, "validation")
    assert [record.score for record in records] == [1.0, 0.0] * 3
    assert [record.cost_usd for record in records] == approx([0.03, 0.12] * 3)
    (summary,) = await store.summaries("run")
    assert (summary.mean, summary.reward) == (0.5, approx(0.125))
    assert summary.variance == approx(0.3)
    assert summary.cost_usd == approx(0.45)


async def test_what_a_resumed_run_is_told_of_cost_is_the_same_though_all_is_cached(
    weighed: Make,
) -> None:
    first = await weighed().score(UNEVEN, VALIDATION)
    again = weighed(scope="another run")
    assert (await again.score(UNEVEN, VALIDATION)).scores == first.scores
    loaded = weighed()
    await loaded.load()
    assert (await loaded.score(UNEVEN, VALIDATION)).scores == first.scores


async def test_a_workflow_that_does_not_run_has_the_reward_of_minus_lambda(
    weighed: Make, store: Store
) -> None:
    result = await weighed().score(workflow("return nothing, 0.0"), VALIDATION)
    assert result.scores == (-0.5,) * 6
    (summary,) = await store.summaries("run")
    assert (summary.mean, summary.reward, summary.failed) == (0.0, -0.5, True)


async def test_without_a_weight_the_reward_is_the_accuracy(make: Make, store: Store) -> None:
    result = await make(FakeModel()).score(UNEVEN, VALIDATION)
    assert result.scores == (1.0, 0.0) * 3
    (summary,) = await store.summaries("run")
    assert (summary.reward, summary.cost_usd) == (None, None)


async def test_cost_does_not_join_the_reward_where_a_price_is_unknown(
    weighed: Make, store: Store
) -> None:
    unknown = free_session(store, FakeModel())
    with pytest.raises(InputError, match="price of scripted:fake is unknown"):
        weighed(session=unknown)
    with pytest.raises(InputError, match="price of scripted:fake is unknown"):
        weighed(tiers={"strong": unknown})
    with pytest.raises(InputError, match="cap"):
        weighed(cost_cap_usd=None)


# --- tiers, outcomes, traces ----------------------------------------------------------------


async def test_a_workflow_may_call_the_tiers_of_the_run(make: Make, store: Store) -> None:
    asking = workflow("""answers = await self.llm.call_llm([problem], 0.0, tier="strong")
        return answers[0], 0.0""")
    strong = free_session(store, EndingModel(parity_end, identity="strong"))
    wrong = FakeModel(lambda _: "7")
    assert (await make(wrong, tiers={"strong": strong}).score(asking, VALIDATION)).mean == 1.0
    assert wrong.started.total() == 0
    without = await make(wrong, scope="another").score(asking, VALIDATION)
    assert without.failure is not None
    assert "this run offers no tiers" in without.failure


def parity_end(request: ChatRequest) -> Ending:
    return parity(request), "end"


async def test_calls_that_did_not_end_well_are_on_record_the_same_from_the_cache(
    make: Make, store: Store
) -> None:
    def cut_on_odd(request: ChatRequest) -> Ending:
        return parity(request), "length" if parity(request) == "1" else "end"

    for scope in ("run", "another"):
        model = EndingModel(cut_on_odd)
        await make(model, scope=scope).score(ECHO, VALIDATION)
        assert model.finished.total() == (6 if scope == "run" else 0)
        records = await store.executions(scope, ECHO.workflow_id, "validation")
        assert [record.outcomes for record in records] == ["{}", '{"length": 1}'] * 3


async def test_a_prompt_that_is_too_long_is_a_failure_of_the_workflow(make: Make) -> None:
    evaluator = make(EndingModel(lambda _: ("", "context_overflow")))
    result = await evaluator.score(ECHO, VALIDATION)
    assert result.failure is not None
    assert result.failure.startswith("ValueError: call_llm(): the prompt (3 characters, 2 tokens)")
    (first, *_) = await evaluator.executions(ECHO.workflow_id, "validation")
    assert (first.outcomes, first.calls) == ('{"context_overflow": 1}', 1)


async def test_a_trace_is_kept_of_validation_rows_that_could_score_higher(
    make: Make, store: Store
) -> None:
    evaluator = make(FakeModel(lambda _: "0 \ud800"))
    await evaluator.score(ECHO, VALIDATION)
    await evaluator.score(ECHO, RowSet("test", (0, 1, 2)))
    again = make(FakeModel())
    await again.load()
    records = await again.executions(ECHO.workflow_id, "validation")
    traces = [record.trace for record in records]
    assert traces[::2] == [""] * 3
    assert traces[1] == "call 1 asked: v 1\ncall 1 answered: 0 ?"
    tested = await again.executions(ECHO.workflow_id, "test")
    assert {record.trace for record in tested} == {""}


# --- the judge ------------------------------------------------------------------------------


async def test_a_judge_scores_and_is_paid_apart_from_the_workflow(make: Make, store: Store) -> None:
    def grade(request: ChatRequest) -> Ending:
        text = request.messages[-1].content
        return ("GRADE: 8", "end") if ">\n1\n</answer" in text else ("no idea", "end")

    judging = EndingModel(grade, identity="judge")
    budget = Budget(BudgetLimits())
    judge = Gateway(store).session(judging, budget, scope="run", role="judge")
    evaluator = make(FakeModel(parity), scorer=Judge(rubric="Is it odd?"), judge=judge)
    result = await evaluator.score(ECHO, VALIDATION)
    assert result.scores == (0.0, 0.8) * 3
    assert result.failure is None
    records = await store.executions("run", ECHO.workflow_id, "validation")
    assert [record.outcomes for record in records] == ['{"ungraded": 1}', "{}"] * 3
    assert {(record.calls, record.input_tokens) for record in records} == {(1, 2)}
    roles = {usage.role: usage.calls for usage in await store.usage("run")}
    assert roles == {"executor": 6, "judge": 3 * 3 + 3}


async def test_a_failed_row_is_not_shown_to_the_judge(make: Make, store: Store) -> None:
    judging = FakeModel()
    evaluator = make(FakeModel(), scorer=Judge(rubric="Good?"), judge=free_session(store, judging))
    assert (await evaluator.score(workflow("return nothing, 0.0"), VALIDATION)).mean == 0.0
    assert judging.started.total() == 0


async def test_an_outage_of_the_judge_is_no_score(make: Make, store: Store) -> None:
    judging = FakeModel()
    judging.fault = lambda _: ProviderError("down", transient=False)
    evaluator = make(
        FakeModel(parity), scorer=Judge(rubric="Good?"), judge=free_session(store, judging)
    )
    await failed_with(evaluator, ECHO, ProviderError)
    assert await store.all_executions("run") == []


def test_a_judge_scorer_without_a_judge_model_is_refused(make: Make) -> None:
    with pytest.raises(InputError, match="needs a judge model"):
        make(FakeModel(), scorer=Judge(rubric="Good?"))


# --- executing without a summary ------------------------------------------------------------


async def test_executing_keeps_what_was_run_and_makes_no_summary(make: Make, store: Store) -> None:
    model = FakeModel(parity)
    evaluator = make(model)
    covered: list[int] = []
    evaluator.on_rows = covered.append
    records = await evaluator.execute(ECHO, RowSet("validation", (0, 1)))
    assert [record.score for record in records] == [1.0, 1.0]
    assert await store.summaries("run") == []
    assert covered == []
    await evaluator.score(ECHO, VALIDATION)
    assert model.started.total() == 6


CODE_ROWS = {
    "validation": [
        Row(
            id=f"c{n}",
            problem=f"def f{n}(): ",
            meta={"entry_point": f"f{n}", "test": f"assert f{n}() == {n}", "shown": "assert 1"},
        )
        for n in range(2)
    ]
}
CODE_SPLIT = RowSet("validation", (0, 1))


def taking(arguments: str, body: str) -> Workflow:
    """A workflow with these arguments behind `self`."""
    source = workflow(body).source
    assert "self, problem)" in source
    return parse_workflow(source.replace("self, problem)", f"self, {arguments})"))


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
@pytest.mark.parametrize("arguments", ["problem, entry_point", "problem, entry_point=None"])
async def test_a_workflow_that_takes_a_function_s_name_gets_it(make: Make, arguments: str) -> None:
    code = make(FakeModel(), rows=CODE_ROWS, scorer=PassAt1(prompt="input"))
    body = "return 'return ' + entry_point[1:], 0.0"
    assert (await code.score(taking(arguments, body), CODE_SPLIT)).scores == (1.0, 1.0)
    problem_alone = taking("problem", "return 'return 0', 0.0")
    assert (await code.score(problem_alone, CODE_SPLIT)).scores == (1.0, 0.0)


async def test_where_no_function_is_under_test_there_is_no_name_to_get(make: Make) -> None:
    body = "return entry_point, 0.0"
    result = await make(FakeModel()).score(taking("problem, entry_point='0'", body), VALIDATION)
    assert result.mean == 0.5
    result = await make(FakeModel()).score(taking("problem, entry_point", body), VALIDATION)
    assert "entry_point" in (result.failure or "")


async def test_a_row_without_tests_is_no_fault_of_the_workflow(make: Make) -> None:
    rows = {"validation": [Row(id="c", problem="p", meta={"entry_point": "f"})]}
    for changes in ({"scorer": PassAt1()}, {"public_tests": "shown"}):
        evaluator = make(FakeModel(), rows=rows, **changes)
        with pytest.raises(BaseExceptionGroup) as raised:
            await evaluator.score(ECHO, RowSet("validation", (0,)))
        assert raised.value.split(InputError)[1] is None
        assert evaluator.count == 0
