import asyncio
import dataclasses

import pytest

from bayesflow_server.errors import StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import CompletionRecord, UsageDelta, UsageRecord

COMPLETION = CompletionRecord("k", "scripted", "text", 10, 5, 2, "end", "[]", 1.5)
PAID = UsageDelta("run", "executor", "scripted", 1, 0, 1, 10, 5, 0.25)
CACHED = UsageDelta("run", "executor", "scripted", cached_calls=1, needed_calls=1)


async def test_an_answer_and_its_usage_are_stored_together(store: Store) -> None:
    assert await store.completion("k") is None
    await store.record_completion(COMPLETION, PAID)
    assert await store.completion("k") == COMPLETION
    assert await store.usage("run") == [
        UsageRecord("run", "executor", "scripted", 1, 0, 1, 10, 5, 0.25)
    ]


async def test_the_first_answer_stands_and_every_paid_call_counts(store: Store) -> None:
    await store.record_completion(COMPLETION, PAID)
    await store.record_completion(dataclasses.replace(COMPLETION, text="other"), PAID)
    assert await store.completion("k") == COMPLETION
    assert (await store.usage("run"))[0].calls == 2


async def test_an_answer_that_cannot_be_stored_counts_no_usage(store: Store) -> None:
    with pytest.raises(StoreError, match="Unicode"):
        await store.record_completion(dataclasses.replace(COMPLETION, text="\ud800"), PAID)
    with pytest.raises(StoreError):
        await store.record_completion(COMPLETION, dataclasses.replace(PAID, calls=2**70))
    assert await store.completion("k") is None
    assert await store.usage("run") == []


async def test_concurrent_usage_adds_up_exactly(store: Store) -> None:
    await asyncio.gather(*(store.add_usage(delta) for _ in range(100) for delta in (PAID, CACHED)))
    assert await store.usage("run") == [
        UsageRecord("run", "executor", "scripted", 100, 100, 200, 1000, 500, 25.0)
    ]


async def test_one_unknown_price_makes_the_sum_unknown(store: Store) -> None:
    await store.add_usage(PAID)
    await store.add_usage(dataclasses.replace(PAID, cost_usd=None))
    await store.add_usage(PAID)
    (usage,) = await store.usage("run")
    assert (usage.calls, usage.cost_usd) == (3, None)


async def test_usage_is_kept_apart_by_scope_role_and_model(store: Store) -> None:
    changed = [
        PAID,
        dataclasses.replace(PAID, model="other"),
        dataclasses.replace(PAID, role="optimizer"),
    ]
    for delta in (*changed, dataclasses.replace(PAID, scope="evaluation")):
        await store.add_usage(delta)
    usage = await store.usage("run")
    assert [(sums.role, sums.model) for sums in usage] == [
        ("executor", "other"),
        ("executor", "scripted"),
        ("optimizer", "scripted"),
    ]
