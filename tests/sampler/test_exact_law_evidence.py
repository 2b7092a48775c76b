"""What is said of Ẑ, enumerated: islands and their error, and β chosen before or after the rewards.

Every outcome of all randomness of the shipped engine, to 1e-12; negative controls with the figure
by which they are wrong.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler import succession
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.types import Generation
from fakes.approx import approx
from fakes.exact_laws import (
    Enumeration,
    Measure,
    expected,
    posterior_of,
    shipped,
    target,
    toy_of,
)
from fakes.search_ports import RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import Toy, make_toy

BETA = 2.0
TOY = make_toy("ab", 2, seed=6)
# Three words, so that four particles on two islands can be gone through quickly.
SMALL = toy_of({"a": (0.35, 0.5), "bc": (0.25, 0.9), "bd": (0.4, 0.1)})
ISLANDS = SearchOptions(
    particles=4, islands=2, refinements=0, rounds=2, inverse_temperature=BETA, minibatch=None
)
SLOW = pytest.mark.slow


# --- islands ----------------------------------------------------------------------------------


def moments(
    beta: float, *, rows: int = 1, pool_rounds: bool = False
) -> Callable[[Sequence[Generation]], Measure]:
    """First and second moments of the islands' estimates, and of the error that is reported."""

    def measure(generations: Sequence[Generation]) -> Measure:
        posterior = posterior_of(generations, beta, rows=rows, pool_rounds=pool_rounds, islands=2)
        if posterior is None:
            return {}
        first, second = (math.exp(value) for value in posterior.island_evidence)
        both = math.exp(posterior.log_evidence)
        error = posterior.relative_error
        assert error is not None
        assert both == approx((first + second) / 2, rel=1e-12)
        return {
            "first": first,
            "second": second,
            "product": first * second,
            "both": both,
            "square": both**2,
            "reported": (error * both) ** 2,
        }

    return measure


def check(found: Measure, evidence: float) -> None:
    """Each island is unbiased, the two are uncorrelated, and the reported error is the true one."""
    variance = found["square"] - found["both"] ** 2
    assert found["first"] == approx(evidence, abs=1e-12)
    assert found["second"] == approx(evidence, abs=1e-12)
    assert found["product"] - found["first"] * found["second"] == approx(0, abs=1e-12)
    assert variance > 1e-3
    assert found["reported"] == approx(variance, abs=1e-12)


@pytest.mark.parametrize(
    ("resampling", "pool_rounds"),
    [
        pytest.param("systematic", False, marks=SLOW),
        pytest.param("systematic", True, marks=SLOW),
        pytest.param("stratified", True, marks=SLOW),
        pytest.param("residual", True, marks=SLOW),
        pytest.param("multinomial", False, marks=SLOW),
    ],
)
async def test_islands_are_unbiased_and_uncorrelated_and_their_error_is_the_true_one(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling, pool_rounds: bool
) -> None:
    """E[relative_error²·Ẑ²] = Var Ẑ."""
    options = replace(ISLANDS, resampling=resampling)

    found = await expected(monkeypatch, SMALL, options, moments(BETA, pool_rounds=pool_rounds))

    check(found, SMALL.evidence(BETA))


async def test_islands_of_short_words_are_so_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whole words are only weighed again; tempered selection leaves their weights uneven."""
    toy = toy_of({"a": (0.4, 0.2), "b": (0.35, 0.1), "c": (0.25, 0.9)})

    found = await expected(monkeypatch, toy, replace(ISLANDS, tempering=0.9), moments(BETA))

    check(found, toy.evidence(BETA))


VARIANTS = {
    "the trigger": replace(ISLANDS, ess_threshold=0.95),
    "tempering": replace(ISLANDS, tempering=0.9),
    "minibatches, shrunk towards a common centre": replace(ISLANDS, minibatch=2),
}


@SLOW
@pytest.mark.parametrize("name", VARIANTS)
async def test_what_steers_the_islands_in_common_does_not_correlate_them(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options = VARIANTS[name]
    rows = 3 if options.minibatch else 1
    reward = RowReward(SMALL.rewards, rows=3, seed=4) if options.minibatch else None
    evidence = SMALL.evidence(BETA)
    if reward:
        full = {name: reward.full(name) for name in SMALL.rewards}
        assert len(set(full.values())) > 1
        evidence = math.fsum(target(SMALL, BETA, full).values())

    found = await Enumeration(SMALL, options, reward).expect(monkeypatch, moments(BETA, rows=rows))

    check(found, evidence)


@SLOW
async def test_a_beta_that_the_rewards_of_both_islands_chose_does_not_correlate_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a β chosen beforehand."""
    close = toy_of({"a": (0.35, 0.07), "bc": (0.25, 0.12), "bd": (0.4, 0.01)})
    options = replace(ISLANDS, inverse_temperature=None)

    found = await expected(monkeypatch, close, options, moments(15.0))

    check(found, close.evidence(15.0))


@SLOW
async def test_refinements_that_all_islands_share_do_not_correlate_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where an island is left without a clean lineage: its estimate is zero then."""
    best = max(SMALL.leaves, key=lambda leaf: leaf.reward).workflow
    options = replace(ISLANDS, refinement="inject", refinements=1, clean_floor=0.4)
    case = Enumeration(SMALL, options, refiner=lambda: ScriptedRefiner([best]))

    found = await case.expect(monkeypatch, moments(BETA))

    check(found, SMALL.evidence(BETA))


@pytest.mark.parametrize(
    ("words", "given_up"),
    [
        # The search gives up only where all four rollouts are "bc", with V("b") still to come.
        pytest.param(
            {"a": (0.35, 0.5), "bc": (0.25, -math.inf), "bd": (0.4, 0.1)},
            0.25**4 * (0.4 / 0.65) * math.exp(BETA * 0.1),
            marks=SLOW,
        ),
        # The short word is whole: an island of nothing else has an estimate of zero.
        ({"a": (0.4, -math.inf), "b": (0.35, 0.1), "c": (0.25, 0.9)}, 0.0),
    ],
    ids=["prefixes", "whole words"],
)
async def test_an_island_without_any_weight_goes_on_beside_the_others(
    monkeypatch: pytest.MonkeyPatch,
    words: dict[str, tuple[float, float]],
    given_up: float,
) -> None:
    toy = toy_of(words)
    case = Enumeration(toy, ISLANDS, may_end=True)

    found = await case.expect(monkeypatch, lambda g: moments(BETA)(g) if g else {})

    assert found["first"] == approx(toy.evidence(BETA) - given_up, abs=1e-12)
    assert found["second"] == approx(toy.evidence(BETA) - given_up, abs=1e-12)


async def test_no_two_islands_share_a_random_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the enumeration takes for granted: it draws each selection by itself."""
    asked: list[tuple[object, ...]] = []

    def noted(seed: int, *path: str | int) -> float:
        asked.append(path)
        return uniform(seed, *path)

    monkeypatch.setattr(succession, "uniform", noted)
    options = replace(ISLANDS, particles=6, islands=3, rounds=3, rollouts=2, recycle=True)
    await run(search_over(make_toy("ab", 3, seed=2), options))

    assert len(set(asked)) == len(asked)
    assert sum(path[0] == "select" for path in asked) == 2 * 3
    assert any(path[0] == "recycle" for path in asked)


@SLOW
async def test_islands_of_full_words_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await expected(monkeypatch, TOY, ISLANDS, moments(BETA))

    check(found, TOY.evidence(BETA))


@SLOW
async def test_the_spread_within_a_population_says_nothing_of_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: the usual error of a mean, over four particles as if they were independent."""

    def naive(generations: Sequence[Generation]) -> Measure:
        particles = generations[-1].particles
        weights = [math.exp(particle.log_weight + particle.score) for particle in particles]
        both = statistics.fmean(weights)
        return {"both": both, "square": both**2, "reported": statistics.variance(weights) / 4}

    found = await expected(monkeypatch, SMALL, replace(ISLANDS, islands=1), naive)

    variance = found["square"] - found["both"] ** 2
    assert found["reported"] / variance == approx(1.34149769, abs=1e-7)


# --- beta -------------------------------------------------------------------------------------


# Rewards lie close together, as accuracies do: the fitted β is 1 to 50 and the weights within e^6.
CLOSE = toy_of({"aa": (0.3, 0.02), "ab": (0.2, 0.13), "ba": (0.35, 0.05), "bb": (0.15, 0.0)})
FITTED = SearchOptions(
    particles=2, rollouts=2, refinements=0, rounds=2, inverse_temperature=None, minibatch=None
)


@pytest.mark.parametrize("pool_rounds", [False, True])
@pytest.mark.parametrize("beta", [1.0, 10.0, 30.0])
async def test_a_beta_chosen_beforehand_is_exact_whatever_beta_the_search_ran_at(
    monkeypatch: pytest.MonkeyPatch, beta: float, pool_rounds: bool
) -> None:
    """The search fits its own β to the first round; the archive is asked for another one."""
    found = await expected(monkeypatch, CLOSE, FITTED, shipped(beta, pool_rounds=pool_rounds))

    assert found == approx(target(CLOSE, beta), abs=1e-12)


@pytest.mark.parametrize(("pool_rounds", "ratio"), [(False, 0.97842037), (True, 0.98751411)])
async def test_the_evidence_at_a_fitted_beta_is_not(
    monkeypatch: pytest.MonkeyPatch, pool_rounds: bool, ratio: float
) -> None:
    """E[Ẑ(β̂)/Z(β̂)] falls short by 2.2 % in the last round, by 1.2 % with both rounds pooled.

    The draws that fit β̂ are those it weighs: it is small where they happen to lie far apart.
    """
    betas: set[float] = set()

    def measure(generations: Sequence[Generation]) -> Measure:
        beta = generations[-1].inverse_temperature
        betas.add(beta)
        posterior = posterior_of(generations, beta, pool_rounds=pool_rounds)
        assert posterior is not None
        return {"ratio": math.exp(posterior.log_evidence) / CLOSE.evidence(beta)}

    found = await expected(monkeypatch, CLOSE, FITTED, measure)

    assert len(betas) == 7
    assert {1.0, 50.0} < betas
    assert found["ratio"] == approx(ratio, abs=1e-7)


# --- which rounds count -----------------------------------------------------------------------


# Whole words from round 2 on; their first letter says nothing.
ALIKE = toy_of({"ax": (0.15, 0.1), "ay": (0.35, 0.0), "bx": (0.15, 0.1), "by": (0.35, 0.0)})
TIES = SearchOptions(particles=2, refinements=0, rounds=3, inverse_temperature=None, minibatch=2)


async def test_rounds_are_pooled_by_plan_and_a_tie_does_not_choose_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a tie round 2 is fully scored too, to fit β again, but it does not count.

    The control pools every round that turned out to be fully scored. A third round dilutes the
    first one where it was a tie, which is where it lies low or high.
    """
    full_rounds: set[tuple[int, ...]] = set()

    def measure(generations: Sequence[Generation]) -> Measure:
        full = [generation for generation in generations if generation.fully_scored]
        full_rounds.add(tuple(generation.round for generation in full))
        assert [generation.counts for generation in generations] == [True, False, True]
        posterior = posterior_of(generations, 20.0, rows=4, pool_rounds=True)
        assert posterior is not None
        rounds = [
            statistics.fmean(
                math.exp(particle.log_weight + 20.0 * rollout.evaluation.mean)
                for particle in generation.particles
                for rollout in particle.rollouts
            )
            for generation in full
        ]
        return {"shipped": math.exp(posterior.log_evidence), "all": statistics.fmean(rounds)}

    case = Enumeration(ALIKE, TIES, TableReward(ALIKE.rewards, rows=4))
    found = await case.expect(monkeypatch, measure)

    assert full_rounds == {(1, 3), (1, 2, 3)}
    assert found["shipped"] == approx(ALIKE.evidence(20.0), abs=1e-12)
    assert found["all"] / ALIKE.evidence(20.0) == approx(1.03066694, abs=1e-8)


@pytest.mark.parametrize(
    ("toy", "pool_rounds", "stopped", "excess"),
    [
        (TOY, False, 0.15730788, 0.02811669),
        (TOY, True, 0.15730788, 0.01405835),
        (make_toy("ab", 2, seed=2), False, 0.11548352, 0.00001649),
    ],
)
async def test_a_stop_that_depends_on_the_rewards_biases_the_evidence(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, pool_rounds: bool, stopped: float, excess: float
) -> None:
    """As its decision says: where the best is high already the search stops and Ẑ stays as it is.

    By how much depends on the landscape.
    """
    options = replace(FITTED, inverse_temperature=BETA, rollouts=1, tolerance=0.01)
    case = Enumeration(toy, options, TableReward(toy.rewards, rows=100))
    inner = shipped(BETA, rows=100, pool_rounds=pool_rounds)

    def measure(generations: Sequence[Generation]) -> Measure:
        return {"stopped": float(len(generations) == 1), **inner(generations)}

    found = await case.expect(monkeypatch, measure)

    assert found.pop("stopped") == approx(stopped, abs=1e-8)
    assert math.fsum(found.values()) / toy.evidence(BETA) - 1 == approx(excess, abs=1e-8)
