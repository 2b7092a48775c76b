"""A provider with moods: a real HTTP server that speaks OpenAI chat and Anthropic messages.

An answer depends on the request alone. Whether it is given depends on the mood: faults by chance
(from a seed, the request's text and how often it came), a hidden capacity that changes with time,
parameters it refuses. It binds 127.0.0.1, and closes with its context. As a program it serves until
its standard input ends, and prints its port first, so that its CPU time is not the caller's:

    python tests/fakes/unhappy_endpoint.py '{"latency": 0.05}'
"""

import asyncio
import hashlib
import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, cast

from aiohttp import web
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from bayesflow_server.models.chat import ChatRequest

__all__ = ["FAULTS", "Capacity", "Fault", "Mood", "UnhappyEndpoint", "unhappy_endpoint"]

Answer = Callable[["ChatRequest"], str]
Fault = Literal["429", "429 retry-after", "529", "500", "cut", "hang", "garbage"]
FAULTS: Final[tuple[Fault, ...]] = (
    "429",
    "429 retry-after",
    "529",
    "500",
    "cut",
    "hang",
    "garbage",
)
_STATUS: Final[Mapping[Fault, int]] = {"429": 429, "429 retry-after": 429, "529": 529, "500": 500}
_LONGEST_HANG: Final = 60.0


class Capacity(NamedTuple):
    """How many calls at once are borne from a moment on, in seconds since the first call."""

    since: float
    calls: int


class Mood(BaseModel):
    """How the endpoint behaves.

    Attributes:
        latency: Seconds an answer takes.
        faults: The probability of each; together at most 1.
        seed: What the chances are drawn from.
        retry_after: Seconds, as the header says them.
        capacity: In the order of time; empty: no limit.
        refuses_temperature: Answers 400 to any temperature.
        refuses: Answers every request with this status.
        refuses_empty: Answers 400 to a turn without a word, as Anthropic does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    latency: float = 0.0
    faults: Mapping[Fault, float] = {}
    seed: int = 0
    retry_after: float = 0.01
    capacity: Sequence[Capacity] = ()
    refuses_temperature: bool = False
    refuses: int | None = None
    refuses_empty: bool = False


class _Block(BaseModel):
    text: str


class _Turn(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str | list[_Block]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "".join(block.text for block in self.content)


class _Question(BaseModel):
    """What is read of either API's request."""

    model: str
    messages: list[_Turn]
    system: list[_Block] = []
    temperature: float | None = None
    seed: int | None = None
    n: int = 1

    def request(self, index: int) -> "ChatRequest":
        """The question in the form that functions which play models take."""
        from bayesflow_server.models.chat import ChatMessage, ChatRequest  # the program needs none

        system = [ChatMessage("system", block.text) for block in self.system]
        turns = [ChatMessage(turn.role, turn.text) for turn in self.messages]
        drawn = hashlib.blake2b(f"{self.seed}/{index}".encode(), digest_size=4).digest()
        sample = int.from_bytes(drawn, "big")
        return ChatRequest((*system, *turns), temperature=self.temperature, sample=sample)

    def answer(self, index: int) -> str:
        """An answer that only says which question it belongs to."""
        turns = [[turn.role, turn.text] for turn in self.messages]
        asked = json.dumps([self.model, turns, self.seed, index])
        return "answer " + hashlib.blake2b(asked.encode(), digest_size=8).hexdigest()

    @property
    def words(self) -> int:
        return sum(len(turn.text.split()) for turn in self.messages)


@dataclass
class UnhappyEndpoint:
    """The server's state.

    Attributes:
        mood: May be replaced at any time.
        answers: What each model answers, by its name; any other says which question it was asked.
        moods: The moods of single models, by name, in place of the common one.
        port: Where it listens.
        counts: Requests by how they ended: `answered`, `refused` (capacity), `400`, and the faults.
        answered: How often each request's text was answered.
    """

    mood: Mood
    answers: Mapping[str, Answer] = field(default_factory=dict[str, Answer])
    moods: dict[str, Mood] = field(default_factory=dict[str, Mood])
    port: int = 0
    counts: Counter[str] = field(default_factory=Counter[str])
    answered: Counter[bytes] = field(default_factory=Counter[bytes])
    _attempts: Counter[bytes] = field(default_factory=Counter[bytes], init=False)
    _in_flight: int = field(default=0, init=False)
    _first: float | None = field(default=None, init=False)
    _closing: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def url(self) -> str:
        """The base URL of the OpenAI API; Anthropic's is the same without `/v1`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._openai)
        app.router.add_post("/v1/messages", self._anthropic)
        app.router.add_get("/counts", self._counts)
        return app

    def close(self) -> None:
        """Ends what hangs."""
        self._closing.set()

    async def _counts(self, _: web.Request) -> web.Response:
        return web.json_response(dict(self.counts))

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        question = await self._admit(request)
        if isinstance(question, web.StreamResponse):
            return question
        choices = [
            {
                "index": index,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": self._text(question, index),
                    "refusal": None,
                },
            }
            for index in range(question.n)
        ]
        words = question.words
        usage = {
            "prompt_tokens": words,
            "completion_tokens": 2 * question.n,
            "total_tokens": words + 2 * question.n,
        }
        body = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": question.model,
            "choices": choices,
            "usage": usage,
        }
        return web.json_response(body)

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        question = await self._admit(request)
        if isinstance(question, web.StreamResponse):
            return question
        body = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": question.model,
            "content": [{"type": "text", "text": self._text(question, 0)}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": question.words, "output_tokens": 2},
        }
        return web.json_response(body)

    def _text(self, question: _Question, index: int) -> str:
        answer = self.answers.get(question.model)
        return question.answer(index) if answer is None else answer(question.request(index))

    async def _admit(self, request: web.Request) -> "_Question | web.StreamResponse":
        """The question once it may be answered, or how the request ends without an answer."""
        body = await request.read()
        question = _Question.model_validate_json(body)
        mood = self.moods.get(question.model, self.mood)
        if mood.refuses is not None:
            self.counts[str(mood.refuses)] += 1
            return _error(mood.refuses, "Not for you.")
        if mood.refuses_empty and any(not turn.text.strip() for turn in question.messages):
            self.counts["400"] += 1
            return _error(400, "messages: text content blocks must be non-empty")
        if mood.refuses_temperature and question.temperature is not None:
            self.counts["400"] += 1
            return _refused_temperature()
        if self._full():
            self.counts["refused"] += 1
            return _error(429, "Too many at once.")
        fault = self._fault(mood, body)
        if fault is not None:
            self.counts[fault] += 1
            return await self._fail(fault, request)
        self._in_flight += 1
        try:
            if mood.latency:
                await asyncio.sleep(mood.latency)
        finally:
            self._in_flight -= 1
        self.counts["answered"] += 1
        self.answered[body] += 1
        return question

    def _full(self) -> bool:
        now = asyncio.get_running_loop().time()
        self._first = now if self._first is None else self._first
        borne = [step.calls for step in self.mood.capacity if step.since <= now - self._first]
        return bool(borne) and self._in_flight >= borne[-1]

    def _fault(self, mood: Mood, body: bytes) -> Fault | None:
        attempt = self._attempts[body]
        self._attempts[body] += 1
        drawn = hashlib.blake2b(body, key=f"{mood.seed}/{attempt}".encode(), digest_size=8)
        chance = int.from_bytes(drawn.digest(), "big") / 2**64
        for fault, probability in mood.faults.items():
            if chance < probability:
                return fault
            chance -= probability
        return None

    async def _fail(self, fault: Fault, request: web.Request) -> web.StreamResponse:
        if fault in _STATUS:
            told = {"retry-after": str(self.mood.retry_after)} if "retry" in fault else {}
            return _error(_STATUS[fault], "Not now.", told)
        if fault == "garbage":
            return web.Response(text='{"choices": [{"mess', content_type="application/json")
        if fault == "hang":
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _LONGEST_HANG)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": "some_error", "param": None, "code": None}
    return web.json_response({"type": "error", "error": error}, status=status, headers=headers)


def _refused_temperature() -> web.Response:
    error = {
        "message": "Unsupported parameter: 'temperature' is not supported with this model.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "unsupported_parameter",
    }
    return web.json_response({"type": "error", "error": error}, status=400)


@asynccontextmanager
async def unhappy_endpoint(
    mood: Mood | None = None, answers: Mapping[str, Answer] | None = None, port: int = 0
) -> AsyncGenerator[UnhappyEndpoint, None]:
    """Serves in this process until the block ends."""
    endpoint = UnhappyEndpoint(mood or Mood(), answers or {})
    runner = web.AppRunner(
        endpoint.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    try:
        await site.start()
        endpoint.port = cast("tuple[str, int]", runner.addresses[0])[1]
        yield endpoint
    finally:
        endpoint.close()
        await runner.cleanup()


async def _serve(mood: Mood) -> None:
    loop = asyncio.get_running_loop()
    async with unhappy_endpoint(mood) as endpoint:
        sys.stdout.write(f"{endpoint.port}\n")
        sys.stdout.flush()
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Mood.model_validate_json(sys.argv[1])))
