"""How much of a long list or text goes into one result: hosts cut results that are too long.

Hosts cap a result near 25,000 tokens; ours stay below 8,000 (about four characters a token).
"""

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeVar

from pydantic import BaseModel, JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.excerpt import excerpt
from bayesflow_server.interface.result import json_text

__all__ = [
    "LONGEST",
    "ROOM",
    "TextPage",
    "first_that_fit",
    "offset_of",
    "page_of_text",
    "room_beside",
    "shortened",
    "texts_that_fit",
]

ItemT = TypeVar("ItemT", bound=BaseModel)

# Characters of JSON that a result may have, and that a list may take in one.
LONGEST: Final = 32_000
ROOM: Final = 26_000
# Parameters of a scorer that are shown, and characters of each.
_PARAMETERS: Final = 20
_PARAMETER: Final = 300


class TextPage(NamedTuple):
    """A part of a text, and where the next begins: None at the end."""

    text: str
    cursor: str | None


def room_beside(result: BaseModel) -> int:
    """Characters of JSON that a result has room for beside what is in it already."""
    return LONGEST - len(json_text(result.model_dump(mode="json")))


def first_that_fit(items: Iterable[ItemT], room: int = ROOM) -> list[ItemT]:
    """The first items that together fit into `room` characters; at least one, if there is any."""
    chosen: list[ItemT] = []
    used = 0
    for item in items:
        used += len(item.model_dump_json()) + 1
        if chosen and used > room:
            break
        chosen.append(item)
    return chosen


def texts_that_fit(texts: Iterable[str], most: int, room: int) -> list[str]:
    """Excerpts of the first texts that together fit into `room` characters, and how many lack."""
    chosen: list[str] = []
    used = left_out = 0
    for text in texts:
        shown = excerpt(text, most)
        used += len(json_text(shown)) + 1
        if chosen and used > room:
            left_out += 1
        else:
            chosen.append(shown)
    return [*chosen, f"(+{left_out} more)"] if left_out else chosen


def shortened(parameters: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """A scorer's parameters without the length that a rubric or a list of labels may have."""
    return {name: _short(value) for name, value in list(parameters.items())[:_PARAMETERS]}


def _short(value: JsonValue) -> JsonValue:
    if isinstance(value, str):
        return excerpt(value, _PARAMETER)
    if isinstance(value, list | dict) and len(json.dumps(value)) > _PARAMETER:
        return excerpt(json.dumps(value, ensure_ascii=False), _PARAMETER)
    return value


def page_of_text(text: str, start: int, room: int = ROOM) -> TextPage:
    """What of the text from `start` on fits into `room` characters of JSON, in whole lines."""
    piece = text[start : start + room]
    while (taken := len(json_text(piece))) > room:
        piece = piece[: len(piece) * room // taken]
    end = start + len(piece)
    if end >= len(text):
        return TextPage(piece, None)
    # A line that is longer than a page has to be broken.
    piece = piece[: piece.rfind("\n") + 1] or piece
    return TextPage(piece, str(start + len(piece)))


def offset_of(cursor: str | None, tool: str = "get_pool") -> int:
    """Where a page of a tool's list begins.

    Raises:
        InputError: The cursor is not one that a page gave.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdecimal()) or len(cursor) > 9:
        raise InputError(
            f"The cursor {cursor!r} is not one that {tool} gave; leave it out to begin anew."
        )
    return int(cursor)
