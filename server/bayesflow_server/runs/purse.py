"""Whether a run's budget can pay a further round and what must come after the search.

What an execution took so far, on the average, is what the next ones are reckoned at. Kept back is
what the final pick and the test take, and the full scoring of the next round, should it turn out
the last. The search asks where its `tolerance` is set; without it the run goes on until the budget
is spent, and pauses.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.budget import Budget
from bayesflow_server.runs.estimate import (
    closing_executions,
    lacking_executions,
    round_executions,
)
from bayesflow_server.runs.spec import RunSpec

__all__ = ["RunPurse"]


class _Account(NamedTuple):
    """One limit of the budget and what has been spent of it."""

    unit: str
    spent: float
    limit: float


@dataclass(frozen=True)
class RunPurse:
    """A run's budget as its search asks of it.

    Attributes:
        spec: What the run does.
        sizes: Rows of each split.
        budget: What was spent and what may be.
        executions: Executions (a workflow on a row) made so far; what was remembered took nothing.
    """

    spec: RunSpec
    sizes: Mapping[Split, int]
    budget: Budget
    executions: Callable[[], int]

    async def refuses(self, number: int) -> str | None:
        """Why round `number` with the final pick and the test cannot be paid, or None."""
        done = self.executions()
        if not done:
            return None
        validation = self.sizes["validation"]
        ahead = round_executions(self.spec, number, validation)
        lacking = lacking_executions(self.spec, number, validation)
        ahead += closing_executions(self.sizes, lacking)
        for account in self._accounts():
            needed = account.spent / done * ahead
            left = max(account.limit - account.spent, 0.0)
            if needed > left:
                return (
                    f"the budget has {left:,.4g} {account.unit} left, and another round with the "
                    f"final pick and the test would take about {needed:,.4g}"
                )
        return None

    def _accounts(self) -> Iterator[_Account]:
        budget, limits = self.budget, self.budget.limits
        if limits.calls is not None:
            yield _Account("calls", budget.calls, limits.calls)
        if limits.tokens is not None:
            yield _Account("tokens", budget.tokens, limits.tokens)
        if limits.usd is not None and budget.usd is not None:
            yield _Account("US dollars", budget.usd, limits.usd)
        if limits.minutes is not None:
            yield _Account("minutes", budget.seconds / 60, limits.minutes)
