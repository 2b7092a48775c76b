"""What calls add up to, in one place for budgets, reports and screens.

A model of this machine, the client's own and the grammar cost nothing; every other price is a
matter of `prices.py`. A sum with an unknown part is unknown.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from bayesflow_server.store.records import UsageRecord

__all__ = ["UsageTotals", "is_free", "total_usd"]


class UsageTotals(NamedTuple):
    """The usage of a run or an evaluation, over all roles and models.

    Attributes:
        calls: Calls that reached a provider.
        cached: Calls that the cache answered.
        needed: Calls that would have been made without a cache.
        tokens: Input and output tokens of the calls that reached a provider.
        usd: What they cost, or None where a price is unknown.
    """

    calls: int
    cached: int
    needed: int
    tokens: int
    usd: float | None

    @classmethod
    def of(cls, records: "Iterable[UsageRecord]") -> Self:
        """The sums of all records."""
        known = list(records)
        return cls(
            calls=sum(record.calls for record in known),
            cached=sum(record.cached_calls for record in known),
            needed=sum(record.needed_calls for record in known),
            tokens=sum(record.input_tokens + record.output_tokens for record in known),
            usd=total_usd(record.cost_usd for record in known),
        )


def is_free(spec: str) -> bool:
    """Whether calls to the model cost us nothing, whatever they hold."""
    return spec.startswith("local:") or spec in ("client", "grammar")


def total_usd(costs: Iterable[float | None]) -> float | None:
    """The sum, or None if a part is unknown."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total
