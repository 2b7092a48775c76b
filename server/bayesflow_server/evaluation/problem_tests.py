"""Reads the tests of coding problems out of rows: public ones for workflows, hidden ones to score.

They stand in fields of a row's meta data, which no workflow sees, as a text or a list of texts. A
row of HumanEval has a prompt besides: code that a solution continues and that its tests build on.
Called by `task`, the evaluator and the grader of pass@1.
"""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pydantic import JsonValue

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.source import parse_python
from bayesflow_sandbox.errors import UnitTestsError
from bayesflow_sandbox.steps import call_method
from bayesflow_sandbox.unit_tests import UnitTests
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.scorers.pass_at_1 import PassAt1
from bayesflow_server.evaluation.scorers.union import Scorer
from bayesflow_server.excerpt import quoted

__all__ = ["CodeFields", "closed_prompt", "guess_pass_at_1", "parsed", "takes_entry_point"]

_INPUT: Final = "input"
_SHOWN_FIELDS: Final = 12


@dataclass(frozen=True, slots=True)
class CodeFields:
    """Where the rows of a coding task hold what a solution is tested with.

    Attributes:
        entry_point: Field with the name of the function under test.
        hidden: Field with the tests that score, or None where another scorer does.
        public: Field with the tests that `exec_code` runs, or None.
        prompt: Field with the code that a solution continues, ``input`` for the problem, or None.
    """

    entry_point: str
    hidden: str | None
    public: str | None
    prompt: str | None

    @classmethod
    def of(cls, scorer: Scorer, public_tests: str | None) -> "CodeFields | None":
        """The fields of a task, or None if nothing in it is a function under test."""
        if isinstance(scorer, PassAt1):
            return cls(scorer.entry_point, scorer.tests, public_tests, scorer.prompt)
        if public_tests is None:
            return None
        default = PassAt1()
        return cls(default.entry_point, None, public_tests, default.prompt)

    def check(self, rows: Iterable[Row]) -> None:
        """Reads everything once, so that a run meets no row that cannot be tested.

        Raises:
            InputError: A row lacks a field, or holds something else in it; or a test is no Python;
                or workflows would see the hidden tests.
        """
        if self.public is not None and self.public == self.hidden:
            raise InputError(
                f"`public_tests` names {quoted(self.public)}, which holds the hidden tests: name "
                "another "
                "field, or leave it out; workflows must not see what scores them."
            )
        for row in rows:
            self.function(row)
            for field in (self.hidden, self.public):
                for case in () if field is None else self._tests(row, field).cases:
                    _check_python(row, field, case)

    def function(self, row: Row) -> str:
        """The name of the function under test.

        Raises:
            InputError: The row has none.
        """
        name = _value(row, self.entry_point)
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(
                f"The field {quoted(self.entry_point)} of the row {quoted(row.id)} is no name of a "
                "function: "
                "write the name that its tests call."
            )
        return name

    def hidden_tests(self, row: Row) -> UnitTests:
        """The tests that score.

        Raises:
            InputError: They are missing or unusable.
        """
        assert self.hidden is not None  # asked by the grader of pass@1 alone
        return self._tests(row, self.hidden)

    def public_tests(self, row: Row) -> UnitTests | None:
        """The tests that a workflow may run; None if the task has none.

        Raises:
            InputError: They are missing or unusable.
        """
        return None if self.public is None else self._tests(row, self.public)

    def prompt_of(self, row: Row) -> str:
        """The code that a solution continues, or "".

        Raises:
            InputError: The row lacks it.
        """
        if self.prompt is None:
            return ""
        text = row.problem if self.prompt == _INPUT else _value(row, self.prompt)
        if not isinstance(text, str):
            raise InputError(
                f"The field {quoted(self.prompt)} of the row {quoted(row.id)} is no text."
            )
        return text

    def _tests(self, row: Row, field: str) -> UnitTests:
        value = _value(row, field)
        cases = [value] if isinstance(value, str) else value
        texts = [case for case in cases if isinstance(case, str)] if isinstance(cases, list) else []
        if not isinstance(cases, list) or len(texts) < len(cases) or not any(map(str.strip, texts)):
            raise InputError(
                f"The field {quoted(field)} of the row {quoted(row.id)} holds no tests: write "
                "Python text, or "
                "a list of asserts."
            )
        try:
            return UnitTests(tuple(texts), self._setup(row))
        except UnitTestsError as error:
            raise InputError(
                f"The tests of the row {quoted(row.id)} cannot be run: {error}."
            ) from None

    def _setup(self, row: Row) -> str:
        """What tests find defined: the helpers and imports of the prompt."""
        prompt = self.prompt_of(row)
        setup = closed_prompt(prompt)
        if setup is None:
            raise InputError(
                f"The field {quoted(self.prompt)} of the row {quoted(row.id)} is no Python that a "
                "solution "
                "could continue: correct it, or leave the scorer's `prompt` out."
            )
        return setup


def guess_pass_at_1(rows: Sequence[Row]) -> PassAt1 | None:
    """The scorer of rows that all bring tests under its usual names, or None.

    Where every input is Python, a solution is taken to continue it.
    """
    usual = PassAt1()
    names = {usual.tests, usual.entry_point}
    if not rows or any(not names <= row.meta.keys() for row in rows):
        return None
    continues = all(closed_prompt(row.problem) is not None for row in rows)
    return PassAt1(prompt=_INPUT) if continues else usual


def closed_prompt(prompt: str) -> str | None:
    """A prompt as a module of its own: its last function, if it has no body, does nothing.

    None if it is no Python.
    """
    if parsed(prompt) is not None:
        return prompt
    lines = prompt.rstrip().splitlines()
    margin = len(lines[-1]) - len(lines[-1].lstrip()) if lines else 0
    for indent in (margin, margin + 4, 4):
        closed = f"{prompt.rstrip()}\n{' ' * indent}pass\n"
        if parsed(closed) is not None:
            return closed
    return None


def parsed(text: str) -> ast.Module | None:
    """The syntax tree of a text that nobody vouches for, or None if it is no Python."""
    try:
        return parse_python(text)
    except SourceError:
        return None


@lru_cache(maxsize=512)
def takes_entry_point(source: str) -> bool:
    """Whether a workflow's ``__call__`` takes the entry point behind the problem."""
    tree = parsed(source)
    call = None if tree is None else call_method(tree)
    if call is None:
        return False
    arguments = call.args
    return (
        len(arguments.posonlyargs) + len(arguments.args) > len(("self", "problem"))
        or arguments.vararg is not None
    )


def _value(row: Row, field: str) -> JsonValue:
    if field not in row.meta:
        has = ", ".join(quoted(name) for name in list(row.meta)[:_SHOWN_FIELDS]) or "nothing"
        raise InputError(
            f"The row {quoted(row.id)} lacks the field {quoted(field)}, which its tests need "
            "(beside input and "
            f"target it has {has}): add it, or name the right field."
        )
    return row.meta[field]


def _check_python(row: Row, field: str | None, case: str) -> None:
    try:
        parse_python(case)
    except SourceError as error:
        line = f" (line {error.line})" if error.line else ""
        raise InputError(
            f"The tests in the field {quoted(field)} of the row {quoted(row.id)} are no "
            f"Python{line}: "
            "correct them."
        ) from None
