"""The cache of model answers, shared by every run in the file, and the count of what was used."""

from bayesflow_server.store.access import Access
from bayesflow_server.store.records import CompletionRecord, UsageDelta, UsageRecord
from bayesflow_server.store.table import Statement, Table

__all__ = ["CompletionStore"]

COMPLETIONS = Table("completions", CompletionRecord)
DELTAS = Table("usage", UsageDelta)
USAGE = Table("usage", UsageRecord)

# In SQL, a number plus NULL is NULL: one unknown price makes the sum unknown.
ADD_UP = "ON CONFLICT DO UPDATE SET " + ", ".join(
    f"{column} = {column} + excluded.{column}"
    for column in (
        "calls",
        "cached_calls",
        "needed_calls",
        "input_tokens",
        "output_tokens",
        "cost_usd",
    )
)


class CompletionStore(Access):
    """Answers that were paid for, and the sums of calls, tokens and money."""

    async def completion(self, key: str) -> CompletionRecord | None:
        """Returns the cached answer, or None."""
        return await self._find(COMPLETIONS, "WHERE key = ?", key)

    async def record_completion(self, record: CompletionRecord, usage: UsageDelta) -> None:
        """Stores an answer and counts its usage, in one transaction.

        Where the key is known already, the first answer stands; the usage counts all the same.
        """
        await self._writer.submit(
            COMPLETIONS.insert(record, "ON CONFLICT DO NOTHING"), _count(usage)
        )

    async def add_usage(self, usage: UsageDelta) -> None:
        """Counts calls that stored no answer: those that the cache answered."""
        await self._writer.submit(_count(usage))

    async def usage(self, scope: str) -> list[UsageRecord]:
        """Returns the sums of a run or an evaluation, one for each role and model."""
        return await self._list(USAGE, "WHERE scope = ? ORDER BY role, model", scope)


def _count(usage: UsageDelta) -> Statement:
    return DELTAS.insert(usage, ADD_UP)
