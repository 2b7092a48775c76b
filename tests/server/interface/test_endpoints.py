"""Endpoints are named at launch: a tool argument never carries a URL, the command line does."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest
from mcp import Client, StdioServerParameters

from bayesflow_server.app import Application
from bayesflow_server.cli import main
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.settings import Settings
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    call,
    connected,
    environment,
    refusal,
    settled,
    task_arguments,
    write_rows,
)
from fakes.provider_wires import HttpServer, Received, openai_reply, raw, serve
from fakes.unhappy_endpoint import UnhappyEndpoint, unhappy_endpoint
from fakes.wired_houses import ANSWERS, endpoints_of

GOLDEN: Final = Path(__file__).with_name("tools.json")
KEY: Final = "sk-planted-key-of-the-lab"
TASK: Final = """\
name = "sums"
instructions = "Add."
examples = "rows.jsonl"
scorer = "numeric"
[options]
particles = 2
rounds = 2
refinements = 1
beta = 5.0
"""
WRONG: Final = {
    "lab": "has no URL",
    "lab=ftp://host/v1": "must be like https://",
    "lab=https://user:sk-secret@host/v1": "a user or a key in it",
    "lab=http://host/v1,key=sk-secret": "never the key",
    "lab=http://host/v1,sk-secret": "not one of key, api",
    "local=http://host/v1": "another meaning",
    "openai=http://host/v1": "built in and keeps its URL",
    "lab=http://host/v1,price_in=1": "together",
}


# --- tools ------------------------------------------------------------------------------------


@pytest.fixture
async def elsewhere() -> AsyncGenerator[HttpServer, None]:
    """A place that nobody named at launch."""

    async def hi(_: Received) -> bytes:
        return raw(openai_reply("7"))

    async with serve(hi) as server:
        yield server
        assert server.received == []


@pytest.fixture
async def client(
    tmp_path: Path, elsewhere: HttpServer, monkeypatch: pytest.MonkeyPatch, wire: str
) -> AsyncGenerator[Client, None]:
    """A client of a server that knows one endpoint, where nobody listens."""
    for name in ("LAB_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, KEY)
    settings = Settings(
        db=tmp_path / "runs.sqlite3", endpoints=("lab=http://127.0.0.1:9/v1,key=LAB_KEY",)
    )
    async with (
        Application(settings) as application,
        connected(Client(BayesFlowServer(application), mode=wire)) as client,
    ):
        yield client
        assert (await call(client, "list_runs", {}))["runs"] == []


def strings(schema: object, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every part of a schema, with the names that lead there."""
    if isinstance(schema, list):
        for one in cast("list[object]", schema):
            yield from strings(one, path)
    elif isinstance(schema, dict):
        part = cast("dict[str, Any]", schema)
        yield path, part
        for name, inner in part.items():
            yield from strings(inner, f"{path}.{name}")


def test_no_tool_argument_asks_for_an_address() -> None:
    tools = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(tools) > 10
    for tool in tools:
        for path, part in strings(tool["inputSchema"]):
            assert not re.search(r"ur[il]|host|port\b|endpoint|proxy|header|key\b", named(path)), (
                path
            )
            assert part.get("format") not in ("uri", "uri-reference", "hostname", "iri"), path
            assert not re.search(r"\bURLs?\b|https?:", str(part.get("description", ""))), path


def named(path: str) -> str:
    """The path without an argument that has no address in it but is called so."""
    return path.replace("idempotency_key", "").lower()


@pytest.mark.parametrize(
    "form", ["{url}", "lab:{url}", "openai:{url}", "anthropic:{url}", "{host}"]
)
async def test_a_model_that_is_a_url_is_refused_and_nobody_is_asked(
    client: Client, elsewhere: HttpServer, tmp_path: Path, form: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    url = f"{elsewhere.url}/v1"
    model = form.format(url=url, host=url.removeprefix("http:"))
    judge = {"kind": "judge", "rubric": "Is it right?"}
    start: list[Arguments] = [
        {"executor": model},
        {"executor": "lab:m", "optimizer": model},
        {"executor": "lab:m", "optimizer": "lab:w", "options": {"refiner": model}},
        {"executor": "lab:m", "scorer": judge, "options": {"judge": model}},
        {"executor": "lab:m", "options": {"tiers": {"strong": model}}},
    ]
    for changes in start:
        said = await refusal(client, "start_bayesflow_run", task_arguments(rows, **changes))
        assert "NAME=URL" in said or said.startswith("Unknown model"), said
        assert "lab:MODEL" in said
        assert KEY not in said
    row = {"input": "What is 1 plus 1?", "target": "2"}
    for changes in ({"executor": model}, {"executor": "lab:m", "judge": model, "scorer": judge}):
        arguments = {"workflow": WORKFLOW, "examples": [row], "scorer": "numeric", **changes}
        said = await refusal(client, "evaluate_workflow", arguments)
        assert "NAME=URL" in said or said.startswith("Unknown model"), said


async def test_examples_are_fetched_from_nowhere(client: Client, elsewhere: HttpServer) -> None:
    for place in (f"{elsewhere.url}/rows.jsonl", "file:///etc/passwd", "//127.0.0.1/rows.jsonl"):
        assert await refusal(
            client, "start_bayesflow_run", task_arguments(Path("rows"), examples=place)
        )


@pytest.mark.parametrize("model", ["lab:" + "x" * 300, "lab:a\nb", "lab:\x00", "lab:\u202em"])
async def test_a_model_whose_name_is_none_is_refused_in_one_line(
    client: Client, tmp_path: Path, model: str
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    said = await refusal(client, "start_bayesflow_run", task_arguments(rows, executor=model))
    assert "printable text of at most 200 characters" in said


# --- a whole run, over stdio and from the command line -----------------------------------------


@pytest.fixture
async def stub() -> AsyncGenerator[UnhappyEndpoint, None]:
    async with unhappy_endpoint(answers=ANSWERS) as stub:
        yield stub


def flags(stub: UnhappyEndpoint) -> list[str]:
    """The endpoints `chat` and `claude`, as flags."""
    return [word for text in endpoints_of(stub, ",key=LAB_KEY") for word in ("--endpoint", text)]


async def test_a_server_launched_with_endpoints_runs_a_search_over_both_apis(
    tmp_path: Path, stub: UnhappyEndpoint
) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "bayesflow_server", "--db", str(tmp_path / "runs.sqlite3"), *flags(stub)],
        env=environment(None) | {"LAB_KEY": KEY},
    )
    arguments = task_arguments(
        rows, executor="claude:executor", optimizer="chat:writer", budget={"usd": 0.5}
    )
    async with Client(command) as client:
        started = await call(client, "start_bayesflow_run", arguments)
        assert "usd" in cast("dict[str, object]", started["estimate"])
        state = await settled(client, started["run_id"])
        assert state["status"] == "finished", state
        spent = cast("dict[str, float]", state["spent"])
        assert 0 < spent["usd"] < 0.5
        assert spent["calls"] == stub.counts["answered"]


async def command_line(folder: Path, *arguments: str) -> tuple[int | None, str, str]:
    """How a command ends, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bayesflow_server", "--db", "runs.sqlite3", *arguments),
        cwd=folder,
        env=environment(None) | {"LAB_KEY": KEY},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_line_runs_a_task_with_endpoints_of_the_users_own(
    tmp_path: Path, stub: UnhappyEndpoint
) -> None:
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "task.toml").write_text(TASK)
    models = ["--executor", "chat:executor", "--optimizer", "chat:writer"]
    code, out, err = await command_line(
        tmp_path, "run", "task.toml", *flags(stub), *models, "--usd", "0.5", "--json"
    )
    assert code == 0, err
    result = json.loads(out)
    assert result["status"] == "finished"
    assert result["calls"] == stub.counts["answered"]
    assert KEY not in out + err
    code, out, err = await command_line(
        tmp_path, "run", "task.toml", *flags(stub), *models, "--seed", "3", "--calls", "2"
    )
    assert code == 1, err
    line = next(line for line in out.splitlines() if line.startswith("Go on with: bayesflow-mcp "))
    resume = shlex.split(line.partition("bayesflow-mcp ")[2].partition(" --usd, ")[0])
    code, out, err = await command_line(tmp_path, *resume, "--calls", "500")
    assert code == 0, err
    code, out, err = await command_line(tmp_path, "run", "task.toml", *models)
    assert (code, out) == (3, "")
    assert "Unknown model 'chat:executor': write anthropic:MODEL" in err


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.parametrize("command", [["serve"], ["run", "task.toml"], ["doctor"], ["runs"], []])
def test_a_wrong_endpoint_ends_every_command_in_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    text: str,
) -> None:
    monkeypatch.setenv("BAYESFLOW_DB", str(tmp_path / "runs.sqlite3"))
    assert main([*command, "--endpoint", text]) == 2
    monkeypatch.setenv("BAYESFLOW_ENDPOINTS", text)
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "sk-secret" not in err
    for line in err.splitlines():
        assert line.startswith("bayesflow-mcp: ")
        assert WRONG[text] in line
    assert err.count("\n") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_knows_the_endpoints_of_flags_and_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BAYESFLOW_DB", str(tmp_path / "runs.sqlite3"))
    monkeypatch.setenv("BAYESFLOW_CACHE", str(tmp_path))
    monkeypatch.setenv("BAYESFLOW_ENDPOINTS", "ollama=http://127.0.0.1:9/v1 openai,rpm=5")
    monkeypatch.setenv("LAB_KEY", KEY)
    assert main(["doctor", "--endpoint", "lab=https://lab.invalid/v1,key=LAB_KEY"]) == 0
    out = capsys.readouterr().out
    assert "ok  model ollama:MODEL (at http://127.0.0.1:9/v1, 64 at once)" in out
    assert "ok  model lab:MODEL (at https://lab.invalid/v1, 64 at once, key in LAB_KEY)" in out
    assert KEY not in out
