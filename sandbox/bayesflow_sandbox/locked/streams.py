"""Where a child's prints go: nowhere, counted."""

import io
from collections.abc import Callable

__all__ = ["Sink"]


class Sink(io.TextIOBase):
    """Standard input, output or error of a child.

    Args:
        allowed: The most bytes that may be written; None: any.
        over: Called when they are exceeded; does not return.
    """

    def __init__(self, allowed: int | None = None, over: Callable[[], None] | None = None) -> None:
        self._left = allowed
        self._over = over

    def write(self, text: str, /) -> int:
        """Counts a text's bytes and forgets it."""
        if self._left is not None:
            self._left -= len(text.encode("utf-8", "surrogatepass"))
            if self._left < 0 and self._over is not None:
                self._over()
        return len(text)

    def read(self, size: int | None = -1, /) -> str:
        """Nothing."""
        return ""

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Nothing."""
        return ""
