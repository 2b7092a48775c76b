"""Resampling: ancestors drawn from normalised weights. Pure functions of the weights and uniforms.

Each scheme draws n indices so that index i is drawn n·W_i times on average (unbiasedness).
Systematic uses one uniform for all draws, multinomial one for each.
"""

from collections.abc import Callable, Sequence
from typing import Literal

__all__ = ["Resampling", "multinomial", "resample", "systematic"]

Resampling = Literal["systematic", "multinomial"]


def systematic(weights: Sequence[float], count: int, offset: float) -> list[int]:
    """`count` ancestors at the quantiles (i + offset) / count, in ascending order.

    Args:
        weights: Normalised weights.
        count: How many ancestors to draw.
        offset: One uniform in [0, 1).
    """
    return _inverse(weights, [(index + offset) / count for index in range(count)])


def multinomial(weights: Sequence[float], quantiles: Sequence[float]) -> list[int]:
    """One independent ancestor a quantile (uniform in [0, 1)), in ascending order."""
    return _inverse(weights, sorted(quantiles))


def resample(
    weights: Sequence[float], count: int, scheme: Resampling, draw: Callable[[int], float]
) -> list[int]:
    """`count` ancestors by the named scheme; `draw(j)` is the j-th uniform of this selection."""
    if scheme == "systematic":
        return systematic(weights, count, draw(0))
    return multinomial(weights, [draw(index) for index in range(count)])


def _inverse(weights: Sequence[float], quantiles: Sequence[float]) -> list[int]:
    """The inverse of the cumulative weights at ascending quantiles."""
    last = max(index for index, weight in enumerate(weights) if weight > 0)
    ancestors: list[int] = []
    index, cumulative = 0, weights[0]
    for quantile in quantiles:
        # Rounding may leave the cumulative sum just below a quantile: the last index with weight.
        while quantile >= cumulative and index < last:
            index += 1
            cumulative += weights[index]
        ancestors.append(index)
    return ancestors
