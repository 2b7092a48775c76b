import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.settings import Settings
from fakes.mcp_sessions import (
    FinishedRun,
    call,
    connected,
    settled,
    task_arguments,
    write_rows,
    write_script,
)

WIRES = ("auto", "legacy")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """24 additions."""
    return write_rows(tmp_path / "rows.jsonl")


@pytest.fixture
async def application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Application]:
    """The real application over an empty database, with the scripted model."""
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(write_script(tmp_path / "script.json")))
    async with Application(Settings(db=tmp_path / "runs.sqlite3")) as application:
        yield application


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A finished run of the small task, made once."""
    folder = tmp_path_factory.mktemp("finished")
    script = write_script(folder / "script.json")
    rows = write_rows(folder / "rows.jsonl")

    async def make() -> str:
        async with Application(Settings(db=folder / "runs.sqlite3")) as application:
            client = Client(BayesFlowServer(application))
            async with client:
                started = await call(client, "start_bayesflow_run", task_arguments(rows))
                state = await settled(client, started["run_id"])
        assert state["status"] == "finished", state
        return str(started["run_id"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
        return FinishedRun(asyncio.run(make()), folder / "runs.sqlite3")


@pytest.fixture
def finished(finished_run: FinishedRun, tmp_path: Path) -> str:
    """The id of a finished run; its database is the test's own."""
    for file in finished_run.database.parent.glob("runs.sqlite3*"):
        if file.is_file():
            shutil.copy(file, tmp_path / file.name)
    return finished_run.run_id


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    """Each protocol revision in turn, as a mode of the client."""
    return str(request.param)


@pytest.fixture
async def client(application: Application, wire: str) -> AsyncIterator[Client]:
    """A client in memory, once on each protocol revision."""
    server = BayesFlowServer(application)
    async with connected(Client(server, mode=wire)) as client:
        yield client
