"""Chooses what the search leaves open, and writes down why: β, and the rows of each round."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import permutation
from bayesflow_sampler.tempering import fit_inverse_temperature
from bayesflow_sampler.types import RowSet

__all__ = ["Controller"]

_ATTEMPTS = 3


@dataclass
class Controller:
    """Decides β and the rows of each round (docs/algorithm.md).

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

    def __post_init__(self) -> None:
        fixed = self.options.inverse_temperature
        self._fitted = fixed is not None
        self.inverse_temperature = 1.0 if fixed is None else fixed

    def rows_of(self, round_number: int) -> RowSet:
        """The rows that score round t: the same for all its particles, new ones each round."""
        size = self.options.minibatch
        full = round_number == self.options.rounds or not self._fitted
        if size is None or size >= self.rows or full:
            return RowSet("validation", tuple(range(self.rows)))
        return RowSet("validation", tuple(sorted(self._minibatch(round_number, size))))

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

    def observe(self, rewards: Sequence[float]) -> tuple[str, ...]:
        """Fits β to the full rewards of a round's clean rollouts, if it is still open.

        Returns:
            What was decided and why, one sentence each.
        """
        if self._fitted:
            return ()
        self._attempts += 1
        target = max(1.0, len(rewards) / 2)
        beta = fit_inverse_temperature(rewards, target)
        if beta is not None:
            self._fitted = True
            self.inverse_temperature = beta
            return (
                f"beta = {beta:.3g}, fitted so that the effective sample size of the "
                f"{len(rewards)} fully scored rollouts is {target:g}; estimates at a fitted beta "
                "are consistent, not unbiased.",
            )
        if self._attempts < _ATTEMPTS:
            return ("beta stays 1: all rewards of this round are equal; tried again next round.",)
        self._fitted = True
        return ("beta stays 1: no spread of rewards in three rounds.",)
