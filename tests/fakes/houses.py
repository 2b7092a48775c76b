"""A run service over a file, as one server process has it; and what a run left in the store."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatModel
from bayesflow_server.runs.evaluations import EvaluationService
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.store.records import (
    ParticleRecord,
    PoolEntry,
    PoolRow,
    RoundRecord,
    RunRecord,
)
from bayesflow_server.store.store import Store
from fakes.models import FakeRegistry

__all__ = [
    "Footprint",
    "footprint",
    "left_over",
    "open_evaluations",
    "open_service",
    "settled",
    "until",
]

_WORKERS = 6


@asynccontextmanager
async def _workplace(
    path: Path,
    model: ChatModel,
    others: Mapping[str, ChatModel] | None = None,
    prices: PriceTable | None = None,
    timing: Timing | None = None,
) -> AsyncGenerator[Workplace, None]:
    async with await Store.open(path) as store, Sandbox(workers=_WORKERS) as sandbox:
        gateway = Gateway(store, prices=prices or PriceTable({}), timing=timing or Timing())
        yield Workplace(store, FakeRegistry(model, others), gateway, sandbox)


@asynccontextmanager
async def open_service(
    path: Path,
    model: ChatModel,
    others: Mapping[str, ChatModel] | None = None,
    prices: PriceTable | None = None,
    timing: Timing | None = None,
    *,
    hosted: bool = False,
) -> AsyncGenerator[RunService, None]:
    """A run service with a store, a sandbox and models of its own; closed at the end."""
    async with _workplace(path, model, others, prices, timing) as workplace:
        service = RunService(workplace, hosted=hosted)
        await service.open()
        try:
            yield service
        finally:
            await service.aclose()


@asynccontextmanager
async def open_evaluations(path: Path, model: ChatModel) -> AsyncGenerator[EvaluationService, None]:
    """An evaluation service of the same kind."""
    async with _workplace(path, model) as workplace:
        service = EvaluationService(workplace)
        try:
            yield service
        finally:
            await service.aclose()


class Footprint(NamedTuple):
    """What a finished run found; two runs with the same seed and request leave the same one."""

    report: dict[str, object]
    rounds: list[RoundRecord]
    particles: list[ParticleRecord]
    pool: list[tuple[PoolEntry, str, tuple[int, float, bool] | None]]
    draws: dict[str, str]
    executions: list[tuple[object, ...]]


async def footprint(service: RunService, run_id: str) -> Footprint:
    """Reads it, without what names the run or tells the time."""
    store = service.workplace.store
    record = await service.record(run_id)
    assert record.status == "finished", (record.status, record.reason)
    report: dict[str, object] = json.loads(record.outcome or "null")
    del report["search_seconds"]
    return Footprint(
        report=report,
        rounds=[replace(one, run_id="") for one in await store.rounds(run_id)],
        particles=[replace(one, run_id="") for one in await store.particles(run_id)],
        pool=[
            (replace(row.entry, run_id=""), row.steps, _measured(row))
            for row in await store.pool(run_id)
        ],
        draws=dict(sorted((await store.draws(run_id)).items())),
        executions=sorted(
            (one.workflow_id, one.split, one.position, one.answer, one.score, one.error, one.calls)
            for one in await store.all_executions(run_id)
        ),
    )


async def settled(service: RunService, run_id: str) -> RunRecord:
    """The run once no sitting works on it."""
    return await service.wait_until_settled(run_id)


async def until(service: RunService, run_id: str, holds: Callable[[RunRecord], bool]) -> RunRecord:
    """The run as soon as the condition holds for it."""
    async with asyncio.timeout(20):
        while True:
            record = await service.record(run_id)
            if holds(record):
                return record
            await asyncio.sleep(0)


async def left_over(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Tasks that are newer than these and still there after a while.

    The interpreter's own may take a few turns more to hear that their execution is over.
    """
    left = asyncio.all_tasks() - before
    for _ in range(1000):
        left = {task for task in left if not task.done()}
        await asyncio.sleep(0)
    return left


def _measured(row: PoolRow) -> tuple[int, float, bool] | None:
    summary = row.validation
    return None if summary is None else (summary.rows, summary.mean, summary.failed)
