"""The sampler's ports with calls that take their time, and an account of what each draw took.

Every draw writes a workflow of its own, so no execution is ever shared and the account is exact.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Step, Workflow
from bayesflow_sampler.urgency import AHEAD
from bench.engine.latencies import Latencies
from bench.engine.provider import Call, Places, Provider

__all__ = ["Account", "Day", "SlowPrior", "SlowRefiner", "SlowReward"]


@dataclass
class Account:
    """What was drawn, by the text of its key.

    Attributes:
        writing: Seconds of the optimizer calls of a draw, one after the other.
        chains: Seconds of each example's calls together, when what was drawn was first scored.
        rescored: The same of edits that were scored again, by the round whose edits waited for it.
    """

    writing: dict[str, float] = field(default_factory=dict[str, float])
    chains: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    rescored: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    _again: list[float] = field(default_factory=list[float])

    def scored(self, name: str, chains: list[float]) -> None:
        """Notes a scoring; only edits are scored more than once, before their round's first."""
        if name in self.chains:
            self._again += chains
        else:
            self.chains[name] = chains

    def refined(self, key: DrawKey, seconds: float) -> None:
        """Notes an edit."""
        if key.particle == 0:
            self.rescored[key.round], self._again = self._again, []
        self.writing[key.text] = seconds


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
        await self.day.provider.serve(Call("prior", AHEAD.get()), seconds)
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
        self.day.account.refined(key, sum(seconds))
        for one in seconds:
            await self.day.provider.serve(Call("refiner", AHEAD.get()), one)
        best = max(pool, key=lambda candidate: candidate.evaluation.mean).workflow
        edited = self.day.write(best.prefix(len(best) - 1), key)
        return Edit(edited, best.workflow_id)


@dataclass(frozen=True)
class SlowReward:
    """Runs a workflow on all rows that are new to it at once; a row is a chain of executor calls.

    Attributes:
        day: The circumstances.
        rows: Validation rows.
        room: Where an execution finds its place; None: there is room for all.
        executed: The rows that each workflow has behind it.
    """

    day: Day
    rows: int
    room: Callable[[Call], Places] | None = None
    executed: dict[str, set[int]] = field(default_factory=dict[str, set[int]])

    def size(self, split: str) -> int:
        return self.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id
        key = self.day.authors[name]
        done = self.executed.setdefault(name, set())
        new = [position for position in rows.positions if position not in done]
        done.update(new)
        chains = [self.day.latencies.chain(key.text, position) for position in new]
        self.day.account.scored(key.text, [sum(chain) for chain in chains])
        async with asyncio.TaskGroup() as group:
            for chain in chains:
                group.create_task(self._execute(chain))
        reward = uniform(self.day.latencies.seed, "reward", key.text)
        scores = (
            float(uniform(self.day.latencies.seed, key.text, row) < reward)
            for row in rows.positions
        )
        return Evaluation(name, rows, tuple(scores))

    async def _execute(self, chain: tuple[float, ...]) -> None:
        call = Call("executor", AHEAD.get())
        if self.room is None:
            await self._chain(chain)
        else:
            async with self.room(call).place(call):
                await self._chain(chain)

    async def _chain(self, chain: tuple[float, ...]) -> None:
        for done, seconds in enumerate(chain):
            call = Call("executor", AHEAD.get(), done, sum(chain[done:]))
            await self.day.provider.serve(call, seconds)
