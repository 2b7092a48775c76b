"""Python that the interpreter lacks, said in Python that it has: same meaning, same lines.

    key=votes.get, map(str.strip, …)    a method as a value     → a lambda that calls it
    next(x for x in …)                  a generator iterated    → next(iter(x for x in …))
    value.is_integer()                                          → (value % 1 == 0)

The text changes for the run alone; what is stored, shown and exported is the author's own. Called
by `program`, on source that keeps the policy.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["adapt"]

_TYPES: Final = frozenset({"str", "int", "float", "list", "dict", "set", "tuple", "bytes"})
_TAKERS: Final = frozenset({"map", "filter"})
_ARGUMENTS: Final = "bayesflow_arguments"
_IS_INTEGER: Final = re.compile(rb"(?P<parentheses>[\s)]*)\.[ \t]*is_integer[ \t]*\([ \t]*\)")


class _Edit(NamedTuple):
    """Replace the bytes from `start` to `end` by `text`; an insertion where they are equal."""

    start: int
    end: int
    text: bytes


def adapt(text: str, tree: ast.Module) -> str:
    """The text with what the interpreter lacks rewritten in place; as many lines as before.

    Args:
        text: Source whose tree is `tree`.
        tree: Its syntax tree.
    """
    data = text.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    edits = [edit for node in ast.walk(tree) for edit in _edits(data, starts, node)]
    # From the last to the first, so that the positions ahead stay valid. Of two at one place, the
    # one whose node ends later encloses the other, was found first, and goes outside it.
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end), reverse=True):
        data = data[: edit.start] + edit.text + data[edit.end :]
    return data.decode()


def _edits(data: bytes, starts: list[int], node: ast.AST) -> Iterator[_Edit]:
    if not isinstance(node, ast.Call):
        return
    for method in _methods_as_values(node):
        if _stands(data, starts, method):
            yield from _wrapped(starts, method)
    first = node.args[0] if node.args else None
    if (
        _name(node.func) == "next"
        and isinstance(first, ast.GeneratorExp)
        and _stands(data, starts, first)
    ):
        start, end = _span(starts, first)
        # Its span begins and ends with parentheses, the call's own if it is the only argument.
        yield _Edit(start, start, b"(iter")
        yield _Edit(end, end, b")")
    if isinstance(node.func, ast.Attribute) and node.func.attr == "is_integer":
        yield from _whole(data, starts, node, node.func)


def _methods_as_values(call: ast.Call) -> Iterator[ast.Attribute]:
    """Arguments that are methods: `key=` of anything, and what map and filter apply."""
    values = [keyword.value for keyword in call.keywords if keyword.arg == "key"]
    if _name(call.func) in _TAKERS:
        values += call.args[:1]
    yield from (value for value in values if isinstance(value, ast.Attribute))


def _wrapped(starts: list[int], method: ast.Attribute) -> Iterator[_Edit]:
    start, end = _span(starts, method)
    if _name(method.value) in _TYPES:  # str.lower: a method of what it is applied to
        owner = _span(starts, method.value)
        yield _Edit(owner[0], owner[1], f"(lambda {_ARGUMENTS}: {_ARGUMENTS}".encode())
        yield _Edit(end, end, b"())")
    else:
        yield _Edit(start, start, f"(lambda *{_ARGUMENTS}: ".encode())
        yield _Edit(end, end, f"(*{_ARGUMENTS}))".encode())


def _whole(
    data: bytes, starts: list[int], call: ast.Call, function: ast.Attribute
) -> Iterator[_Edit]:
    start, end = _span(starts, call)
    behind = _span(starts, function.value)[1]
    found = _IS_INTEGER.fullmatch(data, behind, end)
    if found is not None and _stands(data, starts, call):
        yield _Edit(start, start, b"(")
        yield _Edit(found.end("parentheses"), end, b" % 1 == 0)")


def _stands(data: bytes, starts: list[int], node: ast.expr) -> bool:
    """Whether the node is where it says: within f-strings, older Pythons may be mistaken."""
    start, end = _span(starts, node)
    try:
        there = ast.parse(data[start:end], mode="eval").body
    except (SyntaxError, ValueError):
        return False
    return ast.dump(there) == ast.dump(node)


def _span(starts: list[int], node: ast.expr) -> tuple[int, int]:
    """Where the node's bytes begin and end."""
    last = node.end_lineno or node.lineno
    return starts[node.lineno - 1] + node.col_offset, starts[last - 1] + (node.end_col_offset or 0)


def _name(node: ast.expr) -> str | None:
    return node.id if isinstance(node, ast.Name) else None
