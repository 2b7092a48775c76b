"""Pools and their views, kept while the store says that they are as they were.

A large pool takes a tenth of a second to read and as long to rank, in a thread. A client that
pages through one, or looks at it again, should not wait for that each time. Whether anything was
committed is one look (`PRAGMA data_version`); whether it touched the pool, a count.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bayesflow_server.runs.pool_view import PoolView, Sort, StoredPool, view_pool
from bayesflow_server.store.pool import PoolVersion
from bayesflow_server.store.store import Store

__all__ = ["PoolCache", "ShownPool"]

_MOST_POOLS: Final = 4
_MOST_WORKFLOWS: Final = 40_000  # of all pools together, unless one alone has more: about 50 MB
_MOST_VIEWS: Final = 4


class ShownPool(NamedTuple):
    """A pool and one view of it."""

    pool: StoredPool
    view: PoolView


class _Angle(NamedTuple):
    """What tells one view of a pool from another."""

    beta: float | None
    sort: Sort
    round_number: int | None


@dataclass
class _Kept:
    """A pool as it was read.

    Attributes:
        version: Of the pool.
        commits: Of the whole file, when the version was last seen to be right.
        pool: What was read.
        views: Those asked for last.
    """

    version: PoolVersion
    commits: int
    pool: StoredPool
    views: OrderedDict[_Angle, PoolView] = field(default_factory=OrderedDict[_Angle, PoolView])


class PoolCache:
    """The pools of one store."""

    def __init__(self, store: Store, read: Callable[[str], Awaitable[StoredPool]]) -> None:
        """Keeps nothing yet.

        Args:
            store: Tells whether a pool has changed.
            read: Reads a run's pool.
        """
        self._store = store
        self._read = read
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        # One reader a run: the others find what it read.
        self._locks: dict[str, asyncio.Lock] = {}

    async def pool(self, run_id: str) -> StoredPool:
        """The run's pool; raises as `read` does."""
        return (await self._fresh(run_id)).pool

    async def show(
        self,
        run_id: str,
        *,
        beta: float | None = None,
        sort: Sort = "posterior",
        round_number: int | None = None,
    ) -> ShownPool:
        """The run's pool, ranked as `view_pool` does; raises as `read` does."""
        kept = await self._fresh(run_id)
        angle = _Angle(beta, sort, round_number)
        view = kept.views.get(angle)
        if view is None:
            view = kept.views[angle] = await asyncio.to_thread(
                view_pool, kept.pool, beta=beta, sort=sort, round_number=round_number
            )
            if len(kept.views) > _MOST_VIEWS:
                kept.views.popitem(last=False)
        kept.views.move_to_end(angle)
        return ShownPool(kept.pool, view)

    async def _fresh(self, run_id: str) -> _Kept:
        lock = self._locks.setdefault(run_id, asyncio.Lock())
        try:
            async with lock:
                kept = await self._still(run_id)
                if kept is None:
                    # Taken before the pool is read: a write in between makes it look older than
                    # it is, and it is read again.
                    commits = await self._store.commits()
                    version = await self._store.pool_version(run_id)
                    kept = _Kept(version, commits, await self._read(run_id))
                    self._keep(run_id, kept)
                return kept
        finally:
            if not lock.locked():
                self._locks.pop(run_id, None)

    async def _still(self, run_id: str) -> _Kept | None:
        """What was kept, if it is still right."""
        kept = self._kept.get(run_id)
        if kept is None:
            return None
        commits = await self._store.commits()
        if kept.commits != commits:
            if await self._store.pool_version(run_id) != kept.version:
                self._kept.pop(run_id, None)
                return None
            kept.commits = commits
        return kept

    def _keep(self, run_id: str, kept: _Kept) -> None:
        self._kept[run_id] = kept
        while len(self._kept) > 1 and (
            len(self._kept) > _MOST_POOLS
            or sum(len(one.pool.rows) for one in self._kept.values()) > _MOST_WORKFLOWS
        ):
            self._kept.popitem(last=False)
