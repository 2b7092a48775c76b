"""Resampling: ancestors drawn from normalised weights. Pure functions of the weights and uniforms.

Each scheme draws n indices so that index i is drawn n·W_i times on average (unbiasedness). They
differ in how far the number of copies strays from n·W_i (Douc, Cappé, Moulines 2005):

    multinomial   n independent draws
    stratified    one draw in each of n equal strata of [0, 1): never more variance than multinomial
    systematic    one uniform moves all strata together: a number of copies is ⌊n·W_i⌋ or ⌈n·W_i⌉
    residual      ⌊n·W_i⌋ copies for certain, the rest multinomial among what remains
"""

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

__all__ = ["Resampling", "multinomial", "resample", "residual", "stratified", "systematic"]

Resampling = Literal["systematic", "stratified", "residual", "multinomial"]

# n·W_i may come out just below a whole number, as it does for many n where all weights are equal.
_ROUNDING: Final = 1e-9


def systematic(weights: Sequence[float], count: int, offset: float) -> list[int]:
    """`count` ancestors at the quantiles (i + offset) / count, in ascending order.

    Args:
        weights: Normalised weights.
        count: How many ancestors to draw.
        offset: One uniform in [0, 1).
    """
    return _inverse(weights, [(index + offset) / count for index in range(count)])


def stratified(weights: Sequence[float], offsets: Sequence[float]) -> list[int]:
    """One ancestor at each quantile (i + offsets[i]) / n, in ascending order.

    Args:
        weights: Normalised weights.
        offsets: n independent uniforms in [0, 1), one a stratum.
    """
    count = len(offsets)
    return _inverse(weights, [(index + offset) / count for index, offset in enumerate(offsets)])


def residual(weights: Sequence[float], quantiles: Sequence[float]) -> list[int]:
    """⌊n·W_i⌋ copies of each i, and the rest multinomial by what is left of n·W_i; ascending.

    Args:
        weights: Normalised weights.
        quantiles: n independent uniforms in [0, 1); as many are used as there are draws left.
    """
    count = len(quantiles)
    certain = [math.floor(count * weight + _ROUNDING) for weight in weights]
    rest = count - sum(certain)
    chosen = [index for index, copies in enumerate(certain) for _ in range(copies)]
    if rest > 0:
        left = [
            max(0.0, count * weight - copies)
            for weight, copies in zip(weights, certain, strict=True)
        ]
        total = math.fsum(left)
        chosen += multinomial([share / total for share in left], quantiles[:rest])
    return sorted(chosen)


def multinomial(weights: Sequence[float], quantiles: Sequence[float]) -> list[int]:
    """One independent ancestor a quantile (uniform in [0, 1)), in ascending order."""
    return _inverse(weights, sorted(quantiles))


def resample(
    weights: Sequence[float], count: int, scheme: Resampling, draw: Callable[[int], float]
) -> list[int]:
    """`count` ancestors by the named scheme; `draw(j)` is the j-th uniform of this selection."""
    if scheme == "systematic":
        return systematic(weights, count, draw(0))
    uniforms = [draw(index) for index in range(count)]
    return {"stratified": stratified, "residual": residual, "multinomial": multinomial}[scheme](
        weights, uniforms
    )


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
