"""A run's side of ask/tell: it posts questions, waits for answers, takes the agent's workflows.

`ProposalBoard` is the sampler's `TextModel`, `Submissions` its `Suggestions`. Both keep all they
know in the store: after a restart the same question finds its row, and an answer that came while
nobody worked on the run is used.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from bayesflow_sampler.codec import decode_workflows
from bayesflow_sampler.ports import Prompt, Reply
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import DrawKey, Workflow
from bayesflow_server.errors import StoreError
from bayesflow_server.store.records import ProposalRecord
from bayesflow_server.store.store import Store
from bayesflow_server.store.text import storable

__all__ = ["ProposalBoard", "Submissions", "suggestion_key"]

# How soon an answer that another process took in is seen; each look is one read.
_LOOK_SECONDS: Final = 0.5


@dataclass
class ProposalBoard:
    """Asks the client of one run; several questions wait at once.

    A question whose asker is cancelled stays open, with its answer if one comes.

    Attributes:
        store: Where the questions are kept.
        run_id: Whose they are.
        on_open: Told how many questions wait for an answer whenever that changes.
    """

    store: Store
    run_id: str
    on_open: Callable[[int], None]
    _waiting: dict[str, asyncio.Future[str]] = field(
        default_factory=dict[str, asyncio.Future[str]], init=False
    )
    # Invariant: while a question waits, one task looks for the answers of all that do.
    _watcher: asyncio.Task[None] | None = field(default=None, init=False)

    async def write(self, prompt: Prompt) -> Reply:
        """Asks, and returns once there is an answer, however long that takes.

        Raises:
            StoreError: The store cannot be read or written; the question stays open.
        """
        question = await self.store.open_proposal(self._question(prompt))
        if question.answer is not None:
            return Reply(question.answer)
        return Reply(await self._answer(prompt.name))

    def _question(self, prompt: Prompt) -> ProposalRecord:
        return ProposalRecord(
            run_id=self.run_id,
            name=prompt.name,
            proposal_id="prop_" + uuid.uuid4().hex[:12],
            kind=prompt.kind,
            prompt=storable(f"{prompt.shared.rstrip()}\n\n{prompt.question.lstrip()}"),
            answer=None,
            given_until=None,
            created=time.time(),
            answered=None,
        )

    async def _answer(self, name: str) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        self._watcher = self._watcher or asyncio.create_task(self._watch())
        self.on_open(len(self._waiting))
        try:
            return await answer
        finally:
            self._waiting.pop(name, None)
            self.on_open(len(self._waiting))
            if not self._waiting:
                await self._rest()

    async def _rest(self) -> None:
        """Nobody waits any more."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.cancel()
            await asyncio.wait([watcher])

    async def _watch(self) -> None:
        """Hands each answer to whoever waits for it."""
        while True:
            since = self.store.proposal_changes
            try:
                answers = await self.store.answers(self.run_id, self._waiting.keys())
            except StoreError as error:
                self._fail(error)
                return
            for name, text in answers.items():
                waiting = self._waiting.get(name)
                if waiting is not None and not waiting.done():
                    waiting.set_result(text)
            await self.store.wait_for_proposal_change(since, _LOOK_SECONDS)

    def _fail(self, error: StoreError) -> None:
        self._watcher = None
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(StoreError(str(error)))


@dataclass
class Submissions:
    """The workflows that clients hand in to one run.

    Attributes:
        store: Where they are kept.
        run_id: Whose they are.
    """

    store: Store
    run_id: str

    async def take(self, number: int) -> Sequence[Workflow]:
        """The workflows handed in behind those that the rounds before have in the journal."""
        taken = 0
        for earlier in range(1, number):
            known = await self.store.recall_draw(self.run_id, suggestion_key(earlier))
            taken += len(decode_workflows(known)) if known else 0
        records = await self.store.submissions(self.run_id, after=taken)
        return [parse_workflow(record.source) for record in records]


def suggestion_key(number: int) -> str:
    """Where the search journals what round `number` took."""
    return DrawKey("suggest", number, 0).text
