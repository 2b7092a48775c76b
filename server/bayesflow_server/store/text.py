"""Text as SQLite and UTF-8 can hold it."""

__all__ = ["storable"]


def storable(text: str) -> str:
    """The text with each lone surrogate, which neither can hold, replaced by a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")
