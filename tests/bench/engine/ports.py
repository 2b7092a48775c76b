"""The sampler's ports with calls that take their time, and an account of what each draw took.

Every draw writes a workflow of its own, so no execution is ever shared and the account is exact.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Step, Workflow
from bench.engine.latencies import Latencies
from bench.engine.provider import Call, Places, Provider

__all__ = ["Account", "Day", "SlowPrior", "SlowRefiner", "SlowReward"]


@dataclass
class Account:
    """What was drawn, by the text of its key.

    Attributes:
        writing: Seconds of the optimizer calls of a draw, one after the other.
        chains: Seconds of each example's calls together, of the workflow that was drawn.
    """

    writing: dict[str, float] = field(default_factory=dict[str, float])
    chains: dict[str, list[float]] = field(default_factory=dict[str, list[float]])


@dataclass
class Day:
    """The circumstances of one search.

    Attributes:
        latencies: What each call takes.
        provider: Who answers.
        steps: Steps of every workflow.
        account: What was drawn so far.
        authors: The draw that wrote each workflow.
    """

    latencies: Latencies
    provider: Provider
    steps: int
    account: Account = field(default_factory=Account)
    authors: dict[str, DrawKey] = field(default_factory=dict[str, DrawKey])

    def write(self, prefix: Workflow, key: DrawKey) -> Workflow:
        """A workflow like no other that begins with `prefix`."""
        written = (
            Step(f"{key.text} {n}", f"        x = {n}\n") for n in range(len(prefix), self.steps)
        )
        workflow = Workflow(PREAMBLE, (*prefix.steps, *written))
        self.authors[workflow.workflow_id] = key
        return workflow


@dataclass(frozen=True)
class SlowPrior:
    """Draws take one optimizer call each."""

    day: Day
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return Workflow(PREAMBLE, ())

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        seconds = self.day.latencies.writing(key.text)
        await self.day.provider.serve(Call("prior", refining=False), seconds)
        self.day.account.writing[key.text] = seconds
        return self.day.write(prefix, key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return await self.extend(prefix, key)


@dataclass(frozen=True)
class SlowRefiner:
    """An edit takes a critique and the writing; it changes the best workflow's last step."""

    day: Day

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        del seen
        seconds = self.day.latencies.refining(key.text)
        for one in seconds:
            await self.day.provider.serve(Call("refiner", refining=True), one)
        self.day.account.writing[key.text] = sum(seconds)
        best = max(pool, key=lambda candidate: candidate.evaluation.mean).workflow
        edited = self.day.write(best.prefix(len(best) - 1), key)
        return Edit(edited, best.workflow_id)


@dataclass(frozen=True)
class SlowReward:
    """Runs a workflow on all of its rows at once; a row is a chain of executor calls.

    Attributes:
        day: The circumstances.
        rows: Validation rows.
        slots: Executions that may be under way at once; None: any number.
    """

    day: Day
    rows: int
    slots: Places | None = None

    def size(self, split: str) -> int:
        return self.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id
        key = self.day.authors[name]
        async with asyncio.TaskGroup() as group:
            for example in range(len(rows.positions)):
                group.create_task(self._execute(key, example))
        reward = uniform(self.day.latencies.seed, "reward", key.text)
        scores = (
            float(uniform(self.day.latencies.seed, key.text, row) < reward)
            for row in rows.positions
        )
        return Evaluation(name, rows, tuple(scores))

    async def _execute(self, key: DrawKey, example: int) -> None:
        chain = self.day.latencies.chain(key.text, example)
        if self.slots is None:
            await self._chain(key, chain)
        else:
            async with self.slots.place(Call("executor", key.kind == "refine")):
                await self._chain(key, chain)
        self.day.account.chains.setdefault(key.text, []).append(sum(chain))

    async def _chain(self, key: DrawKey, chain: tuple[float, ...]) -> None:
        for done, seconds in enumerate(chain):
            call = Call("executor", key.kind == "refine", done, sum(chain[done:]))
            await self.day.provider.serve(call, seconds)
