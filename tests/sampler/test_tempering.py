import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bayesflow_sampler.tempering import BETA_RANGE, fit_inverse_temperature, scaled, temper
from bayesflow_sampler.weights import effective_sample_size
from fakes.approx import approx

rewards = st.lists(st.integers(min_value=0, max_value=20), min_size=2, max_size=30).map(
    lambda values: [value / 20 for value in values]
)


@given(rewards.filter(lambda values: len(set(values)) > 1), st.floats(min_value=0.1, max_value=1))
def test_the_fitted_beta_meets_the_target_or_stops_at_a_limit(
    values: list[float], share: float
) -> None:
    target = max(1.0, share * len(values))
    beta = fit_inverse_temperature(values, target)
    assert beta is not None

    size = effective_sample_size([beta * value for value in values])
    if beta == BETA_RANGE[0]:
        assert size <= target + 1e-9
    elif beta == BETA_RANGE[1]:
        assert size >= target - 1e-9
    else:
        assert size == approx(target, abs=1e-6)


def test_rewards_that_do_not_differ_fit_no_beta() -> None:
    assert fit_inverse_temperature([0.5, 0.5, 0.5], 1.5) is None
    assert fit_inverse_temperature([0.5], 1.0) is None
    assert fit_inverse_temperature([], 1.0) is None


def test_rewards_far_apart_need_no_more_than_beta_one() -> None:
    assert fit_inverse_temperature([0.0, 100.0], 1.5) == BETA_RANGE[0]


def test_rewards_close_together_stop_at_the_largest_beta() -> None:
    assert fit_inverse_temperature([0.5, 0.501], 1.1) == BETA_RANGE[1]


# --- one selection ----------------------------------------------------------------------------


pools = st.lists(
    st.tuples(st.floats(min_value=-3, max_value=3), st.floats(min_value=-20, max_value=20)),
    min_size=2,
    max_size=20,
)


def size_at(pool: list[tuple[float, float]], tau: float) -> float:
    return effective_sample_size([a + scaled(b, tau) for a, b in pool])


def temper_of(pool: list[tuple[float, float]], target: float) -> float:
    return temper([a for a, _ in pool], [b for _, b in pool], target)


@given(pools, st.floats(min_value=0.05, max_value=1))
def test_the_exponent_meets_the_target_unless_an_end_of_the_range_does(
    pool: list[tuple[float, float]], share: float
) -> None:
    target = max(1.0, share * len(pool))

    tau = temper_of(pool, target)

    if tau == 1.0:
        assert size_at(pool, 1.0) >= target
    elif tau == 0.0:
        assert size_at(pool, 0.0) <= target + 1e-6
    else:
        assert size_at(pool, tau) == approx(target, abs=1e-6)
        assert size_at(pool, tau) >= target


@given(pools, st.floats(min_value=0.05, max_value=1))
def test_with_equal_weights_no_larger_exponent_would_do(
    pool: list[tuple[float, float]], share: float
) -> None:
    """There the ESS falls steadily as the exponent grows: what is found is the largest."""
    equal = [(0.0, score) for _, score in pool]
    target = max(1.0, share * len(pool))
    tau = temper_of(equal, target)
    assume(0 < tau < 0.99)

    assert size_at(equal, tau + 1e-3) < target


@pytest.mark.parametrize("score", [0.0, -7.5, 700.0])
def test_scores_that_do_not_differ_act_in_full(score: float) -> None:
    assert temper([0.0] * 5, [score] * 5, 4.9) == 1.0


def test_scores_that_do_not_differ_cannot_mend_the_weights() -> None:
    """No exponent changes anything: none is tried."""
    assert temper([0.0, -9.0], [3.0, 3.0], 1.9) == 0.0


def test_what_has_no_chance_counts_neither_for_nor_against() -> None:
    """With two of four shut out the ESS is 2 at most: half of the pool is met by τ = 0 alone."""
    scores = [2.0, 0.0, -math.inf, -math.inf]

    assert temper([0.0] * 4, scores, 1.5) == approx(temper([0.0] * 2, scores[:2], 1.5), abs=1e-12)
    assert temper([0.0] * 4, scores, 2.5) == 0.0
    assert scaled(-math.inf, 0.0) == -math.inf


def test_a_pool_without_any_chance_is_left_to_selection_to_refuse() -> None:
    assert temper([0.0, 0.0], [-math.inf, -math.inf], 1.5) == 1.0


@pytest.mark.parametrize("scores", [[0.0, math.nan], [math.nan, -math.inf], [0.0, math.inf]])
def test_a_score_that_is_no_weight_is_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="NaN or"):
        temper([0.0, 0.0], scores, 1.5)


def test_one_entry_is_always_effective() -> None:
    assert temper([-4.0], [12.0], 1.0) == 1.0
