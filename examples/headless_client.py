"""Finds a workflow without a chat: starts the server over stdio, runs a task, prints what it found.

    python examples/headless_client.py
    python examples/headless_client.py --executor anthropic:claude-haiku-5-5 --calls 2000
    python examples/headless_client.py --optimizer anthropic:claude-sonnet-5-5 --usd 3
    python examples/headless_client.py --rows my_questions.jsonl

The task is `arithmetic/task.toml` beside this file, or one named by --task. The files that it names
are sent as text (grammar, baseline) or as an absolute path (rows).
"""

import argparse
import asyncio
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp.types import TextContent

Result = Mapping[str, Any]

# What a task.toml and start_bayesflow_run both know; the rest is for the command line.
SHARED = (
    "instructions", "executor", "scorer", "baseline", "fields", "answer_format", "preset",
    "budget", "options", "seed", "name",
)  # fmt: skip


def main() -> int:
    """Runs the task; 0 if the run has finished."""
    options = parse_arguments()
    return asyncio.run(find_workflow(options))


async def find_workflow(options: argparse.Namespace) -> int:
    """Starts the server, follows one run to its end, prints pool and best workflow."""
    async with Client(server(options.db)) as client:
        try:
            started = await call(client, "start_bayesflow_run", request(options))
            print_start(started)
            state = await follow(client, started["run_id"])
            if state["status"] != "finished":
                print(f"{state['status']}: {state['reason']}\nnext: {state['next']}")
                return 1
            run = {"run_id": started["run_id"]}
            print_pool(await call(client, "get_pool", run | {"sort": "validation", "limit": 5}))
            print_best(await call(client, "get_best_workflow", run))
        except ToolRefusal as refusal:
            print(refusal, file=sys.stderr)
            return 2
    return 0


def server(db: str | None) -> StdioServerParameters:
    """The server as a child process of this one, with the environment's keys and settings."""
    arguments = ["-m", "bayesflow_server", *(["--db", db] if db else [])]
    return StdioServerParameters(command=sys.executable, args=arguments, env=dict(os.environ))


def request(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of start_bayesflow_run: the task file's, changed by flags; paths absolute."""
    task = tomllib.loads(options.task.read_text(encoding="utf-8"))
    arguments = {name: task[name] for name in SHARED if name in task}
    folder = options.task.parent
    rows = options.rows or folder / task["examples"]
    arguments["examples"] = str(rows.resolve())
    # Nobody is here to answer proposals, so without another word the grammar writes.
    arguments["optimizer"] = options.optimizer or task.get("optimizer", "grammar")
    if "grammar" in task and arguments["optimizer"] == "grammar":
        arguments["grammar"] = (folder / task["grammar"]).read_text(encoding="utf-8")
    if task.get("baseline", "").endswith(".py"):
        arguments["baseline"] = (folder / task["baseline"]).read_text(encoding="utf-8")
    if options.executor:
        arguments["executor"] = options.executor
    if options.preset:
        # Another preset's settings, so not the ones tuned for this task's own.
        arguments["preset"] = options.preset
        arguments.pop("options", None)
    if options.calls or options.usd:
        limits = {"calls": options.calls, "usd": options.usd}
        arguments["budget"] = {name: limit for name, limit in limits.items() if limit}
    return arguments


async def follow(client: Client, run_id: str) -> Result:
    """Polls until nobody works on the run any more; prints a line for every change of phase."""
    state = await call(client, "get_run", {"run_id": run_id, "wait_seconds": 0})
    told = ""
    while state["status"] in ("queued", "running"):
        phase, spent = state["phase"], state["spent"]
        if phase["doing"] != told:
            told = phase["doing"]
            best = state["best_so_far"]
            found = f", best so far {best['shrunk']:.2f}" if best else ""
            print(f"{told} ({spent['calls']} calls, {spent['cached']} from the cache{found})")
        look = {"run_id": run_id, "wait_seconds": 20, "since_revision": state["revision"]}
        state = await call(client, "get_run", look)
    return state


class ToolRefusal(Exception):
    """A tool refused; its sentence says why and what to do."""


async def call(client: Client, tool: str, arguments: dict[str, Any]) -> Result:
    """The structured result of a tool."""
    result = await client.call_tool(tool, arguments)
    if result.is_error or result.structured_content is None:
        texts = [block.text for block in result.content if isinstance(block, TextContent)]
        raise ToolRefusal("\n".join(texts))
    return result.structured_content


def print_start(started: Result) -> None:
    """What the server understood, and what it may take."""
    estimate = started["estimate"]
    print(f"{started['run_id']}: rows {started['resolved']['splits']}")
    print(f"about {estimate['calls']} calls, {estimate['minutes']:.0f} minutes")
    for sentence in (*started["resolved"]["guesses"], *started["warnings"]):
        print(f"note: {sentence}")


def print_pool(pool: Result) -> None:
    """The best few of the pool."""
    print(f"\npool: {pool['total']} workflows, {pool['diversity']['structures']} structures")
    for item in pool["items"]:
        validation = item["validation"]
        score = f"{validation['shrunk']:.2f}" if validation else "   -"
        print(f"  {score}  {item['workflow_id']}  {' > '.join(item['step_titles'])}")


def print_best(best: Result) -> None:
    """The answer: source, and how good it is on rows the search never saw."""
    test, gain, baseline = best["test"], best["gain"], best["baseline"]["test"]
    print(f"\n{best['source']}")
    print(f"best      {test['score']:.3f}  ({test['low']:.3f} to {test['high']:.3f}) on test rows")
    print(f"baseline  {baseline['score']:.3f}  ({baseline['low']:.3f} to {baseline['high']:.3f})")
    print(f"gain      {gain['delta']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})")
    print(f"beats the baseline: {best['beats_baseline']}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find an LLM workflow over MCP, headless.")
    here = Path(__file__).resolve().parent
    parser.add_argument("--task", type=Path, default=here / "arithmetic" / "task.toml")
    parser.add_argument("--rows", type=Path, help="other rows for the same task")
    parser.add_argument("--executor", help="model the workflows call (default: the task's)")
    parser.add_argument("--optimizer", help="model that writes the workflows, or grammar")
    parser.add_argument("--preset", choices=["quick", "balanced", "paper"])
    parser.add_argument("--calls", type=int, help="budget: calls that reach the model")
    parser.add_argument("--usd", type=float, help="budget: US dollars at list price")
    parser.add_argument("--db", help="database file (default: the user's)")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
