import math

import numpy as np
import pytest

from bench.efficiency.landscapes import (
    DEPTH,
    KINDS,
    SYMBOLS,
    Floats,
    Kind,
    Landscape,
    make_landscape,
    words,
)

FLAT_OR_NOT = pytest.mark.parametrize("flat", [True, False])
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def _cube(landscape: Landscape) -> Floats:
    return landscape.truth.reshape((len(SYMBOLS),) * DEPTH)


def _share_of_single_letters(landscape: Landscape) -> float:
    """Share of the variance of truth that one effect a letter and place explains."""
    cube = _cube(landscape)
    effects = [
        cube.mean(tuple(axis for axis in range(DEPTH) if axis != place)) for place in range(DEPTH)
    ]
    return float(sum(effect.var() for effect in effects) / cube.var())


@EVERY_KIND
@FLAT_OR_NOT
def test_the_prior_is_the_law_that_the_grammar_draws_from(kind: Kind, flat: bool) -> None:
    landscape = make_landscape(kind, 3, flat=flat)
    assert math.isclose(landscape.prior.sum(), 1.0)
    for place in range(0, len(landscape.prior), 97):
        log_probability = landscape.grammar.log_probability(words().workflows[place])
        assert math.isclose(log_probability, math.log(landscape.prior[place]))
    assert (np.ptp(landscape.prior) < 1e-12) == flat


@EVERY_KIND
def test_true_accuracies_spread_as_those_of_workflows_do(kind: Kind) -> None:
    truth = make_landscape(kind, 5, flat=True).truth
    assert abs(truth.mean() - 0.5) < 0.01
    assert abs(truth.std() - 0.1) < 0.01
    assert 0 < truth.min() < truth.max() < 1


def test_a_seed_makes_one_landscape_of_each_kind() -> None:
    again = make_landscape("smooth", 8, flat=False)
    assert np.array_equal(make_landscape("smooth", 8, flat=False).truth, again.truth)
    assert not np.allclose(make_landscape("smooth", 9, flat=False).truth, again.truth)
    assert not np.allclose(make_landscape("rugged", 8, flat=False).truth, again.truth)


def test_single_letters_explain_a_smooth_landscape_and_less_than_half_of_a_rugged_one() -> None:
    smooth = [_share_of_single_letters(make_landscape("smooth", i, flat=True)) for i in range(9)]
    rugged = [_share_of_single_letters(make_landscape("rugged", i, flat=True)) for i in range(9)]
    assert min(smooth) > 0.9
    assert max(rugged) < 0.5


@pytest.mark.parametrize(("kind", "low", "high"), [("deceptive", 0, 4), ("smooth", 20, 30)])
def test_the_beginning_that_looks_best_holds_the_best_word_unless_it_deceives(
    kind: Kind, low: int, high: int
) -> None:
    found = 0
    for seed in range(30):
        cube = _cube(make_landscape(kind, seed, flat=True))
        promise = cube.mean((2, 3, 4))
        best = np.unravel_index(cube.argmax(), cube.shape)[:2]
        found += int(promise[best] == promise.max())
    assert low <= found <= high


def test_every_word_has_a_place() -> None:
    assert len(words().workflows) == len(words().places) == len(SYMBOLS) ** DEPTH
    assert words().places[words().workflows[77].workflow_id] == 77
