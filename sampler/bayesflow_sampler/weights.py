"""Log-weights: normalising, effective sample size, evidence. Pure functions, standard library.

All weights are kept as logarithms; -inf is a weight of zero. Equations: with weights W_i ∝ w_i,
ESS = 1 / Σ W_i², and the evidence estimate of a weighted population is log((1/N) Σ w_i).
"""

import math
from collections.abc import Sequence

from bayesflow_sampler.errors import WeightError

__all__ = ["effective_sample_size", "log_mean_exp", "log_sum_exp", "normalise"]


def log_sum_exp(values: Sequence[float]) -> float:
    """Log Σ exp(value); -inf for no values or all -inf.

    Raises:
        WeightError: A value is NaN or +inf.
    """
    # Checked first: max() and -inf would hide a NaN, depending on the order.
    if any(math.isnan(value) or value == math.inf for value in values):
        raise WeightError("a log-weight is NaN or +inf")
    largest = max(values, default=-math.inf)
    if largest == -math.inf:
        return -math.inf
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def log_mean_exp(values: Sequence[float]) -> float:
    """Log of the mean of exp(value), the evidence estimate of a population."""
    return log_sum_exp(values) - math.log(len(values))


def normalise(log_weights: Sequence[float]) -> list[float]:
    """Weights that sum to 1.

    Raises:
        WeightError: Every weight is zero (or there is none): no distribution is defined.
    """
    total = log_sum_exp(log_weights)
    if total == -math.inf:
        raise WeightError("every weight is zero; there is nothing to normalise")
    return [math.exp(value - total) for value in log_weights]


def effective_sample_size(log_weights: Sequence[float]) -> float:
    """1 / Σ W_i² of the normalised weights, in [1, N]."""
    return 1.0 / math.fsum(weight * weight for weight in normalise(log_weights))
