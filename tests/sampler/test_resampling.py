import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.resampling import (
    Resampling,
    multinomial,
    resample,
    residual,
    stratified,
    systematic,
)
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.enumeration import (
    enumerated_resample,
    every_tape,
    offset_pieces,
    stratum_pieces,
)

weight_lists = (
    st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=12)
    .filter(lambda values: sum(values) > 1e-3)
    .map(lambda values: [value / math.fsum(values) for value in values])
)
offsets = st.floats(min_value=0, max_value=1, exclude_max=True)


SCHEMES = pytest.mark.parametrize("scheme", ["systematic", "stratified", "residual", "multinomial"])


def expected_counts(weights: Sequence[float], count: int, scheme: Resampling) -> list[float]:
    """E[children of i], over every outcome of the shipped scheme's uniforms."""
    expected = [0.0] * len(weights)
    for tape in every_tape():
        ancestors = enumerated_resample(tape)(weights, count, scheme, lambda _: math.nan)
        for ancestor in ancestors:
            expected[ancestor] += tape.probability
    return expected


@SCHEMES
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
        stratified(padded, quantiles),
        residual(padded, quantiles),
        systematic(padded, len(quantiles), quantiles[0]),
    ):
        assert len(ancestors) == len(quantiles)
        assert all(padded[ancestor] > 0 for ancestor in ancestors)


@given(weight_lists, st.lists(offsets, min_size=1, max_size=50))
def test_stratified_counts_lie_within_two_of_their_expectation(
    weights: list[float], uniforms: list[float]
) -> None:
    """An index covers whole strata, and a part of one at either end."""
    drawn = Counter(stratified(weights, uniforms))

    assert sum(drawn.values()) == len(uniforms)
    for index, weight in enumerate(weights):
        assert abs(drawn[index] - len(uniforms) * weight) < 2 + 1e-9


@given(weight_lists, st.lists(offsets, min_size=1, max_size=50))
def test_residual_counts_are_never_below_the_whole_part_of_their_expectation(
    weights: list[float], quantiles: list[float]
) -> None:
    count = len(quantiles)
    drawn = Counter(residual(weights, quantiles))

    assert sum(drawn.values()) == count
    for index, weight in enumerate(weights):
        assert drawn[index] >= math.floor(count * weight)


@given(st.lists(st.integers(min_value=0, max_value=6), min_size=1, max_size=8).filter(any))
def test_whole_expectations_are_met_exactly_by_all_schemes_but_multinomial(
    copies: list[int],
) -> None:
    count = sum(copies)
    weights = [number / count for number in copies]
    wanted = [index for index, number in enumerate(copies) for _ in range(number)]

    assert systematic(weights, count, 0.5) == wanted
    assert stratified(weights, [0.5] * count) == wanted
    assert residual(weights, [0.5] * count) == wanted


@SCHEMES
@given(weights=weight_lists, uniforms=st.lists(offsets, min_size=1, max_size=50))
def test_ancestors_ascend(scheme: Resampling, weights: list[float], uniforms: list[float]) -> None:
    ancestors = resample(weights, len(uniforms), scheme, lambda index: uniforms[index])

    assert ancestors == sorted(ancestors)


@given(weight_lists, st.integers(min_value=1, max_value=12))
def test_systematic_and_stratified_draw_in_proportion_by_integration(
    weights: list[float], count: int
) -> None:
    """∫ children of i over the uniforms = n·W_i, exactly: both are constant between cuts."""
    expected = [count * weight for weight in weights]
    moved = [0.0] * len(weights)
    for begin, end in offset_pieces(weights, count):
        for ancestor in systematic(weights, count, (begin + end) / 2):
            moved[ancestor] += end - begin
    apart = [0.0] * len(weights)
    for stratum in range(count):
        for begin, end in stratum_pieces(weights, count, stratum):
            apart[stratified(weights, [(begin + end) / 2] * count)[stratum]] += end - begin

    assert moved == approx(expected, abs=1e-10)
    assert apart == approx(expected, abs=1e-10)


@given(weight_lists, st.integers(min_value=1, max_value=12), offsets)
def test_systematic_answers_the_same_all_over_a_piece(
    weights: list[float], count: int, offset: float
) -> None:
    """What every enumeration rests on: the middle of a piece speaks for all of it."""
    for begin, end in offset_pieces(weights, count):
        if begin + 1e-12 < offset < end - 1e-12:
            middle = systematic(weights, count, (begin + end) / 2)
            assert systematic(weights, count, offset) == middle


def spread_of(weights: Sequence[float], count: int, scheme: Resampling) -> float:
    """Σ_i Var(children of i), enumerated."""
    squares = [0.0] * len(weights)
    for tape in every_tape():
        drawn = Counter(enumerated_resample(tape)(weights, count, scheme, lambda _: math.nan))
        for index in range(len(weights)):
            squares[index] += tape.probability * drawn[index] ** 2
    means = expected_counts(weights, count, scheme)
    return math.fsum(square - mean**2 for square, mean in zip(squares, means, strict=True))


@pytest.mark.parametrize(
    "weights", [[0.2, 0.3, 0.5], [0.1, 0.6, 0.3], [0.45, 0.55], [0.05, 0.15, 0.7, 0.1]]
)
def test_stratified_and_residual_never_spread_more_than_multinomial(weights: list[float]) -> None:
    for count in (1, 2, 3, 4):
        most = spread_of(weights, count, "multinomial")
        assert most == approx(count * (1 - math.fsum(w * w for w in weights)), abs=1e-12)
        assert spread_of(weights, count, "stratified") <= most + 1e-12
        assert spread_of(weights, count, "residual") <= most + 1e-12


def test_residual_draws_no_more_uniforms_than_it_has_draws_left() -> None:
    """Of 4 children 3 are certain: one quantile decides, and the others may be anything."""
    weights = [0.5, 0.3, 0.2]

    for first, last in ((0.0, 1), (0.19, 1), (0.21, 2), (0.99, 2)):
        for others in (0.0, 0.7, math.nan):
            chosen = residual(weights, [first, others, others, others])
            assert chosen == sorted([0, 0, 1, last])


def test_stratified_takes_its_own_uniform_in_each_stratum() -> None:
    assert stratified([0.5, 0.5], [0.0, 0.99, 0.99, 0.0]) == [0, 0, 1, 1]
    assert stratified([0.4, 0.6], [0.5, 0.5]) == [0, 1]
    assert stratified([0.4, 0.6], [0.9, 0.5]) == [1, 1]


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
    assert stratified(weights, [largest]) == [9]
    assert residual(weights, [largest]) == [9]
    assert systematic(weights, 1, largest) == [9]


def test_many_tiny_weights_stay_within_reach() -> None:
    weights = normalise([-40.0] * 1000 + [0.0])

    assert systematic(weights, 1000, 0.5) == [1000] * 1000


def test_systematic_takes_one_uniform_and_the_others_one_a_child() -> None:
    taken: list[int] = []
    others: tuple[Resampling, ...] = ("stratified", "residual", "multinomial")

    def draw(index: int) -> float:
        taken.append(index)
        return 0.5

    resample([0.5, 0.5], 4, "systematic", draw)
    assert taken == [0]
    for scheme in others:
        taken.clear()
        resample([0.5, 0.5], 4, scheme, draw)
        assert taken == [0, 1, 2, 3]


def test_residual_gives_entries_of_equal_weight_one_copy_each() -> None:
    """Although 2 · exp(1.5 - log(2·exp(1.5))) is less than 1 in floating point."""
    for count in range(1, 300):
        for score in (0.0, 0.1, 1.5):
            weights = normalise([score] * count)
            assert resample(weights, count, "residual", lambda _: 0.0) == list(range(count))
