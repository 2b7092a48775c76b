"""A hard budget: what a run may spend, reserved before each call so that nothing can overrun it.

A call reserves the most it could cost; when it ends, the reservation is replaced by what it did
cost. A call that finds no room waits while others are in flight (they may give back what they
reserved), and is refused once none is. What is counted is answers: a call that fails at the
provider, runs out of time or is cancelled brings none, and gives back all that it reserved.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ConfigDict, Field

from bayesflow_server.errors import BudgetSpentError
from bayesflow_server.gateway.usage import UsageTotals
from bayesflow_server.models.chat import ChatRequest, Usage

if TYPE_CHECKING:
    from bayesflow_server.store.records import UsageRecord

__all__ = ["DEFAULT_CALLS", "Budget", "BudgetLimits", "Spending"]

DEFAULT_CALLS: Final = 20_000
_DEFAULT_OUTPUT: Final = 4096
_TURN_OVERHEAD: Final = 32


class BudgetLimits(BaseModel):
    """What a run may spend. A limit that is absent does not bind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    usd: float | None = Field(default=None, gt=0, description="US dollars, at list price.")
    calls: int | None = Field(default=None, gt=0, description="Calls that reach a provider.")
    tokens: int | None = Field(default=None, gt=0, description="Input and output tokens.")
    minutes: float | None = Field(default=None, gt=0, description="Minutes of running time.")


@dataclass(slots=True)
class Spending:
    """What a call may report back to its reservation.

    Attributes:
        usage: The tokens of its answer; None while there is none.
    """

    usage: Usage | None = None


@dataclass
class Budget:
    """The account of one run.

    Attributes:
        limits: What may be spent in all.
        calls: Calls that a provider answered, earlier sittings included.
        tokens: Tokens of those calls.
        earlier_seconds: Running time of earlier sittings.
        clock: Seconds, monotonic.
    """

    limits: BudgetLimits
    calls: int = 0
    tokens: int = 0
    earlier_seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._started = self.clock()
        self._reserved_calls = 0
        self._reserved_tokens = 0
        # Invariant: set, and replaced by a fresh one, whenever a reservation ends.
        self._settled = asyncio.Event()

    def take_over(self, usage: "Iterable[UsageRecord]") -> None:
        """Charges what earlier sittings used."""
        totals = UsageTotals.of(usage)
        self.calls += totals.calls
        self.tokens += totals.tokens

    @property
    def seconds(self) -> float:
        """Running time over all sittings."""
        return self.earlier_seconds + self.clock() - self._started

    @property
    def seconds_left(self) -> float | None:
        """Running time that is left, or None without a limit."""
        minutes = self.limits.minutes
        return None if minutes is None else max(0.0, minutes * 60 - self.seconds)

    @asynccontextmanager
    async def reserve(self, request: ChatRequest) -> AsyncGenerator[Spending, None]:
        """Holds room for one call; the block reports the answer's usage, or nothing is counted.

        Raises:
            BudgetSpentError: A limit leaves no room and no call in flight may give any back.
        """
        tokens = _most_tokens(request)
        await self._admit(tokens)
        spending = Spending()
        try:
            yield spending
        finally:  # no await in here: a cancellation must not keep the room from the others
            self._reserved_calls -= 1
            self._reserved_tokens -= tokens
            if spending.usage is not None:
                self.calls += 1
                self.tokens += spending.usage.input_tokens + spending.usage.output_tokens
            self._settled.set()
            self._settled = asyncio.Event()

    async def _admit(self, tokens: int) -> None:
        while (spent := self._obstacle(tokens)) is not None:
            # With calls in flight, what they reserved may yet come back.
            if self._reserved_calls == 0 or spent == "minutes":
                raise BudgetSpentError(self._message(spent, tokens), limit=spent)
            await self._settled.wait()
        self._reserved_calls += 1
        self._reserved_tokens += tokens

    def _obstacle(self, tokens: int) -> str | None:
        """Which limit leaves no room for one more call of at most `tokens` tokens."""
        limits = self.limits
        if self.seconds_left == 0.0:
            return "minutes"
        if limits.calls is not None and self.calls + self._reserved_calls >= limits.calls:
            return "calls"
        planned = self.tokens + self._reserved_tokens + tokens
        if limits.tokens is not None and planned > limits.tokens:
            return "tokens"
        return None

    def _message(self, limit: str, tokens: int) -> str:
        spent = {
            "calls": f"{self.calls} of {self.limits.calls} calls",
            "tokens": f"{self.tokens} of {self.limits.tokens} tokens, and the next call may take "
            f"{tokens}",
            "minutes": f"{self.seconds / 60:.1f} of {self.limits.minutes} minutes",
        }[limit]
        return (
            f"The budget is spent ({spent}); everything found so far is kept. "
            "Resume the run with a larger total budget to go on."
        )


def _most_tokens(request: ChatRequest) -> int:
    """An upper bound on the call's tokens: no tokenizer makes more tokens than bytes."""
    texts = (turn.content.encode("utf-8", "surrogatepass") for turn in request.messages)
    size = sum(len(text) + _TURN_OVERHEAD for text in texts)
    return size + (request.max_tokens or _DEFAULT_OUTPUT)
