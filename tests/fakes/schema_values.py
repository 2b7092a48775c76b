"""Values that fit a JSON schema, for the part of JSON schema that our tools publish.

A keyword that is not known here is an error, so that no constraint is overlooked in silence.
"""

import math
from collections.abc import Callable, Mapping
from typing import Final

from hypothesis import strategies as st
from pydantic import JsonValue

__all__ = ["values"]

Schema = Mapping[str, JsonValue]
Values = st.SearchStrategy[JsonValue]

_MOST_TEXT: Final = 60
_MOST_ITEMS: Final = 4
_SILENT: Final = {"description", "default", "title", "examples"}
_KNOWN: Final = {
    "type",
    "enum",
    "const",
    "anyOf",
    "properties",
    "required",
    "additionalProperties",
    "propertyNames",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
}
_KINDS: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_LEAVES: Final = st.none() | st.booleans() | st.integers() | st.text(max_size=10)


def _anything() -> Values:
    return st.recursive(
        _LEAVES | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
        max_leaves=6,
    )


def values(schema: Schema) -> Values:
    """Values of the schema.

    Raises:
        ValueError: The schema has a keyword of which nothing is known here.
    """
    unknown = set(schema) - _KNOWN - _SILENT
    if unknown:
        raise ValueError(f"no values are known for {', '.join(sorted(unknown))}")
    if "enum" in schema:
        return st.sampled_from(_list(schema["enum"]))
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        return st.one_of([values(_schema(part)) for part in _list(schema["anyOf"])])
    named = schema.get("type")
    if named is None:
        return _anything()
    kinds = [named] if isinstance(named, str) else _list(named)
    return st.one_of([_MAKERS[str(kind)](schema) for kind in kinds])


def _list(value: JsonValue) -> list[JsonValue]:
    assert isinstance(value, list)
    return value


def _schema(value: JsonValue) -> Schema:
    if value is True:
        return {}
    assert isinstance(value, dict)
    return value


def _number(schema: Schema, name: str) -> float | None:
    value = schema.get(name)
    assert value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return value


def _count(schema: Schema, name: str, most: int) -> int:
    value = _number(schema, name)
    return most if value is None else min(most, int(value))


def _integers(schema: Schema) -> Values:
    least, most = _number(schema, "minimum"), _number(schema, "maximum")
    above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    if above is not None:
        least = math.floor(above) + 1
    if below is not None:
        most = math.ceil(below) - 1
    return st.integers(
        None if least is None else math.ceil(least), None if most is None else math.floor(most)
    )


def _numbers(schema: Schema) -> Values:
    above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    least, most = _number(schema, "minimum"), _number(schema, "maximum")
    return st.floats(
        min_value=least if above is None else above,
        max_value=most if below is None else below,
        exclude_min=above is not None,
        exclude_max=below is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _texts(schema: Schema) -> Values:
    return st.text(
        min_size=_count(schema, "minLength", 0) if "minLength" in schema else 0,
        max_size=_count(schema, "maxLength", _MOST_TEXT),
    )


def _arrays(schema: Schema) -> Values:
    least = _count(schema, "minItems", _MOST_ITEMS) if "minItems" in schema else 0
    return st.lists(
        values(_schema(schema.get("items", True))),
        min_size=least,
        max_size=_count(schema, "maxItems", max(least, _MOST_ITEMS)),
    )


def _objects(schema: Schema) -> Values:
    properties = _schema(schema.get("properties", {}))
    required = _list(schema.get("required", []))
    made = {name: values(_schema(part)) for name, part in properties.items()}
    fixed = {name: made.get(str(name), _anything()) for name in map(str, required)}
    optional = {name: one for name, one in made.items() if name not in fixed}
    known: Values = st.fixed_dictionaries(fixed, optional=optional).map(dict[str, JsonValue])
    others = schema.get("additionalProperties", True)
    if others is False:
        return known
    drawn = values({"type": "string"} | dict(_schema(schema.get("propertyNames", {}))))
    names = drawn.map(str).filter(lambda name: name not in made)
    more = st.dictionaries(names, values(_schema(others)), max_size=2)
    return st.tuples(more, known).map(_joined)


def _joined(parts: tuple[dict[str, JsonValue], JsonValue]) -> JsonValue:
    more, known = parts
    assert isinstance(known, dict)
    return more | known


def _nulls(schema: Schema) -> Values:
    return st.none()


def _booleans(schema: Schema) -> Values:
    return st.booleans()


_MAKERS: Final[dict[str, Callable[[Schema], Values]]] = dict(
    zip(_KINDS, (_nulls, _booleans, _integers, _numbers, _texts, _arrays, _objects), strict=True)
)
