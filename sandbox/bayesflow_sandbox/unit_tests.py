"""Unit tests of a candidate solution, what came of them, and Figure 4's form of that.

A case is Python text that sees the solution's functions under their names, and the entry point as
``candidate`` too. It passes if it runs to its end without an exception. A ``check`` function that
it defines is called, with the entry point if it takes an argument; ``unittest`` classes are run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

from bayesflow_sandbox.errors import UnitTestsError
from bayesflow_sandbox.outcome import JsonValue
from bayesflow_sandbox.plain import Foreign

__all__ = [
    "MAX_SOLUTION_BYTES",
    "CaseFailure",
    "ExecCode",
    "TestReport",
    "UnitTests",
    "exec_code_answer",
    "parse_exec_code",
]

MAX_SOLUTION_BYTES: Final = 200_000
MAX_TEST_BYTES: Final = 2_000_000
MAX_CASES: Final = 1_000


@dataclass(frozen=True, slots=True)
class UnitTests:
    """Tests of one problem, the user's own: trusted to mean well, run in a locked process too.

    Attributes:
        cases: At least one: an ``assert``, or a block that defines ``check(candidate)``.
        setup: What the cases find defined: imports, helper functions. Its names win over the
            solution's, but for the entry point.

    Raises:
        UnitTestsError: There are no cases or more than 1,000, or 2 MB of text.
    """

    cases: tuple[str, ...]
    setup: str = ""

    def __post_init__(self) -> None:
        size = sum(len(text) for text in (*self.cases, self.setup))
        if not 1 <= len(self.cases) <= MAX_CASES:
            raise UnitTestsError(f"{len(self.cases)} test cases; give 1 to {MAX_CASES}")
        if size > MAX_TEST_BYTES:
            raise UnitTestsError(f"{size} characters of tests; at most {MAX_TEST_BYTES} are run")


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """Why one case failed.

    Attributes:
        index: Which case, from 0.
        test_case: The failing assertion, or the case's text.
        error_type: The exception's class name.
        message: Its message; of a bare assertion, what the last call returned.
        traceback: Lines of it, in the tests and in the solution.
    """

    index: int
    test_case: str
    error_type: str
    message: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TestReport:
    """What became of a solution under test.

    Attributes:
        cases: How many there are.
        ran: How many were run to their end, passed or failed, from the first on.
        failures: Those that failed.
        error: Why not all of them ran, e.g. the solution does not load, ended its process or
            reached a limit; None if all did.
        seconds: Wall time, without the wait for free workers.
    """

    __test__: ClassVar[bool] = False  # not a test of pytest's

    cases: int
    ran: int = 0
    failures: tuple[CaseFailure, ...] = ()
    error: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every case ran and none failed."""
        return self.error is None and not self.failures and self.ran == self.cases


@dataclass(frozen=True, slots=True)
class ExecCode:
    """One checked call of ``exec_code``."""

    solution: str
    entry_point: str


def parse_exec_code(args: tuple[object, ...], kwargs: Mapping[str, object]) -> ExecCode:
    """Checks the arguments of one ``exec_code(solution, entry_point)``.

    Raises:
        TypeError: An argument is missing, unknown, given twice or no text.
        ValueError: The solution is longer than 200,000 bytes, or the entry point is no name.
    """
    names = ("solution", "entry_point")
    given: dict[str, object] = dict(zip(names, args, strict=False))
    if len(args) > len(names) or set(kwargs) - set(names[len(args) :]):
        raise TypeError("exec_code() takes solution and entry_point, each once")
    given.update(kwargs)
    if set(given) != set(names):
        raise TypeError("exec_code() needs both solution and entry_point")
    call = ExecCode(_text("solution", given), _text("entry_point", given))
    size = len(call.solution.encode("utf-8", "replace"))
    if size > MAX_SOLUTION_BYTES:
        raise ValueError(f"exec_code(): a solution of {size} bytes; at most {MAX_SOLUTION_BYTES}")
    if not call.entry_point.isidentifier() or len(call.entry_point) > 200:
        raise ValueError("exec_code(): entry_point must be the name of a function")
    return call


def exec_code_answer(report: TestReport) -> JsonValue:
    """Returns what ``exec_code`` answers (paper, Figure 4).

    ``"no error"``, or a list with a dict for each failed assertion, or ``{"exec_fail_case": ...}``
    if the solution does not load, ends its process, or raises anything but an AssertionError.
    """
    if report.passed:
        return "no error"
    if report.error is not None:
        return {"exec_fail_case": report.error}
    for failure in report.failures:
        if failure.error_type != "AssertionError":
            said = f"{failure.error_type}: {failure.message} (in {failure.test_case})"
            return {"exec_fail_case": "\n".join((said, *failure.traceback))}
    return [
        {
            "test_case": failure.test_case,
            "error_type": failure.error_type,
            "error_message": failure.message,
            "traceback": list(failure.traceback),
        }
        for failure in report.failures
    ]


def _text(name: str, given: Mapping[str, object]) -> str:
    value = given[name]
    if not isinstance(value, str):
        kind = value.type_name if isinstance(value, Foreign) else type(value).__name__
        raise TypeError(f"exec_code(): {name} must be a string, not {kind}")
    return value
