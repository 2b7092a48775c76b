"""The chat-model port: one request in, sampled texts and their usage out.

Adapters stand beside this file, one a provider, each importing its SDK on first use. The gateway is
the only caller: caching, budgets and limits are not an adapter's business.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, runtime_checkable

__all__ = [
    "ChatMessage",
    "ChatModel",
    "ChatRequest",
    "Completion",
    "ManySampler",
    "Pace",
    "StopReason",
    "Usage",
]

Role = Literal["system", "user", "assistant"]
# What became of a call; each is kept with the answer and replayed as what it was. `empty`: the
# model ended its turn without a word.
StopReason = Literal["end", "length", "stop_sequence", "refusal", "context_overflow", "empty"]


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        content: What is said.
        shared: Many requests begin with the same turns up to this one; a provider that caches
            prompts on request is asked to. Not part of the question: equal texts are one question.
    """

    role: Role
    content: str
    shared: bool = field(default=False, compare=False)


class Pace(NamedTuple):
    """How fast a model may be asked, as the person who pays for it said at launch.

    Attributes:
        requests_per_minute: Calls begun in any minute, or None.
        tokens_per_minute: Tokens in and out in any minute, or None.
        call_seconds: The longest a call may take, or None for the gateway's own deadline.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    call_seconds: float | None = None


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
        concurrency: The most calls worth having in flight at once; the gateway finds out how many
            the provider bears.
        pace: Calls and tokens a minute that must not be passed.
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
    def pace(self) -> Pace:
        """What a minute may hold."""
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


@runtime_checkable
class ManySampler(Protocol):
    """A model that draws several answers of one question in one call (`n`)."""

    @property
    def most_samples(self) -> int:
        """The most answers worth asking for in one call; 1 once it is known to give no more."""
        ...

    async def sample(self, request: ChatRequest, count: int) -> tuple[Completion, ...]:
        """Answers the request up to `count` times and at least once; raises as `complete`.

        Fewer are no failure: what is paid for is handed over before more is asked for.
        The usages add up to what the provider counted: the question's tokens stand with the first
        answer, and each answer has its own output tokens (or an even share of their sum).
        """
        ...
