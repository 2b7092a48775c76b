"""A store in a temporary folder, and pauses that take no time."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_server.store.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bayesflow.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with await Store.open(path) as store:
        yield store


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every pause above 0 that was asked for; each lasts one turn of the event loop."""
    asked: list[float] = []
    sleep = asyncio.sleep

    async def one_turn(seconds: float) -> None:
        if seconds > 0:
            asked.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", one_turn)
    return asked
