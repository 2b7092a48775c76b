"""How a sitting ends that does not finish: which errors pause a run, and which fail it."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Final, NamedTuple, cast

from bayesflow_sampler.errors import SamplerError
from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_server.errors import (
    BudgetSpentError,
    ModelUnavailableError,
    ProviderError,
    ScorerError,
    ServerError,
    StoreError,
)
from bayesflow_server.store.records import RunStatus

__all__ = ["Ending", "ending_of", "to_its_end"]

_PAUSING: Final = (
    BudgetSpentError,
    ProviderError,
    ModelUnavailableError,
    ScorerError,
    StoreError,
)


class Ending(NamedTuple):
    """What a run's record says of the end of a sitting.

    Attributes:
        status: `paused` if the same run may go on once the cause is gone, else `failed`.
        reason: Why, for a person.
        bug: The error that nobody foresaw, or None.
    """

    status: RunStatus
    reason: str
    bug: BaseException | None = None


def ending_of(error: BaseException) -> Ending:
    """The ending that an error, or a group of them, stands for; an unforeseen one goes first."""
    errors = _leaves(error)
    for bug in errors:
        if not isinstance(bug, (ServerError, SamplerError)):
            if isinstance(bug, SandboxUnavailableError):
                return Ending("paused", f"{bug} Resume the run once that is mended.")
            return Ending("failed", f"Internal error: {type(bug).__name__}: {bug}", bug)
    first = errors[0]
    return Ending("paused" if isinstance(first, _PAUSING) else "failed", str(first))


async def to_its_end(work: Coroutine[object, object, None]) -> None:
    """Awaits the work to its end, however often the task is cancelled meanwhile.

    For the last acts of a task only: a cancellation then has nothing left to stop.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
    task.result()


def _leaves(error: BaseException) -> list[BaseException]:
    """The errors of a group of groups, in order."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
    return [leaf for one in inner for leaf in _leaves(one)]
