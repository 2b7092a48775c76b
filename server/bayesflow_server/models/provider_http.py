"""What the adapters of paid providers share: how HTTP failures become our errors, and stop texts.

No text that leaves here holds the key: a refused key is reported by its variable's name, and any
other message of a provider has the key cut out.
"""

import email.utils
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bayesflow_server.errors import ModelUnavailableError, ProviderError, ServerError

__all__ = ["CALL_SECONDS", "CutText", "Provider", "cut_at_stop", "retry_after_seconds"]

CALL_SECONDS = 120.0
_TRANSIENT = frozenset({408, 409, 425, 429})
_MESSAGE_CHARS = 300


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, as error messages speak of it.

    Attributes:
        title: The name for people.
        key_variable: The environment variable that holds the key.
    """

    title: str
    key_variable: str

    def key(self, environment: Mapping[str, str]) -> str:
        """The key from the environment.

        Raises:
            ModelUnavailableError: It is not set.
        """
        key = environment.get(self.key_variable, "").strip()
        if not key:
            raise ModelUnavailableError(
                f"{self.title} needs a key: set {self.key_variable} in the server's environment."
            )
        return key

    def status_error(
        self, status: int, message: str, headers: Mapping[str, str], *, model: str, key: str
    ) -> ServerError:
        """The error for an HTTP status that is not a success."""
        said = message.replace(key, "<key>")[:_MESSAGE_CHARS]
        if status in (401, 403):
            return ModelUnavailableError(
                f"{self.title} refused the key in {self.key_variable} for {model} (HTTP {status})."
            )
        if status == 404:
            return ModelUnavailableError(f"{self.title} knows no model '{model}' (HTTP 404).")
        return ProviderError(
            f"{self.title} answered HTTP {status} for {model}: {said}",
            retry_after=retry_after_seconds(headers, time.time),
            transient=status in _TRANSIENT or status >= 500,
            congestion=status in (429, 503, 529),
        )

    def unreachable(self, model: str, *, timed_out: bool) -> ProviderError:
        """The error for a call that got no answer."""
        how = f"did not answer within {CALL_SECONDS:g} s" if timed_out else "cannot be reached"
        return ProviderError(f"{self.title} {how} (for {model}). Check the network.")

    def unreadable(self, model: str) -> ProviderError:
        """The error for an answer that is not in the provider's form."""
        return ProviderError(
            f"{self.title} sent an answer for {model} that cannot be read; is a proxy in between?"
        )


def retry_after_seconds(headers: Mapping[str, str], now: Callable[[], float]) -> float | None:
    """Seconds the headers ask to wait: `retry-after-ms`, or `retry-after` as number or HTTP date.

    Args:
        headers: Looked up in lower case.
        now: The time, in seconds since the epoch.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) / unit)
        except (KeyError, ValueError):
            continue
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
