"""Source text ⇄ steps: a workflow is split at the `# Step n:` comments of `__call__`'s body.

Comments are found by the tokenizer and placed by the syntax tree, so a header inside a string, a
nested block or the docstring is never taken for one. Headers are renumbered from 1; code after the
class is dropped. Called by the grammar, the refiner and whatever admits a workflow from outside.
"""

import ast
import io
import re
import textwrap
import tokenize
from typing import Final, NamedTuple

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.types import Step, Workflow

__all__ = ["STEP_HEADER", "indent_code", "parse_workflow"]

STEP_HEADER: Final = re.compile(
    r"^#+\s*step\s*(?P<number>\d+)\s*[a-z]?\s*(?:[:.)\-\u2013\u2014]+\s*)?(?P<title>.*)$",
    re.IGNORECASE,
)


class _Header(NamedTuple):
    line: int
    title: str


def parse_workflow(source: str) -> Workflow:
    """Splits a workflow's source into its preamble and steps.

    Args:
        source: Python text that defines `class Workflow` with an `async def __call__`.

    Returns:
        The workflow; its `source` runs as the text did, with normalised step headers.

    Raises:
        SourceError: It is not Python, has no `Workflow` class, no `__call__`, or no step headers.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = error.lineno if isinstance(error, SyntaxError) else None
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise SourceError(f"The workflow is not valid Python: {reason}.", line=line) from None
    owner = _workflow_class(tree)
    body = _call_method(owner).body
    lines = source.splitlines(keepends=True)
    end = max(node.end_lineno or 0 for node in owner.body)
    headers = _headers(source, body, end)
    if not headers:
        raise SourceError(
            "The workflow has no steps: put a comment `# Step 1: what it does` before each block "
            "in the body of `__call__`.",
            line=body[0].lineno,
        )
    indent = body[0].col_offset
    starts = [header.line for header in headers]
    ends = [*starts[1:], _call_end(owner) + 1]
    steps = tuple(
        Step(title=header.title, body=_block(lines, header.line + 1, stop))
        for header, stop in zip(headers, ends, strict=True)
    )
    return Workflow(preamble="".join(lines[: starts[0] - 1]), steps=steps, indent=indent)


def indent_code(code: str, indent: int) -> str:
    """Indents statements by `indent` spaces without touching the inside of string literals.

    Args:
        code: Statements; a common margin is removed first.
        indent: Spaces to put in front of each logical line.

    Returns:
        The text, ending in one newline.

    Raises:
        SourceError: The text cannot be read as Python statements.
    """
    code = textwrap.dedent(code).strip("\n") + "\n"
    inside = _lines_inside_strings(code)
    margin = " " * indent
    return "".join(
        line if number in inside or not line.strip() else margin + line
        for number, line in enumerate(code.splitlines(keepends=True), start=1)
    )


def _workflow_class(tree: ast.Module) -> ast.ClassDef:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Workflow":
            return node
    raise SourceError("The source defines no `class Workflow`; a workflow is a class of that name.")


def _call_method(owner: ast.ClassDef) -> ast.AsyncFunctionDef:
    for node in owner.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__":
            return node
    raise SourceError(
        "`class Workflow` has no `async def __call__(self, problem)`; that method is the workflow.",
        line=owner.lineno,
    )


def _call_end(owner: ast.ClassDef) -> int:
    end = _call_method(owner).end_lineno
    assert end is not None
    return end


def _headers(source: str, body: list[ast.stmt], end: int) -> list[_Header]:
    """Step comments at the top level of the method's body, in order."""
    first, last = body[0].lineno, body[-1].end_lineno or end
    nested = [
        range(node.lineno, (node.end_lineno or node.lineno) + 1)
        for node in body
        if node.end_lineno != node.lineno
    ]
    found: list[_Header] = []
    for token in _comments(source):
        line, column = token.start
        match = STEP_HEADER.match(token.string)
        own_line = not token.line[:column].strip()
        if not match or not own_line or line > last or line < _body_start(source, first):
            continue
        if any(line in block for block in nested):
            continue
        found.append(_Header(line, match["title"].strip()))
    return found


def _body_start(source: str, first: int) -> int:
    """First line that can hold a header: comments may stand in front of the first statement."""
    lines = source.splitlines()
    start = first
    while start > 1 and (not lines[start - 2].strip() or lines[start - 2].lstrip().startswith("#")):
        start -= 1
    return start


def _comments(source: str) -> list[tokenize.TokenInfo]:
    try:
        return [
            token
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        ]
    except (tokenize.TokenError, IndentationError) as error:
        raise SourceError(f"The workflow is not valid Python: {error}.") from None


def _lines_inside_strings(code: str) -> set[int]:
    """Lines whose beginning lies inside a string literal that spans several lines."""
    inside: set[int] = set()
    opened: list[int] = []
    starts = {tokenize.STRING}
    begin = getattr(tokenize, "FSTRING_START", None)
    finish = getattr(tokenize, "FSTRING_END", None)
    try:
        for token in tokenize.generate_tokens(io.StringIO(code).readline):
            if token.type in starts:
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
            elif begin is not None and token.type == begin:
                opened.append(token.start[0])
            elif finish is not None and token.type == finish:
                inside.update(range(opened.pop() + 1, token.end[0] + 1))
    except (tokenize.TokenError, IndentationError) as error:
        raise SourceError(f"The code cannot be read as Python: {error}.") from None
    return inside


def _block(lines: list[str], start: int, stop: int) -> str:
    """Lines start..stop-1 (1-based) without trailing blank ones, ending in a newline."""
    block = "".join(lines[start - 1 : stop - 1]).rstrip()
    return block + "\n" if block else ""
