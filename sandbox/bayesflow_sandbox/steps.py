"""Finds the ``# Step n:`` headers of a workflow, and the step a line belongs to.

Headers are comments at the top level of ``__call__``'s body, in the ways models write them
(``# STEP 2 - sum up``, ``#Step 2:``). The tokenizer finds comments, the syntax tree places them, so
strings, nested blocks and the docstring hold none. Called by the policy and by failure reports.
"""

import ast
import io
import re
import tokenize
from typing import Final, NamedTuple

__all__ = ["StepHeader", "call_method", "source_lines", "step_at", "step_headers"]

_HEADER: Final = re.compile(
    r"^#+\s*step\s*(?P<number>\d+[a-z]?)\b\s*(?:[:.)\-\u2013\u2014]+\s*)?(?P<title>.*)$",
    re.IGNORECASE,
)


class StepHeader(NamedTuple):
    """One header: its line in the source, its number as written (``2``, ``2a``), its title."""

    line: int
    number: str
    title: str


def source_lines(source: str) -> list[str]:
    """Returns the lines as Python counts them, each ending in a newline but perhaps the last."""
    return io.StringIO(source, newline=None).readlines()


def call_method(tree: ast.Module) -> ast.AsyncFunctionDef | None:
    """Returns ``async def __call__`` of the top-level ``class Workflow``, if there is one."""
    for owner in tree.body:
        if isinstance(owner, ast.ClassDef) and owner.name == "Workflow":
            for method in owner.body:
                if isinstance(method, ast.AsyncFunctionDef) and method.name == "__call__":
                    return method
    return None


def step_headers(source: str, call: ast.AsyncFunctionDef) -> tuple[StepHeader, ...]:
    """Returns the headers in ``call``'s body, in order.

    Args:
        source: Text that parses; ``call`` is from its tree.
        call: The method to look in.
    """
    lines = source_lines(source)
    first, last = _first_body_line(lines, call), call.body[-1].end_lineno or 0
    blocks = [range(node.lineno, (node.end_lineno or 0) + 1) for node in call.body]
    margin = _width(lines[call.body[0].lineno - 1])
    headers: list[StepHeader] = []
    for token in _comments(lines):
        line, column = token.start
        match = _HEADER.match(token.string)
        text = lines[line - 1]
        if match is None or text[:column].strip() or not first <= line <= last:
            continue
        # A comment that is indented further belongs to the block that has just ended.
        if _width(text) > margin or any(line in block for block in blocks):
            continue
        headers.append(StepHeader(line, match["number"], match["title"].strip()))
    return tuple(headers)


def step_at(line: int, headers: tuple[StepHeader, ...]) -> str | None:
    """Returns ``Step 2`` or ``Step 2: title`` for a line of ``__call__``; None before the first."""
    before = [header for header in headers if header.line <= line]
    if not before:
        return None
    header = before[-1]
    return f"Step {header.number}: {header.title}" if header.title else f"Step {header.number}"


def _first_body_line(lines: list[str], call: ast.AsyncFunctionDef) -> int:
    """First line that can hold a header: comments may stand in front of the first statement."""
    start = call.body[0].lineno
    while start - 1 > call.lineno and lines[start - 2].lstrip()[:1] in ("", "#"):
        start -= 1
    return start


def _comments(lines: list[str]) -> list[tokenize.TokenInfo]:
    try:
        tokens = tokenize.generate_tokens(iter(lines).__next__)
        return [token for token in tokens if token.type == tokenize.COMMENT]
    except (tokenize.TokenError, SyntaxError):  # the tokenizer is stricter than the parser
        return []


def _width(line: str) -> int:
    """Columns of white space in front of a line, as Python counts tabs."""
    line = line.expandtabs()
    return len(line) - len(line.lstrip())
