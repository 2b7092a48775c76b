"""A provider that bears C calls at once, and the order in which who waits is let through.

An `Urgency` sorts those who wait; equals go in the order of coming.
"""

import asyncio
import heapq
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

__all__ = ["Call", "Places", "Provider", "Urgency"]


class Call(NamedTuple):
    """What a discipline may look at.

    Attributes:
        role: Who asks: the refiner, the prior, or an execution.
        refining: The search marked it as part of its refinement chain (`AHEAD`).
        done: Calls that this execution has behind it.
        left: Seconds that it still has before it, this call included; nobody knows that in truth.
    """

    role: Literal["refiner", "prior", "executor"]
    refining: bool
    done: int = 0
    left: float = 0.0


Urgency = Callable[[Call], tuple[float, ...]]


class Places:
    """So many at once; who waits goes by urgency, then by coming."""

    def __init__(self, count: int, urgency: Urgency) -> None:
        self._free = count
        self._urgency = urgency
        self._waiting: list[tuple[tuple[float, ...], int, asyncio.Future[None]]] = []
        self._came = 0

    @asynccontextmanager
    async def place(self, call: Call) -> AsyncGenerator[None, None]:
        """Holds a place; nobody is cancelled here."""
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._came += 1
            heapq.heappush(self._waiting, (self._urgency(call), self._came, turn))
            await turn
        yield
        if self._waiting:
            heapq.heappop(self._waiting)[2].set_result(None)
        else:
            self._free += 1


class Provider:
    """Serves calls in virtual time.

    Attributes:
        places: The calls it bears.
        busy: Seconds of all calls together.
    """

    def __init__(self, places: Places) -> None:
        self.places = places
        self.busy = 0.0

    async def serve(self, call: Call, seconds: float) -> None:
        """Returns once the call was let through and answered."""
        async with self.places.place(call):
            await asyncio.sleep(seconds)
        self.busy += seconds
