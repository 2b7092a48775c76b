"""The profile of a solution's child: loads untrusted code, then answers calls of its functions.

    J [source, entry point, seed, output bytes,                its code; answered R names, or F
       sleep seconds, max bytes]
    C [name, args, kwargs]                                     a call; answered by one of
    R [form, value, type]                                      what it returned
    F [type, message, lines]                                   what it raised

Arguments and values are copies: plain data, nothing shared. Everything here runs beside the
solution, which may change it at will; so nothing it sends is believed to be more than an answer.
"""

import itertools
import os
import re
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final, NoReturn, TextIO, cast

from bayesflow_sandbox.locked import world
from bayesflow_sandbox.locked.channel import Wire
from bayesflow_sandbox.locked.codec import decode, encode
from bayesflow_sandbox.locked.streams import Sink
from bayesflow_sandbox.plain import NotPlainError, TooLargeError

__all__ = ["FILENAME", "begin", "told_of"]

FILENAME: Final = "<solution>"
_MAX_NODES: Final = 1_000_000
_MAX_NAMES: Final = 1_000
_MAX_ITEMS: Final = 10_000
_MAX_REPORT_BYTES: Final = 100_000
_MAX_MESSAGE: Final = 1_000
_MAX_FRAMES: Final = 8


def begin() -> Callable[[Wire], None]:
    """Opens nothing; what is returned loads the solution and serves its calls."""
    return _run


def told_of(error: BaseException, filename: str, source: str) -> list[object]:
    """Returns an exception's type, message and the lines of its traceback in one file."""
    try:
        message = str(error)[:_MAX_MESSAGE]
    except BaseException:  # its __str__ is the solution's
        message = "an exception that cannot be printed"
    return [type(error).__name__[:80], message, _frames(error, filename, source.split("\n"))]


def _frames(error: BaseException, filename: str, lines: list[str]) -> list[str]:
    entries = [
        f'File "{filename}", line {line}, in {frame.f_code.co_name}: {_line(lines, line)}'
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == filename
    ]
    if isinstance(error, SyntaxError) and error.filename == filename and error.lineno:
        entries.append(f'File "{filename}", line {error.lineno}: {_line(lines, error.lineno)}')
    if len(entries) > 2 * _MAX_FRAMES:
        left = len(entries) - 2 * _MAX_FRAMES
        entries[_MAX_FRAMES:-_MAX_FRAMES] = [f"... {left} more"]
    return entries


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1].strip()[:200] if 0 < number <= len(lines) else ""


def _run(wire: Wire) -> None:
    job = cast("list[Any]", decode(wire.receive().body, _MAX_NODES))
    source, entry_point, seed, output_bytes, sleep_seconds, max_bytes = job
    world.seed_random(seed)
    sys.stdout = cast("TextIO", Sink(output_bytes, partial(_stop, wire, "output_bytes")))
    sys.stderr = sys.stdout
    setattr(time, "sleep", _bounded_sleep(wire, sleep_seconds))  # noqa: B010
    module = types.ModuleType("solution")
    sys.modules["solution"] = module  # dataclasses look their module up
    try:
        exec(compile(source, FILENAME, "exec", dont_inherit=True), module.__dict__)
        if not callable(module.__dict__.get(entry_point)):
            raise NameError(f"the solution defines no function {entry_point!r}")
    except BaseException as error:  # whatever a solution can raise is its failure
        _fail(wire, error, source)
        return
    names = [name for name, value in list(module.__dict__.items()) if callable(value)]
    wire.send(b"R", encode(names[:_MAX_NAMES], max_bytes))
    _serve(wire, module.__dict__, source, max_bytes)


def _serve(wire: Wire, names: dict[str, Any], source: str, max_bytes: int) -> NoReturn:
    while True:
        body = wire.receive().body
        try:
            name, args, kwargs = cast("list[Any]", decode(body, _MAX_NODES, any_keys=True))
            answer = encode(_form(names[name](*args, **kwargs)), max_bytes)
        except (NotPlainError, TooLargeError) as error:
            _fail(wire, ValueError(f"the returned value cannot be sent: {error}"), source)
        except BaseException as error:
            _fail(wire, error, source)
        else:
            wire.send(b"R", answer)


def _form(value: object) -> tuple[str, object, str]:
    """How a value travels: as it is; an iterator by its items; a match by its groups."""
    if isinstance(value, re.Match):
        match = cast("re.Match[str]", value)
        spans = [match.span(group) for group in range(match.re.groups + 1)]
        groups = [match.group(), *match.groups()]
        return "match", [groups, spans, match.groupdict()], "Match"
    if isinstance(value, Iterator):
        items = list(itertools.islice(cast("Iterator[object]", value), _MAX_ITEMS + 1))
        if len(items) > _MAX_ITEMS:
            raise TooLargeError(f"an iterator of more than {_MAX_ITEMS} items")
        return "iterator", items, type(cast("object", value)).__name__
    return "value", value, type(value).__name__


def _fail(wire: Wire, error: BaseException, source: str) -> None:
    wire.send(b"F", encode(told_of(error, FILENAME, source), _MAX_REPORT_BYTES))


def _bounded_sleep(wire: Wire, allowed: float) -> Callable[[float], None]:
    """A ``sleep`` of which all together may take so many seconds; other waits end by the clock."""
    left = allowed

    def sleep(seconds: float) -> None:
        nonlocal left
        left -= max(0.0, seconds)
        if not left >= 0:
            _stop(wire, "sleep_seconds")
        world.REAL_SLEEP(seconds)

    return sleep


def _stop(wire: Wire, limit: str) -> NoReturn:
    wire.send(b"L", encode(limit, 100))
    os._exit(0)
