"""Every model call of the server passes here: cache, one call a question, limit, budget, account.

    complete(request) → key → cached? → lock on the key → cached? → budget.reserve → slot → model
                                                               └→ stored and counted, then returned

A completion is on disk before anyone sees it, so a crash repeats at most the calls in flight.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Literal, cast

from bayesflow_server.errors import BudgetSpentError, ProviderError
from bayesflow_server.gateway.budget import Budget
from bayesflow_server.gateway.cache_key import CallContext, completion_key, sample_number
from bayesflow_server.gateway.usage import list_price_usd
from bayesflow_server.models.chat import ChatModel, ChatRequest, Completion, StopReason, Usage
from bayesflow_server.store.records import CompletionRecord, UsageDelta
from bayesflow_server.store.store import Store
from bayesflow_server.store.text import storable

__all__ = ["Answer", "Gateway", "ModelSession"]

Role = Literal["executor", "optimizer", "refiner", "judge"]

ATTEMPTS: Final = 5
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
# A provider that asks for a longer wait than this is asked again after it all the same.
_LONGEST_WAIT: Final = 300.0
CALL_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A completion, and whether the cache gave it."""

    completion: Completion
    cached: bool


class Gateway:
    """Shared by every run of the process: the store's cache, and one limit for each model."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._locks: dict[str, _Lock] = {}

    def session(
        self, model: ChatModel, budget: Budget, *, scope: str, role: Role
    ) -> "ModelSession":
        """Calls to `model` on the account of `scope` (a run or an evaluation)."""
        return ModelSession(self, model, budget, scope, role)

    async def complete(
        self, session: "ModelSession", request: ChatRequest, context: CallContext
    ) -> Answer:
        """Answers the request from the cache or the model.

        Raises:
            BudgetSpentError: The budget has no room for the call.
            ProviderError: The provider kept failing.
            ModelUnavailableError: The model cannot be used here.
        """
        key = completion_key(session.model, request, context)
        async with self._alone(key):
            record = await self._store.completion(key)
            if record is not None:
                await self._store.add_usage(session.delta(key, cached=True))
                return Answer(_completion(record), cached=True)
            seeded = replace(request, sample=sample_number(key))
            answered = await self._call(session, seeded)
            completion = replace(answered, text=storable(answered.text))
            await self._keep(
                _record(key, session.model.identity, completion),
                session.delta(key, cached=False, usage=completion.usage),
            )
            return Answer(completion, cached=False)

    async def _keep(self, record: CompletionRecord, usage: UsageDelta) -> None:
        """Puts a paid answer on disk, even if its caller is cancelled meanwhile."""
        writing = asyncio.ensure_future(self._store.record_completion(record, usage))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise

    async def _call(self, session: "ModelSession", request: ChatRequest) -> Completion:
        """One paid answer; transient faults are tried again, and never become an answer."""
        slot = self._slots.setdefault(
            session.model.identity, asyncio.Semaphore(session.model.concurrency)
        )
        pause = _FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with slot, session.budget.reserve(request) as spending:
                    completion = await _in_time(session, request)
                    spending.usage = completion.usage
                    return completion
            except ProviderError as error:
                if not error.transient or attempt == ATTEMPTS:
                    raise
                wait = min(error.retry_after or pause, _LONGEST_WAIT)
                left = session.budget.seconds_left
                await asyncio.sleep(wait if left is None else min(wait, left))
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise AssertionError("the last attempt returns or raises")

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
    _asked: set[str] = field(default_factory=set[str], init=False)

    async def complete(self, request: ChatRequest, context: CallContext) -> Answer:
        """Answers the request; see `Gateway.complete`."""
        return await self.gateway.complete(self, request, context)

    def delta(self, key: str, *, cached: bool, usage: Usage | None = None) -> UsageDelta:
        """What one answered request adds to the account.

        A call is needed if this session, with a cache of its own, would have made it: once for each
        distinct question. A later sitting is another session and counts afresh what it asks again.
        """
        needed = key not in self._asked
        self._asked.add(key)
        return UsageDelta(
            scope=self.scope,
            role=self.role,
            model=self.model.spec,
            calls=int(not cached),
            cached_calls=int(cached),
            needed_calls=int(needed),
            input_tokens=usage.input_tokens if usage else 0,
            output_tokens=usage.output_tokens if usage else 0,
            cost_usd=0.0 if cached else list_price_usd(self.model.spec),
        )


@dataclass(slots=True)
class _Lock:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


async def _in_time(session: ModelSession, request: ChatRequest) -> Completion:
    """The model's answer, within the call's deadline and the run's remaining minutes."""
    left = session.budget.seconds_left
    allowed = CALL_SECONDS if left is None else min(CALL_SECONDS, left)
    deadline = asyncio.timeout(allowed)
    try:
        async with deadline:
            return await session.model.complete(request)
    except TimeoutError:
        if deadline.expired() and left is not None and left <= CALL_SECONDS:
            raise BudgetSpentError(
                "The budget's minutes are over; everything found so far is kept. "
                "Resume the run with a larger total budget to go on.",
                limit="minutes",
            ) from None
        raise ProviderError(
            f"{session.model.spec} gave no answer within {allowed:.0f} s; resume the run later."
        ) from None


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
