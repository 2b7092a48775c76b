"""The profile of a workflow's child: runs ``await Workflow(...)(*arguments)`` and reports.

Behind the lock. What a workflow may call travels to the host and back as messages, several at a
time; what it raises becomes type, message and lines. Limits that only this side sees (sleeps,
output) end the process here, past any ``except``; CPU time, memory and wall time are the kernel's.
"""

import asyncio
import inspect
import os
import selectors
import sys
import time
import types
import typing
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn, TextIO, cast

from bayesflow_sandbox.locked import world
from bayesflow_sandbox.locked.channel import OUT_OF_MEMORY, Frame, Wire
from bayesflow_sandbox.locked.codec import decode, encode
from bayesflow_sandbox.locked.streams import Sink
from bayesflow_sandbox.plain import NotPlainError, TooLargeError

__all__ = ["FILENAME", "begin", "failure_of"]

FILENAME: Final = "<workflow>"
_MAX_JOB_NODES: Final = 1_000_000
_MAX_CALL_BYTES: Final = 2 << 20
_MAX_CALL_NODES: Final = 9_000
_MAX_MESSAGE: Final = 1_000
_KEPT_LINES: Final = 16
_MAX_REPORT_BYTES: Final = 20_000
_ERRORS: Final[dict[str, type[Exception]]] = {"TypeError": TypeError, "ValueError": ValueError}
_TYPING: Final = ("Any", "Dict", "List", "Optional", "Tuple", "Union")


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose own clock runs, and which opens no descriptor.

    The pair of sockets that other threads would wake it by is left out: there are none.
    """

    def time(self) -> float:
        return world.REAL_MONOTONIC()

    def _make_self_pipe(self) -> None:
        return

    def _write_to_self(self) -> None:
        return


def begin() -> Callable[[Wire], None]:
    """Returns what runs the job."""
    loop = _Loop(selectors.PollSelector())
    loop.set_exception_handler(_lost)
    return partial(_run, loop)


def _lost(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception that reached the loop: without memory to settle a call, nobody would wake up."""
    if isinstance(context.get("exception"), MemoryError):
        os._exit(OUT_OF_MEMORY)


def _run(loop: asyncio.AbstractEventLoop, wire: Wire) -> None:
    job = cast("list[Any]", decode(wire.receive().body, _MAX_JOB_NODES, any_keys=True))
    source, arguments, seed, sleep_seconds, output_bytes, max_bytes, max_nodes = job
    world.seed_random(seed)
    bounds = _Bounds(wire, sleep_seconds)
    printed = Sink(output_bytes, partial(bounds.reached, "output_bytes"))
    sys.stdout = cast("TextIO", printed)
    setattr(time, "sleep", bounds.sleep)  # noqa: B010 - a type checker forbids the plain form
    asyncio.sleep = asyncio.tasks.sleep = bounds.sleep_async  # type: ignore[assignment]
    try:
        value = _returned(loop, wire, source, arguments)
    except MemoryError as error:
        wire.send(b"L", _limit("memory_bytes", _lines_of(error, FILENAME)))
        return
    except BaseException as error:  # whatever a workflow can raise is its failure
        wire.send(b"F", encode(failure_of(error), _MAX_REPORT_BYTES))
        return
    try:
        body = encode(value, max_bytes, max_nodes)
    except TooLargeError:
        wire.send(b"L", _limit("return_bytes", []))
    except NotPlainError as error:
        wire.send(b"F", _failure("InvalidReturnValue", str(error), []))
    else:
        wire.send(b"R", body)


def _returned(
    loop: asyncio.AbstractEventLoop, wire: Wire, source: str, arguments: list[object]
) -> object:
    calls = _Calls(wire, loop)
    names: dict[str, Any] = {name: getattr(typing, name) for name in _TYPING}
    names |= {
        "__name__": "workflow",
        "DatasetType": str,
        "create_llm_instance": partial(_LLM, calls),
        "exec_code": partial(_exec_code, calls),
    }
    module = types.ModuleType("workflow")
    module.__dict__.update(names)
    sys.modules["workflow"] = module  # dataclasses look their module up
    exec(compile(source, FILENAME, "exec", dont_inherit=True), module.__dict__)
    made = module.__dict__["Workflow"]("workflow", {}, "task")
    return loop.run_until_complete(_awaited(made, arguments))


async def _awaited(made: Callable[..., Any], arguments: list[object]) -> object:
    return await made(*arguments)


def failure_of(error: BaseException, filename: str = FILENAME) -> list[object]:
    """Returns an exception's type, message, and lines in a file, outermost first."""
    try:
        message = str(error)
    except BaseException:  # its __str__ is the workflow's
        message = "an exception that cannot be printed"
    return [type(error).__name__[:80], message[:_MAX_MESSAGE], _lines_of(error, filename)]


def _lines_of(error: BaseException, filename: str) -> list[int]:
    lines: list[int] = []
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename == filename and error.lineno:
        lines.append(error.lineno)
    return _ends(lines)


def _failure(kind: str, message: str, lines: list[int]) -> bytes:
    return encode([kind, message, lines], _MAX_REPORT_BYTES)


def _limit(limit: str, lines: list[int]) -> bytes:
    return encode([limit, _ends(lines)], _MAX_REPORT_BYTES)


def _ends(lines: list[int]) -> list[int]:
    """The outermost and the innermost lines: what places a failure."""
    return lines if len(lines) <= 2 * _KEPT_LINES else lines[:_KEPT_LINES] + lines[-_KEPT_LINES:]


class _Bounds:
    """Ends the process at limits that only this side can see."""

    def __init__(self, wire: Wire, sleep_seconds: float) -> None:
        self._wire = wire
        self._sleep_left = sleep_seconds
        self._sleep_async = asyncio.sleep

    def reached(self, limit: str) -> NoReturn:
        lines: list[int] = []
        frame: types.FrameType | None = inspect.currentframe()
        while frame is not None:
            if frame.f_code.co_filename == FILENAME:
                lines.insert(0, frame.f_lineno)
            frame = frame.f_back
        self._wire.send(b"L", _limit(limit, lines))
        os._exit(0)

    def sleep(self, seconds: float) -> None:
        self._spend(seconds)
        world.REAL_SLEEP(seconds)

    async def sleep_async(self, delay: float, result: object = None) -> object:
        self._spend(delay)
        return await self._sleep_async(delay, result)

    def _spend(self, seconds: float) -> None:
        if seconds > 0:
            self._sleep_left -= seconds
            if not self._sleep_left >= 0:
                self.reached("sleep_seconds")


class _Calls:
    """Calls of the host that are under way."""

    def __init__(self, wire: Wire, loop: asyncio.AbstractEventLoop) -> None:
        self._wire = wire
        self._loop = loop
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._made = 0
        loop.add_reader(wire.descriptor, self._take)

    async def call(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        """Asks the host and waits, while others run."""
        return await self._send(name, args, kwargs)

    def ask(self, name: str, args: tuple[object, ...] = (), **kwargs: object) -> object:
        """Asks the host and waits alone."""
        future = self._send(name, args, kwargs)
        while not future.done():
            self._take()
        return future.result()

    def _send(
        self, name: str, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> "asyncio.Future[object]":
        self._made += 1
        try:
            body = encode([self._made, name, args, kwargs], _MAX_CALL_BYTES, _MAX_CALL_NODES)
        except (NotPlainError, TooLargeError) as error:
            raise ValueError(f"{name}(): {error} in the arguments") from None
        future = self._waiting[self._made] = self._loop.create_future()
        self._wire.send(b"C", body)
        return future

    def _take(self) -> None:
        frame: Frame = self._wire.receive()
        number, value, kind, message = cast(
            "list[Any]", decode(frame.body, _MAX_JOB_NODES, any_keys=True)
        )
        future = self._waiting.pop(number)
        if future.done():
            return
        if kind is None:
            future.set_result(value)
        else:
            future.set_exception(_ERRORS.get(kind, RuntimeError)(message))


class _LLM:
    """What ``create_llm_instance`` returns."""

    def __init__(self, calls: _Calls, llm_config: object = None) -> None:
        self._calls = calls

    async def call_llm(self, *args: object, **kwargs: object) -> object:
        return await self._calls.call("call_llm", args, kwargs)

    def get_usage_summary(self) -> object:
        return self._calls.ask("get_usage_summary")


def _exec_code(calls: _Calls, *args: object, **kwargs: object) -> object:
    return calls.ask("exec_code", args, **kwargs)
