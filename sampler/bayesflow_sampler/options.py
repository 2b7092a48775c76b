"""The search's settings, in the paper's symbols, checked when they are made."""

from dataclasses import dataclass
from typing import Literal

from bayesflow_sampler.errors import OptionsError
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Weighting

__all__ = ["Refinement", "SearchOptions"]

Refinement = Literal["inject", "archive"]


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """Settings of one search.

    Attributes:
        particles: N, prefixes kept in parallel, 1 to 1000.
        rollouts: K, completions scored for each prefix, 1 to 32.
        refinements: M, edits of complete workflows in each round, 0 to 100.
        rounds: T, the most steps grown one by one, 1 to 20.
        inverse_temperature: β, above 0 and at most 1000; None fits it to the first round's rewards.
        weighting: `exact` targets q; `paper` is Algorithm 1 as printed.
        resampling: How ancestors are drawn.
        minibatch: Rows that score a round before the last, at least 2; None scores on all. The
            first round is fully scored when β is fitted.
        refinement: `inject` puts refined workflows among the particles (the paper), `archive` lets
            them compete for the final pick only and leaves the posterior whole.
        lookahead: False leaves refinement alone (paper §4.3): round 1 draws N whole workflows, and
            all later rounds edit the growing pool. Needs `archive` and at least one refinement.
    """

    particles: int = 10
    rollouts: int = 1
    refinements: int = 2
    rounds: int = 5
    inverse_temperature: float | None = None
    weighting: Weighting = "exact"
    resampling: Resampling = "systematic"
    minibatch: int | None = 20
    refinement: Refinement = "archive"
    lookahead: bool = True

    def __post_init__(self) -> None:
        _within("particles", self.particles, 1, 1000)
        _within("rollouts", self.rollouts, 1, 32)
        _within("refinements", self.refinements, 0, 100)
        _within("rounds", self.rounds, 1, 20)
        if self.minibatch is not None:
            _within("minibatch", self.minibatch, 2, 100_000)
        beta = self.inverse_temperature
        if beta is not None and not 0 < beta <= 1000:
            raise OptionsError(f"`beta` must be above 0 and at most 1000, not {beta}.")
        if not self.lookahead and (self.refinement == "inject" or not self.refinements):
            raise OptionsError(
                "Without `lookahead` nothing grows step by step, so there is nothing to inject "
                "into: set `refinement` to `archive` and `refinements` to 1 or more."
            )


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionsError(f"`{name}` must be between {low} and {high}, not {value}.")
