r"""Text from datasets, models and workflows, cut to a length before it goes to a client.

Such text may try to talk to the agent that reads it. It stands in labelled data fields only, never
in descriptions, errors' advice or `next`, and never at a length that drowns what surrounds it.
An error may quote a little of it.
What a reader would not see, or what would move a terminal's cursor, is written out: `\u001b`.
"""

import re
from typing import Final

__all__ = ["ANSWER", "ERROR", "INVISIBLE", "PATH", "TITLE", "excerpt", "quoted", "visible"]

ANSWER: Final = 500
ERROR: Final = 300
TITLE: Final = 120
PATH: Final = 160
_QUOTE: Final = 60

# Control characters but tab and line feed, marks of direction that override, spaces and separators
# of no width, and tags. Joiners and plain marks of direction belong to scripts and stay.
INVISIBLE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def visible(text: str) -> str:
    """The text with every invisible character written out."""
    return INVISIBLE.sub(lambda found: _written(ord(found[0])), text)


def excerpt(text: str, most: int) -> str:
    """The visible text, or its first `most` characters with a mark that says how many are missing.

    Lines that end as on Windows end as everywhere.
    """
    # A little more than is shown: what is cut away need not be looked at.
    text, cut = text[: most + 1].replace("\r\n", "\n"), max(0, len(text) - most - 1)
    shown = visible(text)
    if len(shown) + cut <= most:
        return shown
    return f"{shown[:most]}… (+{len(shown) + cut - most} characters)"


def quoted(text: object, most: int = _QUOTE) -> str:
    """A short excerpt in quotes and on one line, as a sentence of ours may hold it."""
    return f"'{excerpt(' '.join(str(text).split()), most)}'"


def _written(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
