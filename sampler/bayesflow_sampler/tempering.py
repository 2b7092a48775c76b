"""Choosing β: the inverse temperature at which selection is neither idle nor a lottery.

β=1 (the paper) barely selects when rewards differ by a few points: ESS/N ≈ 0.99. `fit` finds by
bisection the β at which the ESS of exp(β·R) over the fully scored rewards falls to a target.
"""

from collections.abc import Sequence
from typing import Final

from bayesflow_sampler.weights import effective_sample_size

__all__ = ["BETA_RANGE", "fit_inverse_temperature"]

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
    # Invariant: size(low) > target >= size(high); the ESS falls as β grows.
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) > target else (low, middle)
    return high
