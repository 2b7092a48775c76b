"""A JSON schema without what tells a model nothing: every host pays for it in every conversation.

Left out: titles made from names, `default: null` (an absent argument says the same), the OpenAPI
`discriminator`, and of a description all but its first paragraph. What a tool returns is less
strictly described than what it takes: that is our own word, which nobody has to check.
"""

from collections.abc import Mapping

from pydantic import JsonValue

__all__ = ["compact", "compact_result"]

_NAMED = ("properties", "$defs")  # their keys are names, not keywords
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength")
_NULL: JsonValue = {"type": "null"}


def compact(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The same schema in fewer words."""
    short: dict[str, JsonValue] = {}
    for key, value in schema.items():
        if key in ("title", "discriminator") or (key == "default" and value is None):
            continue
        if key == "description" and isinstance(value, str):
            short[key] = " ".join(value.split("\n\n")[0].split())
        elif key in _NAMED and isinstance(value, dict):
            short[key] = {name: _part(part) for name, part in value.items()}
        else:
            short[key] = _part(value)
    return short


def compact_result(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The schema of a tool's result, which the tool's own description introduces."""
    short = compact(schema)
    short.pop("description", None)
    return _loose(short)


def _part(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return compact(value)
    if isinstance(value, list):
        return [_part(item) for item in value]
    return value


def _loose(schema: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Without bounds, and with a plain type that may be null as one list of types."""
    short: dict[str, JsonValue] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            short[key] = {name: _loose_part(part) for name, part in value.items()}
        elif key == "anyOf" and isinstance(value, list):
            short |= _nullable([_loose_part(branch) for branch in value])
        elif key not in _BOUNDS:
            short[key] = _loose_part(value)
    return short


def _loose_part(value: JsonValue) -> JsonValue:
    return _loose(value) if isinstance(value, dict) else value


def _nullable(branches: list[JsonValue]) -> dict[str, JsonValue]:
    """The keywords that say the same as `anyOf` these."""
    one = branches[0]
    if branches[1:] != [_NULL] or not isinstance(one, dict) or "enum" in one or "type" not in one:
        return {"anyOf": branches}
    return {**one, "type": [one["type"], "null"]}
