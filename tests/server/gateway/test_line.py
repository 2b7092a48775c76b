"""The line to a model, in virtual time: what is told of silence, and whose deadline holds."""

import asyncio

import pytest

from bayesflow_server.errors import ProviderError
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.line import Call, Line
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatMessage, ChatRequest, Completion, Pace, Usage
from fakes.virtual_time import in_virtual_time


class SlowModel:
    """Takes so many seconds; the first calls fail at their end."""

    spec = "lab:slow"
    identity = "slow-1"
    concurrency = 4
    deterministic = False

    def __init__(self, seconds: float, faults: int = 0, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self.calls = 0
        self._seconds = seconds
        self._faults = faults

    async def complete(self, request: ChatRequest) -> Completion:
        self.calls += 1
        await asyncio.sleep(self._seconds)
        if self.calls <= self._faults:
            raise ProviderError("Lab answered HTTP 500.")
        return Completion("yes", Usage(1, 1))

    async def aclose(self) -> None:
        """Nothing to free."""


def call(model: SlowModel) -> Call:
    request = ChatRequest((ChatMessage("user", "Well?"),))
    return Call(model, Budget(BudgetLimits()), request, 1, "key", None)


def test_a_silent_provider_is_told_of_after_a_while_until_it_answers() -> None:
    async def scenario() -> list[str | None]:
        model = SlowModel(2.0, faults=5)
        line = Line(model, Timing(first_pause=1.0, longest_pause=1.0), PriceTable())
        asking = asyncio.create_task(line.ask(call(model)))
        told = [line.trouble]
        await asyncio.sleep(3.0)  # one fault, 2 s of silence: it may be nothing
        told.append(line.trouble)
        await asyncio.sleep(7.0)
        told.append(line.trouble)
        await asking
        return [*told, line.trouble]

    assert in_virtual_time(scenario()) == [None, None, "Lab answered HTTP 500.", None]


@pytest.mark.parametrize(("pace", "answers"), [(Pace(), False), (Pace(call_seconds=400), True)])
def test_a_model_s_own_deadline_goes_before_the_gateway_s(pace: Pace, answers: bool) -> None:
    async def scenario() -> bool:
        model = SlowModel(300.0, pace=pace)
        line = Line(model, Timing(), PriceTable())
        if answers:
            return (await line.ask(call(model)))[0].text == "yes"
        with pytest.raises(ProviderError, match="no answer within 120 s"):
            await line.ask(call(model))
        return False

    assert in_virtual_time(scenario()) is answers
