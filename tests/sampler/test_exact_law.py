"""Exact weighting, enumerated: E[Ẑ·q̂(s)] = p(s)·exp(β·R(s)) to 1e-12, whatever steers the search.

With N=2 particles, T=2 rounds and two symbols every draw of the prior and every outcome of the
resampling is gone through on the shipped engine. Beside the claims stand the biased variants, with
the figure by which they are wrong. Injection and recycling have files of their own.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler import selection, succession
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Selection
from bayesflow_sampler.tempering import temper
from bayesflow_sampler.types import Generation
from fakes.approx import approx
from fakes.exact_laws import Enumeration, Measure, expected, shipped, target, toy_of
from fakes.search_ports import RowReward
from fakes.toys import Toy, make_toy

BETA = 2.0
TOY = make_toy("ab", 2, seed=6)
STOPPING = make_toy("ab", 2, seed=10, stop=True)
TOYS = pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "short words too"])
SCHEMES = pytest.mark.parametrize(
    "resampling", ["systematic", "stratified", "residual", "multinomial"]
)
ROLLOUTS = pytest.mark.parametrize("rollouts", [1, pytest.param(2, marks=pytest.mark.slow)])
EXACT = SearchOptions(
    particles=2, refinements=0, rounds=2, inverse_temperature=BETA, minibatch=None
)


# --- selection --------------------------------------------------------------------------------


@TOYS
@SCHEMES
@ROLLOUTS
async def test_exact_weighting_is_properly_weighted_to_rounding(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, resampling: Resampling, rollouts: int
) -> None:
    options = replace(EXACT, resampling=resampling, rollouts=rollouts)

    found = await expected(monkeypatch, toy, options, shipped(BETA))

    assert found == approx(target(toy, BETA), abs=1e-12)
    assert math.fsum(found.values()) == approx(toy.evidence(BETA), abs=1e-12)


@TOYS
async def test_pooled_rounds_are_properly_weighted_too(
    monkeypatch: pytest.MonkeyPatch, toy: Toy
) -> None:
    options = replace(EXACT, rollouts=1 if toy is STOPPING else 2)

    pooled = await expected(monkeypatch, toy, options, shipped(BETA, pool_rounds=True))

    assert pooled == approx(target(toy, BETA), abs=1e-12)


@pytest.mark.parametrize(
    ("toy", "rollouts", "excess"),
    [
        (TOY, 1, 0.01735074),
        (TOY, 2, 0.01679921),
        (STOPPING, 1, 0.13338979),
        (STOPPING, 2, 0.13316108),
    ],
)
async def test_paper_weighting_is_not(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, rollouts: int, excess: float
) -> None:
    """The negative control: by Algorithm 1 as printed the mean of exp(β·R) overrates Z.

    By 1.7 % with two letters; by 13 % where short words are selected for the same reward again.
    More rounds make it worse: nothing is ever paid back.
    """
    options = replace(EXACT, weighting="paper", rollouts=rollouts)

    found = await expected(monkeypatch, toy, options, shipped(BETA))

    assert math.fsum(found.values()) / toy.evidence(BETA) - 1 == approx(excess, abs=1e-8)


@SCHEMES
async def test_what_paper_weighting_overrates_z_by_is_the_same_for_every_scheme(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling
) -> None:
    """With one selection only the expected numbers of children matter, and those are the same."""
    options = replace(EXACT, weighting="paper", resampling=resampling)

    found = await expected(monkeypatch, STOPPING, options, shipped(BETA))

    assert math.fsum(found.values()) / STOPPING.evidence(BETA) - 1 == approx(0.13338979, abs=1e-8)


@pytest.mark.parametrize(
    ("rounds", "excess"),
    [(1, 0.0), (2, 0.02197460), pytest.param(3, 0.05160923, marks=pytest.mark.slow)],
)
async def test_paper_weighting_overrates_z_by_more_with_every_round(
    monkeypatch: pytest.MonkeyPatch, rounds: int, excess: float
) -> None:
    """With one round nothing is selected. Exact weighting is right for the same words."""
    toy = toy_of({"ab": (0.4, 0.5), "acd": (0.25, 1.0), "ace": (0.15, 0.0), "b": (0.2, 0.3)})
    options = replace(EXACT, rounds=rounds)

    exact = await expected(monkeypatch, toy, options, shipped(BETA))
    paper = await expected(monkeypatch, toy, replace(options, weighting="paper"), shipped(BETA))

    assert exact == approx(target(toy, BETA), abs=1e-12)
    assert math.fsum(paper.values()) / toy.evidence(BETA) - 1 == approx(excess, abs=1e-8)


# --- the trigger and tempering ----------------------------------------------------------------


@TOYS
@SCHEMES
@pytest.mark.parametrize("pool_rounds", [False, True])
async def test_the_trigger_moves_no_expectation(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, resampling: Resampling, pool_rounds: bool
) -> None:
    """With this threshold some outcomes of round 1 are resampled and others are not."""
    options = replace(EXACT, resampling=resampling, ess_threshold=0.9)
    seen: set[bool] = set()
    inner = shipped(BETA, pool_rounds=pool_rounds)

    def measure(generations: Sequence[Generation]) -> Measure:
        seen.add(generations[0].resampled)
        return inner(generations)

    found = await expected(monkeypatch, toy, options, measure)

    assert seen == {True, False}
    assert found == approx(target(toy, BETA), abs=1e-12)


@TOYS
@SCHEMES
async def test_tempering_moves_no_expectation(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, resampling: Resampling
) -> None:
    """In some outcomes the scores are scaled, in others they act in full."""
    options = replace(EXACT, resampling=resampling, tempering=0.9)
    taus: set[float] = set()

    def noted(log_weights: Sequence[float], scores: Sequence[float], wanted: float) -> float:
        taus.add(temper(log_weights, scores, wanted))
        return temper(log_weights, scores, wanted)

    monkeypatch.setattr(selection, "temper", noted)
    found = await expected(monkeypatch, toy, options, shipped(BETA))

    assert 1.0 in taus
    assert 0 < min(taus) < 0.9
    assert found == approx(target(toy, BETA), abs=1e-12)


@pytest.mark.parametrize("rollouts", [1, 2])
async def test_the_trigger_and_tempering_together_move_no_expectation(
    monkeypatch: pytest.MonkeyPatch, rollouts: int
) -> None:
    """The trigger reads the ESS of the scaled scores."""
    options = replace(EXACT, rollouts=rollouts, ess_threshold=0.97, tempering=0.95)

    found = await expected(monkeypatch, TOY, options, shipped(BETA, pool_rounds=True))

    assert found == approx(target(TOY, BETA), abs=1e-12)


async def test_a_trigger_that_keeps_the_score_is_biased(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control. (Textbooks keep it, and divide the next score by it again.)"""

    def keeping(
        log_weights: Sequence[float],
        scores: Sequence[float],
        count: int,
        draw: Callable[[int], float],
        *,
        ess_threshold: float | None,
        **others: object,
    ) -> Selection:
        chosen = selection.select(log_weights, scores, count, draw, ess_threshold=ess_threshold)
        if chosen.resampled:
            return chosen
        kept = [a + b for a, b in zip(log_weights, scores, strict=True)]
        return chosen._replace(log_weights=tuple(kept))

    monkeypatch.setattr(succession, "select", keeping)
    options = replace(EXACT, ess_threshold=0.9)

    found = await expected(monkeypatch, TOY, options, shipped(BETA))

    assert math.fsum(found.values()) / TOY.evidence(BETA) == approx(4.03743214, abs=1e-8)


# --- minibatches ------------------------------------------------------------------------------


async def test_minibatch_scores_steer_without_moving_any_expectation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows disagree, the first round sees two of five and shrinks them; the last sees all."""
    reward = RowReward(TOY.rewards, rows=5, seed=7)
    case = Enumeration(TOY, replace(EXACT, minibatch=2, rollouts=2), reward)

    found = await case.expect(monkeypatch, shipped(BETA, rows=5))

    full = {name: reward.full(name) for name in TOY.rewards}
    assert found == approx(target(TOY, BETA, full), abs=1e-12)


# --- rewards of -inf --------------------------------------------------------------------------


@pytest.mark.parametrize("rollouts", [1, 2])
async def test_a_reward_of_minus_infinity_takes_nothing_from_its_prefix(
    monkeypatch: pytest.MonkeyPatch, rollouts: int
) -> None:
    """All that is missing is where the search gives up in round 1, as no rollout has a weight.

    That is known in closed form: all rollouts are "aa", and what was left to come is V("a").
    """
    toy = toy_of({"aa": (0.3, -math.inf), "ab": (0.2, 1.0), "ba": (0.35, 0.5), "bb": (0.15, 0.0)})
    case = Enumeration(toy, replace(EXACT, rollouts=rollouts), may_end=True)

    found = await case.expect(monkeypatch, shipped(BETA))

    both = 0.5 * (0.3 / 0.5) ** rollouts
    given_up = both**2 * (0.2 / 0.5) * math.exp(BETA)
    assert given_up > 0.01
    assert math.fsum(found.values()) == approx(toy.evidence(BETA) - given_up, abs=1e-12)
