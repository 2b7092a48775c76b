"""2,000 calls of 50 ms at 50 concurrent: the whole gateway beside a bare SDK client.

Whole means: cache, budget (dollars and calls), limiter, journal on disk, accounting. Both go over
the SDK's aiohttp transport to the same endpoint, which is another process, so its CPU time is not
ours. As many callers ask as the evaluator has for such a model. Best of three rounds each.
"""

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.store.store import Store
from bench.figures import Figure
from bench.stub import stub_endpoint
from fakes.unhappy_endpoint import Mood

__all__ = ["gateway_calls"]

_CALLS = 2000
_CONCURRENT = 50
_LATENCY = 0.05
_FLOOR = _CALLS / _CONCURRENT * _LATENCY
_ROUNDS = 3

Ask = Callable[[str], Awaitable[object]]


class _Round(NamedTuple):
    """One round: seconds, CPU seconds of this process."""

    seconds: float
    cpu: float


def gateway_calls() -> list[Figure]:
    """Both SDKs, each bare and through the gateway."""
    with stub_endpoint(Mood(latency=_LATENCY)) as port:
        figures = [*_figures("openai", port), *_figures("anthropic", port)]
    return figures


def _figures(api: str, port: int) -> list[Figure]:
    bare, whole = asyncio.run(_rounds(api, port))
    above = (whole.cpu - bare.cpu) / _CALLS * 1000
    what = f"{api} SDK, 2,000 calls of 50 ms, {_CONCURRENT} concurrent"
    return [
        Figure(f"{what}, bare", "none", f"{bare.seconds:.2f} s", None),
        Figure(
            f"{what}, gateway",
            f"at most {1.25 * _FLOOR:.2f} s (floor {_FLOOR:.1f})",
            f"{whole.seconds:.2f} s ({whole.seconds / _FLOOR:.2f} x floor)",
            whole.seconds <= 1.25 * _FLOOR,
        ),
        Figure(
            f"CPU a call above the bare {api} SDK ({bare.cpu / _CALLS * 1000:.2f} ms)",
            "at most 1 ms",
            f"{above:.2f} ms",
            above <= 1,
        ),
    ]


async def _rounds(api: str, port: int) -> tuple[_Round, _Round]:
    bare: list[_Round] = []
    whole: list[_Round] = []
    for number in range(_ROUNDS):
        bare.append(await (_bare_openai if api == "openai" else _bare_anthropic)(port, number))
        whole.append(await _whole(api, port, number))
    return (
        _Round(min(one.seconds for one in bare), min(one.cpu for one in bare)),
        _Round(min(one.seconds for one in whole), min(one.cpu for one in whole)),
    )


async def _measure(ask: Ask, callers: int) -> _Round:
    await ask("warm up")
    questions = iter(range(_CALLS))

    async def caller() -> None:
        for number in questions:
            await ask(f"What is {number} + {number}? Answer with the number alone.")

    started, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(caller())
    return _Round(time.perf_counter() - started, time.process_time() - cpu)


async def _bare_openai(port: int, _: int) -> _Round:
    import openai  # heavy: a second of CPU

    http = openai.DefaultAioHttpClient()
    async with openai.AsyncOpenAI(
        base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, http_client=http
    ) as client:

        async def ask(text: str) -> object:
            return await client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": text}],
                temperature=0.7,
                max_tokens=100,
            )

        return await _measure(ask, _CONCURRENT)


async def _bare_anthropic(port: int, _: int) -> _Round:
    import anthropic  # heavy: two seconds of CPU

    http = anthropic.DefaultAioHttpClient()
    async with anthropic.AsyncAnthropic(
        base_url=f"http://127.0.0.1:{port}", api_key="none", max_retries=0, http_client=http
    ) as client:

        async def ask(text: str) -> object:
            return await client.messages.create(
                model="m", messages=[{"role": "user", "content": text}], max_tokens=100
            )

        return await _measure(ask, _CONCURRENT)


async def _whole(api: str, port: int, number: int) -> _Round:
    path = "/v1" if api == "openai" else ""
    endpoint = f"stub=http://127.0.0.1:{port}{path},api={api},concurrency={_CONCURRENT}"
    models = ModelRegistry({}, endpoints=parse_endpoints([endpoint]))
    with tempfile.TemporaryDirectory() as folder:
        async with await Store.open(Path(folder) / "bench.sqlite3") as store:
            gateway = Gateway(store, prices=PriceTable({"stub": (1.0, 4.0)}))
            budget = Budget(BudgetLimits(usd=1000, calls=100_000))
            session = gateway.session(
                models.model("stub:m"), budget, scope="run_bench", role="executor"
            )

            async def ask(text: str) -> object:
                turn = ChatMessage("user", text)
                request = ChatRequest((turn,), temperature=0.7, max_tokens=100)
                return await session.complete(request, CallContext(text, seed=number))

            try:
                return await _measure(ask, 2 * _CONCURRENT + 2)
            finally:
                await models.aclose()
