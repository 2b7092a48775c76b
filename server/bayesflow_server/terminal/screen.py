"""Where a command prints: text for people without a terminal's commands in it, JSON for scripts.

Names, titles, errors and notes come from models, data and files. None of them may move a cursor,
set a title, reverse a line or be read as rich's markup: they pass `printable`, and are printed as
`Text`, which has no markup.
"""

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "WIDE",
    "cell",
    "date",
    "json_text",
    "make_table",
    "megabytes",
    "open_console",
    "printable",
    "say",
    "write_json",
]

# From this width a table has room for names and reasons.
WIDE: Final = 120
_MEGABYTE: Final = 1e6


def printable(text: str, most: int | None = None) -> str:
    """Text on one line, without what a terminal would take for a command.

    Args:
        text: Of any origin.
        most: Characters that are kept; None keeps all.
    """
    line = " ".join(_plain(text).split())
    return line if most is None or len(line) <= most else f"{line[:most]}…"


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def open_console(*, stderr: bool = False) -> "Console":
    """A console that knows colours on a terminal, unless NO_COLOR is set, and none in a pipe.

    In a pipe, where no width is known, tables are wide enough to lose nothing of note.
    """
    from rich.console import Console  # a tenth of a second

    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if known else WIDE)


def say(console: "Console", line: str, style: str = "", *, whole: bool = False) -> None:
    """Prints one line; a terminal breaks it at words, a pipe gets it in one piece.

    Args:
        console: Where to.
        line: May hold text of any origin; blanks stay.
        style: Rich's.
        whole: Break nothing on a terminal either: it is a command to be copied.
    """
    from rich.text import Text

    text = Text(_plain(line), style=style)
    indent = len(text.plain) - len(text.plain.lstrip(" "))
    if whole or not console.is_terminal or indent == 0:
        console.print(text, soft_wrap=whole or not console.is_terminal)
        return
    from rich.padding import Padding

    # What is broken goes on below its beginning.
    console.print(Padding(text[indent:], (0, 0, 0, indent), expand=False))


def cell(text: object, most: int | None = None, style: str = "") -> str:
    """A cell of a table, to be printed as it is."""
    from rich.markup import escape

    told = escape(printable(str(text), most))
    return f"[{style}]{told}[/{style}]" if style else told


def make_table(title: str, left: Iterable[str], right: Iterable[str] = ()) -> "Table":
    """A table with columns of words, then of figures; none of them is cut."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def write_json(document: object) -> None:
    """Prints one JSON document on stdout; ASCII, so that nothing in it reaches a terminal raw."""
    sys.stdout.write(json_text(document) + "\n")
    sys.stdout.flush()


def json_text(document: object, indent: int | None = None) -> str:
    """A document in JSON, ASCII alone; null for every number that JSON has no sign for."""
    return json.dumps(_finite(document), allow_nan=False, indent=indent)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value)
        return {str(key): _finite(one) for key, one in pairs.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in cast("Sequence[object]", value)]
    return value


def date(seconds: float, *, exact: bool = False) -> str:
    """A time of the store as a person here reads it, to the minute or to the second."""
    moment = datetime.fromtimestamp(seconds).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}" if exact else f"{moment:%Y-%m-%d %H:%M}"


def megabytes(size: float) -> str:
    """A size in bytes, in MB."""
    return f"{size / _MEGABYTE:,.1f} MB"
