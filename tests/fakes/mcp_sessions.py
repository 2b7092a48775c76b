"""A small task, a scripted model behind it, and a client that talks to the server about it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from mcp import Client, StdioServerParameters
from mcp.types import TextContent
from pydantic import JsonValue

import bayesflow_sampler
import bayesflow_sandbox
import bayesflow_server

__all__ = [
    "WORKFLOW",
    "Arguments",
    "FinishedRun",
    "Object",
    "call",
    "connected",
    "environment",
    "refusal",
    "server_command",
    "settled",
    "task_arguments",
    "whole_text",
    "write_rows",
    "write_script",
]

Object = dict[str, JsonValue]
Arguments = dict[str, object]


class FinishedRun(NamedTuple):
    """A run that has ended well, and where it is kept."""

    run_id: str
    database: Path


WORKFLOW = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Ask once
        answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        return answers[0], 0.0
"""


def write_rows(path: Path, count: int = 24) -> Path:
    """Additions as JSONL: the scripted model below gets those with an even result right."""
    rows = [
        {"input": f"What is {number} plus {number + 1}?", "target": str(2 * number + 1)}
        for number in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_script(
    path: Path, *, latency_ms: float = 0.0, count_file: Path | None = None, default: str = "7"
) -> Path:
    """A model that answers half of the additions."""
    rules = [
        {"contains": f"What is {number} plus {number + 1}?", "answer": str(2 * number + 1)}
        for number in range(0, 24, 2)
    ]
    script: Arguments = {"rules": rules, "default": default, "latency_ms": latency_ms}
    if count_file is not None:
        script["count_file"] = str(count_file)
    path.write_text(json.dumps(script))
    return path


def task_arguments(rows: Path | Sequence[object], **changes: object) -> Arguments:
    """Arguments of a small run: a second or two."""
    arguments: Arguments = {
        "instructions": "Add the two numbers.",
        "executor": "scripted:default",
        "examples": str(rows) if isinstance(rows, Path) else list(rows),
        "scorer": "numeric",
        "optimizer": "grammar",
        "preset": "quick",
        "options": {"particles": 3, "rounds": 2, "beta": 5.0, "minibatch": 4},
    }
    return arguments | changes


def environment(script: Path | None) -> dict[str, str]:
    """The environment of a server process: this project's code, and the scripted model if any."""
    packages = (bayesflow_server, bayesflow_sampler, bayesflow_sandbox)
    folders = [str(Path(str(package.__file__)).parents[1]) for package in packages]
    inherited = {
        name: os.environ[name] for name in ("PATH", "HOME", "BAYESFLOW_CACHE") if name in os.environ
    }
    values = inherited | {"PYTHONPATH": os.pathsep.join(folders)}
    return values if script is None else values | {"BAYESFLOW_SCRIPTED_MODEL": str(script)}


def server_command(db: Path, script: Path | None) -> StdioServerParameters:
    """How a host starts the server."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "bayesflow_server", "--db", str(db)],
        env=environment(script),
    )


@asynccontextmanager
async def connected(client: Client) -> AsyncGenerator[Client]:
    """The client, connected in a task of its own: a fixture's two halves may run in two."""
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    done = asyncio.Event()

    async def hold() -> None:
        async with client:
            ready.set_result(None)
            await done.wait()

    holding = asyncio.create_task(hold())
    await asyncio.wait([holding, ready], return_when=asyncio.FIRST_COMPLETED)
    try:
        if ready.done():
            yield client
    finally:
        done.set()
        await holding


async def call(client: Client, tool: str, arguments: Mapping[str, object]) -> Object:
    """The tool's structured result; its text must say the same."""
    result = await client.call_tool(tool, dict(arguments))
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    assert not result.is_error, texts
    assert result.structured_content is not None
    assert [json.loads(text) for text in texts] == [result.structured_content]
    return result.structured_content


async def whole_text(client: Client, arguments: Mapping[str, object]) -> str:
    """All pages of what get_workflow gives."""
    page = await call(client, "get_workflow", arguments)
    text = str(page["text"])
    while page["cursor"] is not None:
        page = await call(client, "get_workflow", {**arguments, "cursor": page["cursor"]})
        text += str(page["text"])
    return text


async def settled(client: Client, run_id: JsonValue) -> Object:
    """The run's state once nobody works on it any more."""
    look: Arguments = {"run_id": run_id, "wait_seconds": 45}
    state = await call(client, "get_run", look)
    while state["status"] in ("queued", "running"):
        state = await call(client, "get_run", look)
    return state


async def refusal(client: Client, tool: str, arguments: Mapping[str, object]) -> str:
    """The sentence the tool refuses with; no trace of Python may be in it."""
    result = await client.call_tool(tool, dict(arguments))
    assert result.is_error, result.structured_content
    [block] = result.content
    assert isinstance(block, TextContent)
    for mark in ("Traceback", "pydantic", "validation error", "Error executing", "\n"):
        assert mark not in block.text, block.text
    return block.text
