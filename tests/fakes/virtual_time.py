"""An event loop whose clock jumps to the next timer: hours of waiting pass at once.

For code that waits for nothing but timers: what comes from threads or sockets is not waited for.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

__all__ = ["in_virtual_time"]

Result = TypeVar("Result")


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Impatient(self))

    def time(self) -> float:
        return self._now

    def pass_time(self, seconds: float) -> None:
        self._now += seconds


class _Impatient(selectors.DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore]
    def __init__(self, loop: _VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:  # nothing will ever happen: better an error than a test that hangs
            raise RuntimeError("every task waits for something that cannot come")
        self._loop.pass_time(max(0.0, timeout))
        return super().select(0)


def in_virtual_time(work: Coroutine[object, object, Result]) -> Result:
    """Runs the coroutine to its end; its clock begins at 0."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(work)
