"""One sentence for arguments that break a tool's schema, from pydantic's list of errors."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import BaseModel, ValidationError

from bayesflow_server.excerpt import excerpt

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["complaint"]

_SHOWN_INPUT: Final = 60
# Labels of a union's branches in an error's location; no argument of ours has such a name.
_BRANCH: Final = re.compile(r"str|int|float|bool|dict|list|[^\[]*\[.*|.*-.*", re.DOTALL)
_LEADS: Final = ("Input should be ", "Value error, ", "Assertion failed, ")
_SIZE: Final = re.compile(r"\w+ should (have at (?:most|least) \d+ \w+).*")


def complaint(tool: str, arguments: type[BaseModel], error: ValidationError) -> str:
    """What is wrong with a call's arguments, and what they should be.

    Args:
        tool: The tool's name.
        arguments: The model of its arguments.
        error: What validation found.
    """
    errors = error.errors(include_url=False)
    first = errors[0]
    argument = first["loc"][0]
    # A union reports every branch; the branch that got furthest is the one that was meant.
    same = [one for one in errors if one["loc"][:1] == (argument,)]
    deepest = max(len(_path(one)) for one in same)
    meant = [one for one in same if len(_path(one)) == deepest]
    name = ".".join(_path(meant[0]))
    if meant[0]["type"] == "missing":
        return f"{tool} needs `{name}`; pass it."
    if meant[0]["type"] == "extra_forbidden":
        return _unknown(arguments, meant[0])
    got = excerpt(repr(meant[0]["input"]), _SHOWN_INPUT)
    return f"`{name}` must {_wanted(meant)}, not {got}."


def _path(error: "ErrorDetails") -> list[str]:
    """The names that lead to the wrong value, without the labels of union branches."""
    loc = error["loc"]
    if error["type"] == "extra_forbidden":
        return [str(part) for part in loc]
    return [
        str(part)
        for place, part in enumerate(loc)
        if place == 0 or isinstance(part, int) or not _BRANCH.fullmatch(part)
    ]


def _unknown(arguments: type[BaseModel], error: "ErrorDetails") -> str:
    *path, name = _path(error)
    known = _fields(arguments.model_fields[path[0]].annotation)
    hint = get_close_matches(name, known, n=1)
    meant = f"did you mean '{hint[0]}'? It" if hint else "it"
    takes = f"; {meant} takes {', '.join(known)}" if known else ""
    return f"`{'.'.join(path)}` has no '{excerpt(name, _SHOWN_INPUT)}'{takes}."


def _fields(annotation: Any) -> list[str]:
    """The field names of an argument that is an object, or a list of objects."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return list(annotation.model_fields)
    for part in get_args(annotation):
        if known := _fields(part):
            return known
    return []


def _wanted(errors: "Sequence[ErrorDetails]") -> str:
    wishes: list[str] = []
    for error in errors:
        message = error["msg"]
        for lead in _LEADS:
            message = message.removeprefix(lead)
        size = _SIZE.fullmatch(message)
        wish = size[1] if size else f"be {message[:1].lower()}{message[1:]}"
        if wish not in wishes:
            wishes.append(wish)
    return " or ".join(wishes)
