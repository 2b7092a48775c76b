import functools
import math
from collections.abc import Callable

import pytest

from bayesflow_sampler import selection
from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Selection, Weighting, select
from bayesflow_sampler.weights import effective_sample_size, normalise
from fakes.approx import approx
from fakes.enumeration import enumerated_resample, every_tape

LOG_WEIGHTS = [0.3, -1.2, 0.0, 0.7]
SCORES = [0.9, 0.1, 2.0, 0.4]


SCHEMES = pytest.mark.parametrize(
    "resampling", ["systematic", "stratified", "residual", "multinomial"]
)


def half(_: int) -> float:
    return 0.5


def expected_total(
    monkeypatch: pytest.MonkeyPatch, parent: int, count: int, choose: Callable[[], Selection]
) -> float:
    """E[(1/N) Σ exp(ℓ) of the parent's children] over every outcome of one selection."""
    total = 0.0
    for tape in every_tape():
        monkeypatch.setattr(selection, "resample", enumerated_resample(tape))
        chosen = choose()
        children = zip(chosen.ancestors, chosen.log_weights, strict=True)
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


@SCHEMES
@pytest.mark.parametrize("tempering", [None, 0.75], ids=["plain", "tempered"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_exact_selection_changes_no_expectation(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling, count: int, tempering: float | None
) -> None:
    """Whatever the scores: E Σ exp(ℓ_child) f(child) = Σ exp(ℓ_parent) f(parent), to rounding.

    The pool is larger than the children are many, as with injected refinements.
    """
    for scores in (SCORES, [0.0] * 4, [-5.0, 5.0, 0.0, 0.0]):
        choose = functools.partial(
            select,
            LOG_WEIGHTS,
            scores,
            count,
            half,
            resampling=resampling,
            tempering=tempering,
        )
        for parent in range(4):
            kept = expected_total(monkeypatch, parent, count, choose)
            assert kept == approx(math.exp(LOG_WEIGHTS[parent]) / count, abs=1e-12)


@SCHEMES
@pytest.mark.parametrize("threshold", [0.3, 0.65, 0.67, 1.0])
def test_the_trigger_changes_no_expectation_whether_it_is_released_or_not(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling, threshold: float
) -> None:
    """The ESS of this pool is 0.66 of N: the two lower thresholds leave it as it is."""
    choose = functools.partial(
        select, LOG_WEIGHTS, SCORES, 4, half, resampling=resampling, ess_threshold=threshold
    )
    for parent in range(4):
        kept = expected_total(monkeypatch, parent, 4, choose)
        assert kept == approx(math.exp(LOG_WEIGHTS[parent]) / 4, abs=1e-12)
    assert choose().resampled == (threshold > 0.66)


def test_an_entry_that_is_never_selected_takes_its_weight_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What -inf shuts out is lost to every expectation: why minibatch scores must be finite."""
    scores = [-math.inf, 0.0, 0.5, 1.0]
    choose = functools.partial(select, LOG_WEIGHTS, scores, 2, half)

    kept = [expected_total(monkeypatch, parent, 2, choose) for parent in range(4)]

    assert kept[0] == 0.0
    assert kept[1:] == approx([math.exp(value) / 2 for value in LOG_WEIGHTS[1:]], abs=1e-12)


def test_one_paper_selection_changes_expectations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    choose = functools.partial(select, LOG_WEIGHTS, SCORES, 2, half, weighting="paper")

    kept = expected_total(monkeypatch, 2, 2, choose)

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


# --- the ESS trigger --------------------------------------------------------------------------


def never(_: int) -> float:
    raise AssertionError("nobody is drawn, so no uniform is taken")


def test_while_the_sample_is_effective_enough_everyone_is_kept_and_the_score_is_discarded() -> None:
    chosen = select(LOG_WEIGHTS, SCORES, 4, never, ess_threshold=0.5)

    assert chosen == Selection((0, 1, 2, 3), tuple(LOG_WEIGHTS), resampled=False)


def test_below_the_threshold_selection_is_as_it_is_without_one() -> None:
    triggered = select(LOG_WEIGHTS, SCORES, 4, half, ess_threshold=0.9)

    assert triggered.resampled
    assert triggered == select(LOG_WEIGHTS, SCORES, 4, half)


def test_the_trigger_reads_weights_and_scores_together() -> None:
    """Scores that undo the weights leave a full sample; either alone would not."""
    undone = [-value for value in LOG_WEIGHTS]

    assert not select(LOG_WEIGHTS, undone, 4, never, ess_threshold=0.999).resampled
    assert select(LOG_WEIGHTS, [0.0] * 4, 4, half, ess_threshold=0.999).resampled
    assert select([0.0] * 4, undone, 4, half, ess_threshold=0.999).resampled


def test_a_sample_exactly_at_the_threshold_is_kept() -> None:
    """Two of four equal entries have an ESS of exactly 2; "below the threshold" means below."""
    scores = [0.0, 0.0, -math.inf, -math.inf]

    assert not select([0.0] * 4, scores, 4, never, ess_threshold=0.5).resampled
    assert select([0.0] * 4, scores, 4, half, ess_threshold=math.nextafter(0.5, 1)).resampled


def test_a_threshold_of_one_keeps_only_a_sample_without_any_spread() -> None:
    assert not select([0.0] * 4, [0.7] * 4, 4, never, ess_threshold=1.0).resampled
    assert select([0.0] * 4, [0.7, 0.7, 0.7, 0.71], 4, half, ess_threshold=1.0).resampled


def test_a_kept_sample_whose_weights_are_all_zero_is_refused_too() -> None:
    with pytest.raises(ValueError, match="every weight is zero"):
        select([0.0, 0.0], [-math.inf, -math.inf], 2, half, ess_threshold=0.1)


@pytest.mark.parametrize("pool", [3, 5])
def test_the_trigger_is_refused_for_a_pool_that_is_not_the_particles(pool: int) -> None:
    with pytest.raises(OptionsError, match="pool of exactly N"):
        select([0.0] * pool, [0.0] * pool, 4, half, ess_threshold=0.5)


def test_the_trigger_and_tempering_are_refused_with_paper_weighting() -> None:
    with pytest.raises(OptionsError, match="exact weighting"):
        select(LOG_WEIGHTS, SCORES, 4, half, weighting="paper", ess_threshold=0.5)
    with pytest.raises(OptionsError, match="exact weighting"):
        select(LOG_WEIGHTS, SCORES, 4, half, weighting="paper", tempering=0.5)


# --- tempering --------------------------------------------------------------------------------


def test_tempered_scores_leave_the_effective_sample_size_that_was_asked_for() -> None:
    chosen = select(LOG_WEIGHTS, SCORES, 4, half, tempering=0.72)
    tempered = [a + chosen.temper * b for a, b in zip(LOG_WEIGHTS, SCORES, strict=True)]

    assert 0 < chosen.temper < 1
    assert effective_sample_size(tempered) == approx(0.72 * 4, abs=1e-6)
    probabilities = normalise(tempered)
    for ancestor, log_weight in zip(chosen.ancestors, chosen.log_weights, strict=True):
        assert log_weight == approx(LOG_WEIGHTS[ancestor] - math.log(4 * probabilities[ancestor]))


def test_tempering_that_is_not_needed_changes_nothing() -> None:
    assert select(LOG_WEIGHTS, SCORES, 4, half, tempering=0.5) == select(
        LOG_WEIGHTS, SCORES, 4, half
    )


def test_tempering_counts_the_whole_pool_not_the_children() -> None:
    """Two children of four: the share is of the four entries that are there to choose from."""
    chosen = select(LOG_WEIGHTS, SCORES, 2, half, tempering=0.72)

    assert chosen.temper == select(LOG_WEIGHTS, SCORES, 4, half, tempering=0.72).temper


def test_the_trigger_reads_the_tempered_sample() -> None:
    """Its ESS is 0.72 of N then, and 0.66 without tempering."""
    assert select(LOG_WEIGHTS, SCORES, 4, half, ess_threshold=0.7).resampled
    kept = select(LOG_WEIGHTS, SCORES, 4, never, ess_threshold=0.7, tempering=0.72)
    assert not kept.resampled
    assert kept.log_weights == tuple(LOG_WEIGHTS)


def test_what_has_no_chance_stays_without_one_at_any_temperature() -> None:
    scores = [-math.inf, 9.0, 0.0, -9.0]

    chosen = select([0.0] * 4, scores, 8, half, tempering=0.7)

    assert 0 < chosen.temper < 1
    assert 0 not in chosen.ancestors


def test_a_target_beyond_reach_sets_the_scores_aside() -> None:
    """The weights alone are less effective than was asked for."""
    log_weights = [0.0, 0.0, -20.0, -20.0]

    chosen = select(log_weights, [1.0, 0.0, 0.0, 0.0], 4, half, tempering=0.9)

    assert chosen.temper == 0.0
    assert chosen.log_weights == approx([math.log(0.5)] * 4)
