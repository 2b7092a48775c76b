"""Chooses what the search leaves open, and writes down why and what becomes of the guarantees.

Chosen are β, the rows of each round, how much of a selection refined lineages may take, and whether
the search stops early. All of it depends on the past alone, so selection stays properly weighted;
what does depend on the data in a way that moves an estimate is said in the decision.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bayesflow_sampler.improvement import expected_improvement, outlook_of, shrunk_best
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import permutation
from bayesflow_sampler.shrinkage import Measured, RewardSpread
from bayesflow_sampler.tempering import BETA_RANGE, fit_inverse_temperature
from bayesflow_sampler.types import Decision, RowSet
from bayesflow_sampler.weights import log_sum_exp

__all__ = ["Controller", "held_back", "held_to"]

_ATTEMPTS: Final = 3
_UNBIASED: Final = "a beta that no reward has chosen leaves the evidence unbiased"
_PAPER: Final = (
    "its limit is not the posterior, so probabilities and evidence rank and promise nothing"
)
_NO_PROMISE: Final = "with paper weighting no estimate is promised, at any beta"
_STOPPED: Final = (
    "the stop depended on the rewards, so the evidence is not claimed to be unbiased; the test "
    "score of the final pick is not touched by it"
)


@dataclass
class Controller:
    """Decides β, the rows of each round and the stop (docs/algorithm.md).

    Attributes:
        options: The search's settings.
        rows: How many validation rows there are.
        seed: The run's seed; minibatches are drawn from it.
        inverse_temperature: β in force; 1 until it is fitted.
    """

    options: SearchOptions
    rows: int
    seed: int
    inverse_temperature: float = field(init=False)
    _fitted: bool = field(init=False)
    _attempts: int = field(default=0, init=False)
    _best: float = field(default=-math.inf, init=False)
    _spread: RewardSpread = field(default_factory=RewardSpread, init=False)

    def __post_init__(self) -> None:
        fixed = self.options.inverse_temperature
        self._fitted = fixed is not None
        self.inverse_temperature = 1.0 if fixed is None else fixed

    # --- rows -------------------------------------------------------------------------------

    def rows_of(self, round_number: int) -> RowSet:
        """The rows that score round t: the same for all its particles, new ones each round."""
        size = self.options.minibatch
        full = round_number == self.options.rounds or not self._fitted
        if size is None or size >= self.rows or full:
            return RowSet("validation", tuple(range(self.rows)))
        return RowSet("validation", tuple(sorted(self._minibatch(round_number, size))))

    def counts(self, round_number: int) -> bool:
        """Whether round t enters the estimates: not if only its rewards decide on its rows.

        A round that is fully scored because those before were all alike, or because its workflows
        happen to have been scored elsewhere, says where the rewards are: to pool it is biased.
        """
        whole = self.options.minibatch is None or self.options.minibatch >= self.rows
        fits = self.options.inverse_temperature is None and round_number == 1
        return whole or fits or round_number == self.options.rounds

    def _minibatch(self, round_number: int, size: int) -> list[int]:
        """The t-th hand dealt from shuffled decks of rows; over a deck each row is dealt once."""
        deck: list[int] = []
        hand: list[int] = []
        for number in range(round_number):
            hand, deck = deck[:size], deck[size:]
            if len(hand) < size:
                order = permutation(self.rows, self.seed, "minibatch", number)
                # Invariant: the deck is empty here, and a hand never holds a row twice.
                fresh = [row for row in order if row not in hand][: size - len(hand)]
                deck = [row for row in order if row not in fresh]
                hand += fresh
        return hand

    def plan(self) -> tuple[Decision, ...]:
        """What is settled before the first round: a fixed β, the weighting, the minibatches."""
        decisions: list[Decision] = []
        size, rounds = self.options.minibatch, self.options.rounds
        if self._fitted and self.options.weighting == "exact":
            decisions.append(
                Decision(f"beta = {self.inverse_temperature:g}", "it was given", _UNBIASED)
            )
        if self.options.weighting == "paper":
            decisions.append(
                Decision("paper weighting", "Algorithm 1 as printed was asked for", _PAPER)
            )
        if size is not None and size < self.rows and rounds > 1:
            first = "rounds before the last" if self._fitted else "rounds between first and last"
            decisions.append(
                Decision(
                    f"{size} of {self.rows} validation rows score the {first}",
                    "they cost less, and their means are shrunk towards what the parent carried",
                    "they steer the selection alone; estimates take full validation scores",
                )
            )
        return tuple(decisions)

    # --- the inverse temperature ------------------------------------------------------------

    def observe(self, rewards: Sequence[float]) -> tuple[Decision, ...]:
        """Fits β to the full rewards of a round's clean rollouts, if it is still open.

        Returns:
            What was decided.
        """
        if self._fitted:
            return ()
        self._attempts += 1
        target = max(1.0, len(rewards) / 2)
        beta = fit_inverse_temperature(rewards, target)
        if beta is not None:
            self._fitted = True
            self.inverse_temperature = beta
            fitted = _fitted_at(beta, target, len(rewards))
            if self.options.weighting == "paper":
                fitted = fitted._replace(guarantee=_NO_PROMISE)
            return (fitted,)
        if self._attempts < _ATTEMPTS and self.options.rounds > self._attempts:
            return (
                Decision(
                    "beta stays 1",
                    "all rewards of this round are equal",
                    "the next round is fully scored too, and beta is tried again",
                ),
            )
        self._fitted = True
        attempts = (
            "no spread of rewards in three rounds"
            if self._attempts == _ATTEMPTS
            else ("no spread of rewards in any round")
        )
        paper = self.options.weighting == "paper"
        return (Decision("beta stays 1", attempts, _NO_PROMISE if paper else _UNBIASED),)

    # --- the stop ---------------------------------------------------------------------------

    def stop(
        self, number: int, rollouts: Sequence[Measured], edits: Sequence[Measured]
    ) -> Decision | None:
        """Whether a round after this one is worth it.

        Args:
            number: Round t.
            rollouts: What this round's rollouts scored.
            edits: What its refinements scored.

        Returns:
            The decision to stop, or None.
        """
        if self.options.tolerance is None or number == self.options.rounds:
            return None
        self._spread.add([*rollouts, *edits])
        variance = self._spread.variance
        self._best = max(self._best, shrunk_best([*rollouts, *edits], variance))
        if self._spread.flat and self._best < 1:
            return None  # no two rewards differ, so nobody knows what another round may bring
        groups = [outlook_of(group, variance) for group in (rollouts, edits)]
        gain = expected_improvement(self._best, [one for one in groups if one is not None])
        if gain >= self.options.tolerance:
            return None
        return Decision(
            f"stopped after round {number} of {self.options.rounds}",
            f"a further round is expected to improve the shrunk best ({self._best:.3f}) by "
            f"{gain:.4f}, less than the tolerance of {self.options.tolerance:g}",
            _STOPPED,
        )

    def stop_for(self, number: int, reason: str) -> Decision:
        """The decision to stop because the next round cannot be paid."""
        return Decision(f"stopped after round {number} of {self.options.rounds}", reason, _STOPPED)


def held_back(
    log_weights: Sequence[float], scores: Sequence[float], clean: Sequence[bool], floor: float
) -> tuple[list[float], float]:
    """Scores at which clean entries can expect at least `floor` of a selection.

    All entries with a refined ancestor lose the same amount of score, none where the clean ones
    have their share anyway. Exact weighting pays any score back, so no estimate is moved.

    Args:
        log_weights: ℓ_i of each entry of the pool.
        scores: g_i of each entry.
        clean: Which entries have no refined ancestor.
        floor: The least share, in [0, 1).

    Returns:
        The scores, and the clean share of the selection as it would be without holding back.
    """
    joint = [a + b for a, b in zip(log_weights, scores, strict=True)]
    pure = log_sum_exp([value for value, good in zip(joint, clean, strict=True) if good])
    mixed = log_sum_exp([value for value, good in zip(joint, clean, strict=True) if not good])
    if pure == -math.inf or mixed == -math.inf:
        return list(scores), 0.0 if pure == -math.inf else 1.0
    share = 1 / (1 + math.exp(min(mixed - pure, 700.0)))
    if share >= floor:
        return list(scores), share
    shift = math.log((1 - floor) / floor) - (mixed - pure)
    held = [score if good else score + shift for score, good in zip(scores, clean, strict=True)]
    return held, share


def held_to(number: int, floor: float, share: float) -> Decision:
    """The decision to hold refined lineages back in round t's selection.

    Args:
        number: Round t.
        floor: The least clean share.
        share: The clean share as it would have been.
    """
    return Decision(
        f"refined lineages get {1 - floor:.0%} of round {number}'s selection",
        f"otherwise {share:.0%} of the particles would be expected to stay without a refined "
        "ancestor, and the posterior rests on those",
        "held back alike, they are paid back in the weights, so no estimate is moved",
    )


def _fitted_at(beta: float, target: float, rollouts: int) -> Decision:
    low, high = BETA_RANGE
    edge = ", or as near as 1 to 50 allows" if beta in (low, high) else ""
    return Decision(
        f"beta = {beta:.3g}",
        f"fitted so that the effective sample size of the {rollouts} fully scored rollouts is "
        f"{target:g}{edge}",
        "estimates at a fitted beta are consistent, not unbiased; at a beta of your own choice "
        "they are unbiased",
    )
