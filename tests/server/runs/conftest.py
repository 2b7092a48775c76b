"""A database file, and the run that every other one is compared with."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import NamedTuple

import pytest

from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.sitting import Sitting
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request


class Undisturbed(NamedTuple):
    """A run that nothing got in the way of."""

    footprint: Footprint
    finished: Counter[ChatRequest]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bayesflow.sqlite3"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    async def run() -> Undisturbed:
        model = FakeModel(answer_addition)
        path = tmp_path_factory.mktemp("undisturbed") / "bayesflow.sqlite3"
        async with open_service(path, model) as service:
            run_id = (await service.start(request())).record.run_id
            await settled(service, run_id)
            return Undisturbed(await footprint(service, run_id), model.finished)

    return asyncio.run(run())


@pytest.fixture
async def model() -> FakeModel:
    return FakeModel(answer_addition)


@pytest.fixture
async def service(path: Path, model: FakeModel) -> AsyncGenerator[RunService, None]:
    async with open_service(path, model) as service:
        yield service


@pytest.fixture
def sittings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The run of each sitting that was begun."""
    begun: list[str] = []
    run = Sitting.run

    async def counted(sitting: Sitting) -> FinalReport:
        begun.append(sitting.run_id)
        return await run(sitting)

    monkeypatch.setattr(Sitting, "run", counted)
    return begun
