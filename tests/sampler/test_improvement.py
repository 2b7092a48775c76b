"""What a further round may add: against closed forms, against simulation, and at the edges."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.improvement import (
    Outlook,
    expected_improvement,
    outlook_of,
    shrunk_best,
)
from bayesflow_sampler.shrinkage import reward_variance, shrink
from bayesflow_sampler.types import Evaluation, RowSet
from fakes.approx import approx

NORMAL = statistics.NormalDist()
GROUPS = [
    [Outlook(0.5, 0.1, 10)],
    [Outlook(0.6, 0.05, 10), Outlook(0.55, 0.2, 2)],
    [Outlook(0.3, 0.02, 40), Outlook(0.35, 0.01, 3), Outlook(0.2, 0.1, 1)],
]
outlooks = st.builds(
    Outlook,
    st.floats(min_value=0, max_value=1),
    st.floats(min_value=0.01, max_value=0.5),
    st.integers(min_value=1, max_value=200),
)


def evaluation(*scores: float) -> Evaluation:
    return Evaluation("wf_0", RowSet("validation", tuple(range(len(scores)))), scores)


def of_one_normal(best: float, mean: float, spread: float) -> float:
    """Closed form of E[max(0, min(X, 1) − best)] for X normal."""

    def beyond(reward: float) -> float:
        z = (reward - mean) / spread
        return spread * (NORMAL.pdf(z) - z * (1 - NORMAL.cdf(z)))

    return beyond(best) - beyond(1.0)


def simulated(best: float, groups: list[Outlook]) -> tuple[float, float]:
    """The same expectation from 100,000 rounds, with its standard error."""
    draw = np.random.default_rng(7)
    largest = np.full(100_000, -np.inf)
    for mean, spread, size in groups:
        largest = np.maximum(largest, draw.normal(mean, spread, (100_000, size)).max(axis=1))
    gains = np.maximum(0.0, np.minimum(largest, 1.0) - best)
    return float(gains.mean()), float(gains.std()) / math.sqrt(100_000)


@pytest.mark.parametrize("best", [-1.0, 0.0, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize(("mean", "spread"), [(0.5, 0.1), (0.5, 0.01), (0.2, 0.4), (0.9, 0.2)])
def test_for_one_draw_it_is_the_closed_form(best: float, mean: float, spread: float) -> None:
    found = expected_improvement(best, [Outlook(mean, spread, 1)])

    assert found == approx(of_one_normal(best, mean, spread), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("above", [0.0, 0.1])
def test_for_many_draws_it_is_what_simulation_finds(groups: list[Outlook], above: float) -> None:
    """|z| < 4 in 6 cases: false alarm 4 in 10,000. Without the sizes it fails at the mean."""
    best = groups[0].mean + above
    mean, error = simulated(best, groups)

    assert abs(expected_improvement(best, groups) - mean) < 4 * error + 1e-6
    alone = [group._replace(size=1) for group in groups]
    if not above:
        assert abs(expected_improvement(best, alone) - mean) > 20 * error


@given(st.floats(min_value=-1, max_value=1.5), st.lists(outlooks, max_size=3))
def test_it_is_at_least_nothing_and_at_most_what_is_left_to_the_top(
    best: float, groups: list[Outlook]
) -> None:
    found = expected_improvement(best, groups)

    assert 0 <= found <= max(0.0, 1 - best) + 1e-9


@given(st.floats(0, 1), st.floats(0, 1), outlooks, outlooks)
def test_a_better_best_leaves_less_and_more_draws_bring_more(
    one: float, other: float, first: Outlook, second: Outlook
) -> None:
    low, high = sorted((one, other))
    more = first._replace(size=first.size + 1)

    assert expected_improvement(high, [first]) <= expected_improvement(low, [first]) + 1e-4
    assert expected_improvement(low, [more]) >= expected_improvement(low, [first]) - 1e-4
    assert expected_improvement(low, [first, second]) >= expected_improvement(low, [first]) - 1e-4


@pytest.mark.parametrize("best", [1.0, 1.2])
def test_nothing_improves_on_the_top(best: float) -> None:
    assert expected_improvement(best, [Outlook(0.9, 0.5, 50)]) == 0


def test_nothing_improves_where_nothing_comes() -> None:
    assert expected_improvement(0.2, []) == 0
    assert expected_improvement(-math.inf, []) == 0


# --- what is still to come, and the best so far -----------------------------------------------


def test_an_outlook_is_of_as_many_draws_with_the_spread_of_true_rewards() -> None:
    evaluations = [evaluation(1.0, 0.0, 1.0, 1.0), evaluation(0.0, 0.0, 0.0, 1.0)]

    assert outlook_of(evaluations) == Outlook(0.5, math.sqrt(0.0625), 2)


def test_a_single_draw_has_the_least_spread() -> None:
    assert outlook_of([evaluation(1.0, 0.0)]) == Outlook(0.5, 0.01, 1)


def test_rewards_of_minus_infinity_say_nothing_of_mean_and_spread() -> None:
    finite = [evaluation(1.0, 0.0, 1.0, 1.0), evaluation(0.0, 0.0, 0.0, 1.0)]
    lost = evaluation(-math.inf, 0.0)
    known = outlook_of(finite)

    assert known is not None
    assert outlook_of([lost, *finite]) == known._replace(size=3)
    assert shrunk_best([lost, *finite]) == shrunk_best(finite)


@pytest.mark.parametrize("evaluations", [[], [evaluation(-math.inf)]])
def test_without_a_finite_reward_there_is_no_outlook_and_no_best(
    evaluations: list[Evaluation],
) -> None:
    assert outlook_of(evaluations) is None
    assert shrunk_best(evaluations) == -math.inf


def test_the_best_is_taken_after_each_is_shrunk_by_its_own_noise() -> None:
    """Two lucky rows do not beat twenty good ones."""
    lucky = evaluation(1.0, 1.0)
    solid = evaluation(*(1.0,) * 18, 0.0, 0.0)
    poor = evaluation(*(0.0,) * 20)
    every = [lucky, solid, poor]
    centre, variance = (1.0 + 0.9 + 0.0) / 3, reward_variance(every)
    values = [shrink(one.mean, one.noise(), centre, variance) for one in every]

    assert shrunk_best(every) == approx(max(values))
    assert shrunk_best(every) < 1.0
