import math

from bayesflow_sampler.randomness import permutation, uniform, unit_interval


def test_a_number_depends_on_the_seed_and_every_part_of_the_path() -> None:
    numbers = {
        uniform(0, "a", 1),
        uniform(1, "a", 1),
        uniform(0, "b", 1),
        uniform(0, "a", 2),
        uniform(0, "a"),
        uniform(0, "a", 1, 0),
    }

    assert len(numbers) == 6
    assert uniform(0, "a", 1) == uniform(0, "a", 1)


def test_the_numbers_are_fixed_for_all_time() -> None:
    """A stored run must replay on another machine and another version of Python."""
    assert uniform(0) == 0.6718808525527004
    assert uniform(7, "extend", 1, 2, 0) == 0.8378335914989128
    assert permutation(6, 1, "minibatch", 0) == [0, 3, 2, 5, 4, 1]


def test_the_largest_and_least_digest_lie_in_the_half_open_unit_interval() -> None:
    assert unit_interval(b"\x00" * 8) == 0.0
    assert unit_interval(b"\xff" * 8) < 1.0


def test_numbers_spread_evenly() -> None:
    """Chi-square over 20 bins, 10,000 draws: 43.8 is the 0.1 % point at 19 degrees of freedom."""
    counts = [0] * 20
    for index in range(10_000):
        counts[math.floor(20 * uniform(3, "spread", index))] += 1

    assert sum((count - 500) ** 2 / 500 for count in counts) < 43.8


def test_a_permutation_holds_every_number_once() -> None:
    assert sorted(permutation(50, 4, "rows")) == list(range(50))
    assert permutation(50, 4, "rows") != permutation(50, 5, "rows")
