"""What stays in memory of a workflow's executions on a split: figures; the texts are in the store.

A run makes a hundred thousand executions. In columns each takes about a hundred bytes and the
garbage collector sees none of them; as records with answers and traces they would take the memory
of a small machine. Called by `evaluate`.
"""

import math
from array import array
from collections.abc import Iterable
from typing import Final, NamedTuple, Self

from bayesflow_server.store.records import ExecutionRecord

__all__ = ["Figures", "Sheet"]

# Most scores; the sampler keeps every one, and need not keep as many objects.
_COMMON: Final = {0.0: 0.0, 1.0: 1.0}


class Figures(NamedTuple):
    """The figures of one execution; see `ExecutionRecord`.

    Attributes:
        score: Its score.
        failed: Whether the workflow failed on the row.
        calls: Calls of models, cached ones included.
        tokens: Input and output together.
        cost_usd: List price, or None where a price is unknown.
        seconds: How long it took.
    """

    score: float
    failed: bool
    calls: int
    tokens: int
    cost_usd: float | None
    seconds: float

    @classmethod
    def of(cls, record: ExecutionRecord) -> Self:
        """The figures of a record."""
        return cls(
            record.score,
            record.error is not None,
            record.calls,
            record.input_tokens + record.output_tokens,
            record.cost_usd,
            record.seconds,
        )


class Sheet:
    """The figures of one workflow on one split, by position."""

    __slots__ = ("_calls", "_costs", "_failed", "_lines", "_scores", "_seconds", "_tokens")

    def __init__(self) -> None:
        self._lines: dict[int, int] = {}
        self._scores = array("d")
        self._failed = bytearray()
        self._calls = array("q")
        self._tokens = array("q")
        self._costs = array("d")  # NaN: unknown
        self._seconds = array("d")

    def __contains__(self, position: int) -> bool:
        return position in self._lines

    def add(self, position: int, figures: Figures) -> bool:
        """Notes an execution, unless there is one of that row; whether it was noted."""
        if position in self._lines:
            return False
        self._lines[position] = len(self._scores)
        self._scores.append(figures.score)
        self._failed.append(figures.failed)
        self._calls.append(figures.calls)
        self._tokens.append(figures.tokens)
        self._costs.append(math.nan if figures.cost_usd is None else figures.cost_usd)
        self._seconds.append(figures.seconds)
        return True

    def at(self, positions: Iterable[int]) -> list[Figures]:
        """The executions at these positions, in this order; each must be there."""
        return [self._figures(self._lines[position]) for position in positions]

    def all(self) -> list[Figures]:
        """Every execution, by position."""
        return self.at(sorted(self._lines))

    def _figures(self, line: int) -> Figures:
        cost, score = self._costs[line], self._scores[line]
        return Figures(
            _COMMON.get(score, score),
            bool(self._failed[line]),
            self._calls[line],
            self._tokens[line],
            None if math.isnan(cost) else cost,
            self._seconds[line],
        )
