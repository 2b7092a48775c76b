import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import pytest

from bayesflow_sampler.urgency import AHEAD
from bayesflow_server.gateway.limiter import LONGEST_WAIT, Limiter, Slot
from bayesflow_server.gateway.pace import PaceWindow
from bayesflow_server.models.chat import Pace
from fakes.virtual_time import in_virtual_time

LATENCY = 0.05


@dataclass
class Provider:
    """Bears `capacity(now)` calls at once and refuses more, at once or after the latency."""

    capacity: Callable[[float], int]
    slow_refusals: bool = False
    retry_after: float | None = None
    in_flight: int = 0
    most_in_flight: int = 0
    answered: int = 0
    refused: int = 0
    starts: list[float] = field(default_factory=list[float])

    async def answers(self) -> bool:
        now = asyncio.get_running_loop().time()
        self.starts.append(now)
        if self.in_flight >= self.capacity(now):
            self.refused += 1
            if self.slow_refusals:
                await asyncio.sleep(LATENCY)
            return False
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(LATENCY)
        self.in_flight -= 1
        self.answered += 1
        return True


async def one_call(limiter: Limiter, provider: Provider, tokens: int = 0) -> None:
    while True:
        slot = await limiter.acquire(tokens)
        if await provider.answers():
            limiter.answered(slot, tokens)
            return
        limiter.refused(slot, provider.retry_after)
        await asyncio.sleep(0.5)


async def many_calls(limiter: Limiter, provider: Provider, count: int) -> float:
    await asyncio.gather(*(one_call(limiter, provider) for _ in range(count)))
    return asyncio.get_running_loop().time()


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def run(work: Coroutine[object, object, None]) -> None:
    in_virtual_time(work)


def test_a_provider_that_refuses_nothing_is_asked_twice_as_much_each_round_trip() -> None:
    limiter, provider = Limiter(64), Provider(lambda _: 1000)
    in_virtual_time(many_calls(limiter, provider, 8 + 16 + 32 + 64 + 64))
    begun = [round(start / LATENCY) for start in provider.starts]
    assert [begun.count(trip) for trip in range(5)] == [8, 16, 32, 64, 64]


def test_no_more_than_the_ceiling_are_in_flight() -> None:
    limiter, provider = Limiter(5), Provider(lambda _: 1000)
    in_virtual_time(many_calls(limiter, provider, 100))
    assert provider.most_in_flight == 5
    assert limiter.in_flight == 0


@pytest.mark.parametrize("slow_refusals", [False, True])
@pytest.mark.parametrize("capacity", [1, 3, 12, 40])
def test_a_hidden_capacity_is_found_and_used_with_few_refusals(
    capacity: int, slow_refusals: bool
) -> None:
    calls = 200 * capacity
    limiter, provider = Limiter(64), Provider(lambda _: capacity, slow_refusals)
    seconds = in_virtual_time(many_calls(limiter, provider, calls))
    assert provider.answered == calls
    assert seconds <= 1.25 * LATENCY * 200
    assert provider.refused <= max(40, 0.02 * calls)


def test_a_capacity_that_changes_in_mid_run_is_followed_both_ways() -> None:
    def capacity(now: float) -> int:
        return 12 if now < 3 else 40 if now < 6 else 8

    limiter, provider = Limiter(64), Provider(capacity)
    # In 9 s: 720 calls at 12, 2400 at 40, 480 at 8.
    seconds = in_virtual_time(many_calls(limiter, provider, 3600))
    assert seconds <= 1.25 * 9
    assert provider.refused <= 0.02 * 3600


def test_the_refusals_of_one_moment_cut_the_room_once() -> None:
    async def story() -> None:
        limiter = Limiter(64)
        slots = [await limiter.acquire(0) for _ in range(8)]
        rooms: list[int] = []
        for slot in slots[:3]:
            limiter.refused(slot, None)
            rooms.append(limiter.room)
        assert rooms == [4, 4, 3]  # 7/10 of 7, 6 and 5
        for slot in slots[3:7]:
            limiter.answered(slot, 0)
        limiter.refused(await limiter.acquire(0), None)  # began after the cut: news
        assert limiter.room == 1

    run(story())


def test_a_provider_that_refuses_even_a_lone_call_is_not_asked_one_by_one_for_ever() -> None:
    @dataclass
    class Moody(Provider):
        async def answers(self) -> bool:
            answers = await super().answers()
            return answers and (self.answered * 7919) % 10 >= 3  # three of ten, whatever the load

    limiter, provider = Limiter(64), Moody(lambda _: 1000)
    seconds = in_virtual_time(many_calls(limiter, provider, 700))
    assert seconds <= 1000 * LATENCY / 3


def test_room_that_nobody_uses_does_not_grow() -> None:
    async def story() -> None:
        limiter = Limiter(64)
        for _ in range(100):
            limiter.answered(await limiter.acquire(0), 0)
        assert limiter.room == 8

    run(story())


def test_a_retry_after_holds_up_every_start_of_the_model() -> None:
    async def story() -> None:
        limiter = Limiter(8)
        now = asyncio.get_running_loop().time
        limiter.refused(await limiter.acquire(0), 7.0)
        limiter.refused(await limiter.acquire(0), 3.0)  # a shorter one does not shorten it
        assert now() == 7.0
        limiter.refused(await limiter.acquire(0), 10_000.0)
        await limiter.acquire(0)
        assert now() == 10.0 + LONGEST_WAIT

    run(story())


def test_calls_get_their_turns_in_the_order_they_came() -> None:
    async def story() -> None:
        limiter = Limiter(1)
        order: list[int] = []

        async def call(number: int) -> None:
            slot = await limiter.acquire(0)
            order.append(number)
            await asyncio.sleep(LATENCY)
            limiter.answered(slot, 0)

        await asyncio.gather(*(call(number) for number in range(20)))
        assert order == list(range(20))

    run(story())


def test_a_cancelled_call_keeps_no_slot_whether_its_turn_had_come_or_not() -> None:
    async def story() -> None:
        limiter = Limiter(1)
        slot = await limiter.acquire(0)
        waiting = [asyncio.create_task(limiter.acquire(0)) for _ in range(4)]
        await turns()
        waiting[0].cancel()  # its turn has not come
        await turns()
        limiter.give_back(slot)
        waiting[1].cancel()  # its turn has come, and it does not know yet
        ends = await asyncio.gather(waiting[1], waiting[2], return_exceptions=True)
        assert isinstance(ends[0], asyncio.CancelledError)
        assert isinstance(ends[1], Slot)
        limiter.give_back(ends[1])
        limiter.give_back(await waiting[3])
        assert limiter.in_flight == 0

    run(story())


def test_no_minute_holds_more_calls_than_the_pace_allows() -> None:
    limiter, provider = Limiter(64, Pace(requests_per_minute=30)), Provider(lambda _: 1000)
    seconds = in_virtual_time(many_calls(limiter, provider, 100))
    assert 180 <= seconds <= 181
    for start in provider.starts:
        assert sum(start <= other < start + 60 for other in provider.starts) <= 30


def test_tokens_of_a_minute_are_reserved_by_estimate_and_put_right() -> None:
    async def story() -> None:
        limiter = Limiter(64, Pace(tokens_per_minute=100))
        now = asyncio.get_running_loop().time
        first = await limiter.acquire(60)
        second = await limiter.acquire(40)
        third = asyncio.create_task(limiter.acquire(20))
        await turns()
        assert not third.done()
        limiter.answered(first, 45)  # fifteen less than thought: still no room for twenty
        await turns()
        assert not third.done()
        limiter.answered(second, 35)
        limiter.answered(await third, 20)
        assert now() == 0.0
        await limiter.acquire(101)  # more than a minute's worth: goes alone
        assert now() == 60.0

    run(story())


def test_a_call_corrected_after_its_minute_changes_nothing() -> None:
    window = PaceWindow(Pace(tokens_per_minute=100))
    old = window.begin(0.0, 90)
    assert window.wait(10.0, 20) == 50.0
    assert window.wait(60.0, 20) == 0.0
    new = window.begin(60.0, 50)
    window.correct(old, 1)
    window.correct(new, 70)
    assert window.wait(70.0, 30) == 0.0
    assert window.wait(70.0, 31) == 50.0


async def test_the_calls_of_edits_go_first_and_the_rest_in_the_order_of_coming() -> None:
    limiter, order = Limiter(1), list[str]()

    async def call(who: str) -> None:
        AHEAD.set(who.startswith("edit"))
        slot = await limiter.acquire(0)
        order.append(who)
        await asyncio.sleep(0)
        limiter.answered(slot, 0)

    async with asyncio.TaskGroup() as group:
        for who in ("first", "growth 1", "edit 1", "growth 2", "edit 2"):
            group.create_task(call(who))

    assert order == ["first", "edit 1", "edit 2", "growth 1", "growth 2"]


async def test_a_cancelled_edit_leaves_its_turn_to_the_next() -> None:
    limiter, order = Limiter(1), list[str]()

    async def call(who: str) -> None:
        AHEAD.set(who == "edit")
        slot = await limiter.acquire(0)
        order.append(who)
        await asyncio.sleep(0)
        limiter.answered(slot, 0)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(who)) for who in ("first", "growth", "edit")]
        await asyncio.sleep(0)
        tasks[2].cancel()

    assert order == ["first", "growth"]
    assert limiter.in_flight == 0
