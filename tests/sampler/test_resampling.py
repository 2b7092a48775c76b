import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.resampling import Resampling, multinomial, resample, systematic
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.enumeration import enumerated_resample, every_tape

weight_lists = (
    st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=12)
    .filter(lambda values: sum(values) > 1e-3)
    .map(lambda values: [value / math.fsum(values) for value in values])
)
offsets = st.floats(min_value=0, max_value=1, exclude_max=True)


def expected_counts(weights: Sequence[float], count: int, scheme: Resampling) -> list[float]:
    """E[children of i], over every outcome of the shipped scheme's uniforms."""
    expected = [0.0] * len(weights)
    for tape in every_tape():
        ancestors = enumerated_resample(tape)(weights, count, scheme, lambda _: math.nan)
        for ancestor in ancestors:
            expected[ancestor] += tape.probability
    return expected


@pytest.mark.parametrize("scheme", ["systematic", "multinomial"])
@pytest.mark.parametrize(
    "weights", [[0.5, 0.5], [0.2, 0.3, 0.5], [0.0, 0.7, 0.3], [0.1, 0.0, 0.9], [1.0]]
)
def test_each_index_is_drawn_in_proportion_to_its_weight(
    scheme: Resampling, weights: list[float]
) -> None:
    for count in (1, 2, 3):
        assert expected_counts(weights, count, scheme) == approx(
            [count * weight for weight in weights], abs=1e-12
        )


def test_a_scheme_that_only_keeps_the_heaviest_fails_that_check() -> None:
    """The negative control: truncation is not unbiased."""
    weights = [0.2, 0.3, 0.5]
    heaviest = [weights.index(max(weights))] * 3

    assert Counter(heaviest)[2] != approx(3 * weights[2])


@given(weight_lists, st.integers(min_value=1, max_value=50), offsets)
def test_systematic_counts_lie_within_one_of_their_expectation(
    weights: list[float], count: int, offset: float
) -> None:
    drawn = Counter(systematic(weights, count, offset))

    assert sum(drawn.values()) == count
    for index, weight in enumerate(weights):
        assert abs(drawn[index] - count * weight) < 1 + 1e-9


@given(weight_lists, st.lists(offsets, min_size=1, max_size=50))
def test_zero_weight_entries_are_never_drawn(weights: list[float], quantiles: list[float]) -> None:
    padded = [0.0, *[w for weight in weights for w in (weight, 0.0)]]

    for ancestors in (
        multinomial(padded, quantiles),
        systematic(padded, len(quantiles), quantiles[0]),
    ):
        assert len(ancestors) == len(quantiles)
        assert all(padded[ancestor] > 0 for ancestor in ancestors)


@given(weight_lists, st.integers(min_value=1, max_value=50), offsets)
def test_ancestors_ascend(weights: list[float], count: int, offset: float) -> None:
    ancestors = systematic(weights, count, offset)

    assert ancestors == sorted(ancestors)


def test_a_quantile_on_a_boundary_belongs_to_the_next_index() -> None:
    assert multinomial([0.25, 0.75], [0.0, 0.25, 0.9]) == [0, 1, 1]
    assert multinomial([0.5, 0.0, 0.5], [0.5]) == [2]


def test_a_quantile_of_zero_skips_leading_zero_weights() -> None:
    assert systematic([0.0, 0.0, 1.0], 2, 0.0) == [2, 2]


def test_rounding_at_the_end_falls_to_the_last_index_with_weight() -> None:
    """Ten times 0.1 sums to less than the largest quantile below one."""
    weights = [0.1] * 10 + [0.0]
    largest = math.nextafter(1.0, 0.0)
    assert sum(weights) <= largest

    assert multinomial(weights, [largest]) == [9]
    assert systematic(weights, 1, largest) == [9]


def test_many_tiny_weights_stay_within_reach() -> None:
    weights = normalise([-40.0] * 1000 + [0.0])

    assert systematic(weights, 1000, 0.5) == [1000] * 1000


def test_systematic_takes_one_uniform_and_multinomial_one_a_child() -> None:
    taken: list[int] = []

    def draw(index: int) -> float:
        taken.append(index)
        return 0.5

    resample([0.5, 0.5], 4, "systematic", draw)
    assert taken == [0]
    taken.clear()
    resample([0.5, 0.5], 4, "multinomial", draw)
    assert taken == [0, 1, 2, 3]


def test_residual_gives_entries_of_equal_weight_one_copy_each() -> None:
    """Although 2 · exp(1.5 - log(2·exp(1.5))) is less than 1 in floating point."""
    for count in range(1, 300):
        for score in (0.0, 0.1, 1.5):
            weights = normalise([score] * count)
            assert resample(weights, count, "residual", lambda _: 0.0) == list(range(count))
