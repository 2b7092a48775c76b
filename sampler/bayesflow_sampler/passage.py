"""Reads one piece of code from a model's answer: a module, a class, a method, or bare statements.

Whatever its margin, what comes out stands at margin 0: the definitions in front of the class, the
class's members, the statements in front of the first header, and the sections. Called by `answer`.
"""

import ast
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeGuard

from bayesflow_sampler.margins import readable
from bayesflow_sampler.source import (
    Section,
    indent_code,
    parse_python,
    read_sections,
    source_lines,
)

__all__ = ["Fragment", "Method", "Passage", "fragments", "read_passage"]

_METHODS: Final = (ast.AsyncFunctionDef, ast.FunctionDef)
Method = ast.AsyncFunctionDef | ast.FunctionDef


class Fragment(NamedTuple):
    """A statement with its text, at margin 0, ending in a newline."""

    node: ast.stmt
    text: str


class Passage(NamedTuple):
    """What a piece of code brings.

    Attributes:
        definitions: Module-level imports, functions, classes and constants in front of the class.
        members: What the class holds beside `__call__`.
        setup: Statements of the body in front of the first header, the docstring left out.
        sections: The body from the first header on.
        whole: There was a `__call__`, so that what stands at module level is no statement.
    """

    definitions: tuple[Fragment, ...]
    members: tuple[Fragment, ...]
    setup: tuple[Fragment, ...]
    sections: tuple[Section, ...]
    whole: bool


def read_passage(code: str, *, prose: bool = False) -> Passage | None:
    """Reads a piece of code; None if `class Workflow` has no `__call__`.

    Args:
        code: A module, a class, a method or bare statements, at any margin.
        prose: Prose may stand behind the code.

    Raises:
        SourceError: It is not Python, in no way of setting its margin.
    """
    text = readable(code.rstrip(), prose=prose)
    tree = parse_python(text)
    lines = source_lines(text)
    found = _find_call(tree)
    if found is None:
        if any(isinstance(node, ast.ClassDef) and node.name == "Workflow" for node in tree.body):
            return None
        return _statements(text)
    owner, call = found
    members = _methods(tree) if owner is None else owner.body
    methods = {id(node) for node in members}
    before = tree.body[: tree.body.index(call if owner is None else owner)]
    drafts = {id(node) for node in before if isinstance(node, ast.ClassDef) and _is_owner(node)}
    return Passage(
        definitions=fragments(
            lines, (node for node in before if _defines(node) and id(node) not in methods | drafts)
        ),
        members=fragments(lines, (node for node in members if not _is_call(node))),
        setup=_setup(lines, call),
        sections=_at_margin_zero(read_sections(lines, call)),
        whole=True,
    )


def fragments(lines: Sequence[str], nodes: Iterable[ast.stmt]) -> tuple[Fragment, ...]:
    """The statements with their texts.

    Args:
        lines: The lines of the source that the nodes come from.
        nodes: Statements, in order.
    """
    encoded: dict[int, bytes] = {}
    found: list[Fragment] = []
    for node in nodes:
        decorators: list[ast.expr] = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(item.lineno for item in decorators)])
        last = node.end_lineno or first
        for number in (first, last):
            encoded.setdefault(number, lines[number - 1].encode())
        crowded = not decorators and not _alone(node, encoded[first], encoded[last])
        text = ast.unparse(node) + "\n" if crowded else "".join(lines[first - 1 : last])
        moved = node.col_offset and not crowded
        found.append(Fragment(node, indent_code(text, 0) if moved else text))
    return tuple(found)


def _alone(node: ast.stmt, first: bytes, last: bytes) -> bool:
    """Whether no other statement stands on the node's first or last line (`a = 1; b = 2`)."""
    end = node.end_col_offset or 0
    margin = len(first) - len(first.lstrip())
    return node.col_offset <= margin and not last[end : end + 40].lstrip().startswith(b";")


def _find_call(tree: ast.Module) -> tuple[ast.ClassDef | None, Method] | None:
    """The last `__call__` of a class, one named `Workflow` first; or one without its class."""
    owners = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    named = [owner for owner in owners if owner.name == "Workflow"]
    for owner in [*reversed(named), *reversed(owners)]:
        for node in reversed(owner.body):
            if _is_call(node):
                return owner, node
    for node in reversed(tree.body):
        if _is_call(node):
            return None, node
    return None


def _is_owner(node: ast.ClassDef) -> bool:
    return node.name == "Workflow" and any(map(_is_call, node.body))


def _is_call(node: ast.stmt) -> TypeGuard[Method]:
    return isinstance(node, _METHODS) and node.name == "__call__"


def _methods(tree: ast.Module) -> list[ast.stmt]:
    """The functions of a class whose first line is missing."""
    return [
        node
        for node in tree.body
        if isinstance(node, _METHODS) and [arg.arg for arg in node.args.args][:1] == ["self"]
    ]


def _defines(node: ast.stmt) -> bool:
    """Whether a statement at module level is worth keeping."""
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return False
    if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
        return False
    return not isinstance(node, ast.Expr | ast.Return)


def _statements(text: str) -> Passage:
    """Bare statements: the imports and helpers that they begin with, then a body."""
    lines = source_lines("async def __call__(self):\n" + indent_code(text, 4))
    call = parse_python("".join(lines)).body[0]
    assert isinstance(call, _METHODS)
    sections = read_sections(lines, call)
    first = sections[0].line if sections else len(lines) + 1
    leading: list[ast.stmt] = []
    for node in call.body:
        if node.lineno >= first or not _leads(node):
            break
        leading.append(node)
    return Passage(
        definitions=fragments(lines, filter(_defines, leading)),
        members=(),
        setup=_setup(lines, call, skip=len(leading)),
        sections=_at_margin_zero(sections),
        whole=False,
    )


def _leads(node: ast.stmt) -> bool:
    """Whether a bare statement in front of the steps is meant for the module."""
    if isinstance(node, ast.Assign):
        return all(isinstance(name, ast.Name) and name.id.isupper() for name in node.targets)
    definition = (ast.Import, ast.ImportFrom, ast.ClassDef, *_METHODS)
    return isinstance(node, definition) or _is_text(node)


def _is_text(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return False
    return isinstance(node.value.value, str) or node.value.value is ...


def _setup(lines: list[str], call: Method, skip: int = 0) -> tuple[Fragment, ...]:
    """The statements in front of the first header; all of them if there is none."""
    sections = read_sections(lines, call)
    first = sections[0].line if sections else len(lines) + 1
    nodes = [node for node in call.body[skip:] if node.lineno < first]
    wanted = [
        node
        for node in nodes
        if not _is_text(node)
        and not isinstance(node, ast.Pass)
        and not (isinstance(node, ast.If | ast.ImportFrom) and not _defines(node))
    ]
    return fragments(lines, wanted)


def _at_margin_zero(sections: Iterable[Section]) -> tuple[Section, ...]:
    return tuple(
        section._replace(body=indent_code(section.body, 0) if section.body else "")
        for section in sections
    )
