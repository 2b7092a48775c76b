import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.errors import BudgetSpentError
from bayesflow_server.gateway.budget import Budget, BudgetLimits, most_usage
from bayesflow_server.models.chat import ChatMessage, ChatRequest, Usage
from bayesflow_server.store.records import UsageRecord
from fakes.approx import approx

QUESTION = most_usage(ChatRequest((ChatMessage("user", "x" * 18),), max_tokens=50))
MOST_TOKENS = 100  # 18 bytes, 32 for the turn, 50 to generate


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@given(
    seed=st.integers(0, 10_000),
    calls=st.one_of(st.none(), st.integers(1, 60)),
    tokens=st.one_of(st.none(), st.integers(1, 6_000)),
)
def test_fifty_concurrent_callers_never_overrun_a_budget_in_any_interleaving(
    seed: int, calls: int | None, tokens: int | None
) -> None:
    random = Random(seed)
    budget = Budget(BudgetLimits(calls=calls, tokens=tokens))
    answered: list[int] = []

    async def caller(delay: int, latency: int, used: int, fate: str) -> None:
        await turns(delay)
        async with budget.reserve(QUESTION) as spending:
            await turns(latency)
            if fate == "fails":
                raise ConnectionError
            answered.append(used)
            spending.usage = Usage(used - 1, 1)

    async def crowd() -> list[BaseException | None]:
        tasks = [
            asyncio.create_task(
                caller(
                    random.randrange(20),
                    random.randrange(20),
                    random.randint(1, MOST_TOKENS),
                    random.choice(["ends", "ends", "fails", "is cancelled"]),
                )
            )
            for _ in range(50)
        ]
        for task in random.sample(tasks, 10):
            await turns(random.randrange(4))
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    ends = asyncio.run(crowd())
    assert (budget.calls, budget.tokens) == (len(answered), sum(answered))
    assert calls is None or len(answered) <= calls
    assert tokens is None or sum(answered) <= tokens
    refused = [end for end in ends if isinstance(end, BudgetSpentError)]
    if refused and tokens is None:
        assert len(answered) == calls  # refused only once there is no room at all
    if refused and tokens is not None and (calls is None or len(answered) < calls):
        assert sum(answered) + MOST_TOKENS > tokens


async def test_a_caller_without_room_waits_for_calls_in_flight_before_it_is_refused() -> None:
    budget = Budget(BudgetLimits(calls=1))
    let_go = asyncio.Event()
    order: list[str] = []

    async def first() -> None:
        async with budget.reserve(QUESTION):
            order.append("first has it")
            await let_go.wait()  # and ends without an answer

    async def second() -> None:
        async with budget.reserve(QUESTION) as spending:
            order.append("second has it")
            spending.usage = Usage(1, 1)

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        await turns(2)
        group.create_task(second())
        await turns(5)
        order.append("first lets go")
        let_go.set()
    assert order == ["first has it", "first lets go", "second has it"]
    with pytest.raises(BudgetSpentError) as refused:
        async with budget.reserve(QUESTION):
            pass
    assert refused.value.limit == "calls"
    assert "1 of 1 calls" in str(refused.value)


async def test_a_cancelled_call_gives_its_room_to_one_that_waits() -> None:
    budget = Budget(BudgetLimits(tokens=MOST_TOKENS))
    held = asyncio.Event()

    async def hold() -> None:
        async with budget.reserve(QUESTION):
            held.set()
            await asyncio.Event().wait()

    async def take() -> None:
        async with budget.reserve(QUESTION) as spending:
            spending.usage = Usage(1, 1)

    holder = asyncio.create_task(hold())
    await held.wait()
    takers = [asyncio.create_task(take()) for _ in range(2)]
    await turns(3)
    takers[0].cancel()
    holder.cancel()
    ends = await asyncio.gather(holder, *takers, return_exceptions=True)
    assert [type(end) for end in ends] == [
        asyncio.CancelledError,
        asyncio.CancelledError,
        type(None),
    ]


async def test_a_call_that_fails_at_the_provider_is_not_counted() -> None:
    budget = Budget(BudgetLimits(calls=1))
    for _ in range(3):
        with pytest.raises(ConnectionError):
            async with budget.reserve(QUESTION):
                raise ConnectionError
    assert (budget.calls, budget.tokens) == (0, 0)


async def test_what_earlier_sittings_spent_counts() -> None:
    clock = Clock()
    limits = BudgetLimits(calls=10, tokens=1000, minutes=2)
    for spent, limit in (
        (Budget(limits, calls=10, clock=clock), "calls"),
        (Budget(limits, tokens=1000 - MOST_TOKENS + 1, clock=clock), "tokens"),
        (Budget(limits, earlier_seconds=120.0, clock=clock), "minutes"),
    ):
        with pytest.raises(BudgetSpentError) as refused:
            async with spent.reserve(QUESTION):
                pass
        assert refused.value.limit == limit
        assert "larger total budget" in str(refused.value)


async def test_minutes_run_out_even_while_calls_are_in_flight() -> None:
    clock = Clock()
    budget = Budget(BudgetLimits(minutes=1), clock=clock)
    async with budget.reserve(QUESTION):
        clock.now = 61.0
        assert budget.seconds_left == 0.0
        with pytest.raises(BudgetSpentError, match="minutes"):
            async with budget.reserve(QUESTION):
                pass


async def test_no_time_passes_while_the_run_only_waits_for_its_client() -> None:
    clock = Clock()
    budget = Budget(BudgetLimits(minutes=1), earlier_seconds=10.0, clock=clock)
    clock.now = 1.0
    budget.client_asked(True)
    budget.client_asked(True)  # another question
    clock.now = 1000.0
    assert budget.seconds == 11.0
    with budget.at_work():
        clock.now = 1002.0
        with budget.at_work():
            clock.now = 1003.0
        assert budget.seconds == 14.0
        clock.now = 1004.0
    clock.now = 2000.0
    assert budget.seconds == 15.0
    budget.client_asked(False)
    clock.now = 2001.0
    assert budget.seconds == 16.0
    assert budget.seconds_left == 44.0


async def test_a_refusal_for_tokens_says_how_many_the_next_call_may_take() -> None:
    budget = Budget(BudgetLimits(tokens=MOST_TOKENS - 1))
    with pytest.raises(BudgetSpentError, match="next call may take 100"):
        async with budget.reserve(QUESTION):
            pass


async def test_without_limits_nothing_is_refused() -> None:
    budget = Budget(BudgetLimits())
    assert budget.seconds_left is None
    for _ in range(100):
        async with budget.reserve(QUESTION) as spending:
            spending.usage = Usage(10_000, 10_000)
    assert budget.calls == 100


def test_the_most_a_call_may_take_counts_bytes_turns_and_each_answer() -> None:
    turns_ = (ChatMessage("system", "ü" * 10), ChatMessage("user", "\ud83d"))
    assert most_usage(ChatRequest(turns_, max_tokens=50), 3) == Usage(20 + 3 + 64, 150)
    assert most_usage(ChatRequest(turns_)).output_tokens == 4096


@given(seed=st.integers(0, 10_000), usd=st.floats(0.001, 0.2))
def test_concurrent_callers_never_overrun_a_budget_in_dollars(seed: int, usd: float) -> None:
    random = Random(seed)
    budget = Budget(BudgetLimits(usd=usd))
    paid: list[float] = []

    async def caller(delay: int, latency: int, cost: float, ends: bool) -> None:
        await turns(delay)
        async with budget.reserve(QUESTION, 0.01) as spending:
            await turns(latency)
            if not ends:
                raise ConnectionError
            paid.append(cost)
            spending.usage, spending.usd = Usage(1, 1), cost

    async def crowd() -> list[BaseException | None]:
        work = (
            caller(
                random.randrange(20),
                random.randrange(20),
                random.uniform(0, 0.01),
                random.random() < 0.8,
            )
            for _ in range(50)
        )
        return await asyncio.gather(*work, return_exceptions=True)

    ends = asyncio.run(crowd())
    assert budget.usd == approx(sum(paid))
    assert sum(paid) <= usd * (1 + 1e-9)
    refused = [end for end in ends if isinstance(end, BudgetSpentError)]
    assert {error.limit for error in refused} <= {"usd"}
    if refused:
        assert sum(paid) + 0.01 > usd * (1 - 1e-9)


async def test_a_cost_that_nobody_knows_leaves_no_room_in_a_budget_of_dollars() -> None:
    budget = Budget(BudgetLimits(usd=1))
    budget.take_over([UsageRecord("run", "executor", "lab:x", calls=1, cost_usd=None)])
    with pytest.raises(BudgetSpentError, match=r"an unknown part of 1\.0 US dollars"):
        async with budget.reserve(QUESTION, 0.01):
            pass


async def test_a_small_call_may_pass_a_large_one_that_waits_for_room() -> None:
    budget = Budget(BudgetLimits(tokens=1000))
    order: list[str] = []

    async def call(name: str, most: int, latency: int) -> None:
        async with budget.reserve(Usage(most, 0)) as spending:
            order.append(name)
            await turns(latency)
            spending.usage = Usage(1, 0)

    await asyncio.gather(call("first", 600, 9), call("large", 900, 1), call("small", 300, 1))
    assert order == ["first", "small", "large"]
