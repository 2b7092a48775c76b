"""Plays the agent that writes a run's workflows itself: `optimizer="client"`, over stdio.

    python examples/agent_client.py
    python examples/agent_client.py --executor anthropic:claude-haiku-5-5
    python examples/agent_client.py --rows my_questions.jsonl --most 40

A real agent reads each prompt and writes what it thinks best. This one knows eight designs for word
problems, made of the steps below, and answers with one after the other: enough to show the loop,

    next_proposals → an answer to each prompt → submit_proposals → … until the run has finished,

and that `submit_workflow` puts an idea into the run that nobody asked for.
"""

import argparse
import asyncio
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from headless_client import Result, ToolRefusal, call, print_best, server
from mcp import Client

ARITHMETIC = Path(__file__).resolve().parent / "arithmetic" / "rows.jsonl"


class Step(NamedTuple):
    """A block of a workflow, as it stands in `__call__`."""

    title: str
    body: str


HEAD = '''\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        """Answers one problem; returns the answer and what it cost."""
'''

# The alternatives for each step; whatever comes before, each of them fits.
STEPS = (
    (
        Step(
            "Show two solved problems",
            """\
        turns = [
            {"role": "user", "content": "Pia has 3 pens and buys 4. How many has she now?"},
            {"role": "assistant", "content": "3 + 4 = 7"},
            {"role": "user", "content": "Omar had 9 figs and ate 2. How many are left?"},
            {"role": "assistant", "content": "9 - 2 = 7"},
        ]
""",
        ),
        Step("Show nothing", "        turns = []\n"),
    ),
    (
        Step(
            "Ask once",
            """\
        replies = await self.llm.call_llm(
            messages=[*turns, {"role": "user", "content": problem}],
            temperature=0.0,
            max_tokens=24,
        )
""",
        ),
        Step(
            "Ask three times",
            """\
        replies = await self.llm.call_llm(
            messages=[*turns, {"role": "user", "content": problem}],
            temperature=0.7,
            num_of_response=3,
            max_tokens=24,
        )
""",
        ),
    ),
    (
        Step(
            "Take the first reply",
            '        return replies[0], self.llm.get_usage_summary()["total_cost"]\n',
        ),
        Step(
            "Take the last word that comes most often",
            """\
        words = [reply.split()[-1] for reply in replies if reply.split()]
        votes = [sum(word == other for other in words) for word in words]
        answer = words[votes.index(max(votes))] if words else ""
        return answer, self.llm.get_usage_summary()["total_cost"]
""",
        ),
    ),
)

IDEA = (
    HEAD
    + """\
        # Step 1: Ask for a number and nothing else
        replies = await self.llm.call_llm(
            messages=[problem + " Answer with a single number."], temperature=0.0, max_tokens=24
        )
        return replies[0], self.llm.get_usage_summary()["total_cost"]
"""
)


@dataclass
class Agent:
    """Answers prompts; its n-th design is a binary number, one digit a step."""

    designs: int = 0

    def answer(self, kind: str, prompt: str) -> str:
        """The answer to a proposal: advice for a critique, else code."""
        if kind == "critique":
            return "The replies are hard to read. Show solved problems and read the last number."
        begun = re.findall(r"Write the rest of it, from step (\d+) on", prompt)
        first = int(begun[-1]) if begun else 1
        return f"```python\n{self.design(first)}```"

    def design(self, first: int) -> str:
        """The next design, from this step on."""
        number, self.designs = self.designs, self.designs + 1
        blocks = [
            f"        # Step {place}: {step.title}\n{step.body}"
            for place, step in enumerate(
                (choices[number >> digit & 1] for digit, choices in enumerate(STEPS)), start=1
            )
            if place >= first
        ]
        return (HEAD if first == 1 else "") + "\n".join(blocks)


def main() -> int:
    """Plays; 0 if the run has finished."""
    return asyncio.run(play(parse_arguments()))


async def play(options: argparse.Namespace) -> int:
    """Starts the server and a run, hands in an idea, answers all questions, prints the answer."""
    async with Client(server(options.db)) as client:
        try:
            started = await call(client, "start_bayesflow_run", request(options))
            run = {"run_id": started["run_id"]}
            print(f"{started['run_id']}: rows {started['resolved']['splits']}")
            for sentence in started["warnings"]:
                print(f"note: {sentence}")
            idea = await call(
                client, "submit_workflow", run | {"source": IDEA, "note": "the plain question"}
            )
            print(f"handed in {idea['workflow_id']}: {idea['note']}")
            ended = await answer_all(client, run)
            if ended["status"] != "finished":
                print(f"{ended['status']}\nnext: {ended['next']}")
                return 1
            print_best(await call(client, "get_best_workflow", run))
        except ToolRefusal as refusal:
            print(refusal, file=sys.stderr)
            return 2
    return 0


async def answer_all(client: Client, run: dict[str, Any]) -> Result:
    """Answers the run's questions until it asks no more; prints a line for each batch."""
    agent = Agent()
    while True:
        given = await call(client, "next_proposals", run | {"limit": 4, "wait_seconds": 20})
        if given["status"] not in ("queued", "running", "waiting_for_client"):
            return given
        proposals = given["proposals"]
        if not proposals:
            continue
        answers = [
            {"proposal_id": one["proposal_id"], "text": agent.answer(one["kind"], one["prompt"])}
            for one in proposals
        ]
        taken = await call(client, "submit_proposals", run | {"answers": answers})
        results = [one["result"] for one in taken["answers"]]
        told = ", ".join(
            f"{one['kind']} {result}" for one, result in zip(proposals, results, strict=True)
        )
        print(f"answered {told}; {taken['open_total']} open")


def request(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of start_bayesflow_run: a few rows of each split, inline."""
    taken: dict[str, list[object]] = {}
    for line in options.rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        taken.setdefault(str(row.get("split")), []).append(row)
    return {
        "instructions": "Solve the arithmetic word problem. Answer with a single number.",
        "examples": [row for rows in taken.values() for row in rows[: options.most]],
        "scorer": "numeric",
        "executor": options.executor,
        "optimizer": "client",
        "preset": "client",
        "budget": {"calls": options.calls},
        "name": "an agent at work",
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Write a run's workflows as its agent.")
    parser.add_argument("--executor", default="local:smollm2", help="model the workflows call")
    parser.add_argument("--rows", type=Path, default=ARITHMETIC, help="JSONL of word problems")
    parser.add_argument("--most", type=int, default=12, help="rows taken of each split")
    parser.add_argument("--calls", type=int, default=2000, help="budget: calls to the model")
    parser.add_argument("--db", help="database file (default: the user's)")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
