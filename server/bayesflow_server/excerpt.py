"""Text from datasets, models and workflows, cut to a length before it goes to a client.

Such text may try to talk to the agent that reads it. It stands in labelled data fields only, never
in descriptions, errors' advice or `next`, and never at a length that drowns what surrounds it.
"""

from typing import Final

__all__ = ["ANSWER", "ERROR", "TITLE", "excerpt"]

ANSWER: Final = 500
ERROR: Final = 300
TITLE: Final = 120


def excerpt(text: str, most: int) -> str:
    """The text, or its first `most` characters with a mark that says how many are missing."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… (+{len(text) - most} characters)"
