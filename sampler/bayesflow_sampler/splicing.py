"""Splices a passage of a model's answer behind our prefix, whose meaning stays as it is.

Our preamble and steps keep every byte, but for members of the class that are new. What the answer
repeats of the prefix is dropped. Called by `answer`.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bayesflow_sampler.definitions import (
    Known,
    attributes_read,
    names_read,
    names_stored,
    new_members,
    new_module,
)
from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.passage import Fragment, Method, Passage, fragments
from bayesflow_sampler.source import (
    Section,
    indent_code,
    lines_inside_strings,
    parse_python,
    parse_workflow,
    source_lines,
)
from bayesflow_sampler.types import Step, Workflow

__all__ = ["splice"]

# What every call of a model looks like says nothing about whether two steps are the same.
_COMMON: Final = frozenset(
    re.findall(
        r"\w+",
        "await self llm call_llm messages temperature num_of_response agent_role instructions "
        "role user content the a of and to for in f n problem 0 1",
    )
)
_ALIKE: Final = 0.6


class _Frame(NamedTuple):
    """Our prefix, taken apart.

    Attributes:
        margin: White space in front of a statement of `__call__`'s body.
        lines: The preamble's lines, and a `pass` that makes it Python.
        call: `__call__` in these lines.
        members: What the class holds beside it.
        known: What is defined at module level.
        body: The statements of `__call__`, those of the steps included.
    """

    margin: str
    lines: list[str]
    call: ast.AsyncFunctionDef
    members: tuple[Fragment, ...]
    known: Known
    body: tuple[ast.stmt, ...]


def splice(prefix: Workflow, passage: Passage) -> Workflow | None:
    """A complete workflow: the prefix, then the passage's new steps; None if there is none.

    Where the passage only adds a bare `return`, that is appended to the prefix's last step: the
    one case in which the result has no more steps than the prefix.

    Raises:
        SourceError: What it holds cannot stand behind our prefix.
    """
    frame = _frame(prefix)
    new = _beyond(prefix, passage.sections)
    if not new:
        return _finished(prefix, passage, frame)
    if len(new) == len(passage.sections):
        setup = "".join(item.text for item in _new_setup(passage, frame, len(prefix)))
        new = (new[0]._replace(body=setup + new[0].body), *new[1:])
    code = [parse_python("".join(section.body for section in new))]
    ours = [item.node for item in frame.members]
    members = new_members(passage.members, ours, attributes_read(code))
    needed = names_read([*code, *(item.node for item in members)])
    module = new_module(passage.definitions, frame.known, needed)
    preamble = _preamble(frame, passage, members, first=not prefix.steps)
    steps = tuple(Step(item.title, _moved(item.body, frame.margin)) for item in new)
    first = Step(steps[0].title, steps[0].body, module)
    return _checked(prefix, Workflow(preamble, (*prefix.steps, first, *steps[1:]), prefix.indent))


def _checked(prefix: Workflow, spliced: Workflow) -> Workflow | None:
    """The workflow as its own source reads: what stands behind the last statement is gone."""
    read = parse_workflow(spliced.source).steps
    steps = [
        Step(step.title, step.body, old.module)
        for step, old in zip(read, spliced.steps, strict=False)
    ]
    if len(read) <= len(prefix):
        return None
    if tuple(steps[: len(prefix)]) != prefix.steps or len(read) > len(spliced):
        raise SourceError("The new step's lines change the meaning of the steps before it.")
    return Workflow(spliced.preamble, (*prefix.steps, *steps[len(prefix) :]), prefix.indent)


def _frame(prefix: Workflow) -> _Frame:
    margin = _margin(prefix)
    lines = source_lines(f"{prefix.preamble}{margin}pass\n")
    tree = parse_python("".join(lines))
    modules = parse_python("\n".join(step.module for step in prefix.steps)).body
    owner = next(
        node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Workflow"
    )
    call = next(
        node
        for node in owner.body
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "__call__"
    )
    steps = "".join(indent_code(step.body, 0) for step in prefix.steps if step.body)
    body = (*call.body, *parse_python(steps).body)
    everything = [*tree.body, *modules, *body]
    outside = names_read(everything) - names_stored(everything)
    beside = (node for node in tree.body if node is not owner)
    return _Frame(
        margin=margin,
        lines=lines,
        call=call,
        members=fragments(lines, (node for node in owner.body if node is not call)),
        known=Known(tuple(modules), tuple(beside), outside),
        body=body,
    )


def _margin(prefix: Workflow) -> str:
    """The white space that the prefix's own statements begin with."""
    header = re.search(r"^([ \t]*)async\s+def\s+__call__", prefix.preamble, re.MULTILINE)
    tabs = header is not None and "\t" in header[1]
    return ("\t" if tabs else " ") * prefix.indent


def _moved(body: str, margin: str) -> str:
    if not body:
        return ""
    moved = indent_code(body, len(margin))
    if "\t" not in margin:
        return moved
    lines = source_lines(moved)
    inside = lines_inside_strings(lines)
    return "".join(
        line if number in inside or not line.strip() else margin + line[len(margin) :]
        for number, line in enumerate(lines, start=1)
    )


# --- which of the answer's sections are new -----------------------------------------------------


def _beyond(prefix: Workflow, sections: tuple[Section, ...]) -> tuple[Section, ...]:
    """The sections behind those that repeat the prefix: by position, if they resemble it."""
    if not sections or not len(prefix):
        return sections
    number = sections[0].number
    if number > len(prefix):
        return sections
    for offset in dict.fromkeys((max(number - 1, 0), 0)):
        ours = prefix.steps[offset:]
        pairs = list(zip(ours, sections, strict=False))
        alike = sum(_resembles(step, section) for step, section in pairs)
        if 2 * alike >= len(pairs):
            return sections[len(ours) :]
    return sections


def _resembles(step: Step, section: Section) -> bool:
    ours, theirs = _words(step.title), _words(section.title)
    if ours and ours == theirs:
        return True
    return _likeness(_words(step.body), _words(section.body)) >= _ALIKE


def _words(text: str) -> Counter[str]:
    words = re.findall(r"\w+", text.lower())
    return Counter(word for word in words if word not in _COMMON)


def _likeness(first: Counter[str], second: Counter[str]) -> float:
    """Dice's coefficient of two bags of words."""
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0


def _finished(prefix: Workflow, passage: Passage, frame: _Frame) -> Workflow | None:
    """The prefix with a bare `return`, if that is all that the passage adds."""
    known = set(map(ast.dump, frame.body))
    tail = passage.sections[-1].body if passage.sections else ""
    lines = source_lines(tail)
    left = [*passage.setup, *fragments(lines, parse_python(tail).body)]
    added = [item for item in left if ast.dump(item.node) not in known]
    if not prefix.steps or len(added) != 1 or not isinstance(added[0].node, ast.Return):
        return None
    last = prefix.steps[-1]
    step = Step(last.title, last.body + _moved(added[0].text, frame.margin), last.module)
    whole = Workflow(prefix.preamble, (*prefix.steps[:-1], step), prefix.indent)
    return whole if parse_workflow(whole.source).steps[-1].body == step.body else None


def _new_setup(passage: Passage, frame: _Frame, length: int) -> list[Fragment]:
    """Statements in front of the first header that are not the prefix's.

    In a whole `__call__`, what assigns the prefix's variables is a changed copy of the prefix.
    """
    known = set(map(ast.dump, frame.body))
    stored = names_stored(frame.body) if length and passage.whole else frozenset[str]()
    return [
        item
        for item in passage.setup
        if ast.dump(item.node) not in known
        and not (isinstance(item.node, ast.Assign) and names_stored([item.node]) <= stored)
    ]


# --- the preamble ---------------------------------------------------------------------------------


def _preamble(frame: _Frame, passage: Passage, members: Sequence[Fragment], *, first: bool) -> str:
    """Our preamble with the new members; the first steps of all bring their `__init__`."""
    lines = frame.lines
    start = min([frame.call.lineno, *(item.lineno for item in frame.call.decorator_list)])
    margin = lines[frame.call.lineno - 1][: frame.call.col_offset]
    inserted = "".join(_moved(item.text, margin) + "\n" for item in members)
    init = _init(passage.members) if first else None
    ours = _init(frame.members)
    head = lines[: start - 1]
    if init is not None and ours is None:
        inserted = _moved(init.text, margin) + "\n" + inserted
    elif init is not None and ours is not None and not _same_body(init.node, ours.node):
        above = [ours.node.lineno, *(item.lineno for item in ours.node.decorator_list)]
        text = _moved(init.text, margin)
        head = [*lines[: min(above) - 1], text, *lines[ours.node.end_lineno : start - 1]]
    return "".join([*head, inserted, *lines[start - 1 : -1]])


class _Init(NamedTuple):
    node: Method
    text: str


def _init(members: Iterable[Fragment]) -> _Init | None:
    for node, text in members:
        if isinstance(node, Method) and node.name == "__init__":
            return _Init(node, text)
    return None


def _same_body(first: Method, second: Method) -> bool:
    def body(method: Method) -> list[str]:
        documented = ast.get_docstring(method, clean=False) is not None
        return [ast.dump(node) for node in method.body[documented:]]

    return body(first) == body(second)
