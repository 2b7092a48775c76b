"""Tempering: how hard a selection bites, by bisection on the effective sample size.

β=1 (the paper) barely selects when rewards differ by a few points: ESS/N ≈ 0.99. Two functions:
`fit_inverse_temperature` finds the β at which the ESS of exp(β·R) over fully scored rewards falls
to a target, once a run; `temper` finds, in one selection, the largest exponent τ ≤ 1 of the scores
that leaves a wanted ESS. Under exact weighting any τ, also one that depends on the scores, leaves
the law as it is: what a selection takes, the weights pay back.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

from bayesflow_sampler.weights import effective_sample_size, log_sum_exp

__all__ = ["BETA_RANGE", "fit_inverse_temperature", "scaled", "temper"]

BETA_RANGE: Final = (1.0, 50.0)
_BISECTIONS: Final = 50


def fit_inverse_temperature(rewards: Sequence[float], target: float) -> float | None:
    """The β in [1, 50] with ESS(β·R) nearest to `target`; None if the rewards do not differ.

    Args:
        rewards: Full validation rewards of clean rollouts.
        target: The wanted ESS, in [1, len(rewards)].
    """
    low, high = BETA_RANGE
    if not rewards or max(rewards) == min(rewards):
        return None

    def size(beta: float) -> float:
        return effective_sample_size([beta * reward for reward in rewards])

    if size(high) >= target:
        return high
    if size(low) <= target:
        return low
    return _bisect(size, low, high, target)


def temper(log_weights: Sequence[float], scores: Sequence[float], target: float) -> float:
    """The largest τ in [0, 1] at which the ESS of exp(log_weight + τ·score) reaches `target`.

    Args:
        log_weights: ℓ_i of each entry.
        scores: g_i of each entry; -inf stays out of the pool at every τ.
        target: The least ESS wanted, in [1, N].

    Returns:
        1 where the scores may act in full; 0 where no τ reaches the target. In between the ESS
        need not fall steadily, so of several crossings one is found.
    """

    def size(tau: float) -> float:
        weights = [a + scaled(b, tau) for a, b in zip(log_weights, scores, strict=True)]
        return effective_sample_size(weights)

    everyone = [a + scaled(b, 1.0) for a, b in zip(log_weights, scores, strict=True)]
    if log_sum_exp(everyone) == -math.inf or size(1.0) >= target:
        return 1.0
    if size(0.0) < target:
        return 0.0
    return _bisect(size, 0.0, 1.0, target, upper=False)


def scaled(score: float, tau: float) -> float:
    """τ·score, where a weight of zero stays zero at τ = 0 too."""
    return score if score == -math.inf else tau * score


def _bisect(
    size: Callable[[float], float], low: float, high: float, target: float, *, upper: bool = True
) -> float:
    """Where the ESS crosses the target; the upper end of the last bracket, or the lower."""
    # Invariant: size(low) >= target > size(high), or > and >= for `upper`.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = size(middle) > target if upper else size(middle) >= target
        low, high = (middle, high) if above else (low, middle)
    return high if upper else low
