import math

import pytest

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.penalty import CostPenalty
from bayesflow_server.evaluation.sheet import Figures
from bayesflow_server.store.records import ExecutionRecord
from fakes.approx import approx


def execution(score: float, cost: float | None, error: str | None = None) -> ExecutionRecord:
    return ExecutionRecord(
        "run", "wf", "validation", 0, "r", "a", score, error=error, cost_usd=cost
    )


@pytest.mark.parametrize(
    ("score", "cost", "reward"),
    [
        (1.0, 0.0, 1.0),
        (1.0, 0.005, 0.9),
        (0.5, 0.01, 0.3),
        (1.0, 0.02, 0.8),  # dearer than the cap costs no more than λ
        (0.0, 0.01, -0.2),
    ],
)
def test_the_reward_is_the_score_less_the_weighted_share_of_the_cap(
    score: float, cost: float, reward: float
) -> None:
    penalty = CostPenalty(weight=0.2, cap_usd=0.01)
    assert penalty.reward(Figures.of(execution(score, cost))) == approx(reward)


def test_a_row_that_failed_pays_the_whole_weight_whatever_it_cost() -> None:
    assert CostPenalty(0.2, 0.01).reward(Figures.of(execution(0.0, 0.0, error="{}"))) == -0.2
    assert CostPenalty(0.2, 0.01).reward(Figures.of(execution(0.0, None, error="{}"))) == -0.2


def test_an_unknown_cost_is_refused() -> None:
    with pytest.raises(InputError, match="list price"):
        CostPenalty(0.2, 0.01).reward(Figures.of(execution(1.0, None)))


def test_a_weight_of_0_is_no_penalty() -> None:
    assert CostPenalty.of(0.0, None) is None
    assert CostPenalty.of(0.3, 0.5) == CostPenalty(0.3, 0.5)


@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    with pytest.raises(InputError, match="cost_weight"):
        CostPenalty.of(weight, 1.0)


@pytest.mark.parametrize("cap", [None, 0.0, -1.0, math.nan, math.inf])
def test_a_weight_without_a_cap_is_refused(cap: float | None) -> None:
    with pytest.raises(InputError, match="cap above 0"):
        CostPenalty.of(0.1, cap)
