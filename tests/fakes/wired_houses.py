"""A run service whose models are asked over real HTTP, by the adapters that users have."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.sitting import Workplace
from bayesflow_server.store.store import Store
from fakes.optimizers import GoodOptimizer
from fakes.tasks import answer_addition, request
from fakes.unhappy_endpoint import Answer, UnhappyEndpoint

__all__ = ["ANSWERS", "asked", "endpoints_of", "wired_service"]

# What the two models of a stub answer: one executes workflows, one writes them.
ANSWERS: Final[Mapping[str, Answer]] = {"executor": answer_addition, "writer": GoodOptimizer()}
_WORKERS: Final = 6


def endpoints_of(stub: UnhappyEndpoint, options: str = "") -> tuple[str, ...]:
    """One server as two endpoints, `chat` and `claude`, by the API that they speak."""
    shared = f"concurrency=16,price_in=1,price_out=2{options}"
    return (
        f"chat={stub.url},{shared}",
        f"claude={stub.url.removesuffix('/v1')},api=anthropic,{shared}",
    )


def asked(executor: str, optimizer: str, **changes: Any) -> RunRequest:
    """A small search whose executor and writer are behind these endpoints."""
    fields: dict[str, Any] = {
        "executor": f"{executor}:executor",
        "optimizer": f"{optimizer}:writer",
        "grammar": None,
        "budget": BudgetLimits(usd=1.0),
        **changes,
    }
    return request(**fields)


@asynccontextmanager
async def wired_service(
    path: Path,
    endpoints: Sequence[str],
    timing: Timing,
    environment: Mapping[str, str] | None = None,
) -> AsyncGenerator[RunService, None]:
    """A run service as `houses.open_service`, over the endpoints."""
    models = ModelRegistry(environment or {}, endpoints=parse_endpoints(endpoints))
    async with await Store.open(path) as store, Sandbox(workers=_WORKERS) as sandbox:
        gateway = Gateway(store, prices=PriceTable(models.price_overrides()), timing=timing)
        service = RunService(Workplace(store, models, gateway, sandbox))
        await service.open()
        try:
            yield service
        finally:
            await service.aclose()
            await models.aclose()
