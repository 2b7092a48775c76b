"""A process that owns runs outside any host: it takes what is queued or was left, until it ends.

While it lives it holds a lock file beside the database. A server that sees the lock held leaves new
runs queued for it, so the host that started the server may close at any time. If the worker dies
before it takes a run, a server does.
"""

from collections.abc import Callable
from typing import Final

from filelock import FileLock, Timeout

from bayesflow_server.errors import InputError
from bayesflow_server.runs.adoption import Adoption
from bayesflow_server.runs.lease import WORKER, lock_of
from bayesflow_server.runs.service import RunService

__all__ = ["work"]

# How soon a queued run is taken; each look is one read of the unfinished runs.
_LOOK_SECONDS: Final = 0.5
# Outlasts a server that looks whether the lock is held.
_LOCK_SECONDS: Final = 1.0


async def work(
    service: RunService, *, once: bool = False, told: Callable[[str], None] | None = None
) -> None:
    """Owns runs until cancelled; stops them as a server does when the service is closed.

    Args:
        service: The run service of this process.
        once: End when nothing is left to do.
        told: Is given a sentence whenever a run is taken or has ended.

    Raises:
        InputError: Another worker works on the database already.
        StoreError: The database cannot be read.
    """
    lock = _locked(service)
    try:
        adoption = Adoption(service, everything=True, told=told or _nothing)
        await adoption.run(_LOOK_SECONDS, once=once)
    finally:
        lock.release()


def _locked(service: RunService) -> FileLock:
    lock = lock_of(service.workplace.store.path, WORKER)
    try:
        lock.acquire(timeout=_LOCK_SECONDS)
    except Timeout:
        raise InputError(
            f"A worker works on {service.workplace.store.path} already; one is enough."
        ) from None
    return lock


def _nothing(_: str) -> None:
    """Tells nobody."""
