"""Which of a search's calls go first, told to whoever lets them through.

The edits of all rounds are one chain, in which each waits for the one before, beside growth that
has much to do at once: an edit that queues behind it makes the whole search longer. A task hands
the mark on to the tasks it starts. It changes when a call is served and nothing else.
"""

from contextvars import ContextVar
from typing import Final

__all__ = ["AHEAD"]

# Set where an edit is proposed or scored.
AHEAD: Final = ContextVar("ahead", default=False)
