"""Argument types that several tools share, and what kinds of tools there are."""

from typing import Annotated, Final, TypeAlias

from mcp.types import ToolAnnotations
from pydantic import BeforeValidator, Field, JsonValue

from bayesflow_server.evaluation.scorers import Scorer, parse_scorer

__all__ = [
    "EXAMPLES",
    "READ",
    "SPEND",
    "STOP",
    "Cursor",
    "Examples",
    "RunId",
    "ScorerArgument",
    "WaitSeconds",
]

READ: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)
SPEND: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=True
)
STOP: Final = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)

RunId: TypeAlias = Annotated[str, Field(max_length=80, description="A run's id, `run_…`.")]
Cursor: TypeAlias = Annotated[
    str | None, Field(max_length=80, description="`cursor` of the page before; null begins anew.")
]
WaitSeconds: TypeAlias = Annotated[
    float, Field(ge=0, le=45, description="Longest wait; 0 returns at once.")
]
Examples: TypeAlias = str | list[dict[str, JsonValue]]
EXAMPLES: Final = Field(
    description="Absolute path of a JSONL, JSON or CSV file on the server's machine, or at most "
    "200 rows {input, target, id?, split?, meta?}."
)


def _parsed(value: object) -> object:
    """A scorer, checked here so that a wrong one gets the scorers' own sentence."""
    if isinstance(value, dict) or (isinstance(value, str) and value != "auto"):
        return parse_scorer(value)  # pyright: ignore[reportUnknownArgumentType]
    return value


ScorerArgument: TypeAlias = Annotated[str | Scorer, BeforeValidator(_parsed)]
