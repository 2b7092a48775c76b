"""However a search is left, nothing of it goes on: no task, no draw."""

import asyncio
import gc
from collections.abc import Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow
from fakes.search_ports import CountingPrior, MemoryJournal, RowReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

TOY = make_toy("ab", 3, seed=2)
REWARD = RowReward(TOY.rewards, rows=6)
OPTIONS = SearchOptions(particles=3, rollouts=2, refinements=2, rounds=3, minibatch=2)
VARIANTS = [
    OPTIONS,
    replace(OPTIONS, refinement="inject"),
    replace(OPTIONS, refiner_lag=1),
    replace(OPTIONS, lookahead=False),
    replace(OPTIONS, tolerance=0.0),
]
ROUNDS = [1, 2, 3]


@dataclass
class LingeringPrior(CountingPrior):
    """Takes its time, so that there is always work under way."""

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        drawn = await super().extend(prefix, key)
        await asyncio.sleep(0)
        return drawn


@dataclass
class LingeringRefiner:
    inner: GrammarRefiner
    asked: list[DrawKey] = field(default_factory=list[DrawKey])

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        self.asked.append(key)
        for _ in range(40):
            await asyncio.sleep(0)
        return await self.inner.refine(pool, seen, key)


@dataclass
class House:
    """A search and everything that counts what it does."""

    options: SearchOptions
    prior: LingeringPrior = field(init=False)
    refiner: LingeringRefiner = field(init=False)
    journal: MemoryJournal = field(init=False)

    def __post_init__(self) -> None:
        self.prior = LingeringPrior(GrammarPrior(TOY.grammar, 0))
        self.refiner = LingeringRefiner(GrammarRefiner(TOY.grammar, 0))
        self.journal = MemoryJournal()

    def search(self) -> Search:
        return search_over(
            TOY,
            self.options,
            prior=self.prior,
            reward=REWARD,
            refiner=self.refiner,
            journal=self.journal,
        )

    def counts(self) -> tuple[int, int, int]:
        return len(self.prior.asked), len(self.refiner.asked), len(self.journal.draws)

    async def is_silent(self) -> None:
        """Nothing of the search is left, and nothing moves any more."""
        assert asyncio.all_tasks() == {asyncio.current_task()}
        before = self.counts()
        await settled()
        assert self.counts() == before


async def settled() -> None:
    for _ in range(300):
        await asyncio.sleep(0)


async def nothing_lost(house: House) -> None:
    """What was recorded serves the next sitting, which ends as if none had been before."""
    again = await run(house.search())
    assert again == await run(House(house.options).search())


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("options", VARIANTS)
async def test_a_consumer_that_is_cancelled_leaves_nothing_behind(
    options: SearchOptions, number: int
) -> None:
    house = House(options)
    reached = asyncio.Event()

    async def consume() -> None:
        async with aclosing(house.search().generations()) as generations:
            async for generation in generations:
                if generation.round == number:
                    reached.set()
                    await asyncio.Event().wait()

    consumer = asyncio.create_task(consume())
    await reached.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    await house.is_silent()
    await nothing_lost(house)


@pytest.mark.parametrize("events", range(0, 60, 3))
async def test_so_does_one_that_is_cancelled_while_it_waits(events: int) -> None:
    house = House(OPTIONS)
    consumer = asyncio.create_task(run(house.search()))
    for _ in range(events):
        await asyncio.sleep(0)
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    await house.is_silent()
    await nothing_lost(house)


@pytest.mark.parametrize("number", ROUNDS)
@pytest.mark.parametrize("options", VARIANTS)
async def test_an_error_of_the_consumer_ends_the_search_at_once(
    options: SearchOptions, number: int
) -> None:
    house = House(options)

    async def consume() -> None:
        async with aclosing(house.search().generations()) as generations:
            async for generation in generations:
                if generation.round == number:
                    raise RuntimeError("no room on the disk")

    with pytest.raises(RuntimeError, match="no room on the disk"):
        await consume()
    await house.is_silent()
    await nothing_lost(house)


@pytest.mark.parametrize("number", ROUNDS)
async def test_a_search_that_is_dropped_ends_too(number: int) -> None:
    """The loop closes a generator that nobody holds any more."""
    house = House(OPTIONS)
    generations = house.search().generations()
    for _ in range(number):
        await anext(generations)
    del generations
    gc.collect()
    await settled()
    await house.is_silent()
    await nothing_lost(house)


async def test_a_search_that_was_never_begun_has_no_task() -> None:
    house = House(OPTIONS)
    generations = house.search().generations()
    await house.is_silent()
    await generations.aclose()
    assert house.counts() == (0, 0, 0)


async def test_a_cancel_that_comes_while_the_search_is_being_closed_is_not_lost() -> None:
    """The engine has to wait for a draw that takes its cancellation slowly."""
    closing, slow = asyncio.Event(), asyncio.Event()

    class Slow(LingeringPrior):
        async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
            if key.round == 2:
                try:
                    await asyncio.Event().wait()
                finally:
                    closing.set()
                    await slow.wait()
            return await super().extend(prefix, key)

    house = House(OPTIONS)
    house.prior = Slow(GrammarPrior(TOY.grammar, 0))

    async def consume() -> None:
        async with aclosing(house.search().generations()) as generations:
            await anext(generations)
            await settled()

    consumer = asyncio.create_task(consume())
    await closing.wait()
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    slow.set()
    await settled()
    await house.is_silent()


async def test_an_error_of_the_search_is_told_once_and_after_the_rounds_before_it() -> None:
    """It passes through every task that waits for it."""

    class Down(RowReward):
        async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
            if len(rows.positions) == 2:
                raise ConnectionError("no network")
            return await super().score(workflow, rows)

    options = replace(OPTIONS, refinement="inject", refiner_lag=1)
    made = search_over(
        TOY, options, reward=Down(TOY.rewards, rows=6), refiner=GrammarRefiner(TOY.grammar, 0)
    )
    generations = made.generations()
    assert (await anext(generations)).round == 1
    with pytest.raises(ExceptionGroup) as ended:
        await anext(generations)
    assert len(set(ended.value.exceptions)) == len(ended.value.exceptions)
    assert {str(error) for error in ended.value.exceptions} == {"no network"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failed_search_that_is_left_early_does_not_complain_later() -> None:
    """An error nobody asked for is not reported by the loop as never retrieved."""
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))

    class Down(RowReward):
        async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
            if len(rows.positions) == 2:
                raise ConnectionError
            return await super().score(workflow, rows)

    made = search_over(
        TOY,
        replace(OPTIONS, refinement="inject"),
        reward=Down(TOY.rewards, rows=6),
        refiner=GrammarRefiner(TOY.grammar, 0),
    )
    generations = made.generations()
    await anext(generations)
    await settled()
    await generations.aclose()
    gc.collect()
    await settled()
    assert complaints == []
