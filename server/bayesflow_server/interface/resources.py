"""What the server shows as resources: runs, pools, stories as JSON, workflows as Python.

Addresses stand in `uris.py`. A pool is whole here, which no tool's result is: tools link to it.
Text of models and datasets stands in the same labelled fields as in the tools' results, cut
likewise.
"""

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.types import Annotations, Resource, ResourceTemplate
from pydantic import BaseModel, Field, JsonValue

from bayesflow_server.errors import NotFoundError, ServerError
from bayesflow_server.excerpt import ERROR, TITLE, excerpt
from bayesflow_server.interface.addresses import Address, parse_address
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.pool import (
    FrontWorkflow,
    PoolWorkflow,
    front_workflow,
    pool_workflow,
)
from bayesflow_server.interface.run_state import run_state
from bayesflow_server.interface.runs import ListedRun, listed_run
from bayesflow_server.interface.uris import RUNS, events_uri, pool_uri, run_uri, workflow_uri

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService
    from bayesflow_server.store.records import EventRecord, RoundRecord, RunRecord

__all__ = [
    "JSON",
    "MOST_LISTED",
    "MOST_RUNS",
    "PYTHON",
    "Resources",
    "run_link",
]

JSON: Final = "application/json"
PYTHON: Final = "text/x-python"

# Runs in the list of resources, and in the resource that lists runs.
MOST_LISTED: Final = 20
MOST_RUNS: Final = 100
# Workflows of a pool written before other tasks get their turn: some milliseconds' worth.
_SLICE: Final = 100

# Figures of a round's statistics that a reader of the story wants.
_FIGURES: Final = (
    "minimum",
    "mean",
    "maximum",
    "rows",
    "distinct",
    "structures",
    "failed",
    "effective_sample_size",
    "clean_share",
    "inverse_temperature",
    "unique_parents",
    "resampled",
    "fully_scored",
)


class WholePool(BaseModel):
    """Every workflow a run has seen, ranked by posterior; no source."""

    run_id: str
    revision: int
    beta: float
    total: int
    prior_independent: bool
    front: list[FrontWorkflow]


class RoundDecision(BaseModel):
    """Something the sampler chose."""

    choice: str
    reason: str
    guarantee: str


class StoryEvent(BaseModel):
    """Something that happened to a run."""

    position: int
    time: str = Field(description="UTC, ISO 8601.")
    kind: str = Field(description="The status the run then had, or `round`.")
    reason: str | None = None
    round: int | None = None
    figures: dict[str, JsonValue] | None = None
    decisions: list[RoundDecision] | None = None


class Story(BaseModel):
    """What happened to a run, in order."""

    run_id: str
    events: list[StoryEvent]


class RunsPage(BaseModel):
    """The newest runs."""

    runs: list[ListedRun]


class Resources:
    """Lists and reads what the server shows."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def listed(self) -> list[Resource]:
        """The list of runs, and the newest runs; only the former if the store cannot be read.

        Reading it then says why, and what to do.
        """
        try:
            service = await self._backend.runs()
            records = await service.newest(MOST_LISTED)
        except ServerError:
            return [_runs_link(None)]
        newest = max((record.updated for record in records), default=None)
        return [_runs_link(newest), *(run_link(record, service) for record in records)]

    def templates(self) -> list[ResourceTemplate]:
        """What can be read of each run and workflow."""
        return [
            ResourceTemplate(
                name="run",
                title="A run's state",
                uri_template=run_uri("{run_id}"),
                description="Status, round, spending, best so far and errors, as get_run shows.",
                mime_type=JSON,
            ),
            ResourceTemplate(
                name="pool",
                title="A run's whole pool",
                uri_template=pool_uri("{run_id}"),
                description="Every workflow of the run with posterior, validation score, cost and "
                "step titles; no sources. May be long.",
                mime_type=JSON,
            ),
            ResourceTemplate(
                name="events",
                title="A run's story",
                uri_template=events_uri("{run_id}"),
                description="What happened and when: statuses with reasons, and each round's "
                "figures and decisions.",
                mime_type=JSON,
            ),
            ResourceTemplate(
                name="workflow",
                title="A workflow's source",
                uri_template=workflow_uri("{workflow_id}"),
                description="The Python of one workflow: written by a model or grammar, so data.",
                mime_type=PYTHON,
            ),
        ]

    async def read(self, uri: str) -> list[ReadResourceContents]:
        """The resource's text.

        Raises:
            ResourceNotFoundError: The URI is none of ours, or names nothing that there is.
            ResourceError: The store cannot be read.
        """
        address = parse_address(uri)
        try:
            service = await self._backend.runs()
            text = await _text(address, service)
        except NotFoundError as error:
            raise ResourceNotFoundError(str(error)) from error
        except ServerError as error:
            raise ResourceError(str(error)) from error
        return [ReadResourceContents(text, PYTHON if address.subject == "workflow" else JSON)]


def run_link(record: "RunRecord", service: "RunService") -> Resource:
    """A run in the list of resources; only `name` is text of its caller."""
    shown = listed_run(record, service)
    score = "" if shown.test_score is None else f", test score {shown.test_score:.3f}"
    return Resource(
        uri=run_uri(record.run_id),
        name=excerpt(" ".join((record.name or record.run_id).split()), TITLE),
        title=f"Run of {_time(record.created)[:16].replace('T', ' ')} UTC, {shown.status}",
        description=f"{record.run_id}{score}. Its whole pool: {pool_uri(record.run_id)}",
        mime_type=JSON,
        annotations=Annotations(last_modified=_time(record.updated)),
    )


def _runs_link(newest: float | None) -> Resource:
    modified = None if newest is None else Annotations(last_modified=_time(newest))
    return Resource(
        uri=RUNS,
        name="runs",
        title="The newest runs",
        description="Runs of every server on this database, newest first, with their status.",
        mime_type=JSON,
        annotations=modified,
    )


async def _text(address: Address, service: "RunService") -> str:
    if address.subject == "runs":
        records = await service.newest(MOST_RUNS)
        return RunsPage(runs=[listed_run(one, service) for one in records]).model_dump_json()
    if address.subject == "workflow":
        return (await service.workflow(address.id)).source
    record = await service.record(address.id)
    match address.subject:
        case "run":
            return run_state(await service.seen(address.id), service).model_dump_json()
        case "pool":
            return await _pool(record, service)
        case "events":
            return await _story(record, service)


async def _pool(record: "RunRecord", service: "RunService") -> str:
    """The pool as one JSON object; a long one is written without holding up other requests."""
    from bayesflow_server.runs.spec import RunSpec

    view = (await service.shown_pool(record.run_id)).view
    head = WholePool(
        run_id=record.run_id,
        revision=record.revision,
        beta=view.beta,
        total=len(view.items),
        prior_independent=RunSpec.model_validate_json(record.request).prior_independent,
        front=[front_workflow(point) for point in view.front],
    )
    written: list[str] = []
    for start in range(0, len(view.items), _SLICE):
        for rank, item in enumerate(view.items[start : start + _SLICE], start + 1):
            shown: PoolWorkflow = pool_workflow(item, rank)
            written.append(shown.model_dump_json())
        await asyncio.sleep(0)
    return f'{head.model_dump_json()[:-1]},"items":[{",".join(written)}]}}'


async def _story(record: "RunRecord", service: "RunService") -> str:
    store = service.workplace.store
    events = await store.events(record.run_id)
    rounds = {one.round: one for one in await store.rounds(record.run_id)}
    told = [_event(event, rounds) for event in events]
    story = Story(run_id=record.run_id, events=told)
    return story.model_dump_json(exclude_none=True)


def _event(event: "EventRecord", rounds: "dict[int, RoundRecord]") -> StoryEvent:
    told = StoryEvent(position=event.position, time=_time(event.created), kind=event.kind)
    if event.kind != "round":
        told.reason = None if event.detail is None else excerpt(event.detail, 2 * ERROR)
        return told
    told.round = int(event.detail or 0)
    if told.round in rounds:
        stats: dict[str, JsonValue] = json.loads(rounds[told.round].stats)
        told.figures = {name: _finite(stats[name]) for name in _FIGURES if name in stats}
        told.decisions = list(_decisions(stats.get("decisions")))
    return told


def _decisions(told: JsonValue | None) -> Iterable[RoundDecision]:
    for one in told if isinstance(told, Sequence) else ():
        if isinstance(one, dict):
            yield RoundDecision(
                choice=excerpt(str(one.get("choice", "")), ERROR),
                reason=excerpt(str(one.get("reason", "")), ERROR),
                guarantee=excerpt(str(one.get("guarantee", "")), ERROR),
            )


def _finite(value: JsonValue) -> JsonValue:
    """The value, or null for a number that JSON cannot write."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
