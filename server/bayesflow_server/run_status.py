"""How a run may stand. For every layer, so it imports nothing of them."""

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["RUN_STATUSES", "RunStatus"]

RunStatus: TypeAlias = Literal[
    "queued",
    "running",
    "waiting_for_client",
    "paused",
    "interrupted",
    "cancelled",
    "finished",
    "failed",
]
RUN_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
