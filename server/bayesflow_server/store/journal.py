"""The journal of draws, and the rounds made of them.

A draw is committed before it is used, so a run that died replays to the same state.
"""

from collections.abc import Sequence

from bayesflow_server.store.access import Access
from bayesflow_server.store.records import ParticleRecord, RoundRecord
from bayesflow_server.store.table import Statement, Table

__all__ = ["JournalStore"]

ROUNDS = Table("rounds", RoundRecord)
PARTICLES = Table("particles", ParticleRecord)


class JournalStore(Access):
    """What a run drew, and where its particles stood."""

    async def record_draw(self, run_id: str, key: str, value: str) -> str:
        """Journals the result of a draw and returns the value that stands.

        That is ``value``, unless the key is in the journal already: then the first one stands, and
        the caller must go on with that.
        """
        rows = await self._writer.submit(
            Statement(
                "INSERT INTO draws (run_id, key, value) VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET value = value RETURNING value",
                (run_id, key, value),
            )
        )
        return str(rows[0][0])

    async def recall_draw(self, run_id: str, key: str) -> str | None:
        """Returns the journalled result of a draw, or None."""
        sql = "SELECT value FROM draws WHERE run_id = ? AND key = ?"
        rows = await self._reader.rows(sql, run_id, key)
        return str(rows[0][0]) if rows else None

    async def draws(self, run_id: str) -> dict[str, str]:
        """Returns the whole journal of a run, by key, in the order it was written."""
        sql = "SELECT key, value FROM draws WHERE run_id = ? ORDER BY rowid"
        return {row[0]: row[1] for row in await self._reader.rows(sql, run_id)}

    async def record_round(self, round: RoundRecord, particles: Sequence[ParticleRecord]) -> None:
        """Stores a round with its particles, in place of what was stored of that round."""
        await self._writer.submit(
            ROUNDS.insert(round, "ON CONFLICT DO UPDATE SET stats = excluded.stats"),
            Statement(
                "DELETE FROM particles WHERE run_id = ? AND round = ?", (round.run_id, round.round)
            ),
            PARTICLES.insert_all(particles),
        )

    async def rounds(self, run_id: str) -> list[RoundRecord]:
        """Returns the rounds of a run, in order."""
        return await self._list(ROUNDS, "WHERE run_id = ? ORDER BY round", run_id)

    async def particles(self, run_id: str, round: int | None = None) -> list[ParticleRecord]:
        """Returns the particles of one round or of all, ordered by round and index."""
        order = 'ORDER BY round, "index"'
        if round is None:
            return await self._list(PARTICLES, f"WHERE run_id = ? {order}", run_id)
        rest = f"WHERE run_id = ? AND round = ? {order}"
        return await self._list(PARTICLES, rest, run_id, round)
