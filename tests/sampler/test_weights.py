import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.weights import (
    effective_sample_size,
    log_mean_exp,
    log_sum_exp,
    normalise,
)
from fakes.approx import approx

log_weights = st.lists(
    st.floats(min_value=-800, max_value=800) | st.just(-math.inf), min_size=1, max_size=40
).filter(lambda values: max(values) > -math.inf)


@given(log_weights)
def test_normalised_weights_are_probabilities(values: list[float]) -> None:
    weights = normalise(values)

    assert math.fsum(weights) == approx(1.0, abs=1e-12)
    assert all(weight >= 0 for weight in weights)
    assert all(w == 0 for w, value in zip(weights, values, strict=True) if value == -math.inf)


@given(log_weights, st.floats(min_value=-500, max_value=500))
def test_shifting_log_weights_shifts_their_sum_and_leaves_the_weights(
    values: list[float], shift: float
) -> None:
    shifted = [value + shift for value in values]

    assert log_sum_exp(shifted) == approx(log_sum_exp(values) + shift, abs=1e-9)
    assert normalise(shifted) == approx(normalise(values), abs=1e-9)


@given(log_weights)
def test_effective_sample_size_lies_between_one_and_the_count(values: list[float]) -> None:
    size = effective_sample_size(values)

    assert 1 - 1e-9 <= size <= len(values) + 1e-9


@given(st.lists(st.floats(min_value=-30, max_value=30), min_size=1, max_size=20))
def test_log_sum_exp_is_the_logarithm_of_the_plain_sum(values: list[float]) -> None:
    plain = math.fsum(math.exp(value) for value in values)

    assert log_sum_exp(values) == approx(math.log(plain), abs=1e-12)
    assert log_mean_exp(values) == approx(math.log(plain / len(values)), abs=1e-12)


def test_equal_weights_have_a_full_effective_sample_size() -> None:
    assert effective_sample_size([-3.0] * 7) == approx(7)


def test_one_heavy_weight_has_an_effective_sample_size_of_one() -> None:
    assert effective_sample_size([0.0, -1000.0, -math.inf]) == approx(1)


def test_sums_do_not_overflow_or_underflow() -> None:
    assert log_sum_exp([1000.0, 1000.0]) == approx(1000 + math.log(2))
    assert log_sum_exp([-1000.0, -1000.0]) == approx(-1000 + math.log(2))


@pytest.mark.parametrize("values", [[], [-math.inf], [-math.inf, -math.inf]])
def test_all_zero_weights_sum_to_zero_and_are_no_distribution(values: list[float]) -> None:
    assert log_sum_exp(values) == -math.inf
    with pytest.raises(ValueError, match="every weight is zero"):
        normalise(values)


@pytest.mark.parametrize(
    "values",
    [
        [math.nan],
        [0.0, math.nan],
        [math.nan, 0.0],
        [-math.inf, math.nan],
        [math.nan, -math.inf],
        [math.inf],
        [0.0, math.inf],
        [math.inf, math.inf],
    ],
)
def test_nan_and_infinite_weights_are_refused_in_any_place(values: list[float]) -> None:
    with pytest.raises(ValueError, match="NaN or"):
        log_sum_exp(values)
    with pytest.raises(ValueError, match="NaN or"):
        normalise(values)
