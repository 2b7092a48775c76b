"""Clients hear of runs that change, on both revisions, whichever process changes them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp import Client
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError

from bayesflow_server.app import Application
from bayesflow_server.errors import StoreError
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.updates import WATCHER
from bayesflow_server.interface.uris import RUNS, events_uri, pool_uri, run_uri, workflow_uri
from bayesflow_server.runs.lease import Lease
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import NewRun, PoolEntry, RoundRecord, WorkflowRecord
from bayesflow_server.store.store import Store
from fakes.mcp_sessions import call, server_command, task_arguments, write_script
from fakes.resource_listeners import LIST_CHANGED, ask, listener, subscribe, unsubscribe

WIRES = pytest.mark.parametrize("wire", ["auto", "legacy"])


@pytest.fixture
async def elsewhere(application: Application, finished: str) -> AsyncIterator[Store]:
    """The store as another process has it, which knows the finished run."""
    async with Application(Settings(db=application.settings.db)) as other:
        yield (await other.runs()).workplace.store


def watchers() -> list[asyncio.Task[object]]:
    return [task for task in asyncio.all_tasks() if task.get_name() == WATCHER]


async def grow_pool(store: Store, run_id: str, name: str) -> None:
    await store.add_to_pool(
        WorkflowRecord(name, f"# {name}", "[]"), PoolEntry(run_id, name, 1, "prior")
    )


@WIRES
async def test_a_run_is_followed_from_its_start_to_its_end(
    application: Application, rows: Path, wire: str
) -> None:
    server = BayesFlowServer(application)
    async with Client(server, mode=wire) as agent:
        started = await call(agent, "start_bayesflow_run", task_arguments(rows))
        run_id = str(started["run_id"])
        uris = [run_uri(run_id), pool_uri(run_id), events_uri(run_id), RUNS]
        async with listener(server, wire, uris) as ear:
            await ear.until(*uris)
            look = {"run_id": run_id, "wait_seconds": 45}
            while (await call(agent, "get_run", look))["status"] != "finished":
                await ear.until(run_uri(run_id))


@WIRES
async def test_what_another_process_changes_is_heard_and_nothing_else(
    application: Application, finished: str, elsewhere: Store, wire: str
) -> None:
    run, pool, events = run_uri(finished), pool_uri(finished), events_uri(finished)
    server = BayesFlowServer(application)
    async with listener(server, wire, [run, pool, events, RUNS]) as ear:
        await elsewhere.update_run(finished, phase=None)
        assert await ear.until(run) == [run]
        await grow_pool(elsewhere, finished, "wf_new")
        assert await ear.until(pool) == [pool]
        await elsewhere.record_round(RoundRecord(finished, 9, '{"mean": 0.5}'), [])
        assert set(await ear.until(events)) <= {events, pool}
        await elsewhere.update_run(finished, status="failed", reason="a test says so")
        assert (
            {run, events, RUNS}
            <= set(await ear.until(run, events, RUNS))
            <= {*(run, events, RUNS, pool)}
        )


@WIRES
async def test_a_run_that_appears_is_heard_of(
    application: Application, elsewhere: Store, wire: str
) -> None:
    expected = [RUNS] if wire == "legacy" else [RUNS, LIST_CHANGED]
    async with listener(BayesFlowServer(application), wire, [RUNS], lists=True) as ear:
        await elsewhere.create_run(NewRun("run_new", '{"executor": "x"}', "hash"), [])
        await ear.until(*expected)
        listed = (await ear.client.list_resources()).resources
        assert run_uri("run_new") in [resource.uri for resource in listed]


async def test_a_run_that_does_not_exist_yet_can_be_listened_to(
    application: Application, elsewhere: Store
) -> None:
    uri = run_uri("run_new")
    async with listener(BayesFlowServer(application), "auto", [uri, "bayesflow://x"]) as ear:
        await elsewhere.create_run(NewRun("run_new", '{"executor": "x"}', "hash"), [])
        assert await ear.until(uri) == [uri]


@WIRES
async def test_nobody_looks_when_nobody_listens(
    application: Application, finished: str, wire: str
) -> None:
    server = BayesFlowServer(application)
    async with Client(server, mode=wire) as client:
        await client.list_resources()
        await client.read_resource(run_uri(finished))
        assert not watchers()
        async with listener(server, wire, [run_uri(finished)]):
            async with listener(server, wire, [RUNS]):
                assert len(watchers()) == 1
            assert len(watchers()) == 1
        await server.settle()
        assert not watchers()
    source = await first_source(application, finished)
    # What never changes, or is not ours, needs no look.
    async with listener(server, wire, [source, "other://thing"]):
        assert not watchers()


async def first_source(application: Application, run_id: str) -> str:
    pool = await (await application.runs()).pool(run_id)
    return workflow_uri(pool.rows[0].entry.workflow_id)


async def test_the_last_to_unsubscribe_ends_the_looking(
    application: Application, finished: str, elsewhere: Store
) -> None:
    run, events = run_uri(finished), events_uri(finished)
    server = BayesFlowServer(application)
    async with listener(server, "legacy", [run, events]) as ear:
        await subscribe(ear.client, run)  # again is not twice
        await unsubscribe(ear.client, run)
        await unsubscribe(ear.client, run)
        await elsewhere.update_run(finished, status="failed", reason="a test says so")
        assert await ear.until(events) == [events]
        await unsubscribe(ear.client, events)
        await server.settle()
        assert not watchers()
        await subscribe(ear.client, run)
        assert len(watchers()) == 1
        await elsewhere.update_run(finished, phase=None)
        await ear.until(run)


async def test_each_session_hears_what_it_asked_for(
    application: Application, finished: str, elsewhere: Store
) -> None:
    run, events = run_uri(finished), events_uri(finished)
    server = BayesFlowServer(application)
    async with (
        listener(server, "legacy", [run, events]) as both,
        listener(server, "legacy", [run]) as one,
    ):
        await unsubscribe(both.client, run)
        await elsewhere.update_run(finished, status="failed", reason="a test says so")
        assert await one.until(run) == [run]
        assert await both.until(events) == [events]
        await elsewhere.update_run(finished, phase=None)
        assert await one.until(run) == [run]
        assert both.heard == []


async def test_a_subscription_that_failed_leaves_nothing_behind(
    application: Application, finished: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(store: Store, run_id: str) -> int:
        raise StoreError("The disk is gone.")

    server = BayesFlowServer(application)
    async with Client(server, mode="legacy") as client:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "last_event", fails)
            with pytest.raises(MCPError, match="The disk is gone"):
                await subscribe(client, events_uri(finished))
        await subscribe(client, RUNS)
        await unsubscribe(client, RUNS)
        await server.settle()
        assert not watchers()


async def test_a_session_that_goes_without_a_word_is_forgotten(
    application: Application, finished: str
) -> None:
    server = BayesFlowServer(application)
    async with Client(server, mode="legacy") as client:
        await subscribe(client, run_uri(finished))
        assert len(watchers()) == 1
    assert not watchers()


async def test_a_subscription_that_can_never_fire_is_refused(
    application: Application, finished: str
) -> None:
    async with Client(BayesFlowServer(application), mode="legacy") as client:
        for uri, words in (
            ("bayesflow://runs/run_0", "There is no run 'run_0'"),
            (run_uri(finished) + "/", "There is no resource"),
            ("bayesflow://workflows/wf_0", "There is no workflow 'wf_0'"),
            ("other://" + "x" * 9000, "A URI of 9008 characters is not watched"),
        ):
            with pytest.raises(MCPError, match=words):
                await subscribe(client, uri)
    assert not watchers()


@WIRES
async def test_there_is_an_end_to_what_is_watched(
    application: Application, elsewhere: Store, wire: str
) -> None:
    names = [f"run_{number}" for number in range(67)]
    for name in names:
        await elsewhere.create_run(NewRun(name, '{"executor": "x"}', name), [])
    forms = (run_uri, pool_uri, events_uri)
    uris = [form(name) for name in names for form in forms]
    async with Client(BayesFlowServer(application), mode=wire) as client:
        with pytest.raises(MCPError, match="At most 200 resources are watched at once"):
            await ask(client, wire, uris)
        assert bool(watchers()) is (wire == "legacy")  # the first 200 are watched there
    assert not watchers()


@WIRES
async def test_a_database_that_cannot_be_opened_is_told_to_who_subscribes(
    tmp_path: Path, wire: str
) -> None:
    (tmp_path / "broken.sqlite3").write_bytes(b"no database" * 100)
    application = Application(Settings(db=tmp_path / "broken.sqlite3"))
    async with application, Client(BayesFlowServer(application), mode=wire) as client:
        with pytest.raises(MCPError, match=r"broken\.sqlite3"):
            await ask(client, wire, [RUNS])
    assert not watchers()


@WIRES
async def test_what_else_is_registered_reaches_its_listeners_too(
    application: Application, wire: str
) -> None:
    server = BayesFlowServer(application)
    uri = "other://thing"

    @server.resource(uri)
    def thing() -> str:
        return "text"

    @server.tool()
    async def touch(ctx: Context[object]) -> str:
        await ctx.notify_resource_updated(uri)
        return "done"

    assert thing() == "text"
    assert callable(touch)
    async with listener(server, wire, [uri]) as ear:
        content = await ear.client.read_resource(uri)
        assert content.contents[0].model_dump()["text"] == "text"
        await ear.client.call_tool("touch", {})
        assert await ear.until(uri) == [uri]


@WIRES
async def test_a_real_process_tells_what_another_process_does(
    tmp_path: Path, elsewhere: Store, finished: str, wire: str
) -> None:
    script = write_script(tmp_path / "script.json")
    uris = [run_uri(finished), events_uri(finished)]
    async with listener(server_command(elsewhere.path, script), wire, uris) as ear:
        await elsewhere.update_run(finished, status="failed", reason="a test says so")
        assert sorted(await ear.until(*uris)) == uris


@WIRES
async def test_a_run_whose_process_died_is_heard_of_without_a_commit(
    application: Application, finished: str, elsewhere: Store, wire: str
) -> None:
    owner = Lease(elsewhere.path)
    owner.acquire()
    await elsewhere.update_run(finished, status="interrupted", reason="to be taken")
    assert await elsewhere.claim_run(
        finished, owner.owner, from_owner=None, statuses=("interrupted",)
    )
    async with listener(BayesFlowServer(application), wire, [run_uri(finished), RUNS]) as ear:
        look = {"run_id": finished, "wait_seconds": 0}
        assert (await call(ear.client, "get_run", look))["status"] == "running"
        owner.release()
        await ear.until(run_uri(finished), RUNS)
        assert (await call(ear.client, "get_run", look))["status"] == "interrupted"
