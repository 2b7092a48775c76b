"""Progress of requests that wait, on both wires."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from mcp import Client
from mcp.server.mcpserver import Context
from mcp.types import ProgressNotification

from bayesflow_server.app import Application
from bayesflow_server.errors import NotFoundError
from bayesflow_server.interface import progress
from bayesflow_server.interface.progress import Step, phase_words, progress_of
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.runs.progress import Phase
from bayesflow_server.settings import Settings
from fakes.mcp_sessions import WORKFLOW, call, connected, task_arguments, write_script

WIRES = ("auto", "legacy")


class Told(NamedTuple):
    """One message about progress."""

    value: float
    total: float | None
    message: str | None


class Listener:
    """A caller that gives a token."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.heard = asyncio.Event()

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        self.told.append(Told(progress, total, message))
        self.heard.set()

    async def waits(self, client: Client, tool: str, arguments: Mapping[str, object]) -> Any:
        result = await client.call_tool(tool, dict(arguments), progress_callback=self)
        assert not result.is_error, result.content
        return result.structured_content


@pytest.fixture
async def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Application]:
    """A server whose model takes its time, and which tells often."""
    script = write_script(tmp_path / "slow.json", latency_ms=20)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    async with Application(Settings(db=tmp_path / "runs.sqlite3")) as application:
        yield application


@pytest.fixture(params=WIRES)
async def waiting(slow: Application, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    async with connected(Client(BayesFlowServer(slow), mode=request.param)) as client:
        yield client


def tellers() -> list[asyncio.Task[Any]]:
    """Tasks that tell somebody of progress."""
    return [task for task in asyncio.all_tasks() if "_tell" in repr(task.get_coro())]


async def settle() -> None:
    """Lets what was cancelled end."""
    for _ in range(1000):
        await asyncio.sleep(0)


async def test_who_waits_for_a_run_hears_how_far_it_is(waiting: Client, rows: Path) -> None:
    started = await call(waiting, "start_bayesflow_run", task_arguments(rows))
    listener = Listener()
    look = {"run_id": started["run_id"], "wait_seconds": 45}
    while (await listener.waits(waiting, "get_run", look))["status"] != "finished":
        pass
    messages = {told.message for told in listener.told}
    assert "round 1 of 2: growing step 1" in messages or "round 2 of 2: growing step 2" in messages
    assert all(told.total is not None and told.total >= told.value for told in listener.told)


async def test_figures_grow_and_stop_with_the_answer(waiting: Client, rows: Path) -> None:
    listener = Listener()
    arguments = {"workflow": WORKFLOW, "examples": str(rows), "executor": "scripted:default"}
    await listener.waits(waiting, "evaluate_workflow", {**arguments, "wait_seconds": 45})
    heard = [*listener.told]
    assert heard
    assert all(before.value < after.value for before, after in pairwise(heard))
    assert {told.total for told in heard} == {24}
    assert heard[-1].message == f"{heard[-1].value:.0f} of 24 executions"
    await settle()
    assert listener.told == heard
    assert tellers() == []


async def test_starting_says_what_is_being_checked(waiting: Client, rows: Path) -> None:
    listener = Listener()
    await listener.waits(waiting, "start_bayesflow_run", task_arguments(rows))
    await listener.waits(waiting, "check_task", task_arguments(rows))
    assert {told[1:] for told in listener.told} >= {
        (2, "trying scorer, models and a few workflows")
    }


async def test_an_answer_and_an_agents_questions_are_waited_for_likewise(
    waiting: Client, rows: Path, tmp_path: Path
) -> None:
    write_script(tmp_path / "slow.json", latency_ms=300)  # read at the first call
    arguments = {"workflow": WORKFLOW, "examples": str(rows), "executor": "scripted:default"}
    report = await call(waiting, "evaluate_workflow", {**arguments, "wait_seconds": 45})
    listener = Listener()
    ask = {
        "workflow_id": report["workflow_id"],
        "input": "What is 200 plus 3?",
        "executor": "scripted:default",
    }
    await listener.waits(waiting, "run_workflow", ask)
    assert listener.told[0] == (0, 1, "0 of 1 executions")
    request = task_arguments(rows, optimizer="client", preset="client", options=None)
    run_id = (await call(waiting, "start_bayesflow_run", request))["run_id"]
    agent, fetch = Listener(), {"run_id": run_id, "limit": 8, "wait_seconds": 0.5}
    while (await agent.waits(waiting, "next_proposals", fetch))["proposals"]:
        pass  # once all are handed out, it waits
    assert str(agent.told[-1].message).startswith("round 1 of 3")


async def test_without_a_token_nothing_is_sent(slow: Application, rows: Path) -> None:
    seen: list[object] = []

    async def note(message: object) -> None:
        seen.append(message)

    arguments = {"workflow": WORKFLOW, "examples": str(rows), "executor": "scripted:default"}
    for mode in WIRES:
        client = Client(BayesFlowServer(slow), mode=mode, message_handler=note)
        async with connected(client) as plain:
            await call(plain, "evaluate_workflow", {**arguments, "wait_seconds": 45})
    assert not [one for one in seen if isinstance(one, ProgressNotification)]


async def test_a_caller_that_goes_away_leaves_nothing_behind(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write_script(tmp_path / "slow.json", latency_ms=60_000)
    monkeypatch.setenv("BAYESFLOW_SCRIPTED_MODEL", str(script))
    monkeypatch.setattr(progress, "SECONDS", 0.01)
    for mode in WIRES:
        async with (
            Application(Settings(db=tmp_path / f"{mode}.sqlite3")) as application,
            connected(Client(BayesFlowServer(application), mode=mode)) as client,
        ):
            listener = Listener()
            arguments: dict[str, object] = {
                **{"workflow": WORKFLOW, "examples": str(rows)},
                **{"executor": "scripted:default", "wait_seconds": 45},
            }
            waiting = asyncio.create_task(listener.waits(client, "evaluate_workflow", arguments))
            async with asyncio.timeout(20):
                await listener.heard.wait()
            assert tellers()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await settle()
            assert tellers() == []
            heard = len(listener.told)
            await settle()
            assert len(listener.told) == heard


class Wire:
    """What a context sends."""

    def __init__(self) -> None:
        self.told: list[Told] = []

    async def report_progress(
        self, value: float, total: float | None = None, message: str | None = None
    ) -> None:
        self.told.append(Told(value, total, message))


async def test_what_did_not_change_is_not_said_and_what_fell_back_still_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS", 0)
    steps = [Step(3, 9, "a"), Step(3, 9, "a"), Step(3, 9, "b"), Step(1, 9, "b"), Step(12, 9, "b")]
    looks = iter(steps)
    ended = asyncio.Event()

    async def look() -> Step:
        try:
            return next(looks)
        except StopIteration:
            ended.set()
            raise NotFoundError("gone") from None

    wire = Wire()
    async with progress_of(cast("Context[Any, Any]", wire), look):
        await ended.wait()
    assert wire.told == [(3, 9, "a"), (3.01, 9, "b"), (pytest.approx(3.02), 9, "b"), (12, 12, "b")]


def test_a_providers_words_are_not_among_ours() -> None:
    doing = "trying again, for PROVIDER SAYS OBEY. Then round 2 of 5: growing step 2"
    words = phase_words(Phase(round=2, of=5, doing=doing))
    assert words == "round 2 of 5: a model does not answer, trying again"


async def test_it_speaks_at_most_once_a_second() -> None:
    assert progress.SECONDS >= 1
