"""One single-call workflow on 200 rows of 50 ms, 50-way: evaluator, sandbox, gateway, SDK, store.

The sandbox's workers and the SDK are up, and one row has been asked; the limiter still has to find
its room. Best of three. The same with a model in this process shows what the wire and its SDK cost.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import RowSet
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.scorers import Exact
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.chat import ChatModel
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.models.scripted import ScriptedModel
from bayesflow_server.store.store import Store
from bench.figures import Figure
from bench.stub import stub_endpoint
from fakes.unhappy_endpoint import Mood

__all__ = ["single_call"]

_ROWS = 200
_LATENCY = 0.05
_CONCURRENT = 50
_GOAL = 0.5
_WORKFLOW = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Ask
        answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        return answers[0].strip(), self.llm.get_usage_summary()["total_cost"]
"""


class _Seconds(NamedTuple):
    """One run: a gateway's first 200 rows, when it has yet to find how much may be in flight, and
    the next 200."""

    first: float
    next: float


def single_call() -> list[Figure]:
    """Over the wire, and with a model in this process."""
    with stub_endpoint(Mood(latency=_LATENCY)) as port:
        wire = asyncio.run(_over_the_wire(port))
    scripted = ScriptedModel(lambda _: "yes", latency_seconds=_LATENCY, concurrency=_CONCURRENT)
    inside = asyncio.run(_best(scripted))
    return [*_figures("OpenAI SDK", wire), *_figures("scripted", inside)]


def _figures(model: str, seconds: _Seconds) -> list[Figure]:
    what = f"one single-call workflow on {_ROWS} rows, 50 ms, {_CONCURRENT}-way, {model}"
    goal = f"at most {_GOAL} s (floor 0.20)"
    pairs = (("in a run", seconds.next), ("a server's first", seconds.first))
    return [Figure(f"{what}, {when}", goal, f"{took:.2f} s", took <= _GOAL) for when, took in pairs]


async def _over_the_wire(port: int) -> _Seconds:
    endpoint = f"stub=http://127.0.0.1:{port}/v1,concurrency={_CONCURRENT}"
    models = ModelRegistry({}, endpoints=parse_endpoints([endpoint]))
    try:
        return await _best(models.model("stub:m"))
    finally:
        await models.aclose()


async def _best(model: ChatModel) -> _Seconds:
    runs = [await _run(model) for _ in range(3)]
    return _Seconds(min(one.first for one in runs), min(one.next for one in runs))


async def _run(model: ChatModel) -> _Seconds:
    rows = tuple(
        Row(id=str(index), problem=f"Say yes to {index}.", target="yes")
        for index in range(2 * _ROWS + 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await Store.open(Path(folder) / "bench.sqlite3") as store,
            Sandbox(workers=64) as sandbox,
        ):
            session = Gateway(store).session(
                model, Budget(BudgetLimits(calls=100_000)), scope="run_bench", role="executor"
            )
            evaluator = Evaluator(
                scope="run_bench",
                rows={"validation": rows},
                scorer=Exact(),
                session=session,
                sandbox=sandbox,
                store=store,
            )
            workflow = parse_workflow(_WORKFLOW)

            async def timed(first: int, count: int) -> float:
                started = time.perf_counter()
                positions = tuple(range(first, first + count))
                await evaluator.score(workflow, RowSet("validation", positions))
                return time.perf_counter() - started

            await timed(0, 1)
            return _Seconds(await timed(1, _ROWS), await timed(_ROWS + 1, _ROWS))
