"""Values that cross into and out of the sandbox: plain data only.

The interpreter hands over whatever the workflow built: cycles, shared references that unfold to
gigabytes, integers with millions of digits, foreign objects. ``plain_value`` copies what is plain
and stops at the first thing that is not. The other way only lone surrogates are in question, which
the interpreter's UTF-8 text cannot hold: a model's or a data set's text may have them.
"""

import math
from dataclasses import dataclass
from typing import Final, cast

from bayesflow_sandbox.outcome import JsonValue, ReturnValue

__all__ = ["Foreign", "NotPlainError", "TooLargeError", "plain_value", "without_surrogates"]

_MAX_DEPTH: Final = 32
_MAX_INT_BITS: Final = 1024
_NODE_BYTES: Final = 2  # a value's share of JSON punctuation


@dataclass(frozen=True, slots=True)
class Foreign:
    """Stands for a value that could not cross: an object, or a container that may not be built.

    Attributes:
        type_name: Its class's name, as its side says.
    """

    type_name: str


class NotPlainError(ValueError):
    """The value is not made of None, bool, int, float, str, list, tuple and dict."""


class TooLargeError(ValueError):
    """The value is larger than allowed."""


def plain_value(value: object, max_bytes: int) -> ReturnValue:
    """Copies a value as JSON-like data; a tuple at the top stays a tuple, inner ones become lists.

    Raises:
        NotPlainError: It holds something that is not plain data, or is nested too deeply.
        TooLargeError: It is larger than ``max_bytes``, counted as JSON about.
    """
    copier = _Copier(max_bytes)
    if isinstance(value, tuple):
        return tuple(copier.copy(item, 1) for item in cast("tuple[object, ...]", value))
    return copier.copy(value, 0)


def without_surrogates(value: JsonValue) -> JsonValue:
    """Returns the value with every lone surrogate replaced by a question mark."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode("utf-8")
        case list():
            return [without_surrogates(item) for item in value]
        case dict():
            return {
                key.encode("utf-8", "replace").decode("utf-8"): without_surrogates(item)
                for key, item in value.items()
            }
        case _:
            return value


class _Copier:
    """Copies one value. Invariant: the bytes counted so far never exceed the allowance."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left = max_bytes

    def copy(self, value: object, depth: int) -> JsonValue:
        if depth > _MAX_DEPTH:
            raise NotPlainError(f"the returned value is nested more than {_MAX_DEPTH} deep")
        self._count(_NODE_BYTES)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self._copy_text(value)
        if isinstance(value, int | float):
            return self._copy_number(value)
        if isinstance(value, list | tuple):
            items = cast("list[object]", value)
            return [self.copy(item, depth + 1) for item in items]
        if isinstance(value, dict):
            return self._copy_dict(cast("dict[object, object]", value), depth)
        kind = value.type_name if isinstance(value, Foreign) else type(value).__name__
        raise NotPlainError(
            f"the workflow returned a value of type {kind}: return text, numbers, lists or dicts"
        )

    def _copy_dict(self, value: dict[object, object], depth: int) -> dict[str, JsonValue]:
        copied: dict[str, JsonValue] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise NotPlainError("a returned dict may have keys of text only")
            copied[self._copy_text(key)] = self.copy(item, depth + 1)
        return copied

    def _copy_text(self, value: str) -> str:
        self._count(len(value))
        self._count(len(value.encode("utf-8", "surrogatepass")) - len(value))
        return str(value)

    def _copy_number(self, value: int | float) -> int | float:
        if isinstance(value, float):
            if not math.isfinite(value):
                raise NotPlainError(f"the workflow returned {value}: return a finite number")
            return float(value)
        if value.bit_length() > _MAX_INT_BITS:
            raise NotPlainError(f"the workflow returned an integer of {value.bit_length()} bits")
        return int(value)

    def _count(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise TooLargeError(f"the workflow returned more than {self._max_bytes} bytes")
