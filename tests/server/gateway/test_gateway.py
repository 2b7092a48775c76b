import asyncio
from pathlib import Path

import pytest

from bayesflow_server.errors import BudgetSpentError, InputError, ProviderError
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Answer, Gateway, ModelSession
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatMessage, ChatRequest, Completion, StopReason, Usage
from bayesflow_server.store.records import UsageRecord
from bayesflow_server.store.store import Store
from fakes.approx import approx
from fakes.models import FakeModel

HERE = CallContext(example="row", seed=1)


def ask(text: str = "2 + 2", temperature: float | None = 0.0) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), temperature=temperature)


def session(
    store: Store,
    model: FakeModel,
    limits: BudgetLimits | None = None,
    gateway: Gateway | None = None,
) -> ModelSession:
    budget = Budget(limits or BudgetLimits())
    return (gateway or Gateway(store)).session(model, budget, scope="run", role="executor")


async def used(store: Store) -> UsageRecord:
    (record,) = await store.usage("run")
    return record


def locks(gateway: Gateway) -> int:
    return len(gateway._locks)  # pyright: ignore[reportPrivateUsage]


async def test_fifty_callers_of_one_question_at_temperature_0_pay_it_once(store: Store) -> None:
    model = FakeModel()
    gateway = Gateway(store)
    calls = session(store, model, gateway=gateway)
    answers = await asyncio.gather(
        *(calls.complete(ask(), CallContext(f"row {n}", ordinal=n, seed=n)) for n in range(50))
    )
    assert model.finished.total() == 1
    assert sorted(answer.cached for answer in answers) == [False] + [True] * 49
    assert {answer.completion.text for answer in answers} == {"2 + 2"}
    record = await used(store)
    assert (record.calls, record.cached_calls, record.needed_calls) == (1, 49, 1)
    assert (record.input_tokens, record.output_tokens) == (3, 3)
    assert locks(gateway) == 0


async def test_usage_is_exact_when_many_ask_a_few_questions_at_once(store: Store) -> None:
    model = FakeModel(latency_seed=1, turns=9)
    calls = session(store, model)
    await asyncio.gather(*(calls.complete(ask(f"question {n % 7}"), HERE) for n in range(100)))
    await calls.complete(ask("question 3"), HERE)
    record = await used(store)
    assert (record.calls, record.cached_calls, record.needed_calls) == (7, 94, 7)
    assert (record.input_tokens, record.output_tokens) == (14, 14)
    assert (calls.budget.calls, calls.budget.tokens) == (7, 28)


async def test_a_question_that_another_run_paid_is_needed_but_free(store: Store) -> None:
    model = FakeModel()
    await session(store, model).complete(ask(), HERE)
    gateway = Gateway(store)
    other = gateway.session(model, Budget(BudgetLimits()), scope="other", role="executor")
    await other.complete(ask(), HERE)
    (record,) = await store.usage("other")
    assert (record.calls, record.cached_calls, record.needed_calls) == (0, 1, 1)
    assert record.input_tokens == record.output_tokens == 0


async def test_draws_above_temperature_0_are_distinct_and_each_is_remembered(store: Store) -> None:
    model = FakeModel(lambda request: str(request.sample))
    calls = session(store, model)
    contexts = [
        CallContext(example, replicate, ordinal, seed)
        for example in ("a", "b")
        for replicate in (0, 1)
        for ordinal in (0, 1)
        for seed in (0, 1)
    ]
    first = [await calls.complete(ask(temperature=0.7), context) for context in contexts]
    again = [await calls.complete(ask(temperature=0.7), context) for context in contexts]
    assert len({answer.completion.text for answer in first}) == 16
    assert [a.completion for a in again] == [a.completion for a in first]
    assert all(answer.cached for answer in again)


async def test_an_answer_is_on_disk_before_it_is_returned(store: Store, path: Path) -> None:
    model = FakeModel()
    answer = await session(store, model).complete(ask(), HERE)
    async with await Store.open(path) as other:  # as another process sees the file at this moment
        again = await session(other, model).complete(ask(), HERE)
    assert again == Answer(answer.completion, cached=True)
    assert model.started.total() == 1


async def test_an_answer_that_arrived_is_kept_though_its_caller_is_cancelled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel()
    calls = session(store, model)
    writing = asyncio.Event()
    record_completion = store.record_completion

    async def slow(*arguments: object) -> None:
        writing.set()
        await asyncio.sleep(0)
        await record_completion(*arguments)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(store, "record_completion", slow)
    caller = asyncio.create_task(calls.complete(ask(), HERE))
    await writing.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert (await calls.complete(ask(), HERE)).cached
    assert model.started.total() == 1


async def test_a_cancelled_first_caller_leaves_the_question_to_the_next(store: Store) -> None:
    model = FakeModel()
    model.hold_at(0)
    gateway = Gateway(store)
    calls = session(store, model, gateway=gateway)
    first = asyncio.create_task(calls.complete(ask(), HERE))
    await model.reached()
    waiters = [asyncio.create_task(calls.complete(ask(), HERE)) for _ in range(3)]
    for _ in range(5):
        await asyncio.sleep(0)
    first.cancel()
    waiters[0].cancel()
    model.release()
    ends = await asyncio.gather(first, *waiters, return_exceptions=True)
    assert [isinstance(end, Answer) for end in ends] == [False, False, True, True]
    assert model.finished.total() == 1
    assert locks(gateway) == 0


async def test_a_failing_first_caller_leaves_the_question_to_the_next(store: Store) -> None:
    model = FakeModel()
    model.fault = lambda number: ProviderError("no", transient=False) if number == 0 else None
    gateway = Gateway(store)
    calls = session(store, model, gateway=gateway)
    ends = await asyncio.gather(
        *(calls.complete(ask(), HERE) for _ in range(3)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [ProviderError, Answer, Answer]
    assert (await used(store)).calls == 1
    assert locks(gateway) == 0


async def test_a_transient_fault_is_tried_again_after_the_wait_the_provider_asks_for(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    waits = [7.0, 90.0, None, None]
    model.fault = lambda number: (
        ProviderError("busy", retry_after=waits[number]) if number < len(waits) else None
    )
    answer = await session(store, model).complete(ask(), HERE)
    assert answer.completion.text == "2 + 2"
    assert pauses[:2] == [7.0, 90.0]
    assert 1 <= pauses[2] <= 2 <= pauses[3] <= 4  # the third and fourth, less a jitter
    record = await used(store)
    assert (record.calls, record.needed_calls) == (1, 1)


async def test_a_fault_that_lasts_is_raised_after_eight_tries_and_is_no_answer(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    fault = ProviderError("HTTP 500: overloaded.")
    model.fault = lambda _: fault
    calls = session(store, model, gateway=Gateway(store, timing=Timing(patience_seconds=0)))
    with pytest.raises(ProviderError, match="HTTP 500: overloaded") as raised:
        await calls.complete(ask(), HERE)
    assert raised.value.__cause__ is fault
    assert "scripted:fake failed 8 times" in str(raised.value)
    assert "resume the run" in str(raised.value)
    assert model.started.total() == 8
    assert len(pauses) == 7
    assert max(pauses) <= 10
    assert await store.usage("run") == []
    model.fault = lambda _: None
    assert not (await calls.complete(ask(), HERE)).cached


async def test_while_the_model_answers_other_calls_a_call_has_thirty_tries(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    model.fault = lambda number: None if number == 29 else ProviderError("busy")
    await session(store, model).complete(ask(), HERE)
    assert model.started.total() == 30
    model.fault = lambda _: ProviderError("busy")
    with pytest.raises(ProviderError, match="failed 30 times"):
        await session(store, model).complete(ask("another"), HERE)


async def test_a_fault_that_is_not_transient_is_raised_at_once(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    model.fault = lambda _: ProviderError("bad key", transient=False)
    with pytest.raises(ProviderError, match="bad key"):
        await session(store, model).complete(ask(), HERE)
    assert model.started.total() == 1
    assert pauses == []


async def test_a_call_that_never_ends_is_a_fault_of_the_provider(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    model.gate.clear()
    gateway = Gateway(store, timing=Timing(call_seconds=0.001, patience_seconds=0))
    with pytest.raises(ProviderError, match="no answer within"):
        await session(store, model, gateway=gateway).complete(ask(), HERE)
    assert 1 < model.started.total() < 8  # three calls' longest time
    assert len(pauses) == model.started.total() - 1


async def test_a_hung_call_gives_its_slot_and_its_room_to_the_next(store: Store) -> None:
    model = FakeModel(concurrency=1)
    model.gate.clear()
    model.hold_at(1)
    gateway = Gateway(store, timing=Timing(call_seconds=0.001, first_pause=0))
    calls = session(store, model, BudgetLimits(calls=1), gateway)
    hung = asyncio.create_task(calls.complete(ask(), HERE))
    await model.reached()  # it hung once, and is at it again
    model.release()
    assert (await hung).completion.text == "2 + 2"
    assert calls.budget.calls == 1


async def test_an_example_that_spent_its_time_in_model_calls_is_an_outage_and_no_score(
    store: Store,
) -> None:
    model = FakeModel()
    model.gate.clear()
    timing = Timing(example_seconds=0.01, call_seconds=0.004, first_pause=0)
    calls = session(store, model, gateway=Gateway(store, timing=timing))
    deadline = calls.deadline()
    with pytest.raises(ProviderError, match=r"spent 0.01 s in calls of scripted:fake") as raised:
        await asyncio.gather(
            calls.complete(ask("one"), HERE, deadline), calls.complete(ask("two"), HERE, deadline)
        )
    assert not raised.value.transient
    assert deadline.left == 0
    model.release()
    with pytest.raises(ProviderError, match="its time is over"):
        await calls.complete(ask("three"), HERE, deadline)
    assert (await calls.complete(ask("three"), HERE, calls.deadline())).completion.text == "three"


async def test_a_call_that_outlasts_the_minutes_ends_the_budget(store: Store) -> None:
    model = FakeModel()
    model.gate.clear()
    calls = session(store, model, BudgetLimits(minutes=0.00002))
    with pytest.raises(BudgetSpentError) as raised:
        await calls.complete(ask(), HERE)
    assert raised.value.limit == "minutes"
    assert calls.budget.calls == 0


async def test_a_call_takes_minutes_though_the_runs_client_is_asked_meanwhile(store: Store) -> None:
    model = FakeModel()
    model.gate.clear()
    calls = session(store, model, BudgetLimits(minutes=0.00002))
    calls.budget.client_asked(True)
    assert calls.budget.seconds_left != 0.0
    with pytest.raises(BudgetSpentError):
        await calls.complete(ask(), HERE)
    assert calls.budget.seconds_left == 0.0


async def test_a_pause_before_another_try_is_no_longer_than_the_minutes_left(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    model.fault = lambda number: ProviderError("busy", retry_after=200) if number == 0 else None
    await session(store, model, BudgetLimits(minutes=1)).complete(ask(), HERE)
    assert len(pauses) == 1
    assert pauses[0] <= 60


async def test_a_call_waits_for_its_turn_no_longer_than_the_minutes_last(store: Store) -> None:
    model = FakeModel()
    model.fault = lambda _: ProviderError("HTTP 429", retry_after=200, congestion=True)
    calls = session(store, model, BudgetLimits(minutes=0.0005))
    with pytest.raises(BudgetSpentError) as raised:
        await calls.complete(ask(), HERE)
    assert raised.value.limit == "minutes"
    assert model.started.total() == 1


async def test_no_more_calls_are_in_flight_than_the_model_takes_over_all_runs(store: Store) -> None:
    model = FakeModel(concurrency=3, latency_seed=2, turns=6)
    gateway = Gateway(store)
    runs = [
        gateway.session(model, Budget(BudgetLimits()), scope=f"run {n}", role="executor")
        for n in range(4)
    ]
    await asyncio.gather(
        *(
            run.complete(ask(f"{n} {index}"), HERE)
            for index, run in enumerate(runs)
            for n in range(9)
        )
    )
    assert model.finished.total() == 36
    assert model.most_in_flight == 3
    assert locks(gateway) == 0


async def test_fifty_callers_spend_a_budget_of_calls_to_the_last_one_and_no_further(
    store: Store,
) -> None:
    model = FakeModel(latency_seed=3, turns=9)
    calls = session(store, model, BudgetLimits(calls=20))
    ends = await asyncio.gather(
        *(calls.complete(ask(str(n)), HERE) for n in range(50)), return_exceptions=True
    )
    assert sum(isinstance(end, Answer) for end in ends) == 20
    assert {type(end) for end in ends} == {Answer, BudgetSpentError}
    assert model.started.total() == 20
    assert (await used(store)).calls == 20
    assert (await calls.complete(ask("0"), HERE)).cached  # what is known costs nothing


@pytest.mark.parametrize("text", ["\ud83d", "a\x00b", "", "\udc00 tail"])
async def test_any_text_of_a_model_can_be_kept(store: Store, text: str) -> None:
    calls = session(store, FakeModel(lambda _: text))
    answer = await calls.complete(ask(), HERE)
    again = await calls.complete(ask(), HERE)
    assert again.completion == answer.completion
    assert answer.completion.text == text.encode("utf-8", "replace").decode()


async def test_a_completion_comes_back_from_the_cache_as_it_was(store: Store) -> None:
    completion = Completion("x", Usage(5, 6, 4), "length", ("temperature",))

    class Dropping(FakeModel):
        async def complete(self, request: ChatRequest) -> Completion:
            return completion

    calls = session(store, Dropping())
    assert (await calls.complete(ask(), HERE)).completion == completion
    assert await calls.complete(ask(), HERE) == Answer(completion, cached=True)


class Many(FakeModel):
    """Draws several answers a call, but never more than it feels like."""

    most_samples = 4

    def __init__(self, generous: int = 4, concurrency: int = 8) -> None:
        super().__init__(deterministic=False, concurrency=concurrency)
        self.generous = generous
        self.asked: list[int] = []
        self.seeds: list[int] = []

    async def sample(self, request: ChatRequest, count: int) -> tuple[Completion, ...]:
        number = len(self.asked)
        self.asked.append(count)
        self.seeds.append(request.sample)
        await asyncio.sleep(0)
        fault = self.fault(number)
        if fault is not None:
            raise fault
        return tuple(
            Completion(f"{number}.{index}", Usage(0 if index else 10, 2))
            for index in range(min(count, self.generous))
        )


def contexts(count: int) -> list[CallContext]:
    return [CallContext("row", ordinal=ordinal, seed=1) for ordinal in range(count)]


async def test_many_answers_of_one_question_are_few_calls_each_with_its_own_key(
    store: Store,
) -> None:
    model = Many()
    calls = session(store, model)
    answers = await calls.complete_many(ask(temperature=0.7), contexts(9))
    assert sorted(model.asked) == [4, 4]  # and the ninth alone, as a plain call
    assert model.finished.total() == 1
    assert len({answer.completion.text for answer in answers}) == 9
    record = await used(store)
    assert (record.calls, record.cached_calls, record.needed_calls) == (3, 0, 9)
    assert (record.input_tokens, record.output_tokens) == (10 + 10 + 3, 16 + 3)
    assert (calls.budget.calls, calls.budget.tokens) == (3, 42)
    again = await calls.complete_many(ask(temperature=0.7), contexts(9))
    assert [one.completion for one in again] == [one.completion for one in answers]
    assert all(one.cached for one in again)
    for context, answer in zip(contexts(9), answers, strict=True):
        alone = await calls.complete(ask(temperature=0.7), context)
        assert alone == Answer(answer.completion, cached=True)


async def test_of_many_answers_only_those_that_are_not_cached_are_asked(store: Store) -> None:
    model = Many()
    calls = session(store, model)
    wanted = contexts(5)
    second = await calls.complete(ask(temperature=0.7), wanted[1])
    answers = await calls.complete_many(ask(temperature=0.7), wanted)
    assert model.asked == [4]
    assert [answer.cached for answer in answers] == [False, True, False, False, False]
    assert answers[1].completion == second.completion


async def test_a_provider_that_gives_fewer_answers_is_asked_for_the_rest(store: Store) -> None:
    model = Many(generous=3)
    answers = await session(store, model).complete_many(ask(temperature=0.7), contexts(4))
    assert model.asked == [4]
    assert model.finished.total() == 1
    assert len({answer.completion.text for answer in answers}) == 4
    assert (await used(store)).calls == 2


async def test_an_empty_handful_of_answers_is_a_fault(store: Store, pauses: list[float]) -> None:
    model = Many(generous=0)
    gateway = Gateway(store, timing=Timing(patience_seconds=0))
    with pytest.raises(ProviderError, match="no answer at all"):
        await session(store, model, gateway=gateway).complete_many(
            ask(temperature=0.7), contexts(2)
        )
    assert await store.usage("run") == []


async def test_the_answers_of_one_call_outlive_the_failure_of_another(store: Store) -> None:
    model = Many()
    model.fault = lambda number: ProviderError("no", transient=False) if number == 0 else None
    calls = session(store, model)
    with pytest.raises(ProviderError, match="no"):
        await calls.complete_many(ask(temperature=0.7), contexts(8))
    model.fault = lambda _: None
    answers = await calls.complete_many(ask(temperature=0.7), contexts(8))
    assert [answer.cached for answer in answers] == [False] * 4 + [True] * 4
    assert model.asked == [4, 4, 4]


async def test_a_model_that_answers_one_at_a_time_is_asked_many_times_at_once(
    store: Store,
) -> None:
    model = FakeModel(lambda request: str(request.sample), concurrency=3)
    answers = await session(store, model).complete_many(ask(temperature=0.7), contexts(5))
    assert len({answer.completion.text for answer in answers}) == 5
    assert model.most_in_flight == 3


async def test_many_draws_of_a_deterministic_answer_are_one_question(store: Store) -> None:
    model = FakeModel()
    answers = await session(store, model).complete_many(ask(), contexts(3))
    assert [answer.cached for answer in answers] == [False, True, True]
    record = await used(store)
    assert (record.calls, record.cached_calls, record.needed_calls) == (1, 2, 1)


async def test_two_who_ask_for_the_same_many_answers_pay_them_once(store: Store) -> None:
    model = Many()
    calls = session(store, model)
    wanted = contexts(4)
    one, two = await asyncio.gather(
        calls.complete_many(ask(temperature=0.7), wanted),
        calls.complete_many(ask(temperature=0.7), wanted[::-1]),
    )
    assert model.asked == [4]
    assert [a.completion for a in one] == [a.completion for a in reversed(two)]


@pytest.mark.parametrize(
    "reason", ["end", "length", "stop_sequence", "refusal", "context_overflow", "empty"]
)
async def test_every_way_an_answer_can_end_is_kept_and_replayed(
    store: Store, reason: StopReason
) -> None:
    completion = Completion("" if reason != "end" else "x", Usage(5, 0, 4), reason, ("stop",))

    class Ending(FakeModel):
        async def complete(self, request: ChatRequest) -> Completion:
            self.started[request] += 1
            return completion

    model = Ending()
    calls = session(store, model)
    await calls.complete(ask(), HERE)
    other = session(store, model)
    assert await other.complete(ask(), HERE) == Answer(completion, cached=True)
    assert model.started.total() == 1
    assert calls.dropped == other.dropped == frozenset({"stop"})


PRICES = PriceTable({"scripted": (1.0, 10.0)})


async def test_what_a_paid_answer_cost_is_on_the_account_and_a_cached_one_costs_nothing(
    store: Store,
) -> None:
    model = FakeModel(usage=Usage(1000, 100, 400))
    gateway = Gateway(store, prices=PRICES)
    calls = session(store, model, BudgetLimits(usd=1), gateway)
    await calls.complete(ask(), HERE)
    await calls.complete(ask(), HERE)
    assert (await used(store)).cost_usd == approx(0.002)
    assert calls.budget.usd == approx(0.002)
    assert calls.list_cost_usd(Usage(1000, 100, 400)) == approx(0.002)


async def test_a_budget_in_dollars_is_refused_for_a_model_whose_price_is_unknown(
    store: Store,
) -> None:
    with pytest.raises(InputError, match=r"price of scripted:fake is not known.*calls, tokens"):
        session(store, FakeModel(), BudgetLimits(usd=1))


async def test_many_callers_never_spend_more_dollars_than_there_are(store: Store) -> None:
    model = FakeModel(usage=Usage(100, 100), latency_seed=4, turns=9)
    gateway = Gateway(store, prices=PRICES)
    calls = session(store, model, BudgetLimits(usd=0.02), gateway)
    ends = await asyncio.gather(
        *(
            calls.complete(ChatRequest((ChatMessage("user", str(n)),), max_tokens=200), HERE)
            for n in range(60)
        ),
        return_exceptions=True,
    )
    assert {type(end) for end in ends} == {Answer, BudgetSpentError}
    # 0.0011 a call; the last is refused for the 0.002033 that it might have cost.
    assert sum(isinstance(end, Answer) for end in ends) == 17
    assert (await used(store)).cost_usd == approx(17 * 0.0011)
