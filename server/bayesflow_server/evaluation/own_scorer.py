"""Runs the user's own scorers: text in the sandbox, files that the launch trusts in a thread.

An answer on which a scorer raises, or returns anything but a number from 0 to 1, is worth 0 and
not graded; `last_problem` says why. A scorer that cannot work at all is a `ScorerError`: it pauses
the run.
"""

import asyncio
import inspect
import math
import threading
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from numbers import Real
from typing import Final, NamedTuple, cast

from bayesflow_sandbox.errors import CallRefusedError, SandboxUnavailableError
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.outcome import Failure, JsonValue
from bayesflow_sandbox.policy import violations
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_sandbox.steps import source_lines
from bayesflow_server.errors import InputError, ScorerError
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.grading import Grade
from bayesflow_server.evaluation.scorer_file import ScorerFile
from bayesflow_server.evaluation.scorers.own import File, Python, reads_row
from bayesflow_server.excerpt import quoted

__all__ = ["FileGrader", "PythonGrader"]

# Behind the user's text, whose lines so keep their numbers.
_CALLER: Final = """

class Workflow:
    def __init__(self, name, llm_config, dataset):
        pass

    async def __call__(self, answer, target, row):
        # Step 1: score
        return score({arguments})
"""
_LIMITS: Final = Limits(
    run_seconds=5.0, host_calls=0, sleep_seconds=0.0, return_bytes=4096, wall_seconds=60.0
)
_FILE_SECONDS: Final = 60.0
_FILE_CALLS: Final = 8
_ROUNDING: Final = 1e-9
_LONGEST_MESSAGE: Final = 300


@dataclass(slots=True)
class PythonGrader:
    """Runs the user's text in the sandbox, once for each answer, and without a model.

    Expected answers meet no generated code: an answer is a string here, never run; every execution
    has an interpreter of its own, in which only the user's text was loaded; and no interpreter
    reaches another's memory. Given a sandbox that runs no workflows, processes are apart as well.

    Attributes:
        scorer: The text.
        sandbox: Where it runs.
        last_problem: Why the last answer that was not graded was not; None: all were.

    Raises:
        InputError: The text breaks a rule of the sandbox.
    """

    scorer: Python
    sandbox: Sandbox
    last_problem: str | None = field(default=None, init=False)
    _program: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._program = _program(self.scorer.source)

    async def grade(self, row: Row, answer: str, /) -> Grade:
        """What `score` returns; 0 and not graded if that is no number from 0 to 1.

        Raises:
            ScorerError: This machine cannot run the text.
        """
        arguments = cast("list[JsonValue]", [answer, row.target, _row_data(row)])
        try:
            outcome = await self.sandbox.run_workflow(self._program, arguments, _NOBODY, _LIMITS)
        except SandboxUnavailableError as error:
            raise ScorerError(f"The scorer 'python' cannot run here: {error}.") from error
        if outcome.failure is None:
            return _grade_of(self, outcome.value)
        problem = self._told(outcome.failure)
        if outcome.unsupported:
            raise ScorerError(
                "The scorer 'python' uses Python that the sandbox of this machine lacks: "
                f"{problem}; write it without."
            )
        return _ungraded(self, problem)

    def _told(self, failure: Failure) -> str:
        message = failure.message.replace("the workflow", "score()")[:_LONGEST_MESSAGE]
        own = failure.line is not None and failure.line <= len(source_lines(self.scorer.source))
        place = f" in line {failure.line}" if own else ""
        if failure.type == "InvalidReturnValue":
            return f"{message.split(':')[0]}, not a number from 0 to 1"
        if failure.limit is not None or failure.type == "SandboxCrashed":
            return f"{message}{place}"
        return f"score() raised {failure.type}{place}: {message}".rstrip(": ")


@dataclass(slots=True)
class FileGrader:
    """Calls the function of a trusted file in a thread, up to eight at a time.

    What the function returns to be awaited is awaited on the server's event loop.

    Attributes:
        scorer: Names the file.
        files: The files given at launch, by name.
        seconds: The longest that one answer, and loading the file before it, may take.
        last_problem: Why the last answer that was not graded was not; None: all were.

    Raises:
        InputError: The launch gave no file of that name.
    """

    scorer: File
    files: Mapping[str, ScorerFile]
    seconds: float = _FILE_SECONDS
    last_problem: str | None = field(default=None, init=False)
    _file: ScorerFile = field(init=False, repr=False)
    _slots: asyncio.Semaphore = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._file = _named(self.files, self.scorer.name)
        self._slots = asyncio.Semaphore(_FILE_CALLS)

    async def grade(self, row: Row, answer: str, /) -> Grade:
        """What `score` returns; 0 and not graded if that is no number from 0 to 1.

        Raises:
            ScorerError: The file cannot be loaded, or takes too long.
        """
        async with self._slots:
            try:
                async with asyncio.timeout(self.seconds):
                    called = await self._called(row, answer)
            except TimeoutError:
                raise ScorerError(
                    f"The scorer file '{self.scorer.name}' took longer than {self.seconds:g} s for "
                    f"the row {quoted(row.id)}: make it quicker, and start the server again."
                ) from None
        if called.error is not None:
            return _ungraded(self, self._told(called.error))
        return _grade_of(self, called.value)

    async def _called(self, row: Row, answer: str) -> "_Called":
        def call() -> object:
            function = self._file.function()
            data = (_row_data(row),) if function.takes_row else ()
            # Copies, for the rows are everybody's.
            return function.call(*deepcopy((answer, row.target, *data)))

        called = await _in_thread(call)
        if isinstance(called.error, ScorerError):
            raise called.error
        if not inspect.isawaitable(called.value):
            return called
        try:
            return _Called(await cast("Awaitable[object]", called.value))
        # Whatever it raises is its failure on this answer, and ends no server.
        except (Exception, SystemExit) as error:
            return _Called(None, error)

    def _told(self, error: BaseException) -> str:
        path = str(self._file.path)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        place = f" in line {lines[-1]}" if lines else ""
        message = str(error)[:_LONGEST_MESSAGE]
        return f"score() raised {type(error).__name__}{place}: {message}".rstrip(": ")


class _Called(NamedTuple):
    """What a call came to: a value, or the exception it raised."""

    value: object
    error: BaseException | None = None


class _Nobody:
    """The host of code that may call nobody."""

    async def call_llm(self, call: LLMCall, /) -> list[str]:
        raise CallRefusedError("a scorer calls no model")

    def get_usage_summary(self) -> Mapping[str, float]:
        return {"total_cost": 0.0}


_NOBODY: Final = _Nobody()


def _program(source: str) -> str:
    arguments = "answer, target, row" if reads_row(source) else "answer, target"
    program = source + _CALLER.format(arguments=arguments)
    found = violations(program)
    if found:
        place = f" in line {found[0].line}" if found[0].line else ""
        raise InputError(
            f"The scorer 'python' breaks a rule of the sandbox{place}: {found[0].message}"
        )
    return program


def _named(files: Mapping[str, ScorerFile], name: str) -> ScorerFile:
    if name in files:
        return files[name]
    given = ", ".join(quoted(other) for other in sorted(files))
    raise InputError(
        f"There is no scorer file {quoted(name)}: "
        + (
            f"use {given}, or name it when the server is launched (--scorer-file NAME=PATH)."
            if given
            else "name it when the server is launched (--scorer-file NAME=PATH)."
        )
    )


def _row_data(row: Row) -> dict[str, object]:
    """What `score` gets as `row`."""
    return {
        "id": row.id,
        "input": row.problem,
        "inputs": dict(row.inputs),
        "meta": dict(row.meta),
    }


def _grade_of(grader: PythonGrader | FileGrader, value: object) -> Grade:
    score = _number(value)
    if score is not None and -_ROUNDING <= score <= 1 + _ROUNDING:
        return Grade(min(max(score, 0.0), 1.0))
    plain = value is None or isinstance(value, str | bool | float)
    shown = repr(value)[:60] if plain else f"a value of type {type(value).__name__}"
    if score is not None:
        shown = f"{score:g}"
    return _ungraded(grader, f"score() returned {shown}, not a number from 0 to 1")


def _number(value: object) -> float | None:
    if not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _ungraded(grader: PythonGrader | FileGrader, problem: str) -> Grade:
    grader.last_problem = problem
    return Grade(0.0, graded=False)


async def _in_thread(function: Callable[[], object]) -> _Called:
    """Calls in a thread that, should it hang, keeps neither other work nor the process's end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Called] = loop.create_future()

    def settle(called: _Called) -> None:
        if not done.done():
            done.set_result(called)

    def run() -> None:
        try:
            called = _Called(function())
        # Whatever it raises is its failure on this answer, and ends no server.
        except BaseException as error:
            called = _Called(None, error)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, called)

    threading.Thread(target=run, name="scorer file", daemon=True).start()
    return await done
