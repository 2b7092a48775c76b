"""A run that asks its client, without a search behind it: boards over a file, and their house."""

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bayesflow_sampler.ports import Prompt, PromptKind
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.lease import Lease
from bayesflow_server.runs.proposals import ProposalBoard
from bayesflow_server.runs.request import resolve
from bayesflow_server.store.records import NewRun, RunStatus
from bayesflow_server.store.store import Store
from fakes.models import FakeModel, FakeRegistry
from fakes.tasks import answer_addition, request

__all__ = ["GRAMMAR_RUN", "RUN", "House", "Opened", "asking", "open_house", "pinned", "prompt"]

RUN = "run_asking"
GRAMMAR_RUN = "run_grammar"


def prompt(name: str, kind: PromptKind = "extend", question: str = "Write step 1.") -> Prompt:
    return Prompt(name, kind, "The task: add.\n", question)


@dataclass
class Opened:
    """Keeps how many questions were open."""

    counts: list[int] = field(default_factory=list[int])
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def __call__(self, count: int) -> None:
        self.counts.append(count)
        self.told.set()

    async def reach(self, count: int) -> None:
        while count not in self.counts:
            self.told.clear()
            await self.told.wait()


@dataclass
class House:
    """A run that works, as another process's lease says, and the store it is kept in."""

    store: Store
    lease: Lease

    def board(self, store: Store | None = None) -> ProposalBoard:
        return ProposalBoard(store or self.store, RUN, Opened())

    async def set_status(self, status: RunStatus) -> None:
        await self.store.update_run(RUN, status=status)


def pinned(optimizer: str, **changes: str) -> str:
    """A run's request, with other models than it was checked for."""
    specification = json.loads(
        resolve(request(), FakeRegistry(FakeModel(answer_addition)), PriceTable()).model_dump_json()
    )
    return json.dumps(specification | {"optimizer": optimizer, **changes})


@asynccontextmanager
async def open_house(path: Path) -> AsyncGenerator[House]:
    """Two runs that work, one of which asks its client."""
    lease = Lease(path)
    async with await Store.open(path) as store:
        lease.acquire()
        for run_id, optimizer in ((RUN, "client"), (GRAMMAR_RUN, "grammar")):
            await store.create_run(NewRun(run_id, pinned(optimizer), "hash"), [])
            await store.claim_run(run_id, lease.owner, from_owner=None, statuses=["queued"])
        yield House(store, lease)
        lease.release()


@asynccontextmanager
async def asking(
    board: ProposalBoard, *names: str, question: str = "Write step 1."
) -> AsyncGenerator[list[asyncio.Task[str]], None]:
    """The board's questions of these names, once all are open; stopped at the end."""

    async def ask(name: str) -> str:
        return (await board.write(prompt(name, question=question))).text

    opened = Opened()
    board.on_open = opened
    tasks = [asyncio.create_task(ask(name)) for name in names]

    await opened.reach(len(names))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
