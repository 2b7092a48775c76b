"""Runs in which models write the workflows: their models, their request, and what they left."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatRequest, Completion, StopReason
from bayesflow_server.runs.pool_view import PoolView, view_pool
from bayesflow_server.runs.progress import Phase
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import RunRecord, UsageRecord
from fakes.houses import Footprint, footprint, open_service, settled
from fakes.models import FakeModel
from fakes.optimizers import GoodOptimizer
from fakes.tasks import answer_addition, request

__all__ = [
    "CHEAP",
    "EDITOR",
    "JUDGE",
    "PRICES",
    "WRITER",
    "Ended",
    "House",
    "WaywardModel",
    "asked",
]

WRITER: Final = "writer:fake"
EDITOR: Final = "editor:fake"
JUDGE: Final = "judge:fake"
CHEAP: Final = "cheap:fake"
# US dollars for a million tokens in and out.
PRICES: Final = {
    "scripted": (1.0, 5.0),
    "writer": (3.0, 15.0),
    "editor": (2.0, 10.0),
    "judge": (1.0, 4.0),
    "cheap": (0.1, 0.5),
}
_FIELD: Final = re.compile(r"<(question|expected|answer)-(\w+)>\n(.*?)\n</\1-\2>", re.DOTALL)


class CheapAtZero:
    """An optimizer whose workflows ask the tier `cheap` whatever they ask at temperature 0."""

    def __init__(self, optimizer: Callable[[ChatRequest], str]) -> None:
        self._optimizer = optimizer

    def __call__(self, request: ChatRequest) -> str:
        """The inner optimizer's answer, with the tier in it."""
        text = self._optimizer(request)
        return text.replace("temperature=0.0)", 'temperature=0.0, tier="cheap")')


def judged(request: ChatRequest) -> str:
    """A judge's reply: 10 for the right sum, else 2; now and then only after a reminder."""
    if "reminder" in request.messages[-1].content:
        return "GRADE: 3"
    fields = {name: text for name, _, text in _FIELD.findall(request.messages[1].content)}
    if "3" in fields["answer"]:
        return "It is hard to say."
    return f"I compared them.\nGRADE: {10 if fields['answer'] == fields['expected'] else 2}"


class WaywardModel(FakeModel):
    """A fake whose answers may end badly, that may not take a temperature, and that can be stopped.

    Attributes:
        stops_at: A call that this holds for waits at the gate, and so does every later one.
    """

    def __init__(
        self,
        answer: Callable[[ChatRequest], str],
        *,
        ending: Callable[[ChatRequest], StopReason] = lambda _: "end",
        dropped: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        super().__init__(answer, **settings)
        self._ending = ending
        self._dropped = dropped
        self.stops_at: Callable[[ChatRequest], bool] = lambda _: False

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers, and says how the answer ended."""
        if self.stops_at(request):
            self.stops_at = lambda _: False
            self.hold_at(0)
        whole = await super().complete(request)
        return replace(whole, stop_reason=self._ending(request), dropped=self._dropped)


@dataclass(frozen=True)
class Ended:
    """A run that has come to rest.

    Attributes:
        record: The run.
        usage: What each role and model used.
        phase: What it says of itself.
    """

    record: RunRecord
    usage: list[UsageRecord]
    phase: Phase

    @property
    def report(self) -> FinalReport:
        """The final report of a finished run."""
        assert self.record.status == "finished", self.record.reason
        return FinalReport.model_validate_json(self.record.outcome or "")

    def used(self, role: str, model: str | None = None) -> UsageRecord:
        """The one row of a role (and model)."""
        (row,) = (u for u in self.usage if u.role == role and model in (None, u.model))
        return row


@dataclass
class House:
    """A service and the models that it calls.

    Attributes:
        service: The service.
        executor: Answers the workflows.
        writer: Writes them.
        others: Further models by their specs.
    """

    service: RunService
    executor: FakeModel
    writer: FakeModel
    others: Mapping[str, FakeModel]

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: Path,
        writer: FakeModel | Callable[[ChatRequest], str] | None = None,
        executor: FakeModel | None = None,
        others: Mapping[str, FakeModel] | None = None,
        *,
        priced: bool = True,
    ) -> AsyncGenerator["House", None]:
        """Opens one; a function plays the writer, a good optimizer if there is none."""
        executor = executor or FakeModel(answer_addition)
        if not isinstance(writer, FakeModel):
            writer = FakeModel(writer or GoodOptimizer(), spec=WRITER)
        known = {WRITER: writer, **(others or {})}
        prices = PriceTable(PRICES if priced else {})
        async with open_service(path, executor, known, prices) as service:
            yield cls(service, executor, writer, others or {})

    async def run(self, **changes: Any) -> Ended:
        """A run from its start until it rests."""
        started = await self.service.start(asked(**changes))
        return await self.ended(started.record.run_id)

    async def resume(self, run_id: str, budget: BudgetLimits | None = None) -> Ended:
        """A run that goes on until it rests again."""
        await self.service.resume(run_id, budget)
        return await self.ended(run_id)

    async def ended(self, run_id: str) -> Ended:
        """The run once it rests."""
        record = await settled(self.service, run_id)
        usage = await self.service.usage_by_role(run_id)
        return Ended(record, usage, Phase.model_validate_json(record.phase or ""))

    async def footprint(self, ended: Ended) -> Footprint:
        """What a finished run found."""
        return await footprint(self.service, ended.record.run_id)

    async def pool(self, ended: Ended) -> PoolView:
        """The ranked pool."""
        return view_pool(await self.service.pool(ended.record.run_id))


def asked(seed: int = 0, **changes: Any) -> RunRequest:
    """A request for a search whose workflows a model writes."""
    return request(seed, **{"optimizer": WRITER, "grammar": None, **changes})
