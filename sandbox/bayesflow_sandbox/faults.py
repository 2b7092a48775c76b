"""Turns what Monty raises into a ``Failure``: type, message, place, limit; and says what it lacks.

Only the interpreter's own words tell a limit from a workflow's exception. A workflow that forges
them mislabels its own failure and gains nothing.
"""

import builtins
import importlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_sandbox.allowed import FORBIDDEN_NAMES, MODULES
from bayesflow_sandbox.limits import LimitName, Limits
from bayesflow_sandbox.outcome import Failure
from bayesflow_sandbox.program import Place, Program

if TYPE_CHECKING:
    from pydantic_monty import MontyError

__all__ = ["Report", "limit_failure", "report"]

_MAX_MESSAGE: Final = 1_000
_MEMORY: Final = re.compile(r"memory limit exceeded: \d+ bytes > (?P<allowed>\d+) bytes")
_MISSING_MEMBER: Final = re.compile(r"module '(?P<owner>\w+)' has no attribute '(?P<name>\w+)'")
_MISSING_METHOD: Final = re.compile(r"'(?P<owner>\w+)' object has no attribute '(?P<name>\w+)'")
_MISSING_MODULE: Final = re.compile(r"No module named '(?P<name>\w+)'")
_MISSING_IMPORT: Final = re.compile(r"cannot import name '(?P<name>\w+)' from '(?P<owner>\w+)'")
_MISSING_NAME: Final = re.compile(r"name '(?P<name>\w+)' is not defined")


class Report(NamedTuple):
    """A failure, where it was, and whether the interpreter's want of a feature is to blame."""

    failure: Failure
    place: Place
    unsupported: bool = False


def limit_failure(limit: LimitName, limits: Limits, place: Place) -> Failure:
    """Returns the failure of a workflow that reached a limit."""
    allowed = getattr(limits, limit)
    message = {
        "run_seconds": f"the workflow's own code ran longer than {allowed:g} s",
        "memory_bytes": f"the workflow needed more than {allowed} bytes of memory",
        "host_calls": f"the workflow made more than {allowed} calls",
        "sleep_seconds": f"the workflow slept longer than {allowed:g} s in all",
        "output_bytes": f"the workflow printed more than {allowed} bytes",
        "return_bytes": f"the workflow returned more than {allowed} bytes",
        "wall_seconds": f"the workflow, with its calls, took longer than {allowed:g} s",
    }[limit]
    return Failure("LimitExceeded", message, place.line, place.code, place.step, limit)


def report(error: "MontyError", program: Program, limits: Limits) -> Report:
    """Reads one exception of the interpreter."""
    # pydantic_monty is heavy to import; whoever has such an error has imported it.
    from pydantic_monty import MontyCrashedError, MontyRuntimeError, MontySyntaxError

    frames: list[int] = []
    kind, message = type(error.exception()).__name__, str(error)
    if isinstance(error, MontyRuntimeError | MontySyntaxError):
        frames = [frame.line for frame in error.traceback()]
        message = error.display("msg")
        kind = error.display("type-msg").split(":")[0].split("\n")[0].split(".")[-1]
    place = program.place(frames)
    if isinstance(error, MontyCrashedError):
        if error.timed_out:
            return Report(limit_failure("run_seconds", limits, place), place)
        died = f"the interpreter died: {message}"[:_MAX_MESSAGE]
        return Report(Failure("SandboxCrashed", died), place)
    limit = _limit(kind, message, limits)
    if limit is not None:
        return Report(limit_failure(limit, limits, place), place)
    failure = Failure(kind, message[:_MAX_MESSAGE], place.line, place.code, place.step)
    return Report(failure, place, _is_unsupported(kind, message))


def _limit(kind: str, message: str, limits: Limits) -> LimitName | None:
    if kind == "TimeoutError":
        if message.startswith("feed time limit exceeded"):
            return "run_seconds"
        return "sleep_seconds" if message.startswith("sleep limit exceeded") else None
    if kind == "RuntimeError" and message.startswith("suspension limit"):
        return "host_calls"
    if kind == "MemoryError":
        match = _MEMORY.match(message)
        if match and int(match["allowed"]) == limits.output_bytes:
            return "output_bytes"
        if match or "exceeded its memory limit" in message:
            return "memory_bytes"
    return None


def _is_unsupported(kind: str, message: str) -> bool:
    """Whether plain Python would have gone on where the interpreter failed."""
    if "not yet support" in message or message.endswith("is not supported in this environment"):
        return True
    if kind in ("ModuleNotFoundError", "ImportError", "AttributeError"):
        return _is_missing_from_library(message)
    if kind == "NameError" and (match := _MISSING_NAME.search(message)):
        return hasattr(builtins, match["name"]) and match["name"] not in FORBIDDEN_NAMES
    return False


def _is_missing_from_library(message: str) -> bool:
    if match := _MISSING_METHOD.search(message):
        owner = getattr(builtins, match["owner"], None)
        return isinstance(owner, type) and hasattr(owner, match["name"])
    if match := _MISSING_MODULE.search(message):
        return match["name"] in MODULES
    match = _MISSING_MEMBER.search(message) or _MISSING_IMPORT.search(message)
    if match is None or match["owner"] not in MODULES:
        return False
    return hasattr(importlib.import_module(match["owner"]), match["name"])
