import math
from collections.abc import Sequence

import pytest

from bayesflow_sampler import selection
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Weighting, select
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.enumeration import enumerated_resample, every_tape

LOG_WEIGHTS = [0.3, -1.2, 0.0, 0.7]
SCORES = [0.9, 0.1, 2.0, 0.4]


def half(_: int) -> float:
    return 0.5


def expected_total(
    monkeypatch: pytest.MonkeyPatch,
    parent: int,
    *,
    count: int,
    weighting: Weighting = "exact",
    resampling: Resampling = "systematic",
    scores: Sequence[float] = SCORES,
) -> float:
    """E[(1/N) Σ exp(ℓ) of the parent's children] over every outcome of one selection."""
    total = 0.0
    for tape in every_tape():
        monkeypatch.setattr(selection, "resample", enumerated_resample(tape))
        ancestors, log_weights, *_ = select(
            LOG_WEIGHTS, scores, count, half, weighting=weighting, resampling=resampling
        )
        children = zip(ancestors, log_weights, strict=True)
        total += tape.probability * math.fsum(
            math.exp(log_weight) / count for ancestor, log_weight in children if ancestor == parent
        )
    return total


def test_a_child_pays_its_selection_probability() -> None:
    probabilities = normalise([a + b for a, b in zip(LOG_WEIGHTS, SCORES, strict=True)])

    chosen = select(LOG_WEIGHTS, SCORES, 3, half)

    assert len(chosen.ancestors) == 3
    for ancestor, log_weight in zip(chosen.ancestors, chosen.log_weights, strict=True):
        assert log_weight == approx(LOG_WEIGHTS[ancestor] - math.log(3 * probabilities[ancestor]))


def test_paper_weighting_selects_on_the_score_alone_and_forgets_the_weights() -> None:
    first = select(LOG_WEIGHTS, SCORES, 5, half, weighting="paper")
    other = select([9.0, -9.0, 9.0, 0.0], SCORES, 5, half, weighting="paper")

    assert first == other
    assert first.log_weights == (0.0,) * 5


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_exact_selection_changes_no_expectation(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling, count: int
) -> None:
    """Whatever the scores: E Σ exp(ℓ_child) f(child) = Σ exp(ℓ_parent) f(parent), to rounding.

    The pool is larger than the children are many, as with injected refinements.
    """
    for scores in (SCORES, [0.0] * 4, [-5.0, 5.0, 0.0, 0.0]):
        for parent in range(4):
            kept = expected_total(
                monkeypatch,
                parent,
                count=count,
                resampling=resampling,
                scores=scores,
            )
            assert kept == approx(math.exp(LOG_WEIGHTS[parent]) / count, abs=1e-12)


def test_one_paper_selection_changes_expectations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    kept = expected_total(monkeypatch, 2, count=2, weighting="paper")

    assert abs(kept - math.exp(LOG_WEIGHTS[2]) / 2) > 0.05


def test_equal_scores_and_weights_keep_every_particle_as_it_is() -> None:
    chosen = select([-2.0] * 4, [1.5] * 4, 4, half)

    assert chosen.ancestors == (0, 1, 2, 3)
    assert chosen.log_weights == approx([-2.0] * 4)


def test_an_entry_with_no_chance_is_never_selected() -> None:
    chosen = select([0.0, 0.0, 0.0], [-math.inf, 1.0, -math.inf], 5, half)

    assert chosen.ancestors == (1,) * 5
    assert chosen.log_weights == approx([-math.log(5)] * 5)


@pytest.mark.parametrize("weighting", ["exact", "paper"])
def test_a_pool_with_no_chance_at_all_is_refused(weighting: Weighting) -> None:
    with pytest.raises(ValueError, match="every weight is zero"):
        select([0.0, 0.0], [-math.inf, -math.inf], 2, half, weighting=weighting)


@pytest.mark.parametrize("weighting", ["exact", "paper"])
def test_a_score_that_is_no_number_is_refused(weighting: Weighting) -> None:
    with pytest.raises(ValueError, match="NaN"):
        select([0.0, 0.0], [0.0, math.nan], 2, half, weighting=weighting)


def test_multinomial_draws_one_uniform_a_child() -> None:
    chosen = select(
        [0.0, 0.0], [0.0, 0.0], 4, lambda j: (0.1, 0.9, 0.2, 0.6)[j], resampling="multinomial"
    )

    assert chosen.ancestors == (0, 0, 1, 1)
