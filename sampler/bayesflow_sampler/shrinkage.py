"""Shrinking noisy mean scores: towards a parent's value in selection, the pool's mean in the pick.

A reward measured on n rows is R̂ = R + noise with variance v/n. Given the variance s² of R over
workflows, the posterior mean is λ·R̂ + (1−λ)·centre with λ = s²/(s² + v/n). So noise does not
select, and where a round says nothing (λ → 0) earlier selection stands.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

__all__ = [
    "Measured",
    "RewardSpread",
    "finite_mean",
    "posterior_spread",
    "reward_variance",
    "shrink",
]

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


@dataclass
class RewardSpread:
    """s² over a growing collection of measured rewards, in time proportional to what is added."""

    _means: list[float] = field(default_factory=list[float])
    _noises: list[float] = field(default_factory=list[float])

    def add(self, evaluations: Iterable[Measured]) -> None:
        """Takes in further rewards; those of -inf say nothing of the spread."""
        for evaluation in evaluations:
            mean = evaluation.mean
            if math.isfinite(mean):
                self._means.append(mean)
                self._noises.append(evaluation.noise())

    @property
    def flat(self) -> bool:
        """Whether all rewards so far are equal: nothing is known of their spread."""
        return len(set(self._means)) < 2

    @property
    def variance(self) -> float:
        """s²: the variance of the true rewards by the method of moments, at least 1e-4."""
        count = len(self._means)
        if count < 2:
            return _LEAST_VARIANCE
        centre = math.fsum(self._means) / count
        # Not statistics.variance: its exact fractions would take most of a search's own time.
        spread = math.fsum([(mean - centre) ** 2 for mean in self._means]) / (count - 1)
        return max(spread - math.fsum(self._noises) / count, _LEAST_VARIANCE)


def reward_variance(evaluations: Sequence[Measured]) -> float:
    """s²: the variance of the true rewards by the method of moments, at least 1e-4."""
    spread = RewardSpread()
    spread.add(evaluations)
    return spread.variance


def finite_mean(rewards: Sequence[float]) -> float:
    """Mean of the rewards that are finite, a centre to shrink towards; 0 for none."""
    finite = [reward for reward in rewards if math.isfinite(reward)]
    return statistics.fmean(finite) if finite else 0.0


def shrink(mean: float, noise: float, centre: float, variance: float) -> float:
    """λ·mean + (1−λ)·centre with λ = variance / (variance + noise)."""
    weight = variance / (variance + noise)
    return weight * mean + (1 - weight) * centre


def posterior_spread(noise: float, variance: float) -> float:
    """Standard deviation of a true reward around its shrunk score: (1/variance + 1/noise)^-1/2."""
    return math.sqrt(variance * noise / (variance + noise))
