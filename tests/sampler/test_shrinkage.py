import math

from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.shrinkage import (
    RewardSpread,
    finite_mean,
    posterior_spread,
    reward_variance,
    shrink,
)
from bayesflow_sampler.types import Evaluation, RowSet
from fakes.approx import approx

unit = st.floats(min_value=0, max_value=1)


def evaluation(*scores: float, failure: str | None = None) -> Evaluation:
    rows = RowSet("validation", tuple(range(len(scores))))
    return Evaluation("wf_0", rows, scores, failure)


@given(unit, st.floats(min_value=0, max_value=1), unit, st.floats(min_value=1e-4, max_value=1))
def test_a_shrunk_mean_lies_between_the_mean_and_the_centre(
    mean: float, noise: float, centre: float, variance: float
) -> None:
    value = shrink(mean, noise, centre, variance)

    assert min(mean, centre) - 1e-12 <= value <= max(mean, centre) + 1e-12


def test_a_noiseless_mean_is_not_shrunk() -> None:
    assert shrink(0.9, 0.0, 0.1, 0.04) == approx(0.9)


def test_a_mean_of_pure_noise_says_nothing() -> None:
    assert shrink(0.9, 1e9, 0.1, 1e-4) == approx(0.1)


def test_equal_noise_and_spread_meet_half_way() -> None:
    assert shrink(0.8, 0.01, 0.4, 0.01) == approx(0.6)


def test_noise_is_subtracted_from_the_spread_of_the_means() -> None:
    evaluations = [evaluation(1.0, 0.0, 1.0, 1.0), evaluation(0.0, 0.0, 0.0, 1.0)]
    # Means 0.75 and 0.25 have variance 0.125; each has row variance 0.25, so noise 0.0625.
    assert reward_variance(evaluations) == approx(0.125 - 0.0625)


def test_the_variance_never_falls_below_its_floor() -> None:
    assert reward_variance([evaluation(1.0, 0.0), evaluation(0.0, 1.0)]) == 1e-4
    assert reward_variance([evaluation(1.0, 0.0)]) == 1e-4
    assert reward_variance([]) == 1e-4


def test_rows_that_all_agree_do_not_look_certain() -> None:
    assert evaluation(1.0, 1.0, 1.0, 1.0).noise() == approx(0.02 / 4)


def test_a_single_row_has_the_noise_of_a_coin() -> None:
    assert evaluation(1.0).noise() == 0.25


def test_a_workflow_that_does_not_run_is_certainly_bad() -> None:
    assert evaluation(0.0, 0.0, failure="SyntaxError").noise() == 0.0


def test_a_workflow_of_minus_infinity_is_certainly_bad_and_says_nothing_of_the_spread() -> None:
    lost = evaluation(-math.inf, 0.5)
    others = [evaluation(1.0, 0.0, 1.0, 1.0), evaluation(0.0, 0.0, 0.0, 1.0)]

    assert lost.noise() == 0.0
    assert shrink(lost.mean, lost.noise(), 0.5, 0.01) == -math.inf
    assert reward_variance([lost, *others]) == reward_variance(others)


@given(st.lists(st.lists(st.tuples(unit, unit), max_size=4), max_size=4))
def test_a_spread_that_grows_is_the_spread_of_everything(
    batches: list[list[tuple[float, float]]],
) -> None:
    spread = RewardSpread()
    every = [[evaluation(*scores) for scores in batch] for batch in batches]
    for batch in every:
        spread.add(batch)

    assert spread.variance == reward_variance([one for batch in every for one in batch])


def test_a_centre_is_the_mean_of_what_is_finite() -> None:
    assert finite_mean([0.25, -math.inf, 0.75]) == 0.5
    assert finite_mean([-math.inf]) == 0.0
    assert finite_mean([]) == 0.0


def test_the_spread_left_after_shrinking_is_that_of_the_normal_posterior() -> None:
    assert posterior_spread(0.01, 0.01) == approx(math.sqrt(0.005))
    assert posterior_spread(0.0, 0.01) == 0.0
