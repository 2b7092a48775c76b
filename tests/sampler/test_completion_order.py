"""What a search finds does not depend on what finishes first.

Every port answers after a random time, heavy-tailed, in virtual time: draws, scores, edits and the
journal's own writes overtake one another anew in each run. The generations must be equal as values
and the journals equal as sets of draws, while the order of the journal's writes differs. The
control, a prior that draws from one stream in the order of asking, must not pass.
"""

import asyncio
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit, Prior, Refiner, Reward
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.search_ports import MemoryJournal, RowReward
from fakes.searches import run
from fakes.toys import Toy, make_toy
from fakes.virtual_time import in_virtual_time

TOY = make_toy("abc", 4, seed=3)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
MANY = SearchOptions(particles=6, rollouts=2, refinements=2, rounds=4, minibatch=4)
ORDERS = range(5)


@dataclass
class Delays:
    """Random seconds, lognormal; None waits for nothing."""

    order: random.Random | None

    async def wait(self) -> None:
        if self.order is not None:
            await asyncio.sleep(self.order.lognormvariate(0.0, 1.5))


@dataclass
class LatePrior:
    inner: Prior
    delays: Delays

    @property
    def root(self) -> Workflow:
        return self.inner.root

    @property
    def coherent(self) -> bool:
        return self.inner.coherent

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await self.delays.wait()
        return await self.inner.extend(prefix, key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await self.delays.wait()
        return await self.inner.complete(prefix, key)


@dataclass
class LateReward:
    inner: Reward
    delays: Delays

    def size(self, split: str) -> int:
        return self.inner.size(split)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        await self.delays.wait()
        return await self.inner.score(workflow, rows)


@dataclass
class LateRefiner:
    """Looks at the pool and at what was seen only when its time is over, as a slow model might."""

    inner: Refiner
    delays: Delays

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        await self.delays.wait()
        return await self.inner.refine(pool, seen, key)


@dataclass
class LateJournal(MemoryJournal):
    delays: Delays = field(default_factory=lambda: Delays(None))

    async def recall(self, key: DrawKey) -> str | None:
        await self.delays.wait()
        return await super().recall(key)

    async def record(self, key: DrawKey, draw: str) -> None:
        await self.delays.wait()
        await super().record(key, draw)


@dataclass(frozen=True)
class StreamPrior:
    """The control: one stream of random numbers, whoever asks first takes the next."""

    toy: Toy
    stream: random.Random
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return GrammarPrior(self.toy.grammar, 0).root

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        del key
        return self.toy.grammar.complete(prefix.steps, self.stream.randrange(1 << 30))

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return await self.extend(prefix, key)


@dataclass(frozen=True)
class HandedIn:
    """Workflows that come in from outside, always the same ones in the same round."""

    toy: Toy

    async def take(self, number: int) -> Sequence[Workflow]:
        return [leaf.workflow for leaf in self.toy.leaves[number : number + 2]]


@dataclass(frozen=True)
class Ended:
    """A finished search: what it found, and its journal in the order of writing."""

    generations: list[Generation]
    draws: dict[str, str]

    @property
    def written(self) -> tuple[str, ...]:
        return tuple(self.draws)


def ended(
    options: SearchOptions,
    order: int | None,
    *,
    toy: Toy = TOY,
    prior: Prior | None = None,
    outside: bool = False,
) -> Ended:
    """One search in virtual time; `order` seeds the delays, None: there are none."""

    def delays(who: str) -> Delays:
        return Delays(None if order is None else random.Random(f"{order} {who}"))

    journal = LateJournal(delays=delays("journal"))
    search = Search(
        LatePrior(prior or GrammarPrior(toy.grammar, 7), delays("prior")),
        LateReward(RowReward(toy.rewards, rows=12), delays("reward")),
        LateRefiner(GrammarRefiner(toy.grammar, 7), delays("refiner")),
        journal,
        options,
        7,
        HandedIn(toy) if outside else None,
        [toy.leaves[-1].workflow] if outside else (),
    )
    return Ended(in_virtual_time(run(search)), journal.draws)


def check(options: SearchOptions, *, toy: Toy = TOY, outside: bool = False) -> None:
    """Equal generations in every order of completion, while the orders themselves differ."""
    plain = ended(options, None, toy=toy, outside=outside)
    shuffled = [ended(options, order, toy=toy, outside=outside) for order in ORDERS]

    assert len(plain.generations) >= 2
    for one in shuffled:
        assert one.generations == plain.generations
        assert one.draws == plain.draws
    assert len({plain.written, *(one.written for one in shuffled)}) == 1 + len(ORDERS)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("refinement", ["archive", "inject"])
@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["whole", "stopping"])
def test_generations_are_equal_in_every_order(toy: Toy, refinement: str, lag: int) -> None:
    options = replace(MANY, refiner_lag=lag)
    check(replace(options, refinement="inject") if refinement == "inject" else options, toy=toy)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        replace(MANY, recycle=True),
        replace(MANY, recycle=True, refinement="inject"),
        replace(MANY, islands=3),
        replace(MANY, islands=2, recycle=True, ess_threshold=0.8),
        replace(MANY, tempering=0.5, resampling="residual"),
        replace(MANY, minibatch=None, inverse_temperature=3.0, rollouts=1),
        replace(MANY, weighting="paper", resampling="multinomial", refinement="inject"),
        replace(MANY, refinements=5, refinement="inject", clean_floor=0.3),
        replace(MANY, tolerance=0.03, rounds=8),
        replace(MANY, lookahead=False, rollouts=1),
    ],
    ids=lambda options: " ".join(_changed(options)),
)
def test_so_they_are_with_everything_else_that_can_be_chosen(
    options: SearchOptions, lag: int
) -> None:
    check(replace(options, refiner_lag=lag), toy=STOPPING if options.recycle else TOY)


@pytest.mark.parametrize("refinement", ["archive", "inject"])
def test_so_they_are_with_workflows_from_outside(refinement: str) -> None:
    options = replace(MANY, refinement="inject") if refinement == "inject" else MANY
    check(options, outside=True)


def test_what_differs_is_within_rounds_and_between_them() -> None:
    """Archived edits of a round are made beside the next round's draws, before and after them."""
    orders = [ended(MANY, order).written for order in ORDERS]
    extended = [[key for key in order if key.startswith("extend/2/")] for order in orders]
    places = [order.index("refine/1/1/0") - order.index("extend/2/0/0") for order in orders]

    assert len({tuple(keys) for keys in extended}) > 1
    assert min(places) < 0 < max(places)


def test_the_control_depends_on_the_order_of_asking() -> None:
    found = [
        ended(MANY, order, prior=StreamPrior(TOY, random.Random(0))).generations for order in ORDERS
    ]

    assert all(one != found[0] for one in found[1:])


def _changed(options: SearchOptions) -> list[str]:
    plain = SearchOptions()
    names = options.__dataclass_fields__
    return [
        f"{name}={getattr(options, name)}"
        for name in names
        if getattr(options, name) != getattr(plain, name)
        and getattr(options, name) != getattr(MANY, name)
    ]
