"""A server in memory that is called with anything, and looked at after each call.

Its database holds a finished run, one that waits for its client, one that was cancelled, and an
evaluation and an answer of the first. One event loop serves it for all calls: Hypothesis calls from
outside of any.
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, cast

import jsonschema
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, PromptReference, TextContent
from pydantic import JsonValue

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.settings import Settings
from fakes.fuzzed_arguments import PLACEHOLDERS
from fakes.mcp_sessions import Arguments, call, connected, task_arguments, write_rows

__all__ = ["WIRES", "FuzzedServer", "Wire"]

Wire = Literal["auto", "legacy"]
WIRES: Final[tuple[Wire, ...]] = ("auto", "legacy")

_Result = TypeVar("_Result")
_PATIENCE: Final = 30.0
_NEWS_SECONDS: Final = 5.0
_LONGEST_ERROR: Final = 1_100
_LEAKS: Final = (
    "Traceback",
    "pydantic",
    "validation error",
    "Error executing",
    "inside the server",
)
_ALIVE: Final = ("queued", "running", "waiting_for_client")


class _Faults(logging.Handler):
    """What the server logs as errors: each is a defect."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(logging.Formatter().format(record))


class FuzzedServer:
    """The server, its clients on both wires, and what is there to be named. A context manager."""

    def __init__(self, folder: Path, finished: str) -> None:
        """Nothing is opened yet.

        Args:
            folder: Holds `runs.sqlite3` with a finished run.
            finished: That run's id.
        """
        self._database = folder / "runs.sqlite3"
        self._rows = write_rows(folder / "rows.jsonl")
        self._known: dict[str, str] = {"<finished>": finished, "<rows>": str(self._rows)}
        self._runner = asyncio.Runner()
        self._opened = AsyncExitStack()
        self._clients: dict[Wire, Client] = {}
        self._schemas: dict[str, dict[str, JsonValue]] = {}
        self._faults = _Faults()
        self._runs = 0

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self._faults)
        self.run(self._open())
        self._runs = self._look_at_database()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._runner:
            self.run(self._opened.aclose())
        logging.getLogger().removeHandler(self._faults)

    def run(self, work: Coroutine[object, object, _Result]) -> _Result:
        """Does it in the server's loop."""
        return self._runner.run(work)

    def check(self, wire: Wire, tool: str, arguments: Mapping[str, object]) -> None:
        """Calls a tool, and looks whether all is as it has to be."""
        self.run(self._check(wire, tool, self._filled(dict(arguments))))

    def check_resource(self, wire: Wire, uri: str) -> None:
        """Reads a resource."""
        named = _named(uri, self._known)
        self.run(self._check_other(wire, self._clients[wire].read_resource(named)))

    def check_prompt(self, wire: Wire, name: str, arguments: dict[str, str]) -> None:
        """Fetches a prompt."""
        given = {key: _named(text, self._known) for key, text in arguments.items()}
        self.run(self._check_other(wire, self._clients[wire].get_prompt(name, given)))

    def check_completion(self, wire: Wire, prompt: str, argument: str, begun: str) -> None:
        """Asks how an argument may go on."""
        asked = {"name": argument, "value": begun}
        asking = self._clients[wire].complete(PromptReference(name=prompt), asked)
        self.run(self._check_other(wire, asking))

    # --- what is there ----------------------------------------------------------------------

    async def _open(self) -> None:
        application = await self._opened.enter_async_context(
            Application(Settings(db=self._database))
        )
        server = BayesFlowServer(application)
        for wire in WIRES:
            held = connected(Client(server, mode=wire))
            self._clients[wire] = await self._opened.enter_async_context(held)
        client = self._clients["auto"]
        for tool in (await client.list_tools()).tools:
            assert tool.output_schema is not None
            self._schemas[tool.name] = tool.output_schema
        run = {"run_id": self._known["<finished>"]}
        pool = await call(client, "get_pool", run | {"limit": 1})
        best = await call(client, "get_best_workflow", run)
        self._known["<workflow>"] = str(best["workflow_id"])
        self._known["<cursor>"] = str(pool["cursor"])
        judged = {"workflow": best["workflow_id"], "wait_seconds": 45}
        evaluation = await call(client, "evaluate_workflow", run | judged)
        self._known["<evaluation>"] = str(evaluation["evaluation_id"])
        self._known["<baseline>"] = self._known["<workflow>"]
        asked = {"input": "What is 4 plus 5?", "wait_seconds": 45}
        answer = await call(client, "run_workflow", run | asked)
        self._known["<answer>"] = str(answer["answer_id"])
        cancelled = await call(client, "start_bayesflow_run", task_arguments(self._rows))
        self._known["<cancelled>"] = str(cancelled["run_id"])
        await call(client, "cancel_run", {"run_id": cancelled["run_id"]})
        await self._renew()

    async def _renew(self) -> None:
        """Sees to it that there is a run that waits for its client, and a question of it."""
        client = self._clients["auto"]
        run_id, wait = self._known.get("<waiting>"), 0.0
        if run_id is None or not await self._is_alive(run_id):
            request = task_arguments(self._rows, optimizer="client", preset="client", options=None)
            started = await call(client, "start_bayesflow_run", request)
            run_id = self._known["<waiting>"] = str(started["run_id"])
            self._runs, wait = self._runs + 1, _NEWS_SECONDS
        # A question that was given once is not given again for a while: there may be none now.
        look: Arguments = {"run_id": run_id, "limit": 1, "wait_seconds": wait}
        asked = await call(client, "next_proposals", look)
        proposals = asked["proposals"]
        assert isinstance(proposals, list)
        for one in proposals:
            assert isinstance(one, dict)
            self._known["<proposal>"] = str(one["proposal_id"])

    async def _is_alive(self, run_id: str) -> bool:
        look: Arguments = {"run_id": run_id, "wait_seconds": 0}
        return (await call(self._clients["auto"], "get_run", look))["status"] in _ALIVE

    def _filled(self, value: dict[str, object]) -> dict[str, object]:
        """The arguments, with what is really there in place of the names in angle brackets."""
        return cast("dict[str, object]", _replaced(value, self._known))

    # --- what must hold ---------------------------------------------------------------------

    async def _check(self, wire: Wire, tool: str, arguments: dict[str, object]) -> None:
        async with asyncio.timeout(_PATIENCE):
            result = await self._clients[wire].call_tool(tool, arguments)
        self._look_at_result(tool, result)
        await self._look(wire, await self._tidy(tool, result))

    async def _check_other(self, wire: Wire, request: Coroutine[object, object, object]) -> None:
        """A request that is no tool's: it is answered, or refused in one line of ours."""
        said = ""
        try:
            async with asyncio.timeout(_PATIENCE):
                await request
        except MCPError as refused:
            said = refused.error.message
        assert "\n" not in said
        assert len(said) <= _LONGEST_ERROR
        for leak in (*_LEAKS, "Internal"):
            assert leak not in said, said
        await self._look(wire, 0)

    async def _look(self, wire: Wire, started: int) -> None:
        listed = await call(self._clients[wire], "list_runs", {"limit": 1})
        assert listed["runs"]
        assert not self._faults.seen, self._faults.seen[0]
        count = self._look_at_database()
        assert count <= self._runs + started
        self._runs = count

    def _look_at_result(self, tool: str, result: CallToolResult) -> None:
        if result.is_error:
            [block] = result.content
            assert isinstance(block, TextContent)
            assert block.text.strip()
            assert len(block.text) <= _LONGEST_ERROR
            assert "\n" not in block.text
            for leak in _LEAKS:
                assert leak not in block.text, block.text
        else:
            assert result.structured_content is not None
            jsonschema.validate(result.structured_content, self._schemas[tool])
            json.dumps(result.structured_content, allow_nan=False).encode()

    async def _tidy(self, tool: str, result: CallToolResult) -> int:
        """Ends what the call began; returns how many runs it may have begun."""
        done: dict[str, object] = result.structured_content or {}
        if tool in ("start_bayesflow_run", "resume_run") and "run_id" in done:
            if done["run_id"] not in (self._known["<waiting>"], self._known["<finished>"]):
                await call(self._clients["auto"], "cancel_run", {"run_id": str(done["run_id"])})
            return int(tool == "start_bayesflow_run")
        if tool in ("cancel_run", "submit_proposals", "submit_workflow"):
            await self._renew()
        return 0

    def _look_at_database(self) -> int:
        """Every run is whole: it has rows, a request that can be read, and events from the first.

        Returns how many runs there are.
        """
        address = f"file:{self._database}?mode=ro"
        with closing(sqlite3.connect(address, uri=True)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert not db.execute("PRAGMA foreign_key_check").fetchall()
            runs = db.execute("SELECT run_id, request, warnings FROM runs").fetchall()
            rowless = "SELECT run_id FROM runs WHERE run_id NOT IN (SELECT scope FROM dataset_rows)"
            assert not db.execute(rowless).fetchall()
            torn = (
                "SELECT run_id FROM runs r WHERE (SELECT MIN(position) FROM events e WHERE "
                "e.run_id = r.run_id) IS NOT 1 OR (SELECT MAX(position) - COUNT(*) FROM events e "
                "WHERE e.run_id = r.run_id) <> 0"
            )
            assert not db.execute(torn).fetchall()
        for _, request, warnings in runs[-3:]:
            RunSpec.model_validate_json(request)
            assert isinstance(json.loads(warnings), list)
        return len(runs)


def _named(text: str, known: Mapping[str, str]) -> str:
    """The text with the ids that are really there."""
    for name, there in known.items():
        text = text.replace(name, there)
    return text


def _replaced(value: object, known: Mapping[str, str], depth: int = 3) -> object:
    if isinstance(value, str):
        return known[value] if value in PLACEHOLDERS else value
    if isinstance(value, list) and depth:
        return [_replaced(one, known, depth - 1) for one in cast("list[object]", value)]
    if isinstance(value, dict) and depth:
        pairs = cast("dict[str, object]", value).items()
        return {key: _replaced(one, known, depth - 1) for key, one in pairs}
    return cast("object", value)
