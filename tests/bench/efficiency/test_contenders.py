import statistics
from dataclasses import replace

import pytest

from bayesflow_sampler.options import SearchOptions
from bench.efficiency.contenders import BETA, Sized, baselines, searched
from bench.efficiency.landscapes import make_landscape
from bench.efficiency.measuring import compare, trials
from bench.efficiency.rows import Answers

EXACT = SearchOptions(refinements=0, inverse_temperature=BETA, minibatch=None)


def _at(size: int) -> SearchOptions:
    return SearchOptions(particles=size, refinements=1)


async def test_a_search_that_is_sized_spends_its_budget_on_average() -> None:
    sized = Sized(_at, 3.0)
    spent = [
        (await sized(answers, seed, 30.0)).evaluations for seed, answers in enumerate(trials(60, 7))
    ]
    assert abs(statistics.fmean(spent) - 30) < 1
    assert sized.granted == 1800
    assert sized.spent == pytest.approx(sum(spent))


async def test_a_steady_search_keeps_its_size_whatever_it_is_granted() -> None:
    sized = Sized(_at, 4.0, steady=True)
    for seed, answers in enumerate(trials(5, 7)):
        await sized(answers, seed, 1e6)
    assert sized.size == 4.0


async def test_others_are_granted_what_the_first_contender_spends() -> None:
    sized = Sized(_at, 4.0)
    found = await compare({"first": Sized(_at, 9.0, steady=True), "second": sized}, None, 60, 3)
    spent = {
        name: statistics.fmean(one.evaluations for one in outcomes)
        for name, outcomes in found.items()
    }
    assert sized.granted == pytest.approx(60 * spent["first"])
    assert abs(spent["second"] - spent["first"]) < 1


async def test_the_same_contender_beside_itself_finds_the_same() -> None:
    found = await compare(baselines(20, informed=True), 12.0, 4, 11)
    again = await compare(baselines(20, informed=True), 12.0, 4, 11)
    assert found == again


async def test_the_archive_of_a_large_search_comes_near_the_enumerated_expectation() -> None:
    # One landscape, N = 400: an error of the pooled archive is within 0.02 of zero.
    answers = Answers(make_landscape("smooth", 1, flat=True), 60, 1)
    outcome = await searched(replace(EXACT, particles=400), answers, 1)
    assert outcome.error is not None
    assert abs(outcome.error) < 0.02
    assert outcome.last_error is not None


async def test_paper_weighting_does_not() -> None:
    errors: list[float] = []
    for seed, answers in enumerate(trials(6, 1)):
        outcome = await searched(replace(EXACT, particles=200, weighting="paper"), answers, seed)
        assert outcome.error is None
        assert outcome.last_error is not None
        errors.append(outcome.last_error)
    assert statistics.fmean(errors) > 0.03


async def test_refinement_alone_estimates_nothing() -> None:
    answers = Answers(make_landscape("smooth", 1, flat=True), 60, 1)
    outcome = await searched(SearchOptions(particles=4, lookahead=False), answers, 1)
    assert (outcome.error, outcome.last_error) == (None, None)


async def test_calls_are_one_a_draw_and_two_an_edit() -> None:
    answers = Answers(make_landscape("smooth", 1, flat=True), 60, 1)
    outcome = await searched(SearchOptions(particles=10, refinements=2, rounds=5), answers, 1)
    assert outcome.calls == 10 * 5 + 2 * 2 * 5
