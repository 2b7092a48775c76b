"""One selection step of Algorithm 1 (lines 5-6), in the exact and in the paper's weighting.

For a pool of entries with log-weights ℓ_i (relative to the prior flow) and look-ahead scores g_i:

    1. π_i ∝ exp(ℓ_i + g_i)            exact      |      π_i ∝ exp(g_i)      paper
    2. draw N ancestors with E[children of i] = N·π_i
    3. a child gets ℓ_parent − log(N·π_parent)    |      0

Properly weighted: exact selection leaves (1/N) Σ exp(ℓ_i) f(s_i) unbiased for E_p[f] whatever the
scores are, so q is reached by weighting with exp(β·R) at the end. The paper's Algorithm 1 never
pays the scores back; its limit is p(s)·Π_t V_t(s_1:t), not q.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from bayesflow_sampler.resampling import Resampling, resample
from bayesflow_sampler.weights import normalise

__all__ = ["Selection", "Weighting", "select"]

Weighting = Literal["exact", "paper"]


class Selection(NamedTuple):
    """The children of one selection.

    Attributes:
        ancestors: N indices into the pool.
        log_weights: The children's log-weights, in the same order.
    """

    ancestors: tuple[int, ...]
    log_weights: tuple[float, ...]


def select(
    log_weights: Sequence[float],
    scores: Sequence[float],
    count: int,
    draw: Callable[[int], float],
    *,
    weighting: Weighting = "exact",
    resampling: Resampling = "systematic",
) -> Selection:
    """Draws `count` children from a pool.

    Args:
        log_weights: ℓ_i of each entry: the particles, then injected refinements.
        scores: g_i = log (1/K) Σ_k exp(β·R_ik) of each entry.
        count: N, the number of children (not the size of the pool).
        draw: `draw(j)` gives the j-th uniform in [0, 1) of this selection.
        weighting: `exact` keeps the weights proper, `paper` forgets them (Algorithm 1 as printed).
        resampling: The resampling scheme.

    Raises:
        ValueError: No entry has a positive selection probability, or a weight is NaN.
    """
    carried = log_weights if weighting == "exact" else [0.0] * len(log_weights)
    probabilities = normalise([a + b for a, b in zip(carried, scores, strict=True)])
    ancestors = resample(probabilities, count, resampling, draw)
    if weighting == "paper":
        return Selection(tuple(ancestors), (0.0,) * count)
    children = (log_weights[i] - math.log(count * probabilities[i]) for i in ancestors)
    return Selection(tuple(ancestors), tuple(children))
