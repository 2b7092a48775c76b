"""The way of an agent with a real benchmark through every tool, and what was told and kept on it.

The model is the real local one. `travel` asserts nothing; its reader does.
"""

import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, cast

from mcp import Client

from bayesflow_server.app import Application
from bayesflow_server.evaluation.scorers import Choice, Numeric, parse_scorer
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.settings import Settings
from bayesflow_server.store.records import ExecutionRecord, UsageRecord
from fakes.mcp_sessions import WORKFLOW, Arguments, Object, call, settled, whole_text

__all__ = ["EACH", "MODEL", "PASSES", "TOP", "Journey", "Sample", "travel"]

FOLDER = Path(os.environ.get("BAYESFLOW_TEST_DATA", ""))
MODEL = "local:smollm2"
EACH, TOP, PASSES = 4, 3, 2
BASELINE = WORKFLOW.replace("temperature=0.0", "temperature=0.0, max_tokens=6")
# A reply that says nothing is replaced by a guess, so that some answers are right.
GRAMMAR = '''
title = "asking"
start = "ask"

[helpers]
guess = """
import re


def guess(problem):
    options = re.findall(r"[(]([A-J])[)] (.*)", problem)
    if options:
        return max(options, key=lambda option: len(option[1]))[0]
    product = 1
    for number in re.findall(r"[0-9]+", problem):
        product = product * int(number)
    return str(product)
"""

[[production]]
state = "ask"
title = "Ask at temperature <<t>>"
each = { t = ["0.0", "0.8"] }
next = "read"
code = """
replies = await self.llm.call_llm(
    messages=["Answer: " + problem], temperature=<<t>>, max_tokens=6
)
reply = replies[0]
"""

[[production]]
state = "read"
title = "Return the reply"
code = "return reply, 0.0"

[[production]]
state = "read"
title = "Return the reply, or a guess where it says nothing"
uses = ["guess"]
code = """
if re.search(r"[0-9]|[(][A-J][)]", reply):
    return reply, 0.0
return guess(problem), 0.0
"""
'''


class Sample(NamedTuple):
    """A benchmark's file, and what is expected of it.

    Attributes:
        name: Of the file, without `.jsonl`.
        rows: How many it has.
        scorer: Kind of the scorer that its expected answers suggest.
        instructions: What a run is told.
    """

    name: str
    rows: int
    scorer: str
    instructions: str

    @property
    def path(self) -> Path:
        """Where it is expected."""
        return FOLDER / f"{self.name}.jsonl"

    def lines(self) -> list[str]:
        """The lines of the file, the shortest inputs first."""
        lines = self.path.read_text("utf-8").splitlines()
        return sorted(lines, key=lambda line: (len(json.loads(line)["input"]), line))


@dataclass
class Journey:
    """What an agent was told on its way, and what the store held then, by step.

    Attributes:
        sample: The benchmark.
        told: What a tool answered; of `state`, what get_run said at last.
        executed: The executions of the run, the evaluation or the answer.
        asked: How many answers of the model were on record after the step, and their tokens.
        used: The sums that the run, the evaluation or the answer is charged with.
    """

    sample: Sample
    told: dict[str, Object] = field(default_factory=dict[str, Object])
    executed: dict[str, list[ExecutionRecord]] = field(
        default_factory=dict[str, list[ExecutionRecord]]
    )
    asked: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    used: dict[str, list[UsageRecord]] = field(default_factory=dict[str, list[UsageRecord]])

    @property
    def targets(self) -> Mapping[str, str]:
        """The expected answer of each row of the file."""
        rows = [json.loads(line) for line in self.sample.lines()]
        return {str(row["id"]): str(row["target"]) for row in rows}

    @property
    def scorer(self) -> Numeric | Choice:
        """The scorer that the benchmark suggests."""
        found = parse_scorer(self.sample.scorer)
        assert isinstance(found, Numeric | Choice)
        return found

    def report(self, name: str) -> Object:
        """The report of an evaluation."""
        return cast("Object", self.told[name]["report"])


def completions(database: Path) -> tuple[int, int]:
    """How many answers of models are on record, and their tokens."""
    connection = sqlite3.connect(database)
    try:
        sums = "SELECT count(*), sum(input_tokens + output_tokens) FROM completions"
        [(count, tokens)] = connection.execute(sums)
    finally:
        connection.close()
    return count, tokens or 0


async def travel(sample: Sample, folder: Path) -> Journey:
    """Check, run, pool, best, evaluations, a vote, a script: all over MCP."""
    lines = sample.lines()
    validation, test = (
        [line for line in lines if json.loads(line)["split"] == split] for split in ("val", "test")
    )
    few = [*validation[:EACH], *test[:EACH]]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(f"{line}\n" for line in few), "utf-8")
    unseen = next(json.loads(line)["input"] for line in lines if line not in few)
    task: Arguments = {
        "instructions": sample.instructions,
        "executor": MODEL,
        "examples": str(rows),
        "optimizer": "grammar",
        "grammar": GRAMMAR,
        "baseline": BASELINE,
        "preset": "quick",
        "options": {"particles": 2, "rounds": 2, "refinements": 1, "minibatch": 3},
    }
    journey, database = Journey(sample), folder / "runs.sqlite3"

    async with Application(Settings(db=database)) as application:
        store = (await application.runs()).workplace.store
        async with Client(BayesFlowServer(application)) as client:

            async def ask(step: str, tool: str, arguments: Mapping[str, object]) -> Object:
                found = await call(client, tool, arguments)
                identity = ("evaluation_id", "answer_id", "run_id")
                scope = next((str(found[name]) for name in identity if found.get(name)), None)
                while found.get("status") == "running" and tool != "start_bayesflow_run":
                    wait = {name: found[name] for name in identity[:2] if name in found}
                    found = await call(client, tool, {**wait, "wait_seconds": 45})
                if tool == "start_bayesflow_run":
                    journey.told["state"] = await settled(client, scope)
                journey.told[step] = found
                if scope is not None:
                    journey.executed[step] = await store.all_executions(scope)
                    journey.used[step] = await store.usage(scope)
                journey.asked[step] = completions(database)
                return found

            await ask("file", "check_task", {"examples": str(sample.path)})
            await ask("check", "check_task", task)
            started = await ask("run", "start_bayesflow_run", task)
            run: Arguments = {"run_id": started["run_id"]}
            await ask("pool", "get_pool", run)
            best = await ask("best", "get_best_workflow", run)
            baseline = cast("Object", best["baseline"])["workflow_id"]
            wanted: Arguments = {"workflow_id": best["workflow_id"], "format": "script"}
            script = await ask("script", "get_workflow", wanted)
            script["text"] = await whole_text(client, wanted)
            pair: Arguments = run | {
                "compare_with": baseline,
                "split": "test",
                "replicates": PASSES,
                "wait_seconds": 45,
            }
            await ask("pair", "evaluate_workflow", pair | {"workflow": best["workflow_id"]})
            await ask("again", "evaluate_workflow", pair | {"workflow": script["text"]})
            together = run | {"split": "test", "replicates": PASSES, "top": TOP}
            await ask("top", "evaluate_workflow", together | {"wait_seconds": 45})
            question = run | {"input": unseen, "top": TOP, "wait_seconds": 45}
            await ask("vote", "run_workflow", question | {"vote": "weighted"})
            await ask("vote again", "run_workflow", question | {"vote": "weighted"})
    return journey
