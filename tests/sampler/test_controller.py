from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.controller import Controller
from bayesflow_sampler.options import SearchOptions


def controller(
    rows: int, minibatch: int | None, *, rounds: int = 5, beta: float | None = 1.0, seed: int = 0
) -> Controller:
    options = SearchOptions(minibatch=minibatch, rounds=rounds, inverse_temperature=beta)
    return Controller(options, rows, seed)


@given(
    st.integers(min_value=2, max_value=30),
    st.integers(min_value=2, max_value=29),
    st.integers(min_value=0, max_value=99),
)
def test_a_round_scores_distinct_rows_in_range_and_as_many_as_asked(
    rows: int, size: int, seed: int
) -> None:
    chooser = controller(rows, size, rounds=20, seed=seed)
    for number in range(1, 20):
        positions = chooser.rows_of(number).positions

        assert list(positions) == sorted(set(positions))
        assert len(positions) == min(size, rows)
        assert positions[0] >= 0
        assert positions[-1] < rows


@given(
    st.integers(min_value=2, max_value=30),
    st.integers(min_value=2, max_value=29),
    st.integers(min_value=0, max_value=99),
)
def test_every_row_is_used_equally_often_give_or_take_one(rows: int, size: int, seed: int) -> None:
    """So also when the minibatch does not divide the rows and a round spans two decks."""
    chooser = controller(rows, size, rounds=20, seed=seed)
    used = Counter(dict.fromkeys(range(rows), 0))
    for number in range(1, 20):
        used.update(chooser.rows_of(number).positions)

        assert max(used.values()) - min(used.values()) <= 1


def test_rounds_take_new_rows_while_there_are_any() -> None:
    chooser = controller(20, 5)
    batches = [set(chooser.rows_of(number).positions) for number in range(1, 5)]

    assert set[int]().union(*batches) == set(range(20))


def test_the_rows_of_a_round_depend_on_the_seed_and_the_round_alone() -> None:
    first, again = controller(40, 8, seed=1), controller(40, 8, seed=1)
    again.rows_of(3)

    assert first.rows_of(2) == again.rows_of(2)
    assert controller(40, 8, seed=2).rows_of(2) != first.rows_of(2)


def test_each_row_is_equally_likely_in_a_round() -> None:
    """Chi-square over 7 rows, 1,400 seeds, second round across two decks.

    22.5 is the 0.1 % point at 6 degrees of freedom (a smaller spread is no failure).
    """
    counts: Counter[int] = Counter()
    for seed in range(1400):
        counts.update(controller(7, 5, seed=seed).rows_of(2).positions)

    assert sum((counts[row] - 1000) ** 2 / 1000 for row in range(7)) < 22.5


@pytest.mark.parametrize("minibatch", [None, 10, 50])
def test_all_rows_are_scored_when_there_is_no_smaller_minibatch(minibatch: int | None) -> None:
    assert controller(10, minibatch).rows_of(2).positions == tuple(range(10))


def test_the_last_round_is_always_fully_scored() -> None:
    assert controller(10, 2, rounds=3).rows_of(3).positions == tuple(range(10))


def test_decision_13_beta_is_fitted_to_half_the_sample_size_and_then_frozen() -> None:
    chooser = controller(10, 2, beta=None)
    assert chooser.rows_of(1).positions == tuple(range(10))

    (note,) = chooser.observe([0.1, 0.2, 0.3, 0.9])

    assert "consistent, not unbiased" in note.guarantee
    fitted = chooser.inverse_temperature
    assert fitted > 1
    assert len(chooser.rows_of(2).positions) == 2
    assert chooser.observe([0.0, 1.0]) == ()
    assert chooser.inverse_temperature == fitted


def test_decision_13_no_spread_is_tried_again_at_most_twice() -> None:
    chooser = controller(10, 2, beta=None)
    for number in (1, 2, 3):
        assert len(chooser.rows_of(number).positions) == 10
        (note,) = chooser.observe([0.5, 0.5])
        assert note.choice == "beta stays 1"

    assert chooser.inverse_temperature == 1.0
    assert len(chooser.rows_of(4).positions) == 2
    assert chooser.observe([0.0, 1.0]) == ()


def test_decision_13_a_second_round_with_spread_fits_beta() -> None:
    chooser = controller(10, 2, beta=None)
    chooser.observe([0.5, 0.5])
    chooser.observe([0.1, 0.9])

    assert chooser.inverse_temperature > 1
    assert len(chooser.rows_of(3).positions) == 2


def test_a_beta_given_beforehand_is_never_touched() -> None:
    chooser = controller(10, 2, beta=3.0)

    assert chooser.observe([0.0, 1.0]) == ()
    assert chooser.inverse_temperature == 3.0


# --- what is written down ---------------------------------------------------------------------


def sentences(chooser: Controller, rewards: list[float] | None = None) -> list[str]:
    found = chooser.plan() if rewards is None else chooser.observe(rewards)
    return [decision.sentence for decision in found]


def test_a_plan_tells_of_a_fixed_beta_and_of_minibatches() -> None:
    assert sentences(controller(90, 20, beta=12.5)) == [
        "beta = 12.5: it was given; a beta that no reward has chosen leaves the evidence unbiased.",
        "20 of 90 validation rows score the rounds before the last: they cost less, and their "
        "means are shrunk towards what the parent carried; they steer the selection alone; "
        "estimates take full validation scores.",
    ]


def test_a_beta_that_is_open_leaves_the_first_round_out_of_the_minibatches() -> None:
    (told,) = sentences(controller(90, 20, beta=None))

    assert told.startswith("20 of 90 validation rows score the rounds between first and last: ")


@pytest.mark.parametrize(
    ("rows", "minibatch", "rounds"), [(90, None, 5), (20, 20, 5), (10, 20, 5), (90, 20, 1)]
)
def test_there_is_nothing_to_tell_where_every_round_has_all_rows(
    rows: int, minibatch: int | None, rounds: int
) -> None:
    assert sentences(controller(rows, minibatch, rounds=rounds, beta=None)) == []


def test_in_paper_weighting_nothing_is_promised_of_a_beta() -> None:
    options = SearchOptions(inverse_temperature=1.0, minibatch=None, weighting="paper")

    (told,) = sentences(Controller(options, 10, 0))

    assert told == (
        "paper weighting: Algorithm 1 as printed was asked for; its limit is not the posterior, "
        "so probabilities and evidence rank and promise nothing."
    )


def test_a_fitted_beta_tells_its_target_and_that_estimates_are_consistent() -> None:
    chooser = controller(10, 2, beta=None)
    (told,) = sentences(chooser, [0.1, 0.2, 0.3, 0.9])

    assert told == (
        f"beta = {chooser.inverse_temperature:.3g}: fitted so that the effective sample size of "
        "the 4 fully scored rollouts is 2; estimates at a fitted beta are consistent, not "
        "unbiased; at a beta of your own choice they are unbiased."
    )


@pytest.mark.parametrize("rewards", [[0.5, 0.5001, 0.4999, 0.5], [0.0, 9.0, 0.0, 0.0]])
def test_a_beta_at_the_end_of_its_range_says_so(rewards: list[float]) -> None:
    chooser = controller(10, 2, beta=None)
    (told,) = sentences(chooser, rewards)

    assert chooser.inverse_temperature in (1.0, 50.0)
    assert "is 2, or as near as 1 to 50 allows; " in told


def test_a_round_without_spread_says_that_it_is_tried_again_and_then_that_it_is_not() -> None:
    chooser = controller(10, 2, beta=None)
    again = (
        "beta stays 1: all rewards of this round are equal; the next round is fully scored too, "
        "and beta is tried again."
    )

    assert sentences(chooser, [0.5, 0.5]) == [again]
    assert sentences(chooser, [0.5, 0.5]) == [again]
    assert sentences(chooser, [0.5, 0.5]) == [
        "beta stays 1: no spread of rewards in three rounds; a beta that no reward has chosen "
        "leaves the evidence unbiased."
    ]


def test_a_search_of_fewer_rounds_does_not_promise_another() -> None:
    chooser = controller(10, 2, beta=None, rounds=2)
    assert sentences(chooser, [0.5, 0.5])[0].endswith("beta is tried again.")
    assert sentences(chooser, [0.5, 0.5])[0].startswith(
        "beta stays 1: no spread of rewards in any round; "
    )


def test_without_a_clean_rollout_there_is_no_spread() -> None:
    assert sentences(controller(10, 2, beta=None), [])[0].startswith("beta stays 1: ")


@pytest.mark.parametrize("rewards", [[0.1, 0.2, 0.3, 0.9], [0.5, 0.5]])
def test_under_paper_weighting_no_beta_is_said_to_promise_anything(rewards: list[float]) -> None:
    chooser = Controller(SearchOptions(weighting="paper"), 10, 0)
    decisions = [decision for _ in range(3) for decision in chooser.observe(rewards)]

    assert "no estimate is promised" in decisions[-1].guarantee
