"""How often and when a call that failed is tried again, and when that is an outage.

The pause doubles from try to try, less a jitter that the call's key fixes; a provider's
`retry-after` goes before it. A call gives up when no call of its model had an answer for
`patience_seconds` and it has tried `fewest_attempts` times, or had none for three calls' longest
time: a model that hangs would else take eight of them. While others are answered, it has
`most_attempts`: with seven faults in ten calls, one call in 44,000 fails thirty times in a row.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from bayesflow_server.errors import ProviderError
from bayesflow_server.gateway.limiter import LONGEST_WAIT

__all__ = ["Patience", "Timing"]

_LASTING: Final = 3.0


@dataclass(frozen=True, slots=True)
class Timing:
    """Every time and number that decides about waiting.

    Attributes:
        call_seconds: The longest a call may take at the provider.
        example_seconds: The longest an example may spend in model calls.
        patience_seconds: How long a model may be silent before that is an outage.
        first_pause: Seconds before the second try.
        longest_pause: No pause is longer, but for a provider's `retry-after`.
        fewest_attempts: Tries before a call gives up in an outage.
        most_attempts: Tries before it gives up in any case.
    """

    call_seconds: float = 120.0
    example_seconds: float = 3600.0
    patience_seconds: float = 120.0
    first_pause: float = 0.5
    longest_pause: float = 10.0
    fewest_attempts: int = 8
    most_attempts: int = 30


@dataclass
class Patience:
    """The tries of one call.

    Attributes:
        timing: What is waited for, and how long.
        spec: The model, as the message names it.
        key: Fixes the jitter.
        begun: When the call began; the silence is not older than that.
        attempts: How many tries failed.
    """

    timing: Timing
    spec: str
    key: str
    begun: float
    attempts: int = 0

    def pause(self, fault: ProviderError, now: float, last_answer: float) -> float:
        """Seconds to wait before the next try.

        Args:
            fault: How this try ended.
            now: The time.
            last_answer: When the model last answered any call.

        Raises:
            ProviderError: It is enough: the fault is not transient, or there is an outage.
        """
        if not fault.transient:
            raise fault
        self.attempts += 1
        timing = self.timing
        silence = self.silence(now, last_answer)
        tried = self.attempts >= timing.fewest_attempts
        # Who says when to come again is there.
        hangs = silence >= self._longest_silence and self.attempts > 1 and fault.retry_after is None
        outage = silence >= timing.patience_seconds and (tried or hangs)
        if outage or self.attempts >= timing.most_attempts:
            raise ProviderError(
                f"{self.spec} failed {self.attempts} times in a row, the last time so: {fault} "
                "Everything found so far is kept; resume the run to go on.",
                retry_after=fault.retry_after,
                congestion=fault.congestion,
            ) from fault
        if fault.retry_after is not None:
            return min(fault.retry_after, LONGEST_WAIT)
        doubled = timing.first_pause * 2.0 ** (self.attempts - 1)
        return min(doubled, timing.longest_pause) * (1 - 0.5 * self._jitter())

    def silence(self, now: float, last_answer: float) -> float:
        """Seconds without an answer of the model, none of them before this call began."""
        return now - max(self.begun, last_answer)

    @property
    def _longest_silence(self) -> float:
        return _LASTING * max(self.timing.patience_seconds, self.timing.call_seconds)

    def _jitter(self) -> float:
        """A number in [0, 1) that depends on nothing but the call and the try."""
        data = f"{self.key}/{self.attempts}".encode()
        return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "big") / 2**32
