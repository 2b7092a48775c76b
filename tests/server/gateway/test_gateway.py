import asyncio
from pathlib import Path

import pytest

from bayesflow_server.errors import BudgetSpentError, ProviderError
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import ATTEMPTS, Answer, Gateway, ModelSession
from bayesflow_server.models.chat import ChatMessage, ChatRequest, Completion, Usage
from bayesflow_server.store.records import UsageRecord
from bayesflow_server.store.store import Store
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
    assert 0 < pauses[2] < pauses[3] <= 30
    record = await used(store)
    assert (record.calls, record.needed_calls) == (1, 1)


async def test_a_fault_that_lasts_is_raised_after_five_tries_and_is_no_answer(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    fault = ProviderError("overloaded")
    model.fault = lambda _: fault
    calls = session(store, model)
    with pytest.raises(ProviderError) as raised:
        await calls.complete(ask(), HERE)
    assert raised.value is fault
    assert model.started.total() == ATTEMPTS == 5
    assert len(pauses) == ATTEMPTS - 1
    assert await store.usage("run") == []
    model.fault = lambda _: None
    assert not (await calls.complete(ask(), HERE)).cached


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
    store: Store, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesflow_server.gateway.gateway.CALL_SECONDS", 0.001)
    model = FakeModel()
    model.gate.clear()
    with pytest.raises(ProviderError, match="no answer within"):
        await session(store, model).complete(ask(), HERE)
    assert model.started.total() == ATTEMPTS
    assert len(pauses) == ATTEMPTS - 1


async def test_a_call_that_outlasts_the_minutes_ends_the_budget(store: Store) -> None:
    model = FakeModel()
    model.gate.clear()
    calls = session(store, model, BudgetLimits(minutes=0.00002))
    with pytest.raises(BudgetSpentError) as raised:
        await calls.complete(ask(), HERE)
    assert raised.value.limit == "minutes"
    assert calls.budget.calls == 0


async def test_a_pause_before_another_try_is_no_longer_than_the_minutes_left(
    store: Store, pauses: list[float]
) -> None:
    model = FakeModel()
    model.fault = lambda number: ProviderError("busy", retry_after=200) if number == 0 else None
    await session(store, model, BudgetLimits(minutes=1)).complete(ask(), HERE)
    assert len(pauses) == 1
    assert pauses[0] <= 60


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
