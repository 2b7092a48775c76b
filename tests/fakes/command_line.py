"""How a command of the command line ends, as tests see it."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Command", "Said"]


class Said(NamedTuple):
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Said]
