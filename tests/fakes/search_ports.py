"""The sampler's ports over toys: rewards from a table, a journal in memory, scripted refiners."""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.ports import Edit, Prior
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow

__all__ = [
    "ChattyPrior",
    "CountingPrior",
    "MemoryJournal",
    "NoJournal",
    "NoRefiner",
    "RowReward",
    "ScriptedRefiner",
    "ShuffledPrior",
    "ShuffledReward",
    "TableReward",
    "settle",
]


@dataclass
class TableReward:
    """R(s) from a table, the same on every row; keeps what it was asked."""

    rewards: Mapping[str, float]
    rows: int = 1
    selection_rows: int = 0
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    asked: list[tuple[str, RowSet]] = field(default_factory=list[tuple[str, RowSet]])

    def size(self, split: str) -> int:
        return {"validation": self.rows, "selection": self.selection_rows}.get(split, 0)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id
        self.asked.append((name, rows))
        scores = (self.rewards.get(name, 0.0),) * len(rows.positions)
        return Evaluation(name, rows, scores, self.failures.get(name))


@dataclass
class RowReward:
    """0/1 row scores with mean near R(s): row scores are fixed draws, so the full mean is a fact.

    `full(workflow_id)` is that fact, the reward that the posterior must use.
    """

    rewards: Mapping[str, float]
    rows: int
    seed: int = 0
    _known: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    def size(self, split: str) -> int:
        return self.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id
        return Evaluation(name, rows, tuple(self._row(name, row) for row in rows.positions))

    def full(self, workflow_id: str) -> float:
        return sum(self._row(workflow_id, row) for row in range(self.rows)) / self.rows

    def _row(self, name: str, row: int) -> float:
        if (name, row) not in self._known:
            right = uniform(self.seed, "row", name, row) < self.rewards[name]
            self._known[name, row] = float(right)
        return self._known[name, row]


@dataclass
class MemoryJournal:
    """Keeps draws in a dict; refuses to record a key twice."""

    draws: dict[str, str] = field(default_factory=dict[str, str])

    async def recall(self, key: DrawKey) -> str | None:
        return self.draws.get(key.text)

    async def record(self, key: DrawKey, draw: str) -> None:
        assert key.text not in self.draws, f"{key.text} was drawn twice"
        self.draws[key.text] = draw


class NoJournal:
    """Remembers nothing."""

    async def recall(self, key: DrawKey) -> str | None:
        return None

    async def record(self, key: DrawKey, draw: str) -> None:
        return None


class NoRefiner:
    """For searches without refinements."""

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        raise AssertionError("no refinement was asked for")


@dataclass
class ScriptedRefiner:
    """Answers with the given workflows in turn; keeps the pool and the seen it was shown."""

    edits: Sequence[Workflow]
    pools: list[list[str]] = field(default_factory=list[list[str]])
    seen: list[frozenset[str]] = field(default_factory=list[frozenset[str]])

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        edit = self.edits[len(self.pools) % len(self.edits)]
        self.seen.append(frozenset(seen))
        self.pools.append([candidate.workflow.workflow_id for candidate in pool])
        return Edit(edit, pool[0].workflow.workflow_id)


@dataclass
class ChattyPrior:
    """Goes on from any prefix: the inner prior from its own, a foreign workflow from its."""

    inner: Prior
    foreign: Workflow
    coherent: bool = False

    @property
    def root(self) -> Workflow:
        return self.inner.root

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        known = prefix.steps and prefix == self.foreign.prefix(len(prefix))
        return self.foreign if known else await self.inner.extend(prefix, key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return await self.extend(prefix, key)


@dataclass
class CountingPrior:
    """Keeps every draw it was asked for, with the prefix it conditions on."""

    inner: Prior
    asked: list[tuple[DrawKey, Workflow]] = field(default_factory=list[tuple[DrawKey, Workflow]])

    @property
    def root(self) -> Workflow:
        return self.inner.root

    @property
    def coherent(self) -> bool:
        return self.inner.coherent

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        self.asked.append((key, prefix))
        return await self.inner.extend(prefix, key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        self.asked.append((key, prefix))
        return await self.inner.complete(prefix, key)


async def settle(order: random.Random) -> None:
    """Lets a random number of other tasks go first."""
    for _ in range(order.randrange(12)):
        await asyncio.sleep(0)


@dataclass
class ShuffledPrior:
    """A prior whose draws complete in random order."""

    inner: Prior
    order: random.Random

    @property
    def root(self) -> Workflow:
        return self.inner.root

    @property
    def coherent(self) -> bool:
        return self.inner.coherent

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await settle(self.order)
        return await self.inner.extend(prefix, key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await settle(self.order)
        return await self.inner.complete(prefix, key)


@dataclass
class ShuffledReward:
    """A reward whose scores arrive in random order."""

    inner: RowReward | TableReward
    order: random.Random

    def size(self, split: str) -> int:
        return self.inner.size(split)

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        await settle(self.order)
        return await self.inner.score(workflow, rows)
