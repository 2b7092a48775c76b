"""Power is lost at every event of a small search: what follows is what would have been."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.search_ports import CountingPrior, MemoryJournal, RowReward
from fakes.searches import run
from fakes.toys import make_toy

TOY = make_toy("ab", 3, seed=2, stop=True)
REWARD = RowReward(TOY.rewards, rows=6)
OPTIONS = SearchOptions(particles=4, rollouts=2, refinements=2, rounds=3, minibatch=2)
INJECT = replace(OPTIONS, refinement="inject")
VARIANTS = {
    "archive": OPTIONS,
    "inject": INJECT,
    "archive, lag": replace(OPTIONS, refiner_lag=1),
    "inject, lag": replace(INJECT, refiner_lag=1),
    "recycle": replace(OPTIONS, recycle=True),
    "recycle, inject, lag": replace(INJECT, recycle=True, refiner_lag=1),
    "islands": replace(OPTIONS, islands=2),
    "tolerance that stops": replace(OPTIONS, rollouts=1, tolerance=0.005, refiner_lag=1),
    "tolerance that does not": replace(INJECT, tolerance=0.0),
    "without look-ahead": replace(OPTIONS, lookahead=False),
    "without look-ahead, lag": replace(OPTIONS, lookahead=False, refiner_lag=1),
}
every_variant = pytest.mark.parametrize("name", VARIANTS)


class PowerCutError(Exception):
    """What a test raises in the middle of a search."""


@dataclass
class Meter:
    """Counts events; the power fails at the one numbered `fails_at`."""

    fails_at: int = -1
    events: int = 0

    def tick(self) -> None:
        self.events += 1
        if self.events - 1 == self.fails_at:
            raise PowerCutError


@dataclass
class MeteredJournal(MemoryJournal):
    """Power fails before a read, before a write, or once the write is safe but not yet told."""

    meter: Meter = field(default_factory=Meter)

    async def recall(self, key: DrawKey) -> str | None:
        self.meter.tick()
        await asyncio.sleep(0)
        return await super().recall(key)

    async def record(self, key: DrawKey, draw: str) -> None:
        self.meter.tick()
        await super().record(key, draw)
        self.meter.tick()
        await asyncio.sleep(0)


@dataclass
class MeteredReward:
    meter: Meter

    def size(self, split: str) -> int:
        return REWARD.size(split)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        self.meter.tick()
        await asyncio.sleep(0)
        return await REWARD.score(workflow, rows)


@dataclass(frozen=True)
class HandedIn:
    """The same workflows in the same round, however often it is asked."""

    async def take(self, number: int) -> Sequence[Workflow]:
        return [leaf.workflow for leaf in TOY.leaves[number : number + 2]]


@dataclass(frozen=True)
class Pays:
    async def refuses(self, number: int) -> str | None:
        return None


def search(
    options: SearchOptions,
    journal: MemoryJournal,
    reward: RowReward | MeteredReward = REWARD,
    prior: CountingPrior | None = None,
) -> Search:
    return Search(
        prior or CountingPrior(GrammarPrior(TOY.grammar, 0)),
        reward,
        GrammarRefiner(TOY.grammar, 0),
        journal,
        options,
        0,
        HandedIn(),
        [TOY.leaves[-1].workflow],
        Pays(),
    )


def cut(group: BaseExceptionGroup[BaseException]) -> None:
    """Nothing but the power failed, and it is told once."""
    assert [type(error) for error in group.exceptions] == [PowerCutError]


async def check(
    options: SearchOptions, crashed: Callable[[Meter, MeteredJournal], Search], events: int
) -> None:
    """Crashes at each event in turn; every resumed search must end as the whole one did."""
    whole = MemoryJournal()
    expected = await run(search(options, whole))
    for fails_at in range(events):
        meter = Meter(fails_at)
        journal = MeteredJournal(meter=meter)
        with pytest.raises(ExceptionGroup) as ended:
            await run(crashed(meter, journal))
        cut(ended.value)
        kept = dict(journal.draws)
        assert kept.items() <= whole.draws.items()

        prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
        left = MemoryJournal(dict(kept))
        assert await run(search(options, left, prior=prior)) == expected
        assert left.draws == whole.draws
        assert not {key.text for key, _ in prior.asked} & kept.keys()


@every_variant
async def test_a_crash_at_any_event_of_the_journal_changes_nothing(name: str) -> None:
    options = VARIANTS[name]
    meter = Meter()
    await run(search(options, MeteredJournal(meter=meter)))
    assert meter.events > 30

    await check(options, lambda _, journal: search(options, journal), meter.events)


@every_variant
async def test_a_crash_before_any_score_changes_nothing(name: str) -> None:
    options = VARIANTS[name]
    meter = Meter()
    await run(search(options, MemoryJournal(), MeteredReward(meter)))
    assert meter.events > 10

    def crashed(meter: Meter, journal: MeteredJournal) -> Search:
        journal.meter = Meter()
        return search(options, journal, MeteredReward(meter))

    await check(options, crashed, meter.events)


async def test_the_variants_stop_and_do_not_stop_as_they_are_named() -> None:
    lengths = {name: len(await run(search(VARIANTS[name], MemoryJournal()))) for name in VARIANTS}

    assert lengths.pop("tolerance that stops") == 2
    assert set(lengths.values()) == {3}


@every_variant
async def test_a_search_that_crashes_again_and_again_gets_there(name: str) -> None:
    """Each sitting has power for five events of the journal's writes."""
    options, draws = VARIANTS[name], dict[str, str]()
    expected = await run(search(options, MemoryJournal()))
    generations: list[Generation] | None = None
    for _ in range(200):
        journal = _FiveWrites(draws)
        try:
            generations = await run(search(options, journal))
        except* PowerCutError:
            assert len(journal.draws) % 5 == 0
        if generations is not None:
            break
    assert generations == expected


@dataclass
class _FiveWrites(MemoryJournal):
    writes: int = 5

    async def record(self, key: DrawKey, draw: str) -> None:
        self.writes -= 1
        if self.writes < 0:
            raise PowerCutError
        await super().record(key, draw)
