"""How long each model call of a search takes: lognormal, and a fact of the call's name alone.

A call is named by the draw it serves, so every version of the engine, at any concurrency, waits the
same seconds for the same call, and times are compared call by call.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

from bayesflow_sampler.randomness import uniform

__all__ = ["Latencies"]

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Latencies:
    """Seconds of every call.

    Attributes:
        seed: Another seed is another day.
        optimizer: Median seconds of a call that writes a step, a workflow or an edit.
        critique: Median seconds of a call that criticises.
        executor: Median seconds of a call within a workflow.
        spread: Standard deviation of the logarithm.
        longest: Most calls that one example makes, one after the other; from 1, all as likely.
    """

    seed: int
    optimizer: float = 12.0
    critique: float = 6.0
    executor: float = 1.5
    spread: float = 0.5
    longest: int = 3

    def writing(self, name: str) -> float:
        """Seconds of the optimizer call that a draw of the prior makes."""
        return self._draw(self.optimizer, name)

    def refining(self, name: str) -> tuple[float, float]:
        """Seconds of the critique and of the edit after it."""
        return self._draw(self.critique, name, "critique"), self._draw(self.optimizer, name)

    def chain(self, name: str, example: int) -> tuple[float, ...]:
        """Seconds of the calls that the workflow of this draw makes for one example."""
        count = 1 + int(self.longest * uniform(self.seed, name, example, "calls"))
        return tuple(self._draw(self.executor, name, example, n) for n in range(count))

    def _draw(self, median: float, *path: str | int) -> float:
        return median * math.exp(self.spread * _NORMAL.inv_cdf(uniform(self.seed, *path)))
