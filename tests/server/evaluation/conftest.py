"""A real store and a real sandbox, for tests of what runs workflows."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with await Store.open(tmp_path / "bayesflow.sqlite3") as store:
        yield store


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(workers=4) as sandbox:
        yield sandbox
