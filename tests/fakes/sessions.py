"""Sessions for tests of what runs workflows: priced ones, and models that do not end well."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway, ModelSession
from bayesflow_server.models.chat import ChatModel, ChatRequest, Completion, StopReason, Usage
from bayesflow_server.store.store import Store
from fakes.models import FakeModel

__all__ = ["Ending", "EndingModel", "PricedSession", "free_session", "priced_session"]

Ending = tuple[str, StopReason]


class EndingModel(FakeModel):
    """A model whose answers end as a rule says."""

    def __init__(self, end: Callable[[ChatRequest], Ending], *, identity: str = "fake-1") -> None:
        super().__init__()
        self.identity = identity
        self._end = end

    async def complete(self, request: ChatRequest) -> Completion:
        """The rule's text and stop reason; tokens are counted in words."""
        answered = await super().complete(request)
        text, ending = self._end(request)
        usage = Usage(answered.usage.input_tokens, len(text.split()))
        return replace(answered, text=text, stop_reason=ending, usage=usage)


@dataclass
class PricedSession(ModelSession):
    """A session whose model has a price.

    Attributes:
        usd_per_token: For input and output alike.
    """

    usd_per_token: float = 0.0

    def list_cost_usd(self, usage: Usage) -> float | None:
        """The tokens' price."""
        return self.usd_per_token * (usage.input_tokens + usage.output_tokens)


def free_session(store: Store, model: ChatModel, budget: Budget | None = None) -> ModelSession:
    """A session of the executor's role; the price of its model is unknown."""
    account = budget or Budget(BudgetLimits())
    return Gateway(store).session(model, account, scope="run", role="executor")


def priced_session(store: Store, model: ChatModel, usd_per_token: float) -> PricedSession:
    """A session of the executor's role with a price."""
    budget = Budget(BudgetLimits())
    return PricedSession(Gateway(store), model, budget, "run", "executor", usd_per_token)
