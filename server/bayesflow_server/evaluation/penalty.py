"""Cost in the reward: R = score − λ·min(cost / cap, 1), row by row; a row that failed gets −λ.

Cost is the workflow's own calls at list price as if nothing were cached, so a reward depends
neither on what others asked before nor on the order of calls. The evaluator hands these rewards to
the sampler; what it stores as score and mean stays pure accuracy.
"""

import math
from dataclasses import dataclass
from typing import Self

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.sheet import Figures

__all__ = ["CostPenalty"]


@dataclass(frozen=True, slots=True)
class CostPenalty:
    """λ and the cost of a row at which it is reached.

    Attributes:
        weight: λ, above 0.
        cap_usd: US dollars a row, above 0.
    """

    weight: float
    cap_usd: float

    @classmethod
    def of(cls, weight: float, cap_usd: float | None) -> Self | None:
        """The penalty, or None for λ = 0.

        Raises:
            InputError: λ is negative or not finite, or has no cap above 0 beside it.
        """
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"`cost_weight` is {weight}: give a number from 0 (cost is ignored).")
        if weight == 0:
            return None
        if cap_usd is None or not (math.isfinite(cap_usd) and cap_usd > 0):
            raise InputError(
                "`cost_weight` needs the cost of a row that counts as dear: give a cap above 0 USD."
            )
        return cls(weight, cap_usd)

    def reward(self, row: Figures) -> float:
        """The row's score less what its cost takes away, in [−λ, 1].

        Raises:
            InputError: The price of a model that it used is unknown.
        """
        if row.failed:
            return -self.weight
        if row.cost_usd is None:
            raise InputError(
                "`cost_weight` needs the list price of every model that a workflow calls, and one "
                "is unknown: set it to 0, or use models with a known price."
            )
        return row.score - self.weight * min(row.cost_usd / self.cap_usd, 1.0)
