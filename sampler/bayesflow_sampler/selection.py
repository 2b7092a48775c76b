"""One selection step of Algorithm 1 (lines 5-6), in the exact and in the paper's weighting.

For a pool of entries with log-weights ℓ_i (relative to the prior flow) and look-ahead scores g_i:

    1. π_i ∝ exp(ℓ_i + g_i)            exact      |      π_i ∝ exp(g_i)      paper
    2. draw N ancestors with E[children of i] = N·π_i
    3. a child gets ℓ_parent − log(N·π_parent)    |      0

Properly weighted: exact selection leaves (1/N) Σ exp(ℓ_i) f(s_i) unbiased for E_p[f] whatever the
scores are, so q is reached by weighting with exp(β·R) at the end. The paper's Algorithm 1 never
pays the scores back; its limit is p(s)·Π_t V_t(s_1:t), not q.

Two variations of exact selection keep that law. *ESS trigger*: while the effective sample size of
exp(ℓ + g) is high enough nobody is drawn; every entry is its own child with its own ℓ, and the
score is discarded. *Tempering*: g is scaled by the largest τ ≤ 1 that leaves a wanted ESS.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.resampling import Resampling, resample
from bayesflow_sampler.tempering import scaled, temper
from bayesflow_sampler.weights import effective_sample_size, normalise

__all__ = ["Selection", "Weighting", "select"]

Weighting = Literal["exact", "paper"]


class Selection(NamedTuple):
    """The children of one selection.

    Attributes:
        ancestors: N indices into the pool, ascending.
        log_weights: The children's log-weights, in the same order.
        resampled: Whether ancestors were drawn; False where the ESS was high enough.
        temper: τ, the exponent that the scores were given, in [0, 1].
    """

    ancestors: tuple[int, ...]
    log_weights: tuple[float, ...]
    resampled: bool = True
    temper: float = 1.0


def select(
    log_weights: Sequence[float],
    scores: Sequence[float],
    count: int,
    draw: Callable[[int], float],
    *,
    weighting: Weighting = "exact",
    resampling: Resampling = "systematic",
    ess_threshold: float | None = None,
    tempering: float | None = None,
) -> Selection:
    """Draws `count` children from a pool.

    Args:
        log_weights: ℓ_i of each entry: the particles, then injected refinements.
        scores: g_i = log (1/K) Σ_k exp(β·R_ik) of each entry; -inf is never selected.
        count: N, the number of children (not the size of the pool).
        draw: `draw(j)` gives the j-th uniform in [0, 1) of this selection.
        weighting: `exact` keeps the weights proper, `paper` forgets them (Algorithm 1 as printed).
        resampling: The resampling scheme.
        ess_threshold: Share of N, in (0, 1]: children are drawn only while the ESS is below it.
            None draws them always. Exact weighting and a pool of N entries alone.
        tempering: Share of the pool, in (0, 1], that the ESS is kept at by scaling the scores.
            None leaves the scores as they are. Exact weighting alone.

    Raises:
        WeightError: No entry has a positive selection probability, or a weight is NaN.
        OptionsError: The trigger or tempering with what they cannot go with.
    """
    if weighting == "paper" and (ess_threshold is not None or tempering is not None):
        raise OptionsError("The ESS trigger and tempering need exact weighting.")
    carried = log_weights if weighting == "exact" else [0.0] * len(log_weights)
    tau = 1.0
    if tempering is not None:
        tau = temper(carried, scores, max(1.0, tempering * len(scores)))
    weights = [a + scaled(b, tau) for a, b in zip(carried, scores, strict=True)]
    probabilities = normalise(weights)
    if ess_threshold is not None:
        if len(probabilities) != count:
            raise OptionsError("The ESS trigger needs a pool of exactly N entries.")
        if effective_sample_size(weights) >= ess_threshold * count:
            return Selection(tuple(range(count)), tuple(log_weights), False, tau)
    ancestors = resample(probabilities, count, resampling, draw)
    if weighting == "paper":
        return Selection(tuple(ancestors), (0.0,) * count)
    children = (log_weights[i] - math.log(count * probabilities[i]) for i in ancestors)
    return Selection(tuple(ancestors), tuple(children), True, tau)
