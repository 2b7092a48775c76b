"""A chat model as the sampler's `TextModel`: prompts in, replies out, through the gateway.

A question's name joins the cache key, so N equal prompts are N draws, and the same draw of the same
run is paid once, whatever crashes in between. What is shared by all prompts goes first, marked for
the provider's prompt cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bayesflow_sampler.ports import Prompt, Reply, ReplyEnding
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import ModelSession
from bayesflow_server.models.chat import ChatMessage, ChatRequest, StopReason

__all__ = ["ModelWriter"]

# A workflow of the paper's size has 1,000 to 2,500 tokens; a critique less.
_MAX_TOKENS: Final = 8192
_ENDINGS: Final[Mapping[StopReason, ReplyEnding]] = {
    "length": "truncated",
    "refusal": "refused",
    "context_overflow": "overflow",
}


@dataclass(frozen=True)
class ModelWriter:
    """Asks one model on the run's account.

    Attributes:
        session: The model.
        temperature: Of every question; None is the model's own.
        seed: The run's seed: another seed is another draw.
    """

    session: ModelSession
    temperature: float | None
    seed: int

    async def write(self, prompt: Prompt) -> Reply:
        """Answers the prompt.

        Raises:
            BudgetSpentError, ProviderError, ModelUnavailableError: The run must pause.
        """
        request = ChatRequest(
            messages=(
                ChatMessage("system", prompt.shared, shared=True),
                ChatMessage("user", prompt.question),
            ),
            temperature=self.temperature,
            max_tokens=_MAX_TOKENS,
        )
        context = CallContext(draw=prompt.name, seed=self.seed)
        completion = (await self.session.complete(request, context)).completion
        return Reply(completion.text, _ENDINGS.get(completion.stop_reason, "end"))
