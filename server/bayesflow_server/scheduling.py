"""An event loop on which requests of clients go before the work of runs.

A run has many callbacks ready at any moment, and a request passes the loop a dozen times; in one
queue it would wait for all of them each time. Here whatever belongs to a task of `in_background`
(its own steps, those of the tasks it makes, their wake-ups) waits in a second queue, which is
served in slices of `_SLICE_SECONDS`, one a turn of the loop. While something happens in front,
slices pause: for `_PAUSE_SECONDS` after each callback there, which lets a request's next step come,
and for `_LONGEST_PAUSE` at most. The slice after a pause lasts `_SHARE` of it, so the background
keeps a fifth of the time under clients that never rest.

Within either queue the order is asyncio's: first come, first served.
"""

import asyncio
import sys
from asyncio import Handle
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Final, TypeVar, TypeVarTuple, Unpack

__all__ = ["PriorityEventLoop", "event_loop_factory", "in_background"]

_Result = TypeVar("_Result")
_Arguments = TypeVarTuple("_Arguments")

_SLICE_SECONDS: Final = 0.0003
_PAUSE_SECONDS: Final = 0.001
_LONGEST_PAUSE: Final = 0.005
_SHARE: Final = 0.2
_BACKGROUND: ContextVar[bool] = ContextVar("bayesflow_background", default=False)


def in_background(
    work: Coroutine[object, object, _Result], *, name: str | None = None
) -> asyncio.Task[_Result]:
    """Starts a task that, with every task it makes, lets others go first.

    On an event loop of another kind it is a task like any other.
    """
    context = copy_context()
    context.run(_BACKGROUND.set, True)
    return asyncio.create_task(work, name=name, context=context)


class PriorityEventLoop(asyncio.SelectorEventLoop):
    """The selector event loop with a second queue, for callbacks in a background context.

    In asyncio's debug mode there is one queue, so that every callback is timed as usual.
    """

    def __init__(self) -> None:
        super().__init__()
        # Invariant: unless it is empty, `_serve_behind` is scheduled or running.
        self._behind: deque[Handle] = deque()
        self._steps_in_front = 0
        self._steps_seen = 0
        self._served = 0.0
        self._paused = False
        self._plain = Context()

    def call_soon(
        self,
        callback: Callable[[Unpack[_Arguments]], object],
        *args: *_Arguments,
        context: Context | None = None,
    ) -> Handle:
        """Queues a callback: at the end of the second queue if its context is a background's."""
        behind = _BACKGROUND.get() if context is None else context.get(_BACKGROUND, False)
        if not behind or self.get_debug():
            self._steps_in_front += 1
            return super().call_soon(callback, *args, context=context)
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        handle = Handle(callback, args, self, context)
        self._behind.append(handle)
        if len(self._behind) == 1:
            self._schedule_slice()
        return handle

    def close(self) -> None:
        """Closes the loop; what waits is dropped, as in the selector loop."""
        super().close()
        self._behind.clear()

    def _schedule_slice(self) -> None:
        super().call_soon(self._serve_behind, context=self._plain)

    def _serve_behind(self) -> None:
        now = self.time()
        if self._steps_seen != self._steps_in_front and now < self._served + _LONGEST_PAUSE:
            self._steps_seen = self._steps_in_front
            self._paused = True
            self.call_later(_PAUSE_SECONDS, self._serve_behind, context=self._plain)
            return
        waited = min(now - self._served, _LONGEST_PAUSE) if self._paused else 0.0
        self._served = now
        self._paused = False
        try:
            self._run_slice(now + max(_SLICE_SECONDS, _SHARE * waited))
        finally:
            if self._behind:
                self._schedule_slice()

    def _run_slice(self, until: float) -> None:
        waiting = self._behind
        while waiting:
            try:
                if not waiting[0].cancelled():
                    waiting[0]._run()  # pyright: ignore[reportPrivateUsage]
            finally:
                waiting.popleft()
            if self.time() >= until:
                return


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes a server's event loop, for `asyncio.Runner`; None, the default, on Windows.

    There only the proactor loop has pipes and processes.
    """
    return None if sys.platform == "win32" else PriorityEventLoop
