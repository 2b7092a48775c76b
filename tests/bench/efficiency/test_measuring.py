import math

from bench.efficiency.contenders import Outcome
from bench.efficiency.landscapes import KINDS
from bench.efficiency.measuring import Estimate, gain, kind_of, mean_of, rmse, trials


def _outcomes(*truths: float) -> list[Outcome]:
    return [Outcome(truth, truth, None, None, 1.0, 1) for truth in truths]


def _truth(outcome: Outcome) -> float:
    return outcome.truth


def test_a_mean_has_its_standard_error() -> None:
    estimate = mean_of(_outcomes(0.1, 0.2, 0.3, 0.4), _truth)
    assert math.isclose(estimate.value, 0.25)
    assert math.isclose(estimate.error, math.sqrt(0.05 / 3) / 2)


def test_a_gain_is_taken_in_pairs() -> None:
    better, reference = _outcomes(0.2, 0.5, 0.9), _outcomes(0.1, 0.4, 0.8)
    found = gain(better, reference, _truth)
    assert math.isclose(found.value, 0.1)
    assert found.error < 1e-12


def test_an_estimate_that_is_missing_now_and_then_has_no_error_to_speak_of() -> None:
    assert rmse([0.1, None, 0.1]) is None
    found = rmse([0.3, -0.3, 0.3])
    assert found is not None
    assert math.isclose(found.value, 0.3)


def test_figures_are_in_points() -> None:
    assert Estimate(0.6149, 0.0121).points() == "61.5 ± 1.2"
    assert Estimate(0.0149, 0.0121).points(signed=True) == "+1.5 ± 1.2"


def test_kinds_take_turns_and_priors_are_flat_for_half_of_each() -> None:
    made = list(trials(12, 5))
    assert [one.landscape.kind for one in made] == [kind_of(trial) for trial in range(12)]
    for kind in KINDS:
        priors = [one.landscape.prior for one in made if one.landscape.kind == kind]
        assert [float(prior.max() - prior.min()) < 1e-12 for prior in priors].count(True) == 2
