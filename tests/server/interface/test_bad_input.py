"""Wrong requests: one clear sentence each, and nothing left behind."""

from collections.abc import AsyncIterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from mcp import Client

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from fakes.mcp_sessions import WORKFLOW, Arguments, call, connected, refusal, task_arguments

START = "start_bayesflow_run"


@pytest.fixture
async def client(application: Application, wire: str) -> AsyncIterator[Client]:
    """A client whose server has no run when the test ends."""
    async with connected(Client(BayesFlowServer(application), mode=wire)) as client:
        yield client
        assert (await call(client, "list_runs", {}))["runs"] == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        ('{"input": "a", "target": "1"}\nnot json\n', "Line 2"),
        ('{"input": "a", "target": "1"}\n[1]\n', "Line 2"),
        ('{"input": "a", "target": "1"}\n{"input": "b"}\n', "lacks the field 'target'"),
        (
            '{"id": 1, "input": "a", "target": "1"}\n{"id": 1, "input": "b", "target": "2"}\n',
            "id '1'",
        ),
    ],
)
async def test_a_dataset_that_cannot_be_read_is_refused(
    client: Client, tmp_path: Path, content: str, says: str
) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text(content)
    sentence = await refusal(client, START, task_arguments(path))
    assert says in sentence


async def test_a_dataset_path_must_be_an_absolute_file(client: Client, tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "missing.jsonl", "There is no dataset file"),
        (tmp_path, "is a directory"),
        (Path("rows.jsonl"), "is not absolute"),
        (Path("~/rows.jsonl"), "is not absolute"),
    ):
        sentence = await refusal(client, START, task_arguments(path))
        assert says in sentence


async def test_rows_that_are_no_rows_are_refused(client: Client) -> None:
    row: Arguments = {"input": "a", "target": "1"}
    cases: list[tuple[object, str]] = [
        ([], "empty"),
        ([row] * 201, "201 inline examples"),
        ([row, "b"], "`examples.1` must be a valid dictionary"),
        (7, "`examples` must be"),
        ("[]", "empty"),
    ]
    for examples, says in cases:
        sentence = await refusal(client, START, task_arguments([]) | {"examples": examples})
        assert says in sentence


@pytest.mark.parametrize(
    ("executor", "says"),
    [
        ("gpt", "Unknown model 'gpt'"),
        ("https://evil.example/v1", "not named by a URL"),
        ("grammar", "answers no questions"),
        ("local:nothing", "No local model 'nothing'"),
        ("local:smollm2", "bayesflow-mcp pull smollm2"),
        ("anthropic:claude-haiku-5-5", "ANTHROPIC_API_KEY"),
        ("openai:gpt-5", "OPENAI_API_KEY"),
        ("scripted:other", "scripted:default"),
    ],
)
async def test_a_model_that_cannot_be_used_is_refused(
    client: Client,
    rows: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    says: str,
) -> None:
    for key in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("BAYESFLOW_CACHE", str(tmp_path / "cache"))
    sentence = await refusal(client, START, task_arguments(rows, executor=executor))
    assert says in sentence


@pytest.mark.parametrize(
    ("extra", "executor"), [("local", "local:smollm2"), ("openai", "openai:x")]
)
async def test_a_missing_extra_is_named(
    client: Client, rows: Path, monkeypatch: pytest.MonkeyPatch, extra: str, executor: str
) -> None:
    def nothing(name: str, package: str | None = None) -> ModuleSpec | None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    sentence = await refusal(client, START, task_arguments(rows, executor=executor))
    assert f"pip install 'bayesflow-mcp[{extra}]'" in sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"options": {"particles": 0}}, "`options.particles` must be greater than or equal to 1"),
        ({"options": {"particles": 10**6}}, "`options.particles` must be less than"),
        ({"options": {"rounds": 2.5}}, "`options.rounds` must be a valid integer"),
        ({"options": {"beta": "hot"}}, "`options.beta` must be a valid number"),
        ({"options": {"beta": -1}}, "`beta` must be above 0"),
        ({"options": {"minibatch": 1}}, "`minibatch` must be between 2"),
        ({"options": {"particle": 3}}, "did you mean 'particles'?"),
        ({"options": {"splits": {"validation": "x"}}}, "`options.splits.validation`"),
        ({"options": {"splits": {"validation": 1000}}}, "1000"),
        ({"options": {"splits": {"train": 3}}}, "train"),
        ({"options": 5}, "`options` must be a valid dictionary"),
        ({"particles": 3}, "start_bayesflow_run has no argument `particles`"),
        ({"preset": "fast"}, "'quick', 'balanced', 'paper' or 'client'"),
        ({"preset": "client"}, "'client'"),
        ({"optimizer": "anthropic:claude-haiku-5-5"}, "set ANTHROPIC_API_KEY"),
        ({"optimizer": "nobody:x"}, "Unknown model 'nobody:x'"),
        ({"optimizer": "client", "grammar": "title = 'x'"}, "leave one of `grammar`"),
        ({"options": {"judge": "scripted:default"}}, "asks no judge"),
        ({"scorer": {"kind": "judge", "rubric": "Good?"}}, "`options.judge`"),
        ({"options": {"tiers": {"huge": "scripted:default"}}}, "'strong' or 'cheap'"),
        ({"options": {"cost_weight": 0.5}}, "price"),
        ({"budget": {"usd": 1}}, "price of scripted:default is not known"),
        ({"budget": {"calls": 0}}, "`budget.calls` must be greater than 0"),
        ({"budget": {"dollars": 1}}, "`budget` has no 'dollars'"),
        ({"scorer": "numerc"}, "did you mean 'numeric'?"),
        ({"scorer": {"kind": "regex"}}, "needs 'pattern'"),
        ({"scorer": {"kind": "regex", "pattern": "("}}, "pattern"),
        ({"scorer": {"kind": "numeric", "tolerance": -1}}, "tolerance"),
        ({"scorer": {"kind": "choice"}}, "cannot read the expected answer"),
        ({"instructions": "  "}, "`instructions` is empty"),
        ({"fields": {"input": "question"}}, "question"),
        ({"seed": "one"}, "`seed` must be a valid integer"),
        ({"baseline": "class Workflow:\n    pass"}, "`async def __call__(self, problem)`"),
    ],
)
async def test_options_that_cannot_hold_are_refused(
    client: Client, rows: Path, monkeypatch: pytest.MonkeyPatch, change: Arguments, says: str
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    sentence = await refusal(client, START, task_arguments(rows) | change)
    assert says in sentence


async def test_a_missing_argument_is_named(client: Client) -> None:
    sentence = await refusal(client, START, {"instructions": "Add."})
    assert sentence == "start_bayesflow_run needs `executor`; pass it."


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def (", "not valid Python"),
        ("x = 1", "no `class Workflow`"),
        ("class Workflow:\n    pass", "no `async def __call__(self, problem)`"),
        (WORKFLOW.replace("# Step 1: Ask once", ""), "no steps"),
        ("import os\n" + WORKFLOW, "os"),
        (WORKFLOW.replace("answers[0], 0.0", "open('/etc/passwd').read(), 0.0"), "open"),
        (WORKFLOW.replace("answers[0], 0.0", "().__class__, 0.0"), "__class__"),
        ("", "Workflow"),
        ("\x00", "Python"),
        (WORKFLOW + "# " + "x" * 100_001, "characters"),
    ],
)
async def test_a_workflow_that_cannot_be_used_is_refused(
    client: Client, rows: Path, source: str, says: str
) -> None:
    evaluation: Arguments = {
        "workflow": source,
        "examples": str(rows),
        "executor": "scripted:default",
    }
    sentence = await refusal(client, "evaluate_workflow", evaluation)
    assert says in sentence
    other = evaluation | {"workflow": WORKFLOW, "compare_with": source or "x = 1"}
    assert await refusal(client, "evaluate_workflow", other)


async def test_an_evaluation_says_what_it_lacks(client: Client, rows: Path) -> None:
    evaluation: Arguments = {"workflow": WORKFLOW, "examples": str(rows)}
    cases: list[tuple[Arguments, str]] = [
        ({}, "Pass `workflow`"),
        ({"workflow": WORKFLOW}, "Say which rows to run on"),
        (evaluation, "Name the `executor`"),
        (evaluation | {"executor": "gpt"}, "Unknown model"),
        (evaluation | {"run_id": "run_1"}, "either `run_id`"),
        (evaluation | {"executor": "scripted:default", "budget": {"usd": 1}}, "price"),
        (evaluation | {"executor": "scripted:default", "workflow": "wf_1"}, "no workflow 'wf_1'"),
        (evaluation | {"executor": "scripted:default", "scorer": "choice"}, "expected answer"),
        (evaluation | {"executor": "scripted:default", "wait_seconds": 60}, "`wait_seconds`"),
        ({"workflow": WORKFLOW, "run_id": "run_1"}, "There is no run 'run_1'"),
        ({"evaluation_id": "eval_1"}, "There is no evaluation 'eval_1'"),
    ]
    for arguments, says in cases:
        sentence = await refusal(client, "evaluate_workflow", arguments)
        assert says in sentence


async def test_unknown_ids_and_bad_cursors_are_refused(client: Client) -> None:
    for tool in ("get_run", "cancel_run", "resume_run", "get_pool", "get_best_workflow"):
        sentence = await refusal(client, tool, {"run_id": "run_1"})
        assert sentence == "There is no run 'run_1'. Call list_runs to see the runs there are."
        assert "at most 80 characters" in await refusal(client, tool, {"run_id": "x" * 5000})
    for cursor in ("abc", "1:", ":run_1", "1.0:wf_1"):
        sentence = await refusal(client, "list_runs", {"cursor": cursor})
        assert "is not one that list_runs gave" in sentence
    for cursor in ("-1", "abc", "1.5", "9" * 20, "²"):
        sentence = await refusal(client, "get_pool", {"run_id": "run_1", "cursor": cursor})
        assert "is not one that get_pool gave" in sentence
    assert "`limit`" in await refusal(client, "list_runs", {"limit": 0})
    assert "There is no tool 'get_runs'" in await refusal(client, "get_runs", {})


async def test_a_database_that_cannot_be_opened_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wire: str
) -> None:
    from bayesflow_server.settings import Settings

    (tmp_path / "runs.sqlite3").write_text("this is not a database " * 100)
    async with (
        Application(Settings(db=tmp_path / "runs.sqlite3")) as application,
        Client(BayesFlowServer(application), mode=wire) as client,
    ):
        assert "runs.sqlite3" in await refusal(client, "list_runs", {})
