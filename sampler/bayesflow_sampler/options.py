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
        ess_threshold: Share of N, in (0, 1]: ancestors are drawn only in a round whose ESS is below
            it. None draws them every round. Neither with paper weighting nor with `inject`.
        tempering: Share of the selection pool, in (0, 1], that its ESS is kept at by scaling the
            scores. None leaves them as they are. Not with paper weighting.
        islands: Independent populations that the particles are divided into, each with a
            selection of its own; from 2 on the evidence has a standard error. Each island needs 2
            particles or more. Not with paper weighting.
        minibatch: Rows that score a round before the last, at least 2; None scores on all. The
            first round is fully scored when β is fitted.
        refinement: `inject` puts refined workflows among the particles (the paper), `archive` lets
            them compete for the final pick only and leaves the posterior whole.
        clean_floor: Under `inject` with exact weighting, the least share of particles, in [0, 1),
            that may be expected to have no refined ancestor in the last round: in each selection
            refined lineages are held back alike to leave it. 0 holds none back.
        refiner_lag: 1 proposes the next edit while the last one is scored, without knowing its
            score; 0 waits for it (the paper).
        recycle: Rollouts serve as the next steps of their particle's children. Needs 2 rollouts or
            more and a coherent prior.
        tolerance: The search stops after a round once a further one is expected to improve the
            shrunk best by less than this, or cannot be paid. None never stops early.
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
    ess_threshold: float | None = None
    tempering: float | None = None
    islands: int = 1
    minibatch: int | None = 20
    refinement: Refinement = "archive"
    clean_floor: float = 0.0
    refiner_lag: int = 0
    recycle: bool = False
    tolerance: float | None = None
    lookahead: bool = True

    def __post_init__(self) -> None:
        _within("particles", self.particles, 1, 1000)
        _within("rollouts", self.rollouts, 1, 32)
        _within("refinements", self.refinements, 0, 100)
        _within("rounds", self.rounds, 1, 20)
        _within("islands", self.islands, 1, 100)
        if self.minibatch is not None:
            _within("minibatch", self.minibatch, 2, 100_000)
        beta = self.inverse_temperature
        if beta is not None and not 0 < beta <= 1000:
            raise OptionsError(f"`beta` must be above 0 and at most 1000, not {beta}.")
        _share("ess_threshold", self.ess_threshold)
        _share("tempering", self.tempering)
        _within("refiner_lag", self.refiner_lag, 0, 1)
        if not 0 <= self.clean_floor < 1:
            raise OptionsError(f"`clean_floor` must be in [0, 1), not {self.clean_floor}.")
        if self.tolerance is not None and not 0 <= self.tolerance <= 1:
            raise OptionsError(f"`tolerance` must be between 0 and 1, not {self.tolerance}.")
        self._check_together()

    def _check_together(self) -> None:
        """What each option for itself allows, but not together."""
        _check_weighting(self)
        if self.particles % self.islands or (
            self.islands > 1 and self.particles // self.islands < 2
        ):
            raise OptionsError(
                f"`islands` must divide `particles` into groups of 2 or more; {self.islands} do "
                f"not divide {self.particles} so."
            )
        if self.recycle and self.rollouts < 2:
            raise OptionsError(
                "`recycle` gives rollouts to the next round, and with 1 rollout every child of a "
                "particle would be the same: set `rollouts` to 2 or more."
            )
        if not self.lookahead:
            _check_refinement_alone(self)


def _check_weighting(options: SearchOptions) -> None:
    """What pays selections back needs exact weighting, and the trigger a pool of particles."""
    exact_only = {
        "ess_threshold": options.ess_threshold is not None,
        "tempering": options.tempering is not None,
        "islands": options.islands > 1,
    }
    for name, used in exact_only.items():
        if used and options.weighting == "paper":
            raise OptionsError(
                f"`{name}` needs `weighting` exact: with paper it would change the law."
            )
    if options.ess_threshold is not None and options.refinement == "inject":
        raise OptionsError(
            "`ess_threshold` leaves a round's particles as they are, and `inject` puts refined "
            "workflows among them: set `refinement` to `archive`, or leave `ess_threshold` out."
        )


def _check_refinement_alone(options: SearchOptions) -> None:
    if options.refinement == "inject" or not options.refinements:
        raise OptionsError(
            "Without `lookahead` nothing grows step by step, so there is nothing to inject "
            "into: set `refinement` to `archive` and `refinements` to 1 or more."
        )
    if options.recycle or options.islands > 1:
        raise OptionsError(
            "Without `lookahead` nothing is selected: leave `recycle` and `islands` out."
        )


def _share(name: str, value: float | None) -> None:
    if value is not None and not 0 < value <= 1:
        raise OptionsError(f"`{name}` must be above 0 and at most 1, not {value}.")


def _within(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise OptionsError(f"`{name}` must be between {low} and {high}, not {value}.")
