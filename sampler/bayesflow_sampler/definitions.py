"""Which definitions of a model's answer are new to our prefix.

A definition of a name that the prefix knows replaces nothing: ours stays. Where the new code needs
the other one, the answer is refused, for no choice would keep both meanings. Called by `splicing`.
"""

import ast
import builtins
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.passage import Fragment

__all__ = [
    "Known",
    "attributes_read",
    "names_bound",
    "names_read",
    "names_stored",
    "new_members",
    "new_module",
]

_BUILTINS: Final = frozenset(dir(builtins))
_Import = ast.Import | ast.ImportFrom


class Known(NamedTuple):
    """What the prefix defines at module level.

    Attributes:
        modules: Statements that the steps bring along; they run first.
        preamble: Statements of the preamble beside the class; they run after every step's.
        outside: Names that the prefix reads and does not define: builtins and the sandbox's.
    """

    modules: tuple[ast.stmt, ...]
    preamble: tuple[ast.stmt, ...]
    outside: frozenset[str]


def new_module(definitions: Sequence[Fragment], known: Known, needed: frozenset[str]) -> str:
    """The definitions that the prefix does not have, as the text of a step's `module`.

    Args:
        definitions: What the answer defines at module level.
        known: What the prefix defines there.
        needed: The names that the answer's new steps and members read.

    Raises:
        SourceError: New code needs a definition whose name the prefix knows as something else.
    """
    ours = (*known.modules, *known.preamble)
    same = set(map(_meaning, ours))
    taken = names_bound(ours)
    fresh = [item for item in definitions if _meaning(item.node) not in same]
    needed = _closure(fresh, needed)
    clashing = taken | known.outside
    kept: list[Fragment] = []
    for item in fresh:
        if isinstance(item.node, _Import):
            kept.extend(_new_import(item, ours, taken, known.outside, needed))
        elif clash := names_bound([item.node]) & clashing:
            _refuse_if(clash & needed)
        else:
            kept.append(item)
    apart = ["" if isinstance(item.node, _Import) else "\n" for item in kept]
    texts = [space + item.text for space, item in zip(apart, kept, strict=True)]
    return "".join(dict.fromkeys([*_preamble_imports(kept, known), *texts])).lstrip("\n")


def new_members(
    members: Sequence[Fragment], ours: Sequence[ast.stmt], needed: frozenset[str]
) -> list[Fragment]:
    """The members that our class does not have, `__init__` left out.

    Args:
        members: What the answer's class holds beside `__call__`.
        ours: What our class holds.
        needed: The attributes of `self` that the answer's new steps read.

    Raises:
        SourceError: A new step needs a member whose name our class knows as something else.
    """
    same = set(map(_meaning, ours))
    taken = names_bound(ours) | {"__init__"}
    kept: list[Fragment] = []
    for item in members:
        names = names_bound([item.node])
        if not names or _meaning(item.node) in same:
            continue
        if names & taken:
            _refuse_if((names & taken & needed) - {"__init__"})
        else:
            kept.append(item)
    return kept


def names_bound(nodes: Iterable[ast.stmt]) -> frozenset[str]:
    """The names that these statements bind where they stand (not inside of functions)."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, _Import):
            found.update(_bound(alias) for alias in node.names)
        else:
            found |= names_stored([node])
    return frozenset(found)


def names_stored(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Every name that is bound anywhere in these trees."""
    found: set[str] = set()
    for node in nodes:
        for item in ast.walk(node):
            if isinstance(item, ast.Name) and not isinstance(item.ctx, ast.Load):
                found.add(item.id)
            elif isinstance(item, ast.arg):
                found.add(item.arg)
            elif isinstance(item, ast.alias):
                found.add(_bound(item))
            elif isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(item.name)
    return frozenset(found)


def names_read(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Every name that is read anywhere in these trees."""
    return frozenset(
        item.id
        for node in nodes
        for item in ast.walk(node)
        if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Load)
    )


def attributes_read(nodes: Iterable[ast.AST]) -> frozenset[str]:
    """Every attribute of `self` in these trees."""
    return frozenset(
        item.attr
        for node in nodes
        for item in ast.walk(node)
        if isinstance(item, ast.Attribute)
        and isinstance(item.value, ast.Name)
        and item.value.id == "self"
    )


def _meaning(node: ast.stmt) -> str:
    """The syntax tree; of a function without its docstring and the annotation of its result."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return ast.dump(node)
    documented = ast.get_docstring(node, clean=False) is not None
    parts = [node.args, *node.decorator_list, *node.body[documented:]]
    return f"{type(node).__name__} {node.name} " + " ".join(map(ast.dump, parts))


def _closure(fresh: Sequence[Fragment], needed: frozenset[str]) -> frozenset[str]:
    """The names that are needed, and what their definitions read."""
    by_name: dict[str, list[ast.stmt]] = {}
    for item in fresh:
        for name in names_bound([item.node]):
            by_name.setdefault(name, []).append(item.node)
    pending, closed = set(needed), set[str]()
    while pending:
        name = pending.pop()
        closed.add(name)
        pending |= names_read(by_name.pop(name, [])) - closed
    return frozenset(closed)


def _new_import(
    item: Fragment,
    ours: Sequence[ast.stmt],
    taken: frozenset[str],
    outside: frozenset[str],
    needed: frozenset[str],
) -> list[Fragment]:
    """An import without the names that the prefix has; a name it has otherwise stays as it is."""
    node = item.node
    assert isinstance(node, _Import)
    source = node.module if isinstance(node, ast.ImportFrom) else None
    known = {
        (other.module if isinstance(other, ast.ImportFrom) else None, alias.name, alias.asname)
        for other in ours
        if isinstance(other, _Import)
        for alias in other.names
    }
    # What the sandbox gives without an import may be imported as well, but no builtin is replaced.
    clashing = taken | (outside & _BUILTINS)
    left: list[ast.alias] = []
    for alias in node.names:
        if (source, alias.name, alias.asname) in known:
            continue
        if _bound(alias) in clashing:
            _refuse_if({_bound(alias)} & needed)
        else:
            left.append(alias)
    if len(left) == len(node.names):
        return [item]
    if not left:
        return []
    if isinstance(node, ast.ImportFrom):
        fewer: ast.stmt = ast.ImportFrom(module=node.module, names=left, level=node.level)
    else:
        fewer = ast.Import(names=left)
    return [Fragment(fewer, ast.unparse(fewer) + "\n")]


def _preamble_imports(kept: Sequence[Fragment], known: Known) -> list[str]:
    """The preamble's imports that the new definitions read: the preamble runs after them."""
    read = names_read(item.node for item in kept)
    return [
        ast.unparse(node) + "\n"
        for node in known.preamble
        if isinstance(node, _Import) and names_bound([node]) & read
    ]


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _refuse_if(names: Iterable[str]) -> None:
    for name in sorted(names):
        raise SourceError(
            f"The name `{name}` already means something else in the steps before; "
            "give yours another name."
        )
