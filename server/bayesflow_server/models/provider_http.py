"""What the adapters of remote models share: how HTTP failures become our errors, and outcomes.

No text that leaves here holds the key: a refused key is reported by its variable's name, and any
other message of a provider has the key cut out.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from bayesflow_server.errors import (
    ModelUnavailableError,
    ProviderError,
    RequestRefusedError,
    ServerError,
)
from bayesflow_server.models.chat import StopReason
from bayesflow_server.models.wordings import says_account, says_overflow, says_refusal

__all__ = [
    "BadRequest",
    "CutText",
    "Provider",
    "cut_at_stop",
    "outcome",
    "retry_after_seconds",
]

_TRANSIENT = frozenset({408, 409, 425, 429})
_REQUEST_IS_WRONG = frozenset({400, 413, 422})
_MESSAGE_CHARS = 300
_NO_CREDIT = re.compile(r"insufficient_quota|credit balance is too low|insufficient credits", re.I)


@dataclass(frozen=True, slots=True)
class BadRequest:
    """A request the provider refused as it stands; the adapter may know better.

    Attributes:
        said: All that the provider said, without the key.
        parameter: The parameter it named, if it did.
        error: What to raise if nothing can be done.
    """

    said: str
    parameter: str | None
    error: ServerError

    @property
    def outcome(self) -> StopReason | None:
        """What became of the question, if the refusal is an answer to it."""
        if says_overflow(self.said):
            return "context_overflow"
        return "refusal" if says_refusal(self.said) else None


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, as error messages speak of it.

    Attributes:
        title: The name for people.
        key_variable: The environment variable that holds the key; None: it takes none.
    """

    title: str
    key_variable: str | None

    def key(self, environment: Mapping[str, str]) -> str | None:
        """The key from the environment, or None if the provider takes none.

        Raises:
            ModelUnavailableError: It is not set, or cannot be a key.
        """
        if self.key_variable is None:
            return None
        key = environment.get(self.key_variable, "").strip()
        if not key:
            raise ModelUnavailableError(
                f"{self.title} needs a key: set {self.key_variable} in the server's environment."
            )
        if not re.fullmatch(r"[!#-&(-\[\]-~]+", key):
            raise ModelUnavailableError(
                f"{self.key_variable} holds no key that {self.title} could be sent: it has spaces, "
                "quotes or characters beyond ASCII. Set it again."
            )
        return key

    def refused(
        self,
        status: int,
        body: object,
        headers: Mapping[str, str],
        *,
        model: str,
        clean: Callable[[str], str],
    ) -> BadRequest | ServerError:
        """What an HTTP status that is not a success means.

        Args:
            status: The status.
            body: The answer's, as JSON was read, or its text.
            headers: Looked up in lower case.
            model: The provider's model id.
            clean: Takes the key out of a text.
        """
        said = clean(body if isinstance(body, str) else json.dumps(body, default=str))
        sentence = clean(_field(body, "message") or said)[:_MESSAGE_CHARS]
        error = self._error(status, sentence, headers, model)
        if _NO_CREDIT.search(said):
            return ModelUnavailableError(
                f"{self.title} says that the account has no credit left (HTTP {status}). Top it up."
            )
        # Older llama.cpp servers answer an overflow with 500, OpenRouter a flagged text with 403.
        told_oddly = (status == 500 and says_overflow(said)) or (
            status == 403 and says_refusal(said)
        )
        if status in _REQUEST_IS_WRONG or told_oddly:
            return BadRequest(said, _field(body, "param"), error)
        return error

    def _error(self, status: int, said: str, headers: Mapping[str, str], model: str) -> ServerError:
        if status in (401, 403):
            key = f"the key in {self.key_variable}" if self.key_variable else "a call without a key"
            hint = " Give the endpoint key=VARIABLE."
            if self.key_variable:
                anew = f" Put a valid one into {self.key_variable} and start the server anew."
                hint = anew if status == 401 else ""
            reason = f": {said}" if status == 403 else "."
            return ModelUnavailableError(
                f"{self.title} refused {key} for {model} (HTTP {status}){reason}{hint}"
            )
        if status == 402:
            return ModelUnavailableError(
                f"{self.title} wants to be paid before it answers (HTTP 402). Top up the account."
            )
        if status == 404:
            return ModelUnavailableError(
                f"{self.title} knows no model '{model}' (HTTP 404). Check the model's name, and "
                "the URL if the endpoint is one of yours."
            )
        if 300 <= status < 400:
            return ProviderError(
                f"{self.title} answered with a redirect (HTTP {status}), which is not followed: a "
                "key belongs to one place. Set the endpoint to its final URL.",
                transient=False,
            )
        sentence = f"{self.title} answered HTTP {status} for {model}: {said}"
        if status in _REQUEST_IS_WRONG and not says_account(said):
            return RequestRefusedError(sentence)
        return ProviderError(
            sentence,
            retry_after=retry_after_seconds(headers, time.time),
            transient=status in _TRANSIENT or status >= 500,
            congestion=status in (429, 503, 529),
        )

    def no_proxy(self) -> ModelUnavailableError:
        """The error for a proxy of the environment that cannot be used."""
        return ModelUnavailableError(
            f"{self.title} cannot be asked through the proxy that the environment names: set "
            "HTTPS_PROXY (or ALL_PROXY) to http://host:port, or name the host in NO_PROXY."
        )

    def timed_out(self, model: str, seconds: float) -> ProviderError:
        """The error for a call that was given up."""
        return ProviderError(
            f"{self.title} did not answer within {seconds:g} s (for {model}). Check the network."
        )

    def unreachable(self, model: str) -> ProviderError:
        """The error for a call that got no answer."""
        return ProviderError(f"{self.title} cannot be reached (for {model}). Check the network.")

    def unreadable(self, model: str) -> ProviderError:
        """The error for an answer that is not in the provider's form."""
        return ProviderError(
            f"{self.title} sent an answer for {model} that cannot be read; is a proxy in between?"
        )

    def broke_off(self, model: str) -> ProviderError:
        """The error for an answer that failed while it was written."""
        return ProviderError(f"{self.title} failed in the middle of an answer of {model}.")


def _field(body: object, name: str) -> str | None:
    """The text of that name, in the body or in the error that it holds."""
    if not isinstance(body, dict):
        return None
    fields = cast(Mapping[object, object], body)
    value = fields.get(name)
    return value if isinstance(value, str) else _field(fields.get("error"), name)


def outcome(text: str, stop_reason: StopReason) -> StopReason:
    """`empty` in place of `end` where the model ended without a word."""
    return "empty" if stop_reason == "end" and not text.strip() else stop_reason


def retry_after_seconds(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Seconds the headers ask to wait: `retry-after-ms`, or `retry-after` as number or HTTP date.

    Args:
        headers: Looked up in lower case.
        now: The time, in seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        moment = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return max(0.0, moment.timestamp() - now())


@dataclass(frozen=True, slots=True)
class CutText:
    """A text before its first stop text, and whether there was one."""

    text: str
    cut: bool


def cut_at_stop(text: str, stops: Sequence[str]) -> CutText:
    """Cuts where the first stop text begins, for stop texts that a provider does not take."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return CutText(text[: min(places)], True) if places else CutText(text, False)
