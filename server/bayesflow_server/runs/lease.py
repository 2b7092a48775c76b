"""Who is alive: each server process holds a lock file for its life; a free lock means no owner.

The operating system frees the lock when the process ends, however it ends, so a killed server's
runs show as interrupted at once. The heartbeat in the store covers a frozen process: after 30 s of
silence its runs may be taken over, and it finds out at its next heartbeat.
"""

import time
import uuid
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

__all__ = ["HEARTBEAT_SECONDS", "LEASE_SECONDS", "WORKER", "Lease", "lock_of", "worker_lives"]

LEASE_SECONDS: Final = 30.0
HEARTBEAT_SECONDS: Final = 10.0
# The lock that a worker holds. Its file stays: without it no worker ever was, and nobody looks.
WORKER: Final = "worker"


class Lease:
    """This process's claim to life, beside one database file.

    Attributes:
        owner: The id that runs carry.
    """

    def __init__(self, database: Path) -> None:
        self._folder = _folder(database)
        self.owner = uuid.uuid4().hex
        self._lock: FileLock | None = None

    def acquire(self) -> None:
        """Takes the lock; until `release` this owner counts as alive."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = FileLock(self._path(self.owner))
        self._lock.acquire(timeout=0)

    def release(self) -> None:
        """Gives the lock back and removes its file. Safe to call twice."""
        if self._lock is not None:
            self._lock.release()
            self._path(self.owner).unlink(missing_ok=True)
            self._lock = None

    def is_alive(self, owner: str | None, heartbeat: float | None) -> bool:
        """Whether the owner still works: it holds its lock and its heartbeat is fresh."""
        if owner is not None and owner == self.owner:
            return True
        if self.is_gone(owner):
            return False
        return heartbeat is not None and time.time() - heartbeat < LEASE_SECONDS

    def is_gone(self, owner: str | None) -> bool:
        """Whether the owner's process has ended; one that is only silent may come back."""
        if owner is None:
            return True
        if owner == self.owner:
            return False
        path = self._path(owner)
        if not path.exists():
            return True
        probe = FileLock(path)
        try:
            probe.acquire(timeout=0)
        except Timeout:
            return False
        probe.release()
        path.unlink(missing_ok=True)
        return True

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"


def lock_of(database: Path, name: str) -> FileLock:
    """The lock of the one process that works on something small; its end frees it, however it ends.

    Args:
        database: The file beside which locks are kept.
        name: What is worked on; part of a file's name.
    """
    folder = _folder(database)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return FileLock(folder / f"{name}.lock")


def worker_lives(database: Path) -> bool:
    """Whether a worker process owns the runs of this database."""
    path = _folder(database) / f"{WORKER}.lock"
    if not path.exists():
        return False
    probe = FileLock(path)
    try:
        # Longer than another process that looks holds it.
        probe.acquire(timeout=0.003, poll_interval=0.001)
    except Timeout:
        return True
    probe.release()
    return False


def _folder(database: Path) -> Path:
    return database.with_name(database.name + ".owners")
