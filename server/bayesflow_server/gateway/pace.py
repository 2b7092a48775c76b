"""Calls and tokens a minute, as a sliding window: no minute, wherever it begins, holds more.

Tokens are entered as an estimate when a call begins and put right when it ends. A call that asks
for more than a whole minute's tokens goes alone, once the window is empty. The window has no clock
of its own: the limiter says what time it is.
"""

import math
from collections import deque
from dataclasses import dataclass

from bayesflow_server.models.chat import Pace

__all__ = ["Entry", "PaceWindow"]

_SECONDS = 60.0


@dataclass(slots=True)
class Entry:
    """A call that began.

    Attributes:
        begun: When, in seconds.
        tokens: What it takes, as far as known.
    """

    begun: float
    tokens: int


class PaceWindow:
    """The calls that began within the last minute."""

    def __init__(self, pace: Pace) -> None:
        self._calls = math.inf if pace.requests_per_minute is None else pace.requests_per_minute
        self._tokens = math.inf if pace.tokens_per_minute is None else pace.tokens_per_minute
        self._binds = pace != Pace()
        self._entries: deque[Entry] = deque()
        # Invariant: the sum of the entries' tokens.
        self._sum = 0

    def wait(self, now: float, tokens: int) -> float:
        """Seconds until a call of so many tokens may begin, if no other begins before; 0: now."""
        self._forget(now)
        calls, total, seconds = len(self._entries), self._sum, 0.0
        for entry in self._entries:  # how many of the oldest must leave the window?
            if calls + 1 <= self._calls and total + tokens <= self._tokens:
                break
            seconds = entry.begun + _SECONDS - now
            calls -= 1
            total -= entry.tokens
        return seconds

    def begin(self, now: float, tokens: int) -> Entry:
        """Enters a call that begins now."""
        entry = Entry(now, tokens)
        if self._binds:
            self._entries.append(entry)
            self._sum += tokens
        return entry

    def correct(self, entry: Entry, tokens: int) -> None:
        """Replaces the estimate by what the call took, unless the call has left the window."""
        if self._entries and entry.begun >= self._entries[0].begun:
            self._sum += tokens - entry.tokens
            entry.tokens = tokens

    def _forget(self, now: float) -> None:
        while self._entries and now - self._entries[0].begun >= _SECONDS:
            self._sum -= self._entries.popleft().tokens
