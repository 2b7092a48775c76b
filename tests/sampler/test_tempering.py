from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.tempering import BETA_RANGE, fit_inverse_temperature
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
