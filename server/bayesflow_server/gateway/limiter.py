"""How many calls of one model may be in flight: found out by asking, one limiter a model.

1. Slow start: from 8, each answer makes room for one call more, which doubles the room in a round
   trip, until the provider refuses (429, 503, 529) or the model's own ceiling is reached.
2. A refusal of a call that began after the last cut opens an epoch. The bearable load is what was
   in flight then, less the calls of it that are refused; the room is cut to 7/10 of that, once.
3. The room then comes back half of the way each round trip. At the bearable load it rests for a
   while before a trial: 1 more, then 2, 4, … a round trip. A trial that is refused takes back
   itself alone, and the next rest is twice as long.

A provider's `retry-after` holds up every new start of the model; `PaceWindow` keeps the calls and
tokens a minute. Who waits is served in the order of coming, the calls of edits first. Time is the
event loop's.
"""

import asyncio
import heapq
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bayesflow_sampler.urgency import AHEAD
from bayesflow_server.gateway.pace import Entry, PaceWindow
from bayesflow_server.models.chat import Pace

__all__ = ["LONGEST_WAIT", "Limiter", "Slot"]

# A provider that asks for a longer wait than this is asked again after it all the same.
LONGEST_WAIT: Final = 300.0
_FIRST_ROOM: Final = 8
_CUT: Final = 0.7
# Round trips before the first trial, and the most answers before any: one refusal in so many.
_FIRST_REST: Final = 4
_LONGEST_REST: Final = 100
# A refusal of a call that was alone is not our load's doing: for so many answers, no lower room.
_BLAMELESS_ANSWERS: Final = 30
_BLAMELESS_ROOM: Final = 4


@dataclass(slots=True)
class Slot:
    """The right to one call in flight; give it back with exactly one of the limiter's methods.

    Attributes:
        epoch: When it began, counted in cuts.
        beside: How many other calls were in flight then.
        entry: Its place in the minute.
    """

    epoch: int
    beside: int
    entry: Entry


class _Waiter(NamedTuple):
    """Sorts by the first two, which no other waiter shares."""

    behind: bool
    came: int
    turn: "asyncio.Future[Slot]"
    tokens: int


@dataclass
class Limiter:
    """Hands out slots.

    Attributes:
        most: The ceiling: the most calls ever worth having in flight.
        pace: Calls and tokens a minute.
        room: How many calls may be in flight now.
        in_flight: How many are.
    """

    most: int
    pace: Pace = field(default_factory=Pace)
    room: int = field(init=False)
    in_flight: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.room = min(_FIRST_ROOM, self.most)
        self._window = PaceWindow(self.pace)
        self._bearable: int | None = None  # None: nothing was ever refused
        self._answers = 0  # since the room last changed
        self._step = 1
        self._rests = 0  # trials refused in a row
        self._blameless = 0
        self._epoch = 0
        # The epoch: what was borne before, what surely was too much, and how much was refused.
        self._borne: int | None = None
        self._load = 0
        self._refusals = 0
        self._held_until = 0.0
        self._came = 0
        self._waiting: list[_Waiter] = []  # a heap
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(self, tokens: int) -> Slot:
        """Waits for a slot.

        Args:
            tokens: An estimate of what the call will take.
        """
        loop = asyncio.get_running_loop()
        if not self._waiting and self._delay(loop.time(), tokens) == 0:
            return self._start(loop.time(), tokens)
        turn: asyncio.Future[Slot] = loop.create_future()
        self._came += 1
        heapq.heappush(self._waiting, _Waiter(not AHEAD.get(), self._came, turn, tokens))
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # cancelled just after its turn had come
                self.give_back(turn.result())
            else:  # it may have been the head that a timer waits for
                self._serve()
            raise

    def answered(self, slot: Slot, tokens: int) -> None:
        """Gives the slot back after an answer that took so many tokens."""
        self._window.correct(slot.entry, tokens)
        self._blameless = max(0, self._blameless - 1)
        # Room that nobody used says nothing about what the provider bears.
        if self._waiting or self.in_flight >= self.room:
            self._grow()
        self.give_back(slot)

    def refused(self, slot: Slot, retry_after: float | None) -> None:
        """Gives the slot back after the provider said that it was too much."""
        if slot.beside == 0 and self.in_flight == 1:
            self._blameless = _BLAMELESS_ANSWERS
        if slot.epoch == self._epoch:
            self._open_epoch(slot)
        if slot.epoch == self._epoch - 1:
            self._cut()
        if retry_after is not None:
            until = asyncio.get_running_loop().time() + min(retry_after, LONGEST_WAIT)
            self._held_until = max(self._held_until, until)
        self.give_back(slot)

    def give_back(self, slot: Slot) -> None:
        """Gives the slot back after a call that says nothing about congestion."""
        self.in_flight -= 1
        self._serve()

    def _delay(self, now: float, tokens: int) -> float | None:
        """Seconds until the next start, if they are known; None: when a call gives way."""
        if self.in_flight >= self.room:
            return None
        return max(0.0, self._held_until - now, self._window.wait(now, tokens))

    def _start(self, now: float, tokens: int) -> Slot:
        slot = Slot(self._epoch, self.in_flight, self._window.begin(now, tokens))
        self.in_flight += 1
        return slot

    def _serve(self) -> None:
        """Starts whoever may start; if only time is missing, comes back when it is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        while self._waiting:
            _, _, turn, tokens = self._waiting[0]
            if not turn.done():
                now = loop.time()
                delay = self._delay(now, tokens)
                if delay is None:
                    return
                if delay > 0:
                    self._timer = loop.call_later(delay, self._serve)
                    return
                turn.set_result(self._start(now, tokens))
            heapq.heappop(self._waiting)

    def _grow(self) -> None:
        if self.room >= self.most:
            return
        if self._bearable is None:
            self.room += 1
            return
        self._answers += 1
        if self.room < self._bearable:
            if self._answers >= self.room:
                self._set_room((self.room + self._bearable + 1) // 2)
            return
        trial = self.room > self._bearable
        if self._answers >= (self.room if trial else self._rest()):
            self._rests = 0 if trial else self._rests
            self._bearable = self.room
            self._set_room(self.room + self._step)
            self._step *= 2

    def _rest(self) -> int:
        """Answers at the bearable load before a trial."""
        return int(min(_LONGEST_REST, _FIRST_REST * self.room * 2.0 ** min(self._rests, 16)))

    def _open_epoch(self, slot: Slot) -> None:
        # Invariant: a room above the bearable load is a trial.
        trial = self._bearable is not None and self.room > self._bearable
        self._borne = self._bearable if trial else None
        self._rests += trial
        self._epoch += 1
        self._step = 1
        # Answers that came at the same moment may have given way already.
        self._load = max(slot.beside + 1, self.in_flight)
        self._refusals = 0

    def _cut(self) -> None:
        self._refusals += 1
        self._bearable = max(1, self._load - self._refusals)
        kept = self._borne is not None and self._bearable >= self._borne
        self._set_room(self._bearable if kept else int(self._bearable * _CUT))

    def _set_room(self, room: int) -> None:
        self.room = min(max(room, _BLAMELESS_ROOM if self._blameless else 1), self.most)
        self._answers = 0
