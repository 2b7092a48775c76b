"""A chat model that answers by a rule, takes its time, fails on demand, and counts.

Its time is counted in turns of the event loop, so tests neither sleep nor depend on a clock. What
it answers depends on the request alone, its `sample` included, as with a seeded provider.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from random import Random

from bayesflow_server.models.chat import ChatModel, ChatRequest, Completion, Pace, Usage
from bayesflow_server.models.registry import ModelRegistry

__all__ = ["SPEC", "FakeModel", "FakeRegistry"]

SPEC = "scripted:fake"


class FakeModel:
    """A `ChatModel`.

    Attributes:
        started: How often each request was begun.
        finished: How often each request was answered.
        most_in_flight: The most calls that were ever under way at once.
        fault: Asked at each call; what it returns is raised in place of an answer.
        gate: A call begins its work once this is set.
    """

    pace = Pace()

    def __init__(
        self,
        answer: Callable[[ChatRequest], str] = lambda request: request.messages[-1].content,
        *,
        concurrency: int = 8,
        deterministic: bool = True,
        turns: int = 3,
        latency_seed: int | None = None,
        usage: Usage | None = None,
        spec: str = SPEC,
    ) -> None:
        """Takes `turns` turns a call, or a random number up to it if there is a seed."""
        self.spec = spec
        self.identity = "fake-1" if spec == SPEC else spec
        self.concurrency = concurrency
        self.deterministic = deterministic
        self.started: Counter[ChatRequest] = Counter()
        self.finished: Counter[ChatRequest] = Counter()
        self.most_in_flight = 0
        self.fault: Callable[[int], Exception | None] = lambda _: None
        self.gate = asyncio.Event()
        self.gate.set()
        self._answer = answer
        self._turns = turns
        self._random = None if latency_seed is None else Random(latency_seed)
        self._usage = usage
        self._in_flight = 0
        self._hold_at: int | None = None
        self._reached = asyncio.Event()

    def hold_at(self, call: int) -> None:
        """Lets `call` calls through; the next and all after it wait for the gate."""
        self._hold_at = self.started.total() + call
        self._reached.clear()

    async def reached(self) -> None:
        """Returns once a call waits at the gate."""
        await self._reached.wait()

    def release(self) -> None:
        """Opens the gate for good."""
        self._hold_at = None
        self.gate.set()

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers, or fails as told."""
        number = self.started.total()
        self.started[request] += 1
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            if self._hold_at is not None and number >= self._hold_at:
                self.gate.clear()
                self._reached.set()
            await self.gate.wait()
            for _ in range(self._random.randint(0, self._turns) if self._random else self._turns):
                await asyncio.sleep(0)
            fault = self.fault(number)
            if fault is not None:
                raise fault
            text = self._answer(request)
            self.finished[request] += 1
        finally:
            self._in_flight -= 1
        words = sum(len(turn.content.split()) for turn in request.messages)
        return Completion(text, self._usage or Usage(words, len(text.split())))

    async def aclose(self) -> None:
        """Nothing to free."""


class FakeRegistry(ModelRegistry):
    """A registry that knows these models, beside what the real one knows without any key."""

    def __init__(self, model: ChatModel, others: Mapping[str, ChatModel] | None = None) -> None:
        super().__init__({})
        self._given: dict[str, ChatModel] = {SPEC: model, **(others or {})}

    def require(self, spec: str) -> None:
        """Checks that the model could be called."""
        if spec not in self._given:
            super().require(spec)

    def model(self, spec: str) -> ChatModel:
        """The model of that spec."""
        return self._given[spec] if spec in self._given else super().model(spec)
