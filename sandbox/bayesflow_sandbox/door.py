"""Serves one execution's calls: counts them, checks them, keeps the host's faults out of reach.

An exception of a host function is no answer to the workflow, whose ``try: ... except`` would turn
an outage into a score. It is kept here as ``fault``; the engine stops the execution and raises it.
``Sandbox`` makes one door for each execution, the engine serves it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.host import HostFunction, HostFunctions
from bayesflow_sandbox.outcome import JsonValue
from bayesflow_sandbox.plain import without_surrogates

__all__ = ["Door"]


class Door:
    """The host's side of one execution. Needs a running event loop.

    Args:
        functions: What may be called.
        usage: What ``get_usage_summary()`` answers.
        max_calls: How many calls may be made.

    Attributes:
        calls: Calls made so far, refused ones included.
        exhausted: Whether more than ``max_calls`` were tried: the execution has failed, even if the
            workflow swallows the exception it got.
        fault: Done as soon as the host has failed; holds its exception.
    """

    def __init__(
        self, functions: HostFunctions, usage: Callable[[], Mapping[str, float]], max_calls: int
    ) -> None:
        self.calls = 0
        self.exhausted = False
        self.fault: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._functions = functions
        self._usage = usage
        self._max_calls = max_calls
        self._work: set[asyncio.Future[JsonValue]] = set()

    def callables(self, prefix: str) -> dict[str, Callable[..., Awaitable[JsonValue]]]:
        """Returns what the interpreter is to call, under the functions' names with a prefix."""
        return {prefix + name: self._caller(entry) for name, entry in self._functions.items()}

    def usage(self) -> dict[str, float]:
        """Answers ``get_usage_summary()``."""
        try:
            return dict(self._usage())
        except Exception as error:
            self.abort(error)
            raise RuntimeError("the host has stopped this execution") from None

    def abort(self, fault: BaseException) -> None:
        """Ends the execution: ``run_workflow`` raises ``fault``. Of several the first counts."""
        if not self.fault.done():
            self.fault.set_result(fault)

    async def aclose(self) -> None:
        """Cancels the calls still in flight and waits for their end."""
        for work in self._work:
            work.cancel()
        # Their exceptions are read here, so that asyncio does not report them as forgotten.
        await asyncio.gather(*self._work, return_exceptions=True)

    def _caller(self, function: HostFunction) -> Callable[..., Awaitable[JsonValue]]:
        async def call(*args: object, **kwargs: object) -> JsonValue:
            return await self._serve(function, args, kwargs)

        return call

    async def _serve(
        self, function: HostFunction, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> JsonValue:
        self.calls += 1
        if self.calls > self._max_calls:
            self.exhausted = True
            raise RuntimeError(f"more than {self._max_calls} calls")
        if self.fault.done():
            raise RuntimeError("the host has stopped this execution")
        work = asyncio.ensure_future(function.serve(args, kwargs))
        self._work.add(work)
        await asyncio.wait({work})
        self._work.discard(work)
        if work.cancelled():
            return self._stop(asyncio.CancelledError())
        error = work.exception()
        if isinstance(error, CallRefusedError):
            raise ValueError(str(error))
        return without_surrogates(work.result()) if error is None else self._stop(error)

    def _stop(self, fault: BaseException) -> JsonValue:
        self.abort(fault)
        raise RuntimeError("the host has stopped this execution")
