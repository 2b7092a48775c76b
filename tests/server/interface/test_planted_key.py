"""Planted keys are looked for everywhere after the real server has met providers that repeat them.

Two endpoints with a key each, the providers' own keys, and a third place that the environment would
send everything to. Completions that repeat a key lose it as errors do: what a provider says is kept
in the database, and a key has no business there.
"""

import asyncio
import base64
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import httpx2
import pytest

from bayesflow_server.models.chat import ChatMessage, ChatRequest
from fakes.mcp_sessions import WORKFLOW, Arguments, Object, environment, task_arguments, write_rows
from fakes.optimizers import GoodOptimizer
from fakes.provider_wires import (
    HttpServer,
    Received,
    anthropic_reply,
    openai_error,
    openai_reply,
    raw,
    serve,
)
from fakes.server_process import ServerProcess
from fakes.tasks import answer_addition

KEYS: Final = {
    "LAB_KEY": "sk-planted-lab-71c09e4d5b",
    "OTHER_KEY": "sk-planted-other-a8f3377d02",
    "ANTHROPIC_API_KEY": "sk-planted-ant-c46d8f1e93",
    "OPENAI_API_KEY": "sk-planted-oai-5b7ae20d66",
}
SHORT: Final = {"minutes": 0.02}
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Each ends as data, or is refused; none may find anything.
HOSTILE: Final = {
    "os": "import os\n        return str(dict(os.environ)), 0.0",
    "proc": "return open('/proc/self/environ').read(), 0.0",
    "import": "return str(__import__('os').environ), 0.0",
    "globals": "return str(globals()), 0.0",
    "format": "return '{0.llm.__class__.__init__.__globals__}'.format(self), 0.0",
    "config": "return str(self.llm) + repr(create_llm_instance), 0.0",
    "path": "from pathlib import Path\n        return Path('/proc/self/environ').read_text(), 0.0",
    "frames": "import sys\n        return str(sys._getframe().f_globals), 0.0",
    "ask": "return (await self.llm.call_llm(messages=['Which key?'], stop=['c', '7']))[0], 0.0",
}


def written(request: Received) -> ChatRequest:
    """The question in a request of either API."""
    body = cast("dict[str, Any]", json.loads(request.body))
    turns: list[ChatMessage] = []
    for turn in body["messages"]:
        said = turn["content"]
        text = said if isinstance(said, str) else "".join(block["text"] for block in said)
        turns.append(ChatMessage(turn["role"], text))
    return ChatRequest(tuple(turns), body.get("temperature"), sample=body.get("seed") or 0)


async def chat(request: Received) -> bytes:
    """A writer, and models that fail as they are called; all repeat the key."""
    key = request.headers["authorization"]
    model: str = json.loads(request.body)["model"]
    said = {"x-you-sent": key}
    if model.isdecimal():
        if model == "307":
            said["location"] = f"http://localhost:9/{key.split()[-1]}"
        return raw(openai_error(int(model), f"You sent {key}", said, param=key, code=key))
    if model == "page":
        return raw(httpx2.Response(200, text=f"<html>{key}</html>", headers=said))
    text = GoodOptimizer()(written(request)) if model == "writer" else "7"
    return raw(openai_reply(f"{text}\n\nYou sent {key}."))


async def claude(request: Received) -> bytes:
    """An executor that repeats the key in each answer."""
    return raw(anthropic_reply(f"{answer_addition(written(request))} {request.headers}"))


async def nobody(_: Received) -> bytes:
    return raw(httpx2.Response(503))


@dataclass
class Places:
    """The servers that there are.

    Attributes:
        lab: Speaks OpenAI's API; its key is in LAB_KEY.
        other: Speaks Anthropic's; OTHER_KEY.
        trap: What the environment names as everybody's proxy and base URL.
    """

    lab: HttpServer
    other: HttpServer
    trap: HttpServer

    @property
    def environment(self) -> dict[str, str]:
        """Of a server that may ask them."""
        url = self.trap.url
        proxies = {f"{name}_PROXY": url for name in ("HTTP", "HTTPS", "ALL")}
        astray = {"OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": url}
        logs = dict.fromkeys(("OPENAI_LOG", "ANTHROPIC_LOG"), "debug") | {"BAYESFLOW_LOG": "DEBUG"}
        endpoints = (
            f"lab={self.lab.url}/v1,key=LAB_KEY,price_in=1,price_out=2 "
            f"other={self.other.url},api=anthropic,key=OTHER_KEY,price_in=1,price_out=2"
        )
        return KEYS | proxies | astray | logs | {"BAYESFLOW_ENDPOINTS": endpoints}


@asynccontextmanager
async def all_places() -> AsyncGenerator[Places]:
    async with serve(chat) as lab, serve(claude) as other, serve(nobody) as trap:
        yield Places(lab, other, trap)


def traces(data: bytes) -> list[str]:
    """The names of the keys that stand in the data, whole, in part, or encoded."""
    found: list[str] = []
    for name, key in KEYS.items():
        core = key.rpartition("-")[2].encode()
        shapes = [core, core[::-1], core.hex().encode()]
        shapes += [base64.b64encode(b"\0" * pad + key.encode())[4:-4] for pad in range(3)]
        shapes += [core[:6], core[-6:]]
        if any(shape in data for shape in shapes):
            found.append(name)
    return found


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())


def evaluate(server: ServerProcess, executor: str, workflow: str = WORKFLOW) -> Object:
    """What came of a workflow on two rows, be it a refusal."""
    rows = [{"input": f"What is {n} plus 1?", "target": str(n + 1)} for n in range(2)]
    arguments: Arguments = {
        "workflow": workflow,
        "examples": rows,
        "scorer": "numeric",
        "executor": executor,
        "budget": SHORT,
    }
    result = server.request("tools/call", {"name": "evaluate_workflow", "arguments": arguments})
    content = result.get("structuredContent")
    return cast(Object, content) if isinstance(content, dict) else result


def run(server: ServerProcess, rows: Path, **changes: object) -> Object:
    """A run's state once it has come to rest, and its pool and best workflow asked for."""
    started = server.call("start_bayesflow_run", task_arguments(rows, **changes))
    look: Arguments = {"run_id": started["run_id"], "wait_seconds": 45}
    state = server.call("get_run", look)
    while state["status"] in ("queued", "running"):
        state = server.call("get_run", look)
    server.call("get_pool", {"run_id": started["run_id"]})
    return state


async def test_planted_keys_are_nowhere_but_in_their_endpoints_requests(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    data.mkdir()
    rows = write_rows(tmp_path / "rows.jsonl")
    database = data / "runs.sqlite3"
    async with all_places() as places:
        given = places.environment

        def work() -> tuple[list[bytes], bytes]:
            with ServerProcess(database, None, environment=given, log=log) as server:
                ended = run(server, rows, executor="other:executor", optimizer="lab:writer")
                assert ended["status"] == "finished", ended
                paused = run(server, rows, executor="lab:401", optimizer="grammar")
                assert paused["status"] == "paused", paused
                assert "LAB_KEY" in str(paused["reason"])
                for executor in ("307", "400", "401", "402", "403", "404", "429", "500", "page"):
                    assert evaluate(server, f"lab:{executor}")["reason"]
                assert evaluate(server, "openai:gpt-5")["reason"]
                assert evaluate(server, "anthropic:claude-haiku-5-5")["reason"]
                head = WORKFLOW.partition("        # Step 1")[0]
                for body in HOSTILE.values():
                    source = f"{head}        # Step 1: Look\n        {body}\n"
                    evaluate(server, "lab:m", source)
                children = server.children() if sys.platform == "linux" else []
                shown = [read(f"/proc/{pid}/{name}") for pid in children for name in PROC]
                everything = [path.read_bytes() for path in files(data)]
                server.end(by=None)
                return [*server.said, *shown, *everything], server.rest()

        said, rest = await asyncio.to_thread(work)
        commands = [["doctor"], ["runs", "--json"], ["runs"], ["show", newest(database)]]
        for command in commands:
            said.append(await asyncio.to_thread(command_line, database, given, command))
    for found in (*said, rest, log.read_bytes(), *(path.read_bytes() for path in files(tmp_path))):
        assert traces(found) == [], found[:2000]
    assert b"Request options" in log.read_bytes()  # the SDKs did write their debug logs
    assert {one.headers["authorization"] for one in places.lab.received} == {
        f"Bearer {KEYS['LAB_KEY']}"
    }
    assert {one.headers["authorization"] for one in places.other.received} == {
        f"Bearer {KEYS['OTHER_KEY']}"
    }
    assert {one.path for one in places.trap.received} <= {
        "api.openai.com:443",
        "api.anthropic.com:443",
    }
    assert traces(repr(places.trap.received).encode()) == []


PROC: Final = ("environ", "cmdline")


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def newest(database: Path) -> str:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(database)) as connection:
        (run_id,) = connection.execute("SELECT run_id FROM runs ORDER BY created LIMIT 1").fetchone()
        return str(run_id)


def command_line(database: Path, given: dict[str, str], arguments: list[str]) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "bayesflow_server", "--db", str(database), *arguments],
        env=environment(None) | given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout
    return done.stdout + done.stderr
