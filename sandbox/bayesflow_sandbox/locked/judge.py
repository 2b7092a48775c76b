"""The profile of a judge's child: runs the tests, in which the solution's functions are proxies.

    host → child   J [setup, cases, entry point, names]     child → host   C [name, args, kwargs]
                   R, F: the solution's own answer, as its process sent it
                   L [message]: its process has ended                      R [ran, failures, error]

The solution is in another process; of it there are only copies of plain data here, built by
``codec``, which bounds them, and by ``rebuilt``, which says what becomes of what is no plain data.
An argument that the solution modifies stays unmodified here: it got a copy.
"""

import ast
import builtins
import inspect
import reprlib
import sys
import types
import unittest
from collections.abc import Callable
from typing import Any, Final, cast

from bayesflow_sandbox.errors import ProtocolError
from bayesflow_sandbox.locked.channel import Wire
from bayesflow_sandbox.locked.codec import decode, encode
from bayesflow_sandbox.locked.rebuilt import SolutionError, error_of, value_of
from bayesflow_sandbox.locked.solution import told_of
from bayesflow_sandbox.plain import Foreign, NotPlainError, TooLargeError

__all__ = ["begin"]

_FILENAME: Final = "<tests>"
_SETUP: Final = "<setup>"
_MAX_NODES: Final = 1_000_000
_MAX_BYTES: Final = 2 << 20
_MAX_CASE: Final = 2_000
_MAX_LATER: Final = 400
_MAX_REPORT_BYTES: Final = 3 << 20
_MAX_VALUE: Final = 200
_DETAILED: Final = 50  # further failures are told without message and traceback
# What tests find without importing it, as they would where the solution has imported it.
_MODULES: Final = (
    "bisect cmath collections copy datetime decimal functools heapq itertools json math operator "
    "random re statistics string sys typing"
)

_REPR: Final = reprlib.Repr()
_REPR.maxlist = _REPR.maxtuple = _REPR.maxdict = _REPR.maxset = 20
_REPR.maxstring = _MAX_VALUE


class _Gone(BaseException):
    """The solution's process has ended; nothing but the judge's own code catches this."""


def begin() -> Callable[[Wire], None]:
    """Opens nothing; what is returned runs the tests and reports."""
    return _run


def _run(wire: Wire) -> None:
    # Two foreign values of one class are two values.
    setattr(Foreign, "__eq__", object.__eq__)  # noqa: B010 - a type checker forbids the plain form
    setattr(Foreign, "__hash__", object.__hash__)  # noqa: B010
    job = cast("tuple[str, list[str], str, list[str]]", decode(wire.receive().body, _MAX_NODES))
    setup, cases, entry_point, names = job
    line = _Line(wire)
    try:
        world = _world(setup, entry_point, names, line)
    except BaseException as error:
        kind, message, _ = told_of(error, _SETUP, setup)
        report: list[object] = [0, [], f"the tests' setup failed: {kind}: {message}"]
    else:
        report = _judged(cases, world, entry_point, line)
    wire.send(b"R", encode(report, _MAX_REPORT_BYTES))


def _judged(
    cases: list[str], world: dict[str, Any], entry_point: str, line: "_Line"
) -> list[object]:
    """Returns how many cases ran, which failed, and why not all ran."""
    failures: list[list[object]] = []
    for index, case in enumerate(cases):
        failure = _tried(case, dict(world), entry_point, line)
        if line.gone is not None:
            return [index, failures, f"{line.gone} (in {_shortened(line.last_call)})"]
        if failure is not None:
            if len(failures) >= _DETAILED:
                failure = [str(failure[0])[:_MAX_LATER], failure[1], "", list[str]()]
            failures.append([index, *failure])
    return [len(cases), failures, None]


class _Line:
    """The line to the solution, which never hears anything but calls."""

    def __init__(self, wire: Wire) -> None:
        self.gone: str | None = None
        self.last_call = ""
        self.said = ""
        self._wire = wire

    def proxy(self, name: str) -> Callable[..., object]:
        """Returns a function that asks the solution's of the same name."""

        def call(*args: object, **kwargs: object) -> object:
            return self._ask(name, args, kwargs)

        call.__name__ = call.__qualname__ = name
        return call

    def _ask(self, name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        if self.gone is not None:
            raise _Gone
        self.last_call = _written(name, args, kwargs)
        try:
            body = encode([name, args, kwargs], _MAX_BYTES)
        except (NotPlainError, TooLargeError) as error:
            raise TypeError(f"the arguments of {name} cannot be sent: {error}") from None
        self._wire.send(b"C", body)
        kind, answer = self._wire.receive()
        if kind == ord("L"):
            self.gone = str(decode(answer))
            raise _Gone
        try:
            told = decode(answer, any_keys=True)
            value = value_of(told) if kind == ord("R") else error_of(told)
        except (ProtocolError, ValueError, TypeError, IndexError, KeyError) as error:
            raise SolutionError(f"the solution's process sent no value: {error}") from None
        if isinstance(value, BaseException):
            self.said = f"{self.last_call} raised {type(value).__name__}"
            raise value
        self.said = f"{self.last_call} returned {_short(value)}"
        return value


def _world(setup: str, entry_point: str, names: list[str], line: _Line) -> dict[str, Any]:
    """What every case finds defined."""
    module = types.ModuleType("tests")
    sys.modules["tests"] = module  # dataclasses look their module up
    world: dict[str, Any] = dict(module.__dict__)
    world |= {name: sys.modules[name] for name in _MODULES.split() if name in sys.modules}
    exec(compile(setup, _SETUP, "exec", dont_inherit=True), world)
    for name in names:
        if name not in world and not hasattr(builtins, name) and not name.startswith("__"):
            world[name] = line.proxy(name)
    world[entry_point] = line.proxy(entry_point)
    world["candidate"] = world[entry_point]
    return world


def _tried(case: str, world: dict[str, Any], entry_point: str, line: _Line) -> list[object] | None:
    """Runs a case; returns test case, type, message and traceback if it fails."""
    line.said = line.last_call = ""
    defined = dict(world)
    try:
        exec(compile(case, _FILENAME, "exec", dont_inherit=True), world)
        for name, value in list(world.items()):
            if value is not defined.get(name) and inspect.isclass(value):
                _run_class(value)
        check = world.get("check")
        if isinstance(check, types.FunctionType) and check is not defined.get("check"):
            check(*(world[entry_point],) * bool(inspect.signature(check).parameters))
    except BaseException as error:  # whatever a test can raise is its failure
        kind, message, frames = told_of(error, _FILENAME, case)
        notes = [str(note) for note in getattr(error, "__notes__", ())]
        text = _failing(case, error)
        return [text, kind, message or line.said, [*cast("list[str]", frames), *notes]]
    return None


def _run_class(kind: type) -> None:
    """Runs a class of ``unittest``; raises its first failure."""
    if not issubclass(kind, unittest.TestCase):
        return
    for name in unittest.defaultTestLoader.getTestCaseNames(kind):
        kind(name).debug()


def _failing(case: str, error: BaseException) -> str:
    """The statement of the case that failed, if it is one of several."""
    trace, lines = error.__traceback__, list[int]()
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == _FILENAME:
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    if not lines:
        return _shortened(case)
    within = [
        node
        for node in ast.walk(ast.parse(case))
        if isinstance(node, ast.Assert | ast.Expr | ast.Assign)
        and node.lineno <= lines[-1] <= (node.end_lineno or node.lineno)
    ]
    if not within:
        return _shortened(case)
    inner = max(within, key=lambda node: node.lineno)
    return _shortened(ast.get_source_segment(case, inner) or case)


def _shortened(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _MAX_CASE else text[:_MAX_CASE] + "..."


def _written(name: str, args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    shown = [_short(value) for value in args]
    shown += [f"{key}={_short(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"[: 2 * _MAX_VALUE]


def _short(value: object) -> str:
    try:
        return _REPR.repr(value)[:_MAX_VALUE]
    except ValueError:  # an integer of too many digits to be written
        return f"<{type(value).__name__}>"
