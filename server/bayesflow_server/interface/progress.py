"""Progress of requests that wait, for callers that ask for it with a token.

While a request waits, its caller hears at most once a second what has changed: executions done, of
how many planned, and in our words what goes on. Each figure is above the one before, as the wire
wants; a change without an execution adds a hundredth. Without a token the SDK sends nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import anyio
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPError

from bayesflow_server.errors import ServerError
from bayesflow_server.excerpt import TITLE, excerpt

if TYPE_CHECKING:
    from bayesflow_server.runs.observing import Observer
    from bayesflow_server.runs.progress import Phase
    from bayesflow_server.store.records import RunRecord
    from bayesflow_server.store.store import Store

__all__ = [
    "Look",
    "Stages",
    "Step",
    "executions_of",
    "phase_of",
    "phase_words",
    "progress_of",
    "run_steps",
]

SECONDS: Final = 1.0
_NUDGE: Final = 0.01
_GONE: Final = (anyio.ClosedResourceError, anyio.BrokenResourceError, MCPError, ServerError)


class Step(NamedTuple):
    """How far something is.

    Attributes:
        done: Executions done.
        planned: Executions planned.
        message: What goes on, in our words.
    """

    done: float
    planned: float
    message: str


Look: TypeAlias = Callable[[], Awaitable[Step]]


@asynccontextmanager
async def progress_of(context: Context[Any, Any], look: Look) -> AsyncGenerator[None]:
    """Tells the caller what `look` finds for as long as the block waits, and no longer."""
    telling = asyncio.create_task(_tell(context, look))
    try:
        yield
    finally:
        # Not awaited: in a request that was cancelled every further wait is, too.
        telling.cancel()


async def _tell(context: Context[Any, Any], look: Look) -> None:
    value, told = -1.0, None
    with contextlib.suppress(*_GONE):  # the request itself says what is wrong
        while True:
            await asyncio.sleep(SECONDS)
            step = await look()
            if step != told:
                value = step.done if step.done > value else value + _NUDGE
                await context.report_progress(value, max(step.planned, value), step.message)
                told = step


class Stages:
    """Steps of a check that has no figures: which of so many, and what it does."""

    def __init__(self, *messages: str) -> None:
        self._messages = messages
        self._done = 0

    def next(self) -> None:
        """The next stage begins."""
        self._done += 1

    async def look(self) -> Step:
        """The present stage."""
        return Step(self._done, len(self._messages), self._messages[self._done])


def run_steps(service: "Observer", run_id: str) -> Look:
    """Looks at a run."""

    async def look() -> Step:
        phase = phase_of(await service.record(run_id))
        return Step(phase.executions_done, phase.executions_planned, phase_words(phase))

    return look


def executions_of(store: "Store", scope: str, planned: int) -> Look:
    """Looks at the executions of an evaluation or an answer."""

    async def look() -> Step:
        done = await store.count_executions(scope)
        return Step(done, planned, f"{done} of {planned} executions")

    return look


def phase_of(record: "RunRecord") -> "Phase":
    """The run's place in its life."""
    from bayesflow_server.runs.progress import Phase  # with the run service

    return Phase.model_validate_json(record.phase) if record.phase else Phase()


def phase_words(phase: "Phase") -> str:
    """What the run does. A provider's own words stay out: `get_run` shows them as data."""
    if phase.doing.startswith("trying again, for "):
        return f"round {phase.round} of {phase.of}: a model does not answer, trying again"
    return excerpt(phase.doing, TITLE)
