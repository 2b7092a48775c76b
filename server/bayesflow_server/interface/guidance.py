"""Advice that names only tools the server has: it may be started with --read-only or --tools."""

import re
from collections.abc import Set as AbstractSet
from typing import Final

__all__ = ["advice_without", "call_text", "complaint_without", "description_without"]

_SENTENCE: Final = re.compile(r"(?<=\.)\s+")
_WORD: Final = re.compile(r"\w+")


def advice_without(advice: str, absent: AbstractSet[str]) -> str:
    """The sentences that name none of the absent tools; all, with a note, if none is left."""
    if not absent & _words(advice):
        return advice
    left = [one for one in _SENTENCE.split(advice) if not absent & _words(one)]
    return " ".join(left) if left else complaint_without(advice, absent)


def complaint_without(sentence: str, absent: AbstractSet[str]) -> str:
    """The sentence, with a note of the absent tools that it names."""
    named = sorted(absent & _words(sentence))
    if not named:
        return sentence
    return f"{sentence} (This server was started without {', '.join(named)}.)"


def description_without(description: str, absent: AbstractSet[str]) -> str:
    """A tool's description without the next step, if that is an absent tool's."""
    kept = [
        one
        for one in _SENTENCE.split(description)
        if not (one.startswith("Next:") and absent & _words(one))
    ]
    return " ".join(kept) if len(kept) < len(_SENTENCE.split(description)) else description


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text))


def call_text(tool: str, **arguments: object) -> str:
    """A call as advice writes it, without the arguments that are None."""
    given = (f"{name}={value!r}" for name, value in arguments.items() if value is not None)
    return f"{tool}({', '.join(given)})"
