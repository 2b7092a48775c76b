import time
from pathlib import Path

import pytest

from bayesflow_server.runs.lease import LEASE_SECONDS, Lease


@pytest.fixture
def mine(path: Path) -> Lease:
    return Lease(path)


@pytest.fixture
def other(path: Path) -> Lease:
    lease = Lease(path)
    lease.acquire()
    return lease


def test_who_holds_a_lock_and_beats_is_alive(mine: Lease, other: Lease) -> None:
    assert mine.is_alive(other.owner, time.time())
    other.release()


def test_who_gave_the_lock_back_is_not(mine: Lease, other: Lease, path: Path) -> None:
    other.release()
    other.release()
    assert not mine.is_alive(other.owner, time.time())
    assert list(path.parent.glob("*.owners/*")) == []


def test_who_holds_the_lock_but_has_stopped_beating_is_not(mine: Lease, other: Lease) -> None:
    assert not mine.is_alive(other.owner, time.time() - LEASE_SECONDS - 1)
    assert not mine.is_alive(other.owner, None)
    other.release()


def test_a_lock_file_that_nobody_holds_is_removed(mine: Lease, path: Path) -> None:
    folder = path.with_name(path.name + ".owners")
    folder.mkdir()
    left_behind = folder / "dead.lock"
    left_behind.touch()
    assert not mine.is_alive("dead", time.time())
    assert not left_behind.exists()


def test_nobody_is_not_alive_and_oneself_is(mine: Lease) -> None:
    assert not mine.is_alive(None, time.time())
    assert not mine.is_alive("unknown", time.time())
    assert mine.is_alive(mine.owner, None)


def test_only_the_user_may_see_the_owners(mine: Lease, path: Path) -> None:
    mine.acquire()
    assert path.with_name(path.name + ".owners").stat().st_mode & 0o077 == 0
    mine.release()
