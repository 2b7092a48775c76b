"""The limiter against a hidden capacity that changes in mid-run, with no hint but the refusals.

A provider bears so many calls at once, later more or fewer, and answers 429 to what is
more. Ideal is the time in which it could answer all calls, were it always asked as much as it
bears. Twice the shipped gateway: in virtual time, where no other load disturbs, with a model in
this process and a store in memory; and in real time over the OpenAI SDK with everything.
"""

import asyncio
import json
import tempfile
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

from bayesflow_server.errors import ProviderError
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.chat import (
    ChatMessage,
    ChatModel,
    ChatRequest,
    Completion,
    Pace,
    Usage,
)
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.store.records import CompletionRecord, UsageDelta
from bayesflow_server.store.store import Store
from bench.figures import Figure
from bench.stub import stub_endpoint
from fakes.unhappy_endpoint import Capacity, Mood
from fakes.virtual_time import in_virtual_time

__all__ = ["limiter"]


class _Course(NamedTuple):
    """What the provider bears, a phase after the other."""

    latency: float
    phase: float
    borne: tuple[int, ...]

    @property
    def ideal(self) -> float:
        return self.phase * len(self.borne)

    @property
    def calls(self) -> int:
        return round(self.phase * sum(self.borne) / self.latency)

    def capacity(self) -> list[Capacity]:
        return [Capacity(self.phase * place, calls) for place, calls in enumerate(self.borne)]


_VIRTUAL = _Course(0.05, 3.0, (12, 40, 8))
_REAL = _Course(0.1, 6.0, (24, 8, 24))


class _Run(NamedTuple):
    """Seconds it took, answers, and refusals."""

    seconds: float
    answered: int
    refused: int


@dataclass
class _Bearing:
    """A model that refuses what its course does not bear at the moment."""

    course: _Course
    answered: int = 0
    refused: int = 0
    spec = "scripted:bearing"
    identity = "bearing"
    concurrency = 64
    deterministic = True
    pace = Pace()
    _in_flight: int = 0

    async def complete(self, request: ChatRequest) -> Completion:
        now = asyncio.get_running_loop().time()
        phase = min(int(now / self.course.phase), len(self.course.borne) - 1)
        if self._in_flight >= self.course.borne[phase]:
            self.refused += 1
            raise ProviderError("HTTP 429", congestion=True)
        self._in_flight += 1
        await asyncio.sleep(self.course.latency)
        self._in_flight -= 1
        self.answered += 1
        return Completion(request.messages[-1].content, Usage(10, 2))

    async def aclose(self) -> None:
        return None


class _Memory:
    """As much of a store as the gateway asks for."""

    def __init__(self) -> None:
        self._known: dict[str, CompletionRecord] = {}

    async def completion(self, key: str) -> CompletionRecord | None:
        return self._known.get(key)

    async def record_completion(self, record: CompletionRecord, _: UsageDelta) -> None:
        self._known[record.key] = record

    async def add_usage(self, _: UsageDelta) -> None:
        return None


def limiter() -> list[Figure]:
    """Both."""
    virtual = in_virtual_time(_virtually())
    with stub_endpoint(Mood(latency=_REAL.latency, capacity=_REAL.capacity())) as port:
        real = asyncio.run(_really(port))
    return [*_figures("virtual", _VIRTUAL, virtual), *_figures("real", _REAL, real)]


def _figures(kind: str, course: _Course, run: _Run) -> list[Figure]:
    share = run.refused / (run.answered + run.refused)
    borne = ", ".join(map(str, course.borne))
    what = f"limiter, {course.calls} calls, hidden capacity {borne}, {kind} time"
    return [
        Figure(
            what,
            f"at most {1.25 * course.ideal:.1f} s (ideal {course.ideal:.1f})",
            f"{run.seconds:.2f} s ({run.seconds / course.ideal:.2f} x ideal)",
            run.seconds <= 1.25 * course.ideal,
        ),
        Figure(
            f"calls answered 429, {kind} time",
            "fewer than 2 %",
            f"{run.refused} of {run.answered + run.refused} ({share:.1%})",
            share < 0.02,
        ),
    ]


async def _virtually() -> _Run:
    model = _Bearing(_VIRTUAL)
    seconds = await _ask_all(model, cast(Store, _Memory()), _VIRTUAL.calls)
    return _Run(seconds, model.answered, model.refused)


async def _really(port: int) -> _Run:
    base = f"http://127.0.0.1:{port}"
    models = ModelRegistry({}, endpoints=parse_endpoints([f"stub={base}/v1,concurrency=64"]))
    import_module("openai")  # heavy, and no part of the run

    with tempfile.TemporaryDirectory() as folder:
        async with await Store.open(Path(folder) / "bench.sqlite3") as store:
            try:
                seconds = await _ask_all(models.model("stub:m"), store, _REAL.calls)
            finally:
                await models.aclose()
    counts = await asyncio.to_thread(_counts, base)
    return _Run(seconds, counts["answered"], counts.get("refused", 0))


async def _ask_all(model: ChatModel, store: Store, calls: int) -> float:
    """Seconds for so many calls, with as many callers as the evaluator has for the model."""
    session = Gateway(store).session(
        model, Budget(BudgetLimits(calls=100_000)), scope="run_bench", role="executor"
    )
    questions = iter(range(calls))

    async def caller() -> None:
        for number in questions:
            turn = ChatMessage("user", f"Say {number}.")
            await session.complete(ChatRequest((turn,), max_tokens=10), CallContext())

    now = asyncio.get_running_loop().time
    started = now()
    async with asyncio.TaskGroup() as group:
        for _ in range(2 * model.concurrency + 2):
            group.create_task(caller())
    return now() - started


def _counts(base: str) -> Mapping[str, int]:
    with urllib.request.urlopen(f"{base}/counts", timeout=10) as answer:
        return cast("Mapping[str, int]", json.load(answer))
