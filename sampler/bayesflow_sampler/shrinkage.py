"""Shrinking noisy mean scores: towards a parent's value in selection, the pool's mean in the pick.

A reward measured on n rows is R̂ = R + noise with variance v/n. Given the variance s² of R over
workflows, the posterior mean is λ·R̂ + (1−λ)·centre with λ = s²/(s² + v/n). So noise does not
select, and where a round says nothing (λ → 0) earlier selection stands.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final, Protocol

__all__ = ["Measured", "posterior_spread", "reward_variance", "shrink"]

_LEAST_VARIANCE: Final = 1e-4


class Measured(Protocol):
    """A mean score and the variance of its noise; `types.Evaluation` is one."""

    @property
    def mean(self) -> float:
        """The mean score R̂."""
        ...

    def noise(self) -> float:
        """v/n, the variance of R̂ as an estimate of R."""
        ...


def reward_variance(evaluations: Sequence[Measured]) -> float:
    """s²: the variance of the true rewards by the method of moments, at least 1e-4."""
    if len(evaluations) < 2:
        return _LEAST_VARIANCE
    spread = statistics.variance(evaluation.mean for evaluation in evaluations)
    noise = statistics.fmean(evaluation.noise() for evaluation in evaluations)
    return max(spread - noise, _LEAST_VARIANCE)


def shrink(mean: float, noise: float, centre: float, variance: float) -> float:
    """λ·mean + (1−λ)·centre with λ = variance / (variance + noise)."""
    weight = variance / (variance + noise)
    return weight * mean + (1 - weight) * centre


def posterior_spread(noise: float, variance: float) -> float:
    """Standard deviation of a true reward around its shrunk score: (1/variance + 1/noise)^-1/2."""
    return math.sqrt(variance * noise / (variance + noise))
