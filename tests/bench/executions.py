"""Workflow executions per second, through evaluator, sandbox, gateway and store.

The scripted model takes 20 ms a call; 50 calls may be in flight; every row asks its own question.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import RowSet
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.scorers import Numeric
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.chat import ChatRequest, Completion, Pace, Usage
from bayesflow_server.store.store import Store
from bench.figures import Figure

__all__ = ["executions"]

_ROWS = 1500
_LATENCY = 0.02
_CONCURRENT = 50
_WORKFLOW = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Ask
        answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        # Step 2: Read
        return answers[0].strip(), self.llm.get_usage_summary()["total_cost"]
"""


class _Slow:
    spec = "scripted:slow"
    identity = "slow"
    concurrency = _CONCURRENT
    deterministic = True
    pace = Pace()

    async def complete(self, request: ChatRequest) -> Completion:
        await asyncio.sleep(_LATENCY)
        return Completion(request.messages[-1].content.split()[-1], Usage(20, 2))

    async def aclose(self) -> None:
        return None


def executions() -> list[Figure]:
    """One workflow on 1,500 rows."""
    seconds = asyncio.run(_run())
    pace = _ROWS / seconds
    return [
        Figure(
            f"executions per second, model of 20 ms, {_CONCURRENT} concurrent",
            "at least 300",
            f"{pace:.0f}",
            pace >= 300,
        )
    ]


async def _run() -> float:
    rows = tuple(Row(id=str(index), problem=f"Say {index}", target=index) for index in range(_ROWS))
    with tempfile.TemporaryDirectory() as folder:
        async with (
            await Store.open(Path(folder) / "bench.sqlite3") as store,
            Sandbox(workers=64) as sandbox,
        ):
            session = Gateway(store).session(
                _Slow(), Budget(BudgetLimits()), scope="run_bench", role="executor"
            )
            evaluator = Evaluator(
                scope="run_bench",
                rows={"validation": rows},
                scorer=Numeric(),
                session=session,
                sandbox=sandbox,
                store=store,
            )
            workflow = parse_workflow(_WORKFLOW)
            await evaluator.score(workflow, RowSet("validation", tuple(range(100))))
            started = time.perf_counter()
            await evaluator.score(workflow, RowSet("validation", tuple(range(_ROWS))))
            return (time.perf_counter() - started) * _ROWS / (_ROWS - 100)
