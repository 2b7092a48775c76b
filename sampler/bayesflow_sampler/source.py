"""Source text ⇄ steps: a workflow is split at the `# Step n:` comments of `__call__`'s body.

Comments are found by the tokenizer and placed by the syntax tree, so a header inside a string, a
nested block or the docstring is never taken for one. Headers are renumbered from 1; `Step 2a` and
`Step 2b` are one step, whose second header becomes the comment `# Part b: ...`. Methods behind
`__call__` move in front of it; code after the class is dropped. Called by the grammar, the refiner,
the reader of models' answers, and whatever admits a workflow from outside.
"""

import ast
import bisect
import io
import re
import tokenize
import warnings
from typing import Final, NamedTuple

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.types import Step, Workflow

__all__ = [
    "STEP_HEADER",
    "Section",
    "indent_code",
    "lines_inside_strings",
    "parse_python",
    "parse_workflow",
    "read_sections",
    "source_lines",
]

# `# Step 2: t`, `## STEP 2 - t`, `#step2) t`, `# --- Step 2a. t ---`, `# Step 2.1: t`
STEP_HEADER: Final = re.compile(
    r"^#+\s*(?:[=_~-]{2,}|(?P<bold>\*\*)|[\[(])?\s*"
    r"step\s*#?(?P<number>\d+)(?P<part>[a-z]|\.\d+)?\b[\])*]*\s*"
    r"(?:[:.)\-\u2013\u2014\uff1a\u3001]+\s*)?(?(bold)(?:\*\*\s*)?)(?P<title>.*)$",
    re.IGNORECASE,
)


class Section(NamedTuple):
    """A stretch of `__call__`'s body from one header to the next.

    Attributes:
        number: The header's number, as written.
        title: What stands behind it.
        body: The lines below it, verbatim, ending in a newline; or "".
        line: The header's line in the source, from 1.
    """

    number: int
    title: str
    body: str
    line: int


class _Header(NamedTuple):
    line: int
    number: int
    part: str
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
    lines = source_lines(source)
    tree = parse_python("".join(lines))
    owner = _workflow_class(tree)
    call = _call_method(owner)
    sections = read_sections(lines, call)
    if not sections:
        raise SourceError(
            "The workflow has no steps: put a comment `# Step 1: what it does` before each block "
            "in the body of `__call__`.",
            line=call.body[0].lineno,
        )
    steps = tuple(Step(title=section.title, body=section.body) for section in sections)
    preamble = _preamble(lines, owner, call, sections[0].line)
    return Workflow(preamble=preamble, steps=steps, indent=call.body[0].col_offset)


def parse_python(source: str) -> ast.Module:
    """The syntax tree of a text that nobody vouches for.

    Raises:
        SourceError: It is not Python.
    """
    try:
        with warnings.catch_warnings():
            # `"\d"` is worth a warning to its author, who is not here to read it.
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except SyntaxError as error:
        reason, line = error.msg, error.lineno
    except (RecursionError, MemoryError):
        reason, line = "it is nested too deeply", None
    except ValueError as error:  # null bytes, half of a surrogate pair
        reason, line = str(error), None
    raise SourceError(f"The workflow is not valid Python: {reason}.", line=line)


def read_sections(
    lines: list[str], call: ast.AsyncFunctionDef | ast.FunctionDef
) -> tuple[Section, ...]:
    """The sections of `call`'s body, in order; what stands before the first header is in none.

    Args:
        lines: The source's lines, as `source_lines` gives them.
        call: The method, from the syntax tree of the same lines.

    Raises:
        SourceError: The tokenizer, which is stricter than the parser, cannot read the text.
    """
    headers: list[_Header] = []
    parts: dict[int, str] = {}
    for header in _headers(lines, call):
        if headers and header.part and headers[-1].number == header.number:
            column = len(lines[header.line - 1]) - len(lines[header.line - 1].lstrip())
            margin = lines[header.line - 1][:column]
            name = f"{margin}# Part {header.part.lstrip('.')}"
            parts[header.line] = f"{name}: {header.title}\n" if header.title else f"{name}\n"
        else:
            headers.append(header)
    ends = [*(header.line for header in headers[1:]), _end(call) + 1]
    lines = [parts.get(number, line) for number, line in enumerate(lines, start=1)]
    return tuple(
        Section(
            number=header.number,
            title=header.title,
            body=_block(lines, header.line + 1, stop),
            line=header.line,
        )
        for header, stop in zip(headers, ends, strict=False)
    )


def indent_code(code: str, indent: int) -> str:
    """Indents statements by `indent` spaces without touching the inside of string literals.

    Args:
        code: Statements; the margin of the first that is no comment is removed from all.
        indent: Spaces to put in front of each logical line.

    Returns:
        The text, ending in one newline.

    Raises:
        SourceError: The text cannot be read as Python statements.
    """
    lines = source_lines("".join(source_lines(code)).strip("\n") + "\n")
    inside = lines_inside_strings(lines)
    first = next((line for line in lines if line.strip()), "")
    first = next((line for line in lines if line.lstrip()[:1] not in ("", "#")), first)
    old, new = first[: len(first) - len(first.lstrip())], " " * indent

    def moved(line: str) -> str:
        return new + line.removeprefix(old) if line.strip() else "\n"

    return "".join(
        line if number in inside else moved(line) for number, line in enumerate(lines, start=1)
    )


def source_lines(source: str) -> list[str]:
    """The lines as Python counts them, ending in newlines (`splitlines` knows ten more ends)."""
    return io.StringIO(source, newline=None).readlines()


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


def _end(node: ast.AST) -> int:
    end = getattr(node, "end_lineno", None)
    assert isinstance(end, int)
    return end


def _preamble(
    lines: list[str], owner: ast.ClassDef, call: ast.AsyncFunctionDef, header: int
) -> str:
    """The text in front of the first header; methods behind `__call__` move in front of it."""
    begin = min([call.lineno, *(decorator.lineno for decorator in call.decorator_list)]) - 1
    behind = "".join(lines[_end(call) : _end(owner)]).strip("\n")
    return "".join([*lines[:begin], behind + "\n\n" if behind else "", *lines[begin : header - 1]])


def _headers(lines: list[str], call: ast.AsyncFunctionDef | ast.FunctionDef) -> list[_Header]:
    """Step comments at the top level of the method's body, in order."""
    first, last = _body_start(lines, call), _end(call)
    starts = [node.lineno for node in call.body]
    margin = _width(lines[call.body[0].lineno - 1])
    found: list[_Header] = []
    comments = (token for token in _tokens(lines) if token.type == tokenize.COMMENT)
    for token in comments:
        line, column = token.start
        match = STEP_HEADER.match(token.string)
        text = lines[line - 1]
        if not match or text[:column].strip() or not first <= line <= last:
            continue
        above = bisect.bisect(starts, line) - 1
        # A comment that is indented further belongs to the block that has just ended.
        if _width(text) > margin or (above >= 0 and line < _end(call.body[above])):
            continue
        number = int(match["number"][:9])  # int() refuses thousands of digits
        found.append(_Header(line, number, match["part"] or "", _title(match["title"])))
    return found


def _title(text: str) -> str:
    """A title without the rule that is drawn behind it: `Ask ---`, `Ask **`."""
    text = text.strip()
    bare = text.rstrip("=-_*#~ ")
    return bare if len(text) - len(bare) > 1 else text


def _width(line: str) -> int:
    """Columns of white space in front of a line, as Python counts tabs."""
    line = line.expandtabs()
    return len(line) - len(line.lstrip())


def _body_start(lines: list[str], call: ast.AsyncFunctionDef | ast.FunctionDef) -> int:
    """First line that can hold a header: comments may stand in front of the first statement."""
    start = call.body[0].lineno
    while start - 1 > call.lineno and lines[start - 2].lstrip()[:1] in ("", "#"):
        start -= 1
    return start


def lines_inside_strings(lines: list[str]) -> set[int]:
    """Lines whose beginning lies inside a string literal that spans several lines.

    Raises:
        SourceError: The text cannot be read as Python.
    """
    inside: set[int] = set()
    opened: list[int] = []
    for token in _tokens(lines):
        # From 3.12 (f) and 3.14 (t) on, such a literal is several tokens.
        name = tokenize.tok_name[token.type]
        if name == "STRING":
            inside.update(range(token.start[0] + 1, token.end[0] + 1))
        elif name in ("FSTRING_START", "TSTRING_START"):
            opened.append(token.start[0])
        elif name in ("FSTRING_END", "TSTRING_END"):
            inside.update(range(opened.pop() + 1, token.end[0] + 1))
    return inside


def _tokens(lines: list[str]) -> list[tokenize.TokenInfo]:
    try:
        return list(tokenize.generate_tokens(iter(lines).__next__))
    # From 3.12 on, null bytes and some unfinished f-strings are a SystemError.
    except (tokenize.TokenError, SyntaxError, ValueError, SystemError) as error:
        raise SourceError(f"The code cannot be read as Python: {error}.") from None


def _block(lines: list[str], start: int, stop: int) -> str:
    """Lines start..stop-1 (1-based) without trailing blank ones, ending in a newline."""
    block = "".join(lines[start - 1 : stop - 1]).rstrip()
    return block + "\n" if block else ""
