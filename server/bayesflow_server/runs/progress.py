"""What a run is doing, how far it is, how long it may take: kept in memory, written each second.

The plan counts executions (a workflow on a row). A workflow met again counts as planned and is done
at once, so the estimate errs on the long side.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

__all__ = ["BestSoFar", "Phase", "PoolState", "Progress"]


class BestSoFar(BaseModel):
    """The best workflow by shrunk validation score."""

    model_config = ConfigDict(frozen=True)

    workflow_id: str
    shrunk: float
    rows: int


class PoolState(BaseModel):
    """The pool in numbers."""

    model_config = ConfigDict(frozen=True)

    distinct: int = 0
    failed: int = 0
    ess: float | None = None
    clean_share: float | None = None


class Phase(BaseModel):
    """A run's place in its life, as the store keeps it."""

    model_config = ConfigDict(frozen=True)

    round: int = 0
    of: int = 0
    doing: str = "waiting to start"
    executions_done: int = 0
    executions_planned: int = 0
    eta_seconds: float | None = None
    best_so_far: BestSoFar | None = None
    pool: PoolState = PoolState()
    top_errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    # Of these notes those on what models do not take: a later sitting, which asks again only what
    # is missing, may not meet it.
    dropped: tuple[str, ...] = ()


@dataclass
class Progress:
    """Counts as things happen; `phase` is what a client sees.

    Attributes:
        rounds: T.
        planned: Executions that the whole run may need.
        clock: Seconds, monotonic.
    """

    rounds: int
    planned: int
    clock: Callable[[], float] = time.monotonic
    round: int = 0
    doing: str = "starting"
    done: int = 0
    best: BestSoFar | None = None
    pool: PoolState = field(default_factory=PoolState)
    notes: list[str] = field(default_factory=list[str])
    _errors: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        self._started = self.clock()

    def error(self, message: str) -> None:
        """Counts a workflow's failure on a row."""
        self._errors[message] += 1

    def executed(self, count: int) -> None:
        """Counts executions, remembered ones included."""
        self.done += count

    @property
    def phase(self) -> Phase:
        """The state of this moment."""
        return Phase(
            round=self.round,
            of=self.rounds,
            doing=self.doing,
            executions_done=self.done,
            executions_planned=max(self.planned, self.done),
            eta_seconds=self._eta(),
            best_so_far=self.best,
            pool=self.pool,
            top_errors=tuple(f"{count}x {text}" for text, count in self._most_errors()),
            notes=tuple(self.notes),
        )

    def _most_errors(self) -> list[tuple[str, int]]:
        """The three most frequent; of equally frequent ones the order says nothing."""
        return sorted(self._errors.items(), key=lambda item: (-item[1], item[0]))[:3]

    def _eta(self) -> float | None:
        if self.done == 0:
            return None
        elapsed = self.clock() - self._started
        return round(elapsed / self.done * max(self.planned - self.done, 0), 1)
