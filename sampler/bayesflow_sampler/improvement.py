"""What a further round may be expected to add to the best workflow found so far.

The next round is reckoned to be like the last: its rollouts and its edits are each normal draws
with the mean of this round's and the spread of true rewards over all rounds so far (the noise of
their rows taken off; a minibatch round's own spread would be mostly noise).
The expected improvement over the best b is then

    EI = ∫_b^1 (1 − Π_g Φ((x − m_g)/s_g)^{n_g}) dx,

over the groups g of n_g draws. Rewards end at 1. The normal tail overrates bounded rewards, and
workflows that repeat count as new, so EI errs upward: a search stops rather late than early.
Source: expected improvement of Bayesian optimisation (Močkus 1974), for the largest of many draws.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Final, NamedTuple

from bayesflow_sampler.shrinkage import Measured, reward_variance, shrink

__all__ = ["Outlook", "expected_improvement", "outlook_of", "shrunk_best"]

_UPPER: Final = 1.0
_PANELS: Final = 200


class Outlook(NamedTuple):
    """A group of draws that is still to come.

    Attributes:
        mean: Their mean true reward.
        spread: Standard deviation of their true rewards, above 0.
        size: How many.
    """

    mean: float
    spread: float
    size: int


def outlook_of(evaluations: Sequence[Measured], variance: float | None = None) -> Outlook | None:
    """As many draws as these, and like these; None without a finite reward among them.

    Args:
        evaluations: A group of a round's rewards.
        variance: s², of true rewards; None takes that of the group, which noise may swallow.
    """
    finite = [one for one in evaluations if math.isfinite(one.mean)]
    if not finite:
        return None
    mean = statistics.fmean(one.mean for one in finite)
    spread = reward_variance(finite) if variance is None else variance
    return Outlook(mean, math.sqrt(spread), len(evaluations))


def shrunk_best(evaluations: Sequence[Measured], variance: float | None = None) -> float:
    """The largest reward after each is shrunk by its noise to the mean of all; -inf for none.

    Args:
        evaluations: Measured rewards.
        variance: s², of true rewards; None takes that of these.
    """
    finite = [one for one in evaluations if math.isfinite(one.mean)]
    if not finite:
        return -math.inf
    centre = statistics.fmean(one.mean for one in finite)
    spread = reward_variance(finite) if variance is None else variance
    return max(shrink(one.mean, one.noise(), centre, spread) for one in finite)


def expected_improvement(best: float, groups: Sequence[Outlook]) -> float:
    """E[max(0, largest of the groups' draws − best)], at least 0 and at most 1 − best.

    Args:
        best: The best so far.
        groups: What is still to come; none: nothing improves.
    """
    if best >= _UPPER or not groups:
        return 0.0
    low = max(best, min(group.mean - 8 * group.spread for group in groups))
    width = (_UPPER - low) / _PANELS

    def exceeds(reward: float) -> float:
        below = 1.0
        for group in groups:
            normal = statistics.NormalDist(group.mean, group.spread)
            below *= normal.cdf(reward) ** group.size
        return 1.0 - below

    # Simpson's rule; below `low` some draw exceeds for certain.
    inner = sum((4 if k % 2 else 2) * exceeds(low + k * width) for k in range(1, _PANELS))
    return (low - best) + (exceeds(low) + inner + exceeds(_UPPER)) * width / 3
