"""The line to one model: everything that is waited for between a question and its paid answer.

    ask → a slot of the limiter → room in the budget → the model, within its deadlines
     ↑                                                         │ transient fault
     └───────────────────────── pause ─────────────────────────┘

A fault never becomes an answer. Whatever ends a try gives its slot and its reservation back.
"""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, cast

from bayesflow_server.errors import BudgetSpentError, ProviderError
from bayesflow_server.gateway.budget import MINUTES_OVER, Budget, Spending, most_usage
from bayesflow_server.gateway.deadline import Deadline
from bayesflow_server.gateway.limiter import Limiter, Slot
from bayesflow_server.gateway.patience import Patience, Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatModel, ChatRequest, Completion, ManySampler, Usage

__all__ = ["Call", "Line"]

_BYTES_A_TOKEN: Final = 4
_FIRST_GUESS: Final = 256.0
_MEMORY: Final = 0.95
_A_WHILE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked, how often, and who pays.

    Attributes:
        model: Which model answers.
        budget: What may be spent.
        request: The question.
        count: How many answers are wanted; more than 1 only of a `ManySampler`.
        key: The first answer's key.
        deadline: The example's, if the call serves one.
    """

    model: ChatModel
    budget: Budget
    request: ChatRequest
    count: int
    key: str
    deadline: Deadline | None


class _Fault(NamedTuple):
    """How a try ended, and for how many seconds the model had answered nothing by then."""

    message: str
    silence: float


class Line:
    """Shared by every session that asks the model."""

    def __init__(self, model: ChatModel, timing: Timing, prices: PriceTable) -> None:
        self.limiter = Limiter(model.concurrency, model.pace)
        self._paced = model.pace.tokens_per_minute is not None
        self._timing = timing
        self._call_seconds = model.pace.call_seconds or timing.call_seconds
        self._prices = prices
        self._last_answer = float("-inf")
        self._fault: _Fault | None = None  # the last, while no call was answered since
        self._output = _FIRST_GUESS  # a running mean of the tokens of an answer

    @property
    def trouble(self) -> str | None:
        """The provider's last fault, while it has answered nothing for a while; or None."""
        fault = self._fault
        return fault.message if fault is not None and fault.silence >= _A_WHILE else None

    async def ask(self, call: Call) -> tuple[Completion, ...]:
        """The answers, at least one; fewer than `call.count` if the provider gave no more.

        Raises:
            BudgetSpentError: The budget has no room for the call.
            ProviderError: An outage, a fault that is not transient, or the example's deadline.
            ModelUnavailableError: The model cannot be used here.
        """
        with call.budget.at_work():
            return await self._ask(call)

    async def _ask(self, call: Call) -> tuple[Completion, ...]:
        loop = asyncio.get_running_loop()
        timing = replace(self._timing, call_seconds=self._call_seconds)
        patience = Patience(timing, call.model.spec, call.key, loop.time())
        while True:
            try:
                return await self._try(call)
            except ProviderError as fault:
                pause = patience.pause(fault, loop.time(), self._last_answer)
                self._fault = _Fault(str(fault), patience.silence(loop.time(), self._last_answer))
            with _counted(call.deadline):
                await asyncio.sleep(min(pause, _time_left(call)))

    async def _try(self, call: Call) -> tuple[Completion, ...]:
        slot = await self._slot(call)
        completions: tuple[Completion, ...] = ()
        fault: ProviderError | None = None
        try:
            completions = await self._reserved(call)
        except ProviderError as error:
            fault = error
            raise
        finally:  # no await in here: a cancellation must not keep the slot
            self._give_back(slot, completions, fault)
        return completions

    async def _slot(self, call: Call) -> Slot:
        """A slot, unless the run's minutes are over before there is one."""
        tokens = self._estimate(call)
        minutes = call.budget.seconds_left
        if minutes is None:
            return await self.limiter.acquire(tokens)
        try:
            async with asyncio.timeout(minutes):
                return await self.limiter.acquire(tokens)
        except TimeoutError:
            raise BudgetSpentError(MINUTES_OVER, limit="minutes") from None

    async def _reserved(self, call: Call) -> tuple[Completion, ...]:
        most = most_usage(call.request, call.count)
        usd = self._prices.list_cost_usd(call.model.spec, most)
        async with call.budget.reserve(most, usd) as spending:
            with _counted(call.deadline):
                completions = await self._in_time(call)
            self._account(call, completions, spending)
        return completions

    async def _in_time(self, call: Call) -> tuple[Completion, ...]:
        """The model's answers, within the call's, the example's and the run's deadlines."""
        left = _time_left(call)
        if left <= 0:
            raise _too_late(call)
        limit = asyncio.timeout(min(left, self._call_seconds))
        try:
            async with limit:
                if call.count == 1:
                    return (await call.model.complete(call.request),)
                completions = await cast("ManySampler", call.model).sample(call.request, call.count)
        except TimeoutError:
            if left <= self._call_seconds and limit.expired():
                raise _too_late(call) from None
            raise ProviderError(
                f"{call.model.spec} gave no answer within {self._call_seconds:g} s."
            ) from None
        if not completions:
            raise ProviderError(f"{call.model.spec} sent no answer at all.")
        return completions[: call.count]

    def _account(self, call: Call, completions: tuple[Completion, ...], to: Spending) -> None:
        usages = [completion.usage for completion in completions]
        to.usage = Usage(
            sum(usage.input_tokens for usage in usages),
            sum(usage.output_tokens for usage in usages),
            sum(usage.cached_input_tokens for usage in usages),
        )
        to.usd = self._prices.cost_usd(call.model.spec, to.usage)

    def _give_back(
        self, slot: Slot, completions: tuple[Completion, ...], fault: ProviderError | None
    ) -> None:
        if completions:
            self._last_answer = asyncio.get_running_loop().time()
            self._fault = None
            used = sum(one.usage.input_tokens + one.usage.output_tokens for one in completions)
            output = sum(one.usage.output_tokens for one in completions) / len(completions)
            self._output = _MEMORY * self._output + (1 - _MEMORY) * output
            self.limiter.answered(slot, used)
        elif fault is not None and fault.congestion:
            self.limiter.refused(slot, fault.retry_after)
        else:
            self.limiter.give_back(slot)

    def _estimate(self, call: Call) -> int:
        """What the call will probably take; only a limit on tokens a minute asks for it."""
        if not self._paced:
            return 0
        most = most_usage(call.request, 1)
        answer = min(self._output, most.output_tokens)
        return int(most.input_tokens / _BYTES_A_TOKEN + call.count * answer)


def _counted(deadline: Deadline | None) -> AbstractContextManager[None]:
    return nullcontext() if deadline is None else deadline.running()


def _time_left(call: Call) -> float:
    """Seconds until the run's minutes or the example's time are over."""
    minutes = call.budget.seconds_left
    run = float("inf") if minutes is None else minutes
    return run if call.deadline is None else min(run, call.deadline.left)


def _too_late(call: Call) -> BudgetSpentError | ProviderError:
    if call.deadline is None or call.deadline.left > 0:
        return BudgetSpentError(MINUTES_OVER, limit="minutes")
    return ProviderError(
        f"An example spent {call.deadline.seconds:g} s in calls of {call.model.spec}; its time is "
        "over. Everything found so far is kept; resume the run to go on.",
        transient=False,
    )
