"""A search with a journal: what was drawn is never drawn again, and a crash changes nothing."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow
from fakes.search_ports import CountingPrior, MemoryJournal, NoJournal, RowReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

TOY = make_toy("ab", 3, seed=2, stop=True)
REWARD = RowReward(TOY.rewards, rows=6)
REFINER = GrammarRefiner(TOY.grammar, 0)
OPTIONS = SearchOptions(
    particles=3, rollouts=2, refinements=2, rounds=3, minibatch=2, refinement="inject"
)


class PowerCutError(Exception):
    """What a test raises in the middle of a search."""


@dataclass
class FailingJournal(MemoryJournal):
    """Loses power when it is about to record the n-th draw."""

    left: int = 0

    async def record(self, key: DrawKey, draw: str) -> None:
        if self.left == 0:
            raise PowerCutError
        self.left -= 1
        await super().record(key, draw)


@dataclass
class UnreachableReward:
    """A provider that is down after some scores."""

    left: int

    def size(self, split: str) -> int:
        return REWARD.size(split)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        if self.left == 0:
            raise ConnectionError
        self.left -= 1
        return await REWARD.score(workflow, rows)


@dataclass
class CountingRefiner:
    inner: GrammarRefiner
    keys: list[DrawKey] = field(default_factory=list[DrawKey])

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        self.keys.append(key)
        return await self.inner.refine(pool, seen, key)


async def test_a_journal_does_not_change_the_result() -> None:
    with_journal = search_over(
        TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=MemoryJournal()
    )
    without = search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=NoJournal())

    assert await run(with_journal) == await run(without)


async def test_a_replay_draws_nothing_and_gives_the_same_generations() -> None:
    journal = MemoryJournal()
    first = await run(search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=journal))
    # The replay's prior and refiner have another seed: what they drew would be seen.
    prior = CountingPrior(GrammarPrior(TOY.grammar, 99))
    refiner = CountingRefiner(GrammarRefiner(TOY.grammar, 99))
    again = await run(
        search_over(TOY, OPTIONS, prior=prior, reward=REWARD, refiner=refiner, journal=journal)
    )

    assert prior.asked == []
    assert refiner.keys == []
    assert again == first


@pytest.mark.parametrize("rollouts", [1, 2])
async def test_a_crash_before_any_draw_is_recorded_loses_that_draw_alone(rollouts: int) -> None:
    options = replace(OPTIONS, rollouts=rollouts)
    whole = MemoryJournal()
    expected = await run(search_over(TOY, options, reward=REWARD, refiner=REFINER, journal=whole))
    for survived in range(len(whole.draws)):
        journal = FailingJournal(left=survived)
        with pytest.raises(ExceptionGroup) as ended:
            await run(search_over(TOY, options, reward=REWARD, refiner=REFINER, journal=journal))
        assert ended.group_contains(PowerCutError)
        kept = dict(journal.draws)
        assert len(kept) == survived

        journal.left = -1
        resumed = await run(
            search_over(TOY, options, reward=REWARD, refiner=REFINER, journal=journal)
        )
        assert resumed == expected
        assert journal.draws == whole.draws
        assert kept.items() <= journal.draws.items()


@pytest.mark.parametrize("scores", [0, 1, 7])
async def test_decision_11_a_provider_that_is_down_ends_the_search_and_is_never_a_score(
    scores: int,
) -> None:
    journal = MemoryJournal()
    broken = search_over(
        TOY, OPTIONS, reward=UnreachableReward(scores), refiner=REFINER, journal=journal
    )
    with pytest.raises((ExceptionGroup, ConnectionError)):
        await run(broken)

    resumed = await run(search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=journal))
    assert resumed == await run(search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER))


async def test_a_search_may_be_abandoned_between_rounds_and_taken_up_again() -> None:
    journal = MemoryJournal()
    search = search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=journal)
    generations = search.generations()
    first = await anext(generations)
    drawn = len(journal.draws)
    resumed = await run(search_over(TOY, OPTIONS, reward=REWARD, refiner=REFINER, journal=journal))

    assert resumed[0] == first
    assert len(journal.draws) > drawn
