"""Which parameters a Chat Completions server takes, learned from what it refuses.

Reasoning models refuse what others take; older servers know only `max_tokens`, newer models only
`max_completion_tokens`; some draw one answer a call. A refused call is repeated without the
parameter that was named. What the server does not know at all is not offered to the model again;
a value that did not please it is left out of that one call.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.models.provider_http import BadRequest

__all__ = ["Attempt", "Parameters"]

# As the budget reckons: an answer without a limit of its own ends here.
_DEFAULT_MAX_TOKENS = 4096
_MOST_STOPS = 4  # the API takes no more; the others are cut from the text by the adapter
_MOST_SAMPLES = 32
_LIMITS = ("max_tokens", "max_completion_tokens")
_UNKNOWN = re.compile(
    r"unsupported|not support|unrecogni[sz]ed|unknown|unexpected|not permitted|extra_forbidden"
    r"|not allowed|deprecated|not available|not recogni[sz]ed",
    re.IGNORECASE,
)
_ONE_ANSWER = r"['\"`]n['\"`]|-> n\b|\bn\s*[=<>!]|\bn_cmpl\b|completion choice"


@dataclass(slots=True)
class Attempt:
    """One request on its way: what it is sent with, and what had to be left out.

    Attributes:
        request: The question.
        asked: How many answers are wanted.
        count: How many are asked for in this call; fewer once the server would not give so many.
        limit_first: The name under which the limit is offered first.
        left_out: Parameters that are not sent; `limit` stands for both names of the limit.
        unknown: Those of `left_out` that the server does not know.
    """

    request: ChatRequest
    asked: int
    count: int
    limit_first: str
    left_out: set[str]
    unknown: set[str] = field(default_factory=set[str])

    @property
    def temperature(self) -> float | None:
        """As sent."""
        return None if "temperature" in self.left_out else self.request.temperature

    @property
    def stop(self) -> list[str]:
        """As sent."""
        return [] if "stop" in self.left_out else list(self.request.stop[:_MOST_STOPS])

    @property
    def n(self) -> int:
        """As sent; 1 is not sent."""
        return 1 if "n" in self.left_out else self.count

    @property
    def seed(self) -> int | None:
        """As sent: not with several answers, which some servers would draw all alike."""
        return None if self.n > 1 or "seed" in self.left_out else self.request.sample

    @property
    def limit_name(self) -> str | None:
        """The name under which the limit is sent, or None: it is not."""
        if "limit" in self.left_out:
            return None
        names = [self.limit_first, *(name for name in _LIMITS if name != self.limit_first)]
        return next((name for name in names if name not in self.left_out), None)

    @property
    def max_tokens(self) -> int:
        """The limit."""
        return self.request.max_tokens or _DEFAULT_MAX_TOKENS

    @property
    def dropped(self) -> tuple[str, ...]:
        """The request's parameters that the model does not get."""
        asked = self.request.temperature is not None
        return ("temperature",) if asked and self.temperature is None else ()

    def drop_what_is_refused(self, refusal: BadRequest) -> bool:
        """Leaves out what the refusal names; False if it names nothing that can be left out."""
        if refusal.outcome is not None:
            return refusal.outcome == "context_overflow" and self._drop_our_own_limit()
        name = _named(refusal, self._sent())
        if name is None:
            return False
        is_unknown = _UNKNOWN.search(refusal.said) is not None
        if name == "n" and not is_unknown:  # it may give some, if not as many
            self.count //= 2
            return True
        self.left_out.add(name)
        if is_unknown:
            self.unknown.add(name)
        # A limit that the caller set must hold, under either name; ours need not.
        return self.limit_name is not None or self._drop_our_own_limit()

    def _drop_our_own_limit(self) -> bool:
        """Too long with the limit that nobody asked for: the server knows what room there is."""
        if self.request.max_tokens is not None or "limit" in self.left_out:
            return False
        self.left_out.add("limit")
        return True

    def _sent(self) -> list[str]:
        sent = {
            "temperature": self.temperature is not None,
            "stop": bool(self.stop),
            "seed": self.seed is not None,
            "n": self.n > 1,
        }
        limit = [self.limit_name] if self.limit_name else []
        return limit + [name for name, is_sent in sent.items() if is_sent]


class Parameters:
    """What one model takes, as far as it is known."""

    def __init__(self, *, limit_first: str) -> None:
        """Knows nothing yet but the name under which a limit is offered first."""
        self.most_samples = _MOST_SAMPLES
        self._limit_first = limit_first
        self._unknown: set[str] = set()

    def attempt(self, request: ChatRequest, count: int) -> Attempt:
        """How to ask."""
        return Attempt(request, count, count, self._limit_first, set(self._unknown))

    def learn(self, attempt: Attempt, answers: int) -> None:
        """Takes note of an attempt that was answered."""
        self._unknown |= attempt.unknown
        if answers < attempt.asked:
            self.most_samples = max(1, min(self.most_samples, answers))


def _named(refusal: BadRequest, sent: Collection[str]) -> str | None:
    if refusal.parameter in sent:
        return refusal.parameter
    for name in sent:
        pattern = _ONE_ANSWER if name == "n" else rf"\b{name}\b"
        if re.search(pattern, refusal.said):
            return name
    return None
