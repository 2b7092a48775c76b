"""A large search with ports that answer at once, and what the engine itself takes for it.

The ports keep account of their own processor time, which is then taken off. Not taken off, and so
the engine's: rendering a workflow's source and its content address, the tasks, writing draws as
JSON for the journal, weights, selection, the generations.
"""

import asyncio
import json
import sys
import time
import tracemalloc
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bayesflow_sampler.grammar import PREAMBLE, Grammar, Production
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Step, Workflow

__all__ = ["PARTICLES", "ROUNDS", "Weight", "main", "weigh_search"]

PARTICLES: Final = 1000
ROUNDS: Final = 10
_ROWS: Final = 50
_CHOICES: Final = 4
_MEBIBYTE: Final = 2**20


class Weight(NamedTuple):
    """What a search took.

    Attributes:
        draws: Workflows drawn and edited.
        engine_ms: The engine's own processor time.
        ports_ms: The time of the prior, the reward, the refiner and the journal.
        peak_mb: The most memory that was allocated at once.
        journal_mb: Of that, the text that the journal in memory holds.
    """

    draws: int
    engine_ms: float
    ports_ms: float
    peak_mb: float
    journal_mb: float


@dataclass
class Account:
    """Processor time spent in the ports."""

    nanoseconds: int = 0

    @contextmanager
    def spent(self) -> Generator[None]:
        """Nothing is awaited within."""
        started = time.thread_time_ns()
        yield
        self.nanoseconds += time.thread_time_ns() - started


@dataclass(frozen=True)
class _Prior:
    grammar: Grammar
    account: Account
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return Workflow(PREAMBLE, ())

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        with self.account.spent():
            return self.grammar.complete(prefix.steps, 0, *key)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return await self.extend(prefix, key)


@dataclass
class _Reward:
    """A table with one row of scores for each number of right answers."""

    account: Account
    effects: dict[Step, float] = field(default_factory=dict[Step, float])

    def size(self, split: str) -> int:
        return _ROWS if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id  # not the table's time: whoever stores a score needs it
        with self.account.spent():
            count = len(rows.positions)
            share = sum(self._effect(step) for step in workflow.steps) / len(workflow.steps)
            right = round(share * count)
            return Evaluation(name, rows, (1.0,) * right + (0.0,) * (count - right))

    def _effect(self, step: Step) -> float:
        if step not in self.effects:
            self.effects[step] = uniform(1, step.title)
        return self.effects[step]


@dataclass(frozen=True)
class _Refiner:
    """Changes the last step of the first workflow in the pool."""

    account: Account

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        del seen
        parent = pool[0].workflow
        parent_id = parent.workflow_id
        with self.account.spent():
            steps = (*parent.steps[:-1], _step(len(parent.steps) - 1, f"edit {key.text}"))
            return Edit(Workflow(PREAMBLE, steps), parent_id)


@dataclass
class _Journal:
    account: Account
    draws: dict[str, str] = field(default_factory=dict[str, str])

    async def recall(self, key: DrawKey) -> str | None:
        with self.account.spent():
            return self.draws.get(key.text)

    async def record(self, key: DrawKey, draw: str) -> None:
        with self.account.spent():
            self.draws[key.text] = draw


def weigh_search(options: SearchOptions) -> Weight:
    """Runs the search twice: for the time, and for the memory, whose tracing takes time."""
    account = Account()
    journal = _Journal(account)
    spent = _run(options, account, journal)
    took = account.nanoseconds
    journal.draws.clear()
    tracemalloc.start()
    _run(options, account, journal)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return Weight(
        draws=len(journal.draws),
        engine_ms=(spent - took) / 1e6,
        ports_ms=took / 1e6,
        peak_mb=peak / _MEBIBYTE,
        journal_mb=sum(map(sys.getsizeof, journal.draws.values())) / _MEBIBYTE,
    )


def _run(options: SearchOptions, account: Account, journal: _Journal) -> int:
    """Processor time in nanoseconds. Each generation is let go before the next is asked for."""
    search = Search(
        _Prior(_grammar(), account), _Reward(account), _Refiner(account), journal, options, 0
    )
    started = time.process_time_ns()
    asyncio.run(_exhaust(search))
    return time.process_time_ns() - started


async def _exhaust(search: Search) -> None:
    async for _ in search.generations():
        pass


def main() -> None:
    """Weighs a search in this process; prints the figures as JSON."""
    rollouts, refinements = map(int, sys.argv[-2:])
    options = SearchOptions(
        particles=PARTICLES, rollouts=rollouts, refinements=refinements, rounds=ROUNDS
    )
    sys.stdout.write(json.dumps(weigh_search(options)))


def _grammar() -> Grammar:
    """Ten steps of four choices each, every step as long as steps are in earnest."""
    productions = {
        str(place): tuple(
            Production(
                _step(place, f"choice {choice}"),
                1 / _CHOICES,
                str(place + 1) if place + 1 < ROUNDS else None,
            )
            for choice in range(_CHOICES)
        )
        for place in range(ROUNDS)
    }
    return Grammar("weighing", "0", productions)


def _step(place: int, way: str) -> Step:
    body = (
        f"        prompt_{place} = (\n"
        f'            "Read the problem again and {way}: name every quantity in it, then say in "\n'
        f'            f"one line what follows from them for part {place}.\\n\\n{{problem}}"\n'
        f"        )\n"
        f"        reply_{place} = await self.llm.agent(prompt_{place}, temperature=0.7)\n"
        f"        notes_{place} = reply_{place}['response'].strip()\n"
    )
    return Step(f"Part {place}, {way}", body)
