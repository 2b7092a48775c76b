"""Argument types that several tools share, and what kinds of tools there are."""

from typing import Annotated, Final, TypeAlias

from mcp.types import ToolAnnotations
from pydantic import BeforeValidator, Field, JsonValue, WithJsonSchema

from bayesflow_server.evaluation.scorers import SCORER_KINDS, SCORERS, Scorer, parse_scorer

__all__ = [
    "EXAMPLES",
    "READ",
    "SPEND",
    "STOP",
    "Confirmed",
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
Confirmed: TypeAlias = Annotated[bool, Field(description="The user agreed to this budget.")]
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


def _scorer_schema() -> dict[str, JsonValue]:
    """All scorers as one object: told apart one by one, they would take a fifth of the tool list.

    `parse_scorer` holds each to its own parameters.
    """
    properties: dict[str, JsonValue] = {"kind": {"enum": list(SCORER_KINDS)}}
    for model in SCORERS:
        schema = model.model_json_schema()
        kind = str(model.model_fields["kind"].default)
        for name, given in schema["properties"].items():
            if name != "kind":
                words = given.get("description", "")
                types = {key: given[key] for key in ("type", "enum", "anyOf") if key in given}
                properties[name] = {**types, "description": f"{kind}: {words}".rstrip(": ")}
    kinds: list[JsonValue] = ["auto", *SCORER_KINDS]
    whole: JsonValue = {"type": "object", "properties": properties, "required": ["kind"]}
    return {"anyOf": [{"enum": kinds}, whole]}


ScorerArgument: TypeAlias = Annotated[
    str | Scorer, BeforeValidator(_parsed), WithJsonSchema(_scorer_schema())
]
