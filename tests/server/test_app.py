import asyncio
from pathlib import Path

import pytest

from bayesflow_server.app import Application
from bayesflow_server.errors import StoreError
from bayesflow_server.settings import Settings


async def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "bayesflow.sqlite3"
    async with Application(Settings(db=path)) as application:
        assert not path.exists()
        first, second = await asyncio.gather(application.runs(), application.runs())
        assert first is second
        assert (await application.evaluations()).workplace is first.workplace
        assert path.exists()
        assert len(list(path.parent.glob("*.owners/*"))) == 1
    assert list(path.parent.glob("*.owners/*")) == []


async def test_a_database_that_cannot_be_opened_is_tried_again_later(tmp_path: Path) -> None:
    path = tmp_path / "bayesflow.sqlite3"
    path.mkdir()
    async with Application(Settings(db=path)) as application:
        with pytest.raises(StoreError):
            await application.runs()
        path.rmdir()
        assert await (await application.runs()).newest(1) == []
