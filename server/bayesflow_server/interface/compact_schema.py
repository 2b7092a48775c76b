"""A JSON schema without what tells a model nothing: every host pays for it in every conversation.

Left out: titles made from names, `default: null` (an absent argument says the same), the OpenAPI
`discriminator`, what an object is called where its field says it, and of a description all but its
first paragraph. A part that stands once stands where it is used. What a tool returns is less
strictly described than what it takes: that is our own word, which nobody has to check.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from pydantic import JsonValue

__all__ = ["compact", "compact_result"]

Schema: TypeAlias = dict[str, JsonValue]

_NAMED: Final = ("properties", "$defs")  # their keys are names, not keywords
_BOUNDS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "maxLength")
_NULL: Final[JsonValue] = {"type": "null"}
_REFERENCE: Final = "#/$defs/"


def compact(schema: Mapping[str, JsonValue]) -> Schema:
    """The schema of what a tool takes, in fewer words."""
    return _gathered(_each(schema, _plain))


def compact_result(schema: Mapping[str, JsonValue]) -> Schema:
    """The schema of a tool's result, which the tool's own description introduces.

    That no field is ever missing is said of the result alone; it holds for its parts, too.
    """
    short = _each(_gathered(_each(schema, _plain)), _loose)
    required = short.get("required")
    short = _each(short, _unrequired)
    short.pop("description", None)
    return short if required is None else {**short, "required": required}


def _each(schema: Mapping[str, JsonValue], change: Callable[[Schema], Schema]) -> Schema:
    """The schema with each of its parts changed, the innermost first."""
    short: Schema = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            short[key] = {name: _part(part, change) for name, part in value.items()}
        else:
            short[key] = _part(value, change)
    return change(short)


def _part(value: JsonValue, change: Callable[[Schema], Schema]) -> JsonValue:
    if isinstance(value, dict):
        return _each(value, change)
    if isinstance(value, list):
        return [_part(item, change) for item in value]
    return value


def _plain(schema: Schema) -> Schema:
    """Without titles and further paragraphs; what may be null as one list of types."""
    short: Schema = {}
    for key, value in schema.items():
        if key in ("title", "discriminator") or (key == "default" and value is None):
            continue
        if key == "description" and isinstance(value, str):
            short[key] = " ".join(value.split("\n\n")[0].split())
        else:
            short[key] = value
    branches = short.get("anyOf")
    if isinstance(branches, list) and len(branches) == 2 and branches[1] == _NULL:
        return _nullable(short, branches[0])
    return short


def _nullable(schema: Schema, branch: JsonValue) -> Schema:
    """The same as any of the branch and null."""
    if not isinstance(branch, dict) or not isinstance(branch.get("type"), str):
        return schema
    rest = {key: value for key, value in schema.items() if key != "anyOf"}
    short: Schema = {**branch, **rest, "type": [branch["type"], "null"]}
    values = branch.get("enum")
    if isinstance(values, list):
        short["enum"] = [*values, None]
    return short


def _loose(schema: Schema) -> Schema:
    """Without bounds, and without the type of values that are listed."""
    idle = (*_BOUNDS, "propertyNames", *(("type",) if "enum" in schema else ()))
    short = {key: value for key, value in schema.items() if key not in idle}
    if short.get("additionalProperties") in (False, {}):
        del short["additionalProperties"]
    return short


def _unrequired(schema: Schema) -> Schema:
    return {key: value for key, value in schema.items() if key != "required"}


def _gathered(schema: Schema) -> Schema:
    """With each definition that is used once in its place, and without what they are called."""
    rest = {key: value for key, value in schema.items() if key != "$defs"}
    given = schema.get("$defs", {})
    definitions = {
        name: {key: value for key, value in part.items() if key != "description"}
        for name, part in (given.items() if isinstance(given, dict) else ())
        if isinstance(part, dict)
    }
    every = str([rest, definitions])
    shared = {
        name
        for name, part in definitions.items()
        if part and every.count(f"'{_REFERENCE}{name}'") > 1
    }

    def put(part: Schema) -> Schema:
        name = str(part.get("$ref", "")).removeprefix(_REFERENCE)
        if name in shared or name not in definitions:
            return part
        own = {key: value for key, value in part.items() if key != "$ref"}
        return _plain({**_each(definitions[name], put), **own})

    short = _each(rest, put)
    left: Schema = {name: _each(definitions[name], put) for name in sorted(shared)}
    # A part that may be null is told as one only once the part stands in its place.
    short = _each(short, _plain)
    return {"$defs": left, **short} if left else short
