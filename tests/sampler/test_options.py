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
        minibatch=20,
        refinement="archive",
        lookahead=True,
    )


COUNTS: list[tuple[str, Callable[[int], SearchOptions], int, int]] = [
    ("particles", lambda value: SearchOptions(particles=value), 1, 1000),
    ("rollouts", lambda value: SearchOptions(rollouts=value), 1, 32),
    ("refinements", lambda value: SearchOptions(refinements=value), 0, 100),
    ("rounds", lambda value: SearchOptions(rounds=value), 1, 20),
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
