"""A store in a temporary folder, with one run in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_server.store import Store
from bayesflow_server.store.records import NewRun


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "bayesflow.sqlite3"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[Store]:
    async with await Store.open(path) as store:
        yield store


@pytest.fixture
async def run_id(store: Store) -> str:
    await store.create_run(NewRun(run_id="run", request="{}", request_hash="hash"), [])
    return "run"
