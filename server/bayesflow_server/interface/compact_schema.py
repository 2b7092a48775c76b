"""A JSON schema without what tells a model nothing: every host pays for it in every conversation.

Left out: titles made from names, `default: null` (an absent argument says the same), the OpenAPI
`discriminator`, and of a description all but its first paragraph.
"""

from collections.abc import Mapping

from pydantic import JsonValue

__all__ = ["compact"]

_NAMED = ("properties", "$defs")  # their keys are names, not keywords


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


def _part(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return compact(value)
    if isinstance(value, list):
        return [_part(item) for item in value]
    return value
