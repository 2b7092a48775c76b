"""One search in virtual time: how long it took, and how long it had to.

The shipped server lets the calls of edits go first, the others in the order of coming; it has room
for 2·C + 2 executions at once, and for as many again that score edits.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.smc import Search
from bench.engine.barriers import BarrierSearch
from bench.engine.bound import lower_bound
from bench.engine.latencies import Latencies
from bench.engine.ports import Day, SlowPrior, SlowRefiner, SlowReward
from bench.engine.provider import Call, Places, Provider, Urgency
from fakes.search_ports import MemoryJournal
from fakes.virtual_time import in_virtual_time

__all__ = ["DISCIPLINES", "ROWS", "SHIPPED", "Discipline", "Trial", "trial"]

ROWS: Final = 60


def _in_order(_: Call) -> tuple[float, ...]:
    return ()


def _refining_first(call: Call) -> tuple[float, ...]:
    return (not call.refining, call.role == "executor")


def _longest_first(call: Call) -> tuple[float, ...]:
    return (not call.refining, call.role == "executor", -call.left)


class Discipline(NamedTuple):
    """Who goes first, and how many executions may be under way at once.

    Attributes:
        urgency: Sorts the calls that wait.
        executions: `shared`: 2·C + 2 in all, in the order of coming. `apart`: as many again for
            those that score edits. `any`: no limit.
    """

    urgency: Urgency
    executions: Literal["shared", "apart", "any"]

    def room(self, capacity: int) -> Callable[[Call], Places] | None:
        """Where an execution finds its place."""
        if self.executions == "any":
            return None
        growth = Places(2 * capacity + 2, _in_order)
        edits = Places(2 * capacity + 2, _in_order) if self.executions == "apart" else growth
        return lambda call: edits if call.refining else growth


SHIPPED: Final = "refining first, its executions apart"
DISCIPLINES: Final = {
    "in order": Discipline(_in_order, "shared"),
    "in order, executions unlimited": Discipline(_in_order, "any"),
    "refining first, executions in order": Discipline(_refining_first, "shared"),
    SHIPPED: Discipline(_refining_first, "apart"),
    "refining first, executions unlimited": Discipline(_refining_first, "any"),
    "refining first, then the longest rest (an oracle)": Discipline(_longest_first, "any"),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """Virtual seconds.

    Attributes:
        seconds: From the first call to the last generation.
        bound: What the calls that were made allow at best.
        busy: Share of the places at C that were taken, on average.
    """

    seconds: float
    bound: float
    busy: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.bound


def trial(
    options: SearchOptions,
    capacity: int,
    seed: int,
    discipline: Discipline = DISCIPLINES[SHIPPED],
    *,
    barriers: bool = False,
) -> Trial:
    """Runs the shipped engine, or the version with barriers."""
    return in_virtual_time(_trial(options, capacity, seed, discipline, barriers=barriers))


async def _trial(
    options: SearchOptions, capacity: int, seed: int, discipline: Discipline, *, barriers: bool
) -> Trial:
    provider = Provider(Places(capacity, discipline.urgency))
    day = Day(Latencies(seed), provider, options.rounds)
    reward = SlowReward(day, ROWS, discipline.room(capacity))
    prior, refiner = SlowPrior(day), SlowRefiner(day)
    if barriers:
        await BarrierSearch(prior, reward, refiner, options, seed).run()
    else:
        search = Search(prior, reward, refiner, MemoryJournal(), options, seed)
        async for _ in search.generations():
            pass
    seconds = asyncio.get_running_loop().time()
    bound = lower_bound(day.account, options, capacity)
    return Trial(seconds, bound, day.provider.busy / (capacity * seconds))
