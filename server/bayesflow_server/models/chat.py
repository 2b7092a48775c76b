"""The chat-model port: one request in, sampled texts and their usage out.

Adapters stand beside this file, one a provider, each importing its SDK on first use. The gateway is
the only caller: caching, budgets and limits are not an adapter's business.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol

__all__ = ["ChatMessage", "ChatModel", "ChatRequest", "Completion", "StopReason", "Usage"]

Role = Literal["system", "user", "assistant"]
StopReason = Literal["end", "length", "stop_sequence", "refusal", "context_overflow"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call to a chat model; equal requests are the same question.

    Attributes:
        messages: The conversation; a system turn, if any, comes first.
        temperature: Sampling temperature >= 0, or None for the model's own.
        max_tokens: The most tokens to generate, or None for the adapter's default.
        stop: Texts that end the generation; not part of the answer.
        sample: Which independent draw of this question is asked for (0, 1, ...). An adapter that
            can seed its sampler derives the seed from it.
    """

    messages: tuple[ChatMessage, ...]
    temperature: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. ``input_tokens`` includes the cached ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """What one call returned.

    Attributes:
        text: The sampled answer, without the stop sequence.
        usage: Tokens, as the provider counted them.
        stop_reason: Why the generation ended.
        dropped: Names of request parameters that the model does not take and the adapter left out.
    """

    text: str
    usage: Usage
    stop_reason: StopReason = "end"
    dropped: tuple[str, ...] = field(default=())


class ChatModel(Protocol):
    """A model that answers one chat request at a time.

    Attributes:
        spec: The name users write, e.g. ``local:smollm2``.
        identity: What the cache key holds: changes whenever the answers could (weights, version).
        concurrency: The most calls worth having in flight at once.
        deterministic: Whether equal requests at temperature 0 always give the same text.
    """

    @property
    def spec(self) -> str:
        """The name users write."""
        ...

    @property
    def identity(self) -> str:
        """What the cache key holds."""
        ...

    @property
    def concurrency(self) -> int:
        """The most calls worth having in flight."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether temperature 0 always gives the same text."""
        ...

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request.

        Raises:
            ProviderError: The provider failed (rate limit, server error, time-out, no network).
            ModelUnavailableError: The model cannot be used here (no key, no weights, no extra).
        """
        ...

    async def aclose(self) -> None:
        """Frees connections, processes and memory. Safe to call twice."""
        ...
