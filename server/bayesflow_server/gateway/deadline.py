"""How long one example's execution may spend in model calls, all its calls together.

Counted is the time in which at least one call is at the provider or pauses before another try;
waiting for a free slot is the load's doing, not the example's. Who executes an example makes one
with `ModelSession.deadline` and gives it to each of its calls.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

__all__ = ["Deadline"]


@dataclass
class Deadline:
    """The account of one execution.

    Attributes:
        seconds: What it may spend.
    """

    seconds: float
    _spent: float = field(default=0.0, init=False)
    _running: int = field(default=0, init=False)
    _since: float = field(default=0.0, init=False)

    @property
    def left(self) -> float:
        """Seconds that are left, 0 or more."""
        now = asyncio.get_running_loop().time()
        running = now - self._since if self._running else 0.0
        return max(0.0, self.seconds - self._spent - running)

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Counts the time of the block, once however many blocks run at once."""
        loop = asyncio.get_running_loop()
        if self._running == 0:
            self._since = loop.time()
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._spent += loop.time() - self._since
