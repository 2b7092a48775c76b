"""However a run is stopped: resumed, it ends as if nothing had happened, and pays nothing twice."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import Counter
from pathlib import Path
from typing import Protocol

import pytest

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.types import DrawKey, Workflow
from bayesflow_server.errors import ProviderError
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.models.chat import ChatRequest
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.tasks import answer_addition, request

CHILD = Path(__file__).with_name("child.py")
POINTS = [0, 9, 40, 70]


class Undisturbed(Protocol):
    footprint: Footprint
    finished: Counter[ChatRequest]


@pytest.mark.parametrize("calls", POINTS)
async def test_a_cancelled_run_resumes_to_the_same_end(
    path: Path, undisturbed: Undisturbed, calls: int
) -> None:
    model = FakeModel(answer_addition, latency_seed=calls, turns=9)
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
        record = await service.cancel(run_id)
        assert (record.status, record.owner) == ("cancelled", None)
        assert "resume_run" in (record.reason or "")
        model.release()
        assert (await service.resume(run_id)).status == "running"
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert model.finished == undisturbed.finished


@pytest.mark.parametrize("calls", [1, 33])
async def test_a_spent_budget_pauses_a_run_and_a_larger_total_one_resumes_it(
    path: Path, undisturbed: Undisturbed, calls: int
) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        started = await service.start(request(budget=BudgetLimits(calls=calls)))
        run_id = started.record.run_id
        assert "budget" in started.warnings[-1]
        record = await settled(service, run_id)
        assert record.status == "paused"
        assert f"{calls} of {calls} calls" in (record.reason or "")
        assert model.finished.total() == calls
        await service.resume(run_id)  # with the old budget: it stops again at once
        assert (await settled(service, run_id)).status == "paused"
        total = undisturbed.finished.total()
        await service.resume(run_id, BudgetLimits(calls=total - 1))
        assert (await settled(service, run_id)).status == "paused"
        await service.resume(run_id, BudgetLimits(calls=total))
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
        assert (await service.usage(run_id)).calls == total
    assert model.finished == undisturbed.finished


@pytest.mark.parametrize("calls", POINTS)
async def test_a_closed_service_interrupts_its_run_and_a_new_one_finishes_it(
    path: Path, undisturbed: Undisturbed, calls: int
) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
    model.release()
    async with open_service(path, model) as service:
        record = await service.record(run_id)
        assert (service.status(record), record.owner) == ("interrupted", None)
        assert "resume_run" in (service.reason(record) or "")
        await service.resume(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert model.finished == undisturbed.finished


@pytest.mark.parametrize("calls", [0, 25])
async def test_an_outage_pauses_a_run_with_its_reason_and_is_never_a_score(
    path: Path, undisturbed: Undisturbed, calls: int
) -> None:
    model = FakeModel(answer_addition)
    model.fault = lambda number: (
        ProviderError("the network is gone", transient=False) if number >= calls else None
    )
    async with open_service(path, model) as service:
        run_id = (await service.start(request())).record.run_id
        record = await settled(service, run_id)
        assert (record.status, record.reason) == ("paused", "the network is gone")
        model.fault = lambda _: None
        await service.resume(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert model.finished == undisturbed.finished


async def test_a_resumed_run_draws_no_step_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        model.hold_at(70)
        run_id = (await service.start(request())).record.run_id
        await model.reached()
        await service.cancel(run_id)
        before = (await service.workplace.store.draws(run_id)).keys()
        assert len(before) >= 4
        drawn: list[str] = []
        extend = GrammarPrior.extend

        async def spy(prior: GrammarPrior, prefix: Workflow, key: DrawKey) -> Workflow:
            drawn.append(key.text)
            return await extend(prior, prefix, key)

        monkeypatch.setattr(GrammarPrior, "extend", spy)
        model.release()
        await service.resume(run_id)
        assert (await settled(service, run_id)).status == "finished"
    assert not before & set(drawn)


async def start_child(path: Path, calls: int) -> Process:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), str(path), str(calls), env=environment, stdout=PIPE
    )


async def first_lines(child: Process) -> tuple[str, int]:
    """The child's run, and how many calls it has had answered when it stands still."""
    assert child.stdout is not None
    run_id, finished = [(await child.stdout.readline()).decode().strip() for _ in range(2)]
    return run_id, int(finished)


async def test_a_killed_process_leaves_its_run_interrupted_at_once_and_resumable(
    path: Path, undisturbed: Undisturbed
) -> None:
    child = await start_child(path, 30)
    run_id, finished = await first_lines(child)
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        alive = await service.record(run_id)
        assert service.status(alive) == "running"
        assert (await service.resume(run_id)).owner == alive.owner  # as it is, not taken over
        child.send_signal(signal.SIGKILL)
        await child.wait()
        dead = await service.record(run_id)
        assert dead.status == "running"
        assert service.status(dead) == "interrupted"
        assert "gone" in (service.reason(dead) or "")
        await service.resume(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert finished == 30
    assert model.finished.total() == undisturbed.finished.total() - finished
    assert model.finished <= undisturbed.finished


async def test_a_cancellation_reaches_the_process_that_works_on_the_run(
    path: Path, undisturbed: Undisturbed
) -> None:
    child = await start_child(path, 30)
    run_id, finished = await first_lines(child)
    model = FakeModel(answer_addition)
    async with open_service(path, model) as service:
        assert (await service.cancel(run_id)).status == "cancelled"
        await service.resume(run_id)  # waits until the other has stopped
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed.footprint
    assert (await child.communicate())[0] == b"cancelled\n"
    assert child.returncode == 0
    assert model.finished.total() == undisturbed.finished.total() - finished
