"""Completions of ids and models, over both revisions."""

from pathlib import Path

import pytest
from mcp import Client
from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    PromptReference,
    ResourceTemplateReference,
)

from bayesflow_server.app import Application
from bayesflow_server.interface.prompts import EXPLAIN, IMPROVE, OPTIMISE
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.interface.uris import pool_uri, workflow_uri
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import NewRun, PoolEntry, WorkflowRecord

WIRES = pytest.mark.parametrize("wire", ["auto", "legacy"])
Reference = PromptReference | ResourceTemplateReference

POOL = ResourceTemplateReference(uri=pool_uri("{run_id}"))
SOURCE = ResourceTemplateReference(uri=workflow_uri("{workflow_id}"))


async def complete(
    client: Client, ref: Reference, name: str, value: str = "", **known: str
) -> Completion:
    argument = {"name": name, "value": value}
    return (await client.complete(ref, argument, known or None)).completion


async def with_runs(application: Application, count: int) -> None:
    store = (await application.runs()).workplace.store
    for number in range(count):
        await store.create_run(NewRun(f"run_{number:03}", "{}", str(number)), [])


@pytest.mark.parametrize(
    "ref", [POOL, PromptReference(name=EXPLAIN), PromptReference(name=IMPROVE)]
)
async def test_ids_of_runs_come_newest_first(
    client: Client, application: Application, ref: Reference
) -> None:
    await with_runs(application, 12)
    found = await complete(client, ref, "run_id", "run_00")
    assert found.values == [f"run_{number:03}" for number in range(9, -1, -1)]
    assert (found.total, found.has_more) == (10, False)
    assert (await complete(client, ref, "run_id", "un_")).values == []
    assert (await complete(client, ref, "run_id", "run_%")).values == []


async def test_a_hundred_are_shown_and_the_rest_counted(
    client: Client, application: Application
) -> None:
    await with_runs(application, 130)
    found = await complete(client, POOL, "run_id")
    assert found.values == [f"run_{number:03}" for number in range(129, 29, -1)]
    assert (found.total, found.has_more) == (130, True)


@pytest.mark.parametrize("ref", [SOURCE, PromptReference(name=IMPROVE)])
async def test_workflows_are_those_of_the_run_that_was_chosen(
    client: Client, application: Application, ref: Reference
) -> None:
    await with_runs(application, 2)
    store = (await application.runs()).workplace.store
    for name, run_id in (("wf_a", "run_000"), ("wf_b", "run_001"), ("wf_c", "run_000")):
        await store.add_to_pool(
            WorkflowRecord(name, "#", "[]"), PoolEntry(run_id, name, 1, "prior")
        )
    await store.put_workflow(WorkflowRecord("wf_d", "#", "[]"))
    every = await complete(client, ref, "workflow_id", "wf_")
    assert every.values == ["wf_d", "wf_c", "wf_b", "wf_a"]
    own = await complete(client, ref, "workflow_id", "wf_", run_id="run_000")
    assert own.values == ["wf_c", "wf_a"]
    assert (await complete(client, ref, "workflow_id", "wf_a", run_id="run_001")).values == []


async def test_models_are_those_that_could_be_named_usable_ones_first(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    ref = PromptReference(name=OPTIMISE)
    executors = (await complete(client, ref, "executor")).values
    assert executors.index("scripted:default") < executors.index("anthropic:claude-haiku-5-5")
    assert "client" not in executors
    optimizers = (await complete(client, ref, "optimizer")).values
    assert optimizers == ["client", "grammar", *executors]
    claude = await complete(client, ref, "executor", "anthropic:")
    assert claude.values
    assert all(value.startswith("anthropic:claude-") for value in claude.values)
    assert (await complete(client, ref, "task", "Add")).values == []


@WIRES
async def test_an_endpoint_is_offered_up_to_its_models_name(tmp_path: Path, wire: str) -> None:
    settings = Settings(db=tmp_path / "runs.sqlite3", endpoints=("lab=http://127.0.0.1:9/v1",))
    application = Application(settings)
    async with application, Client(BayesFlowServer(application), mode=wire) as client:
        ref = PromptReference(name=OPTIMISE)
        assert (await complete(client, ref, "executor", "la")).values == ["lab:"]


@WIRES
async def test_where_the_store_fails_nothing_is_suggested(tmp_path: Path, wire: str) -> None:
    (tmp_path / "broken.sqlite3").write_bytes(b"no database" * 100)
    application = Application(Settings(db=tmp_path / "broken.sqlite3"))
    async with application, Client(BayesFlowServer(application), mode=wire) as client:
        found = await complete(client, POOL, "run_id")
        assert (found.values, found.total, found.has_more) == ([], 0, False)


@WIRES
async def test_what_else_is_registered_is_asked_for_what_is_not_ours(
    application: Application, wire: str
) -> None:
    server = BayesFlowServer(application)

    @server.completion()
    async def other(
        ref: Reference, argument: CompletionArgument, context: CompletionContext | None
    ) -> Completion:
        return Completion(values=[f"{ref.type} {argument.name}"])

    assert callable(other)
    await with_runs(application, 1)
    async with Client(server, mode=wire) as client:
        found = await complete(client, PromptReference(name="greet"), "name")
        assert found.values == ["ref/prompt name"]
        assert (await complete(client, POOL, "run_id")).values == ["run_000"]


async def test_a_prompt_nobody_knows_has_no_completions(client: Client) -> None:
    assert (await complete(client, PromptReference(name="greet"), "name")).values == []
