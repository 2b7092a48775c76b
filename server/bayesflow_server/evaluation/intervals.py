"""95 % intervals for a mean score and for the paired difference of two.

0/1 scores: Wilson (1927) for the mean, Newcombe's method 10 (1998) for the paired difference.
Other scores in [0, 1]: the percentile bootstrap over rows, seeded. Where all rows are equal it
would be certain of everything; Wilson's interval at the same mean then stands in, which is wide
enough because no score in [0, 1] with that mean spreads more than a 0/1 score does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random
from statistics import NormalDist, fmean
from typing import Literal, NamedTuple

__all__ = [
    "Gain",
    "Interval",
    "IntervalMethod",
    "Verdict",
    "beats_baseline",
    "paired_gain",
    "score_interval",
]

IntervalMethod = Literal[
    "wilson", "bootstrap", "wilson bound", "newcombe 10", "paired bootstrap", "paired wilson bound"
]
Verdict = Literal["yes", "no", "unclear"]

_Z = NormalDist().inv_cdf(0.975)
# (replicates + 1) · 0.025 is whole: the two ends are order statistics.
_REPLICATES = 1999


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean score with its 95 % interval.

    Attributes:
        score: The mean over the rows, in [0, 1].
        low: Lower end.
        high: Upper end.
        rows: How many rows.
        method: How the interval was made.
    """

    score: float
    low: float
    high: float
    rows: int
    method: IntervalMethod


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean score minus the baseline's on the same rows, with its 95 % interval, in [-1, 1]."""

    delta: float
    low: float
    high: float
    rows: int
    method: IntervalMethod


class _Ends(NamedTuple):
    low: float
    high: float


def score_interval(scores: Sequence[float], *, seed: int = 0) -> Interval:
    """The mean of independent row scores in [0, 1].

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("an interval needs at least one score")
    mean, rows = fmean(scores), len(scores)
    if _is_binary(scores):
        return Interval(mean, *_wilson(mean, rows), rows, "wilson")
    if _has_no_spread(scores):
        return Interval(mean, *_wilson(mean, rows), rows, "wilson bound")
    return Interval(mean, *_bootstrap(scores, seed), rows, "bootstrap")


def paired_gain(
    scores: Sequence[float], baseline_scores: Sequence[float], *, seed: int = 0
) -> Gain:
    """The difference of two means over the same rows, row i with row i.

    Raises:
        ValueError: There are no scores, or the lengths differ.
    """
    if not scores or len(scores) != len(baseline_scores):
        raise ValueError("a paired difference needs two equally long, non-empty lists of scores")
    rows = len(scores)
    differences = [ours - theirs for ours, theirs in zip(scores, baseline_scores, strict=True)]
    delta = fmean(differences)
    if _is_binary(scores) and _is_binary(baseline_scores):
        return Gain(delta, *_newcombe(scores, baseline_scores), rows, "newcombe 10")
    if _has_no_spread(differences):
        # [-1, 1] mapped onto [0, 1] and back.
        ends = _wilson((delta + 1) / 2, rows)
        low, high = 2 * ends.low - 1, 2 * ends.high - 1
        return Gain(delta, low, high, rows, "paired wilson bound")
    return Gain(delta, *_bootstrap(differences, seed), rows, "paired bootstrap")


def beats_baseline(gain: Gain) -> Verdict:
    """``yes`` or ``no`` where the whole interval lies on one side of 0, else ``unclear``."""
    if gain.low > 0:
        return "yes"
    return "no" if gain.high < 0 else "unclear"


def _is_binary(scores: Sequence[float]) -> bool:
    return all(score in (0.0, 1.0) for score in scores)


def _has_no_spread(scores: Sequence[float]) -> bool:
    return max(scores) - min(scores) < 1e-12


def _wilson(mean: float, rows: int) -> _Ends:
    z2 = _Z * _Z
    centre = (mean + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z * sqrt(max(mean * (1 - mean), 0) / rows + z2 / (4 * rows * rows)) / (1 + z2 / rows)
    return _Ends(max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)))


def _newcombe(scores: Sequence[float], baseline_scores: Sequence[float]) -> _Ends:
    """Newcombe, Statistics in Medicine 17 (1998) 2635: square-and-add with a corrected phi."""
    rows = len(scores)
    ours, theirs = fmean(scores), fmean(baseline_scores)
    delta = ours - theirs
    phi = _corrected_phi(scores, baseline_scores)
    mine, base = _wilson(ours, rows), _wilson(theirs, rows)
    below = _added(ours - mine.low, base.high - theirs, phi)
    above = _added(mine.high - ours, theirs - base.low, phi)
    return _Ends(max(-1.0, delta - below), min(1.0, delta + above))


def _added(first: float, second: float, phi: float) -> float:
    return sqrt(max(0.0, first * first - 2 * phi * first * second + second * second))


def _corrected_phi(scores: Sequence[float], baseline_scores: Sequence[float]) -> float:
    rows = len(scores)
    both = sum(a == b == 1 for a, b in zip(scores, baseline_scores, strict=True))
    ours, theirs = round(sum(scores)), round(sum(baseline_scores))
    # both·neither − only_ours·only_theirs, by the margins.
    covariance = both * rows - ours * theirs
    scale = sqrt(ours * (rows - ours) * theirs * (rows - theirs))
    if scale == 0:
        return 0.0
    if covariance > 0:
        return max(covariance - rows / 2, 0.0) / scale
    return covariance / scale


def _bootstrap(values: Sequence[float], seed: int) -> _Ends:
    random, rows = Random(seed), len(values)
    means = sorted(sum(random.choices(values, k=rows)) / rows for _ in range(_REPLICATES))
    cut = (_REPLICATES + 1) * 25 // 1000
    return _Ends(means[cut - 1], means[-cut])
