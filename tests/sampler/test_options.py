import math
from collections.abc import Callable

import pytest

from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.options import SearchOptions


def test_the_defaults_are_the_balanced_preset() -> None:
    assert SearchOptions() == SearchOptions(
        particles=10,
        rollouts=1,
        refinements=2,
        rounds=5,
        inverse_temperature=None,
        weighting="exact",
        resampling="systematic",
        ess_threshold=None,
        tempering=None,
        islands=1,
        minibatch=20,
        refinement="archive",
        clean_floor=0.0,
        refiner_lag=0,
        recycle=False,
        tolerance=None,
        lookahead=True,
    )


COUNTS: list[tuple[str, Callable[[int], SearchOptions], int, int]] = [
    ("particles", lambda value: SearchOptions(particles=value), 1, 1000),
    ("rollouts", lambda value: SearchOptions(rollouts=value), 1, 32),
    ("refinements", lambda value: SearchOptions(refinements=value), 0, 100),
    ("rounds", lambda value: SearchOptions(rounds=value), 1, 20),
    ("refiner_lag", lambda value: SearchOptions(refiner_lag=value), 0, 1),
    ("minibatch", lambda value: SearchOptions(minibatch=value), 2, 100_000),
]


@pytest.mark.parametrize(("name", "make", "least", "most"), COUNTS)
def test_a_count_out_of_range_is_refused_with_its_range(
    name: str, make: Callable[[int], SearchOptions], least: int, most: int
) -> None:
    for value in (least, most):
        assert getattr(make(value), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(OptionsError, match=f"`{name}` must be between {least} and {most}"):
            make(value)


@pytest.mark.parametrize("beta", [0.0, -1.0, 1001.0, math.inf, math.nan])
def test_a_beta_out_of_range_is_refused(beta: float) -> None:
    with pytest.raises(OptionsError, match="`beta` must be above 0"):
        SearchOptions(inverse_temperature=beta)


def test_without_look_ahead_there_must_be_something_to_refine_and_nothing_to_inject_into() -> None:
    assert not SearchOptions(lookahead=False).lookahead
    with pytest.raises(OptionsError, match="set `refinement` to `archive`"):
        SearchOptions(lookahead=False, refinement="inject")
    with pytest.raises(OptionsError, match="`refinements` to 1 or more"):
        SearchOptions(lookahead=False, refinements=0)


@pytest.mark.parametrize("islands", [0, 101])
def test_so_many_islands_are_refused(islands: int) -> None:
    with pytest.raises(OptionsError, match="`islands` must be between 1 and 100"):
        SearchOptions(islands=islands, particles=1000)


@pytest.mark.parametrize(("particles", "islands"), [(10, 3), (10, 10), (9, 2), (1, 2)])
def test_islands_divide_the_particles_into_groups_of_two_or_more(
    particles: int, islands: int
) -> None:
    assert SearchOptions(particles=10, islands=5).islands == 5
    assert SearchOptions(particles=1, islands=1).islands == 1
    with pytest.raises(OptionsError, match=f"{islands} do not divide {particles} so"):
        SearchOptions(particles=particles, islands=islands)


SHARES: list[tuple[str, Callable[[float], SearchOptions]]] = [
    ("ess_threshold", lambda value: SearchOptions(ess_threshold=value)),
    ("tempering", lambda value: SearchOptions(tempering=value)),
]


@pytest.mark.parametrize(("name", "make"), SHARES)
def test_a_share_is_above_nothing_and_at_most_one(
    name: str, make: Callable[[float], SearchOptions]
) -> None:
    assert getattr(make(1.0), name) == 1.0
    assert getattr(make(0.01), name) == 0.01
    for value in (0.0, -0.1, 1.01, math.nan):
        with pytest.raises(OptionsError, match=f"`{name}` must be above 0 and at most 1"):
            make(value)


@pytest.mark.parametrize("floor", [-0.1, 1.0, math.nan])
def test_a_clean_floor_is_a_share_below_one(floor: float) -> None:
    assert SearchOptions(refinement="inject", clean_floor=0.99).clean_floor == 0.99
    with pytest.raises(OptionsError, match=r"`clean_floor` must be in \[0, 1\)"):
        SearchOptions(refinement="inject", clean_floor=floor)


@pytest.mark.parametrize("tolerance", [-0.01, 1.01, math.nan])
def test_a_tolerance_is_a_difference_of_rewards(tolerance: float) -> None:
    assert SearchOptions(tolerance=0.0).tolerance == 0.0
    assert SearchOptions(tolerance=1.0).tolerance == 1.0
    with pytest.raises(OptionsError, match="`tolerance` must be between 0 and 1"):
        SearchOptions(tolerance=tolerance)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("ess_threshold", lambda: SearchOptions(ess_threshold=0.8, weighting="paper")),
        ("tempering", lambda: SearchOptions(tempering=0.8, weighting="paper")),
        ("islands", lambda: SearchOptions(islands=2, weighting="paper")),
    ],
)
def test_what_pays_selections_back_needs_exact_weighting(
    name: str, make: Callable[[], SearchOptions]
) -> None:
    with pytest.raises(OptionsError, match=f"`{name}` needs `weighting` exact"):
        make()


def test_the_trigger_and_injection_are_refused_together() -> None:
    with pytest.raises(OptionsError, match="set `refinement` to `archive`, or leave"):
        SearchOptions(ess_threshold=0.8, refinement="inject")


@pytest.mark.parametrize(
    "make",
    [
        lambda: SearchOptions(lookahead=False, rollouts=2, recycle=True),
        lambda: SearchOptions(lookahead=False, islands=2),
    ],
)
def test_without_look_ahead_there_is_no_selection_to_set(make: Callable[[], SearchOptions]) -> None:
    with pytest.raises(OptionsError, match="leave `recycle` and `islands` out"):
        make()
