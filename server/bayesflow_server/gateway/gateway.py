"""Every model call of the server passes here: cache, one call a question, limits, budget, account.

    complete(request) → key → lock on the key → cached? → line to the model (`line.py`)
                                                  └→ stored and counted, then returned

A completion is on disk before anyone sees it, so a crash repeats at most the calls in flight.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, cast

from bayesflow_server.errors import InputError
from bayesflow_server.gateway.budget import Budget
from bayesflow_server.gateway.cache_key import CallContext, completion_key, sample_number
from bayesflow_server.gateway.deadline import Deadline
from bayesflow_server.gateway.line import Call, Line
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import (
    ChatModel,
    ChatRequest,
    Completion,
    ManySampler,
    StopReason,
    Usage,
)
from bayesflow_server.store.records import CompletionRecord, Role, UsageDelta
from bayesflow_server.store.store import Store
from bayesflow_server.store.text import storable

__all__ = ["Answer", "Gateway", "ModelSession"]

_DEFAULT_TIMING: Final = Timing()
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, and whether the cache gave it."""

    completion: Completion
    cached: bool


class Gateway:
    """Shared by every run of the process: the store's cache, and one line to each model."""

    def __init__(
        self,
        store: Store,
        *,
        prices: PriceTable | None = None,
        timing: Timing = _DEFAULT_TIMING,
    ) -> None:
        """Takes the store and the launch's decisions.

        Args:
            store: Where the answers are kept.
            prices: What tokens cost; the public lists if None.
            timing: Deadlines, pauses and patience.
        """
        self.prices = PriceTable() if prices is None else prices
        self.timing = timing
        self._store = store
        self._lines: dict[str, Line] = {}
        self._locks: dict[str, _Lock] = {}

    def session(
        self, model: ChatModel, budget: Budget, *, scope: str, role: Role
    ) -> "ModelSession":
        """Calls to `model` on the account of `scope` (a run or an evaluation).

        Raises:
            InputError: The budget is in dollars, and the model's price is unknown.
        """
        if budget.limits.usd is not None and not self.prices.is_known(model.spec):
            raise InputError(
                f"The price of {model.spec} is not known here, so a budget in dollars cannot hold; "
                "give `budget` as calls, tokens or minutes."
            )
        return ModelSession(self, model, budget, scope, role)

    async def complete(
        self,
        session: "ModelSession",
        request: ChatRequest,
        context: CallContext,
        deadline: Deadline | None = None,
    ) -> Answer:
        """Answers the request from the cache or the model.

        Raises:
            BudgetSpentError: The budget has no room for the call.
            ProviderError: The provider kept failing.
            ModelUnavailableError: The model cannot be used here.
        """
        key = completion_key(session.model, request, context)
        async with self._alone(key):
            known = await self._known(session, key)
            if known is not None:
                return known
            (answer,) = await self._buy(session, request, [key], deadline)
            return answer

    async def complete_many(
        self,
        session: "ModelSession",
        request: ChatRequest,
        contexts: Sequence[CallContext],
        deadline: Deadline | None = None,
    ) -> list[Answer]:
        """Answers the request once for each context, in their order; raises as `complete`.

        What is cached is not asked. The rest goes to a `ManySampler` in as few calls as it takes,
        to any other model in single calls at once. A call that fails leaves the answers of the
        others in the cache.
        """
        keys = [completion_key(session.model, request, context) for context in contexts]
        answers: dict[str, Answer] = {}
        async with AsyncExitStack() as stack:
            for key in sorted(set(keys)):  # in one order for everyone, or two could wait crosswise
                await stack.enter_async_context(self._alone(key))
            new: list[str] = []
            for key in dict.fromkeys(keys):
                known = await self._known(session, key)
                if known is None:
                    new.append(key)
                else:
                    answers[key] = known
            model = session.model
            most = max(1, model.most_samples) if isinstance(model, ManySampler) else 1
            chunks = [new[start : start + most] for start in range(0, len(new), most)]
            bought = await _all([self._buy(session, request, some, deadline) for some in chunks])
        for some, paid in zip(chunks, bought, strict=True):
            answers.update(zip(some, paid, strict=True))
        return [
            answers[key] if keys.index(key) == place else await self._again(session, key, answers)
            for place, key in enumerate(keys)
        ]

    async def has_answered(self, session: "ModelSession") -> bool:
        """Whether the session's model has answered anything on its account, in any sitting."""
        records = await self._store.usage(session.scope)
        return any(
            record.model == session.model.spec and record.calls + record.cached_calls > 0
            for record in records
        )

    async def _again(self, session: "ModelSession", key: str, answers: dict[str, Answer]) -> Answer:
        """The answer to a question that stood twice in one list."""
        await self._store.add_usage(session.delta(key, cached=True))
        return Answer(answers[key].completion, cached=True)

    async def _known(self, session: "ModelSession", key: str) -> Answer | None:
        record = await self._store.completion(key)
        if record is None:
            return None
        completion = _completion(record)
        session.note(completion)
        await self._store.add_usage(session.delta(key, cached=True))
        return Answer(completion, cached=True)

    async def _buy(
        self,
        session: "ModelSession",
        request: ChatRequest,
        keys: list[str],
        deadline: Deadline | None,
    ) -> list[Answer]:
        """One paid answer for each key: in one call, or in more if the provider gives fewer."""
        answers: list[Answer] = []
        line = self._line(session.model)
        while len(answers) < len(keys):
            wanted = keys[len(answers) :]
            seeded = replace(request, sample=sample_number(wanted[0]))
            call = Call(session.model, session.budget, seeded, len(wanted), wanted[0], deadline)
            answers += await self._keep(session, wanted, await line.ask(call))
        return answers

    async def _keep(
        self, session: "ModelSession", keys: list[str], completions: tuple[Completion, ...]
    ) -> list[Answer]:
        """Puts the answers of one call on disk, even if the caller is cancelled meanwhile."""
        answers: list[Answer] = []
        writes: list[Coroutine[object, object, None]] = []
        for place, (key, told) in enumerate(zip(keys, completions, strict=False)):
            text = storable(told.text)
            completion = told if text == told.text else replace(told, text=text)
            session.note(completion)
            answers.append(Answer(completion, cached=False))
            usage = session.delta(key, cached=False, first=place == 0, usage=completion.usage)
            record = _record(key, session.model.identity, completion)
            writes.append(self._store.record_completion(record, usage))
        writing = asyncio.ensure_future(writes[0] if len(writes) == 1 else _all(writes))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        return answers

    def trouble(self, model: ChatModel) -> str | None:
        """See `ModelSession.trouble`."""
        line = self._lines.get(model.identity)
        return None if line is None else line.trouble

    def _line(self, model: ChatModel) -> Line:
        line = self._lines.get(model.identity)
        if line is None:
            line = self._lines[model.identity] = Line(model, self.timing, self.prices)
        return line

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncGenerator[None, None]:
        """One caller a key: the others wait, and find the answer in the cache."""
        lock = self._locks.setdefault(key, _Lock())
        lock.users += 1
        try:
            async with lock.lock:
                yield
        finally:
            lock.users -= 1
            if lock.users == 0:
                self._locks.pop(key, None)


@dataclass
class ModelSession:
    """One model on one account.

    Attributes:
        gateway: Where the calls go.
        model: Which model answers.
        budget: What may be spent.
        scope: The run or evaluation that pays.
        role: What the calls are for.
    """

    gateway: Gateway
    model: ChatModel
    budget: Budget
    scope: str
    role: Role
    _asked: set[int] = field(default_factory=set[int], init=False)  # keys, as numbers
    _dropped: set[str] = field(default_factory=set[str], init=False)

    @property
    def dropped(self) -> frozenset[str]:
        """Request parameters that the model did not take, over all answers so far."""
        return frozenset(self._dropped)

    @property
    def trouble(self) -> str | None:
        """What the provider says instead of answering, for some seconds already; or None."""
        return self.gateway.trouble(self.model)

    def deadline(self) -> Deadline:
        """The time that one example may spend in model calls; for all of its calls together."""
        return Deadline(self.gateway.timing.example_seconds)

    def list_cost_usd(self, usage: Usage) -> float | None:
        """What so many tokens of this model cost at list price, as if nothing were cached."""
        return self.gateway.prices.list_cost_usd(self.model.spec, usage)

    async def complete(
        self, request: ChatRequest, context: CallContext, deadline: Deadline | None = None
    ) -> Answer:
        """Answers the request; see `Gateway.complete`."""
        return await self.gateway.complete(self, request, context, deadline)

    async def complete_many(
        self,
        request: ChatRequest,
        contexts: Sequence[CallContext],
        deadline: Deadline | None = None,
    ) -> list[Answer]:
        """Answers the request once for each context; see `Gateway.complete_many`."""
        return await self.gateway.complete_many(self, request, contexts, deadline)

    async def has_answered(self) -> bool:
        """Whether the model has answered anything on this account; see `Gateway.has_answered`."""
        return await self.gateway.has_answered(self)

    def note(self, completion: Completion) -> None:
        """Remembers what the model did not take."""
        if completion.dropped:
            self._dropped.update(completion.dropped)

    def delta(
        self, key: str, *, cached: bool, first: bool = True, usage: Usage | None = None
    ) -> UsageDelta:
        """What one answer adds to the account.

        An answer is needed if this session, with a cache of its own, would have asked for it: once
        for each distinct question and draw. A later sitting is another session and counts afresh
        what it asks again.

        Args:
            key: The answer's.
            cached: Whether the cache gave it.
            first: Whether it is the first of its call; the others are no calls of their own.
            usage: Its tokens, if it was paid.
        """
        number = int(key, 16)  # takes a third of the text's memory, and every key stays
        needed = number not in self._asked
        self._asked.add(number)
        used = usage or Usage()
        return UsageDelta(
            scope=self.scope,
            role=self.role,
            model=self.model.spec,
            calls=int(not cached and first),
            cached_calls=int(cached),
            needed_calls=int(needed),
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cost_usd=self.gateway.prices.cost_usd(self.model.spec, used) if usage else 0.0,
        )


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


async def _all(work: Sequence[Coroutine[object, object, _Result]]) -> list[_Result]:
    """Runs all of it to its end, though a part may fail; then raises the first fault."""
    ends = await asyncio.gather(*work, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException):
            raise end
    return cast("list[_Result]", ends)


def _record(key: str, identity: str, completion: Completion) -> CompletionRecord:
    return CompletionRecord(
        key=key,
        model=identity,
        text=completion.text,
        input_tokens=completion.usage.input_tokens,
        output_tokens=completion.usage.output_tokens,
        cached_input_tokens=completion.usage.cached_input_tokens,
        stop_reason=completion.stop_reason,
        dropped=json.dumps(completion.dropped),
        created=time.time(),
    )


def _completion(record: CompletionRecord) -> Completion:
    return Completion(
        text=record.text,
        usage=Usage(record.input_tokens, record.output_tokens, record.cached_input_tokens),
        stop_reason=cast("StopReason", record.stop_reason),
        dropped=tuple(json.loads(record.dropped)),
    )
