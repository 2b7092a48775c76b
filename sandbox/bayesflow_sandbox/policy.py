"""The static policy: what a workflow may import, name and touch, decided from its syntax tree.

It holds for every workflow at admission and again at export, whichever engine runs it: what an
engine would merely swallow must not come alive in the exported file. Each breach is data (rule,
sentence, line); ``describe`` prints the same rules for an optimizer's prompt.
"""

import ast
import string
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, cast

from bayesflow_sandbox.allowed import (
    ALLOWED_DUNDERS,
    FORBIDDEN_ATTRIBUTES,
    FORBIDDEN_NAMES,
    MODULES,
    WORLD_NAMES,
)
from bayesflow_sandbox.steps import call_method, source_lines, step_headers

__all__ = [
    "MAX_SOURCE_CHARACTERS",
    "Rule",
    "Violation",
    "check_workflow",
    "describe",
    "names_exec_code",
    "violations",
]

Rule = Literal[
    "syntax", "workflow", "steps", "import", "module", "name", "attribute", "format", "exec_code"
]

MAX_SOURCE_CHARACTERS: Final = 100_000

_EXEC_CODE: Final = (
    "exec_code is not available, for this task has no public tests: let the workflow check its "
    "answer with call_llm or with code of its own."
)

_EXEC_CODE_RULE: Final = (
    "exec_code(solution, entry_point) is available without import and not awaited: it runs the "
    "problem's public tests."
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach of the policy.

    Attributes:
        rule: Which rule, as listed by ``describe``.
        message: What is wrong and what to do instead, one sentence.
        line: Line of the source, from 1; None where the whole text is meant.
    """

    rule: Rule
    message: str
    line: int | None = None


def check_workflow(source: str, *, exec_code: bool = False) -> str | None:
    """Returns None for a workflow that keeps the policy, otherwise its first three breaches.

    Args:
        source: The workflow's source.
        exec_code: Whether it may use ``exec_code``: only where problems have public tests.
    """
    found = violations(source, exec_code=exec_code)
    if not found:
        return None
    said = [
        f"line {item.line}: {item.message}" if item.line else item.message for item in found[:3]
    ]
    rest = f" ({len(found) - 3} more)" if len(found) > 3 else ""
    return " ".join(said) + rest


def violations(source: str, *, exec_code: bool = False) -> tuple[Violation, ...]:
    """Returns every breach of the policy in a workflow's source, by line; empty if there is none.

    Never raises, whatever the text is. Nothing of it is executed.

    Args:
        source: The workflow's source.
        exec_code: Whether it may use ``exec_code``.
    """
    tree = _parsed(source)
    if isinstance(tree, Violation):
        return (tree,)
    found = [*_shape(source, tree), *_Walk(tree).breaches()]
    if not exec_code and (asked := _exec_code_lines(source, tree)):
        found.append(Violation("exec_code", _EXEC_CODE, min(asked)))
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda violation: violation.line or 0))


def names_exec_code(source: str, tree: ast.Module) -> bool:
    """Says whether a workflow, whose tree this is, uses ``exec_code``."""
    return bool(_exec_code_lines(source, tree))


def _exec_code_lines(source: str, tree: ast.Module) -> list[int]:
    if source.isascii() and "exec_code" not in source:  # other letters may spell it in other ways
        return []
    nodes = ast.walk(tree)
    return [node.lineno for node in nodes if isinstance(node, ast.Name) and node.id == "exec_code"]


def describe(*, exec_code: bool = False) -> str:
    """Returns the policy as text for the prompt of whoever writes workflows.

    Args:
        exec_code: Whether ``exec_code`` may be used, and ``__call__`` gets the entry point.
    """
    signature = "self, problem, entry_point" if exec_code else "self, problem"
    helper = _EXEC_CODE_RULE if exec_code else "exec_code is not available."
    modules = "\n".join(
        f"  - {name}: {', '.join(sorted(names))}" for name, names in MODULES.items()
    )
    return f"""\
The code runs in a restricted Python interpreter and must keep these rules:
- One top-level `class Workflow` with `__init__(self, name, llm_config, dataset)` and
  `async def __call__({signature})`, which returns `(answer, cost)`. Other functions, classes and
  constants may stand beside it at module level.
- The body of `__call__` is divided by comments `# Step 1: title`, `# Step 2: title`, ... at its
  top level.
- Available without import: {", ".join(sorted(WORLD_NAMES))}.
- Imports: only the names below; write `module.name` or `from module import name`, and do not pass
  a module around or assign to it.
{modules}
- Do not use: {", ".join(sorted(FORBIDDEN_NAMES))}.
- `type` takes exactly one argument.
- No attribute or method that starts with an underscore and no name that starts with two, except
  `__init__`, `__call__` and `__name__`; no attributes of frames, code objects or event loops.
- Format text with f-strings; `"...".format(...)` only on a literal whose fields are plain names.
- Not supported by the interpreter: yield, inheritance, method decorators, del, async with, a
  function as replacement in re.sub, keyword arguments of asyncio.gather, callable; a method as a
  value, but for `key=` and in map and filter.
- {helper}
"""


def _parsed(source: str) -> ast.Module | Violation:
    if len(source) > MAX_SOURCE_CHARACTERS:
        return Violation(
            "syntax",
            f"The workflow has {len(source)} characters, at most {MAX_SOURCE_CHARACTERS} may be.",
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's "\d" is its own affair
            return ast.parse("".join(source_lines(source)))
    except SyntaxError as error:
        return Violation("syntax", f"The workflow is not valid Python: {error.msg}.", error.lineno)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = str(error) or "it is nested too deeply"
        return Violation("syntax", f"The workflow is not valid Python: {reason}.")


def _shape(source: str, tree: ast.Module) -> Iterator[Violation]:
    owners = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Workflow"]
    call = call_method(tree)
    if len(owners) != 1:
        yield Violation(
            "workflow",
            "The source must define one top-level `class Workflow`.",
            owners[1].lineno if owners else None,
        )
    elif call is None:
        yield Violation(
            "workflow",
            "`class Workflow` needs a method `async def __call__(self, problem)`: the workflow.",
            owners[0].lineno,
        )
    elif not step_headers(source, call):
        yield Violation(
            "steps",
            "The workflow has no steps: put a comment `# Step 1: what it does` before each block "
            "at the top level of `__call__`.",
            call.lineno,
        )


class _Walk:
    """One pass over the tree. What is allowed by its place is marked before the pass."""

    def __init__(self, tree: ast.Module) -> None:
        self._nodes = list(ast.walk(tree))
        self._modules: dict[str, str] = {}  # local name → module
        self._imported: set[str] = set()  # every name that an import binds
        self._in_place: set[ast.AST] = set()
        for node in self._nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                self._note_import(node)
            elif isinstance(node, ast.Attribute):
                self._in_place.add(node.value)
            elif isinstance(node, ast.Call):
                self._note_call(node)

    def breaches(self) -> Iterator[Violation]:
        """Yields every breach but those of shape, in no particular order."""
        for node in self._nodes:
            yield from self._identifiers(node)
            match node:
                case ast.Import():
                    yield from self._import(node)
                case ast.ImportFrom():
                    yield from self._import_from(node)
                case ast.Name():
                    yield from self._name(node)
                case ast.Attribute():
                    yield from self._attribute(node)
                case _:
                    pass

    def _note_import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name.split(".")[0]
            self._imported.add(bound)
            if isinstance(node, ast.Import):
                self._modules[bound] = alias.name

    def _note_call(self, node: ast.Call) -> None:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "type":
            if len(node.args) == 1 and not node.keywords and not _starred(node.args[0]):
                self._in_place.add(function)
        elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Constant):
            template = function.value.value
            if isinstance(template, str) and _has_plain_fields(template):
                self._in_place.add(function)

    def _import(self, node: ast.Import) -> Iterator[Violation]:
        for alias in node.names:
            if alias.name not in MODULES or alias.name == "__future__":
                yield _bad_import(alias.name, node.lineno)

    def _import_from(self, node: ast.ImportFrom) -> Iterator[Violation]:
        names = MODULES.get(node.module or "") if node.level == 0 else None
        if names is None:
            yield _bad_import("." * node.level + (node.module or ""), node.lineno)
            return
        for alias in node.names:
            if alias.name not in names:
                yield _bad_member(node.module or "", alias.name, node.lineno)

    def _name(self, node: ast.Name) -> Iterator[Violation]:
        line = node.lineno
        if node.id in FORBIDDEN_NAMES:
            yield Violation("name", f"`{node.id}` is not allowed: remove it or rename yours.", line)
        elif node.id == "type" and node not in self._in_place:
            yield Violation("name", "`type` is allowed only as `type(value)`.", line)
        elif node.id in self._modules and (
            node not in self._in_place or not isinstance(node.ctx, ast.Load)
        ):
            yield Violation(
                "module",
                f"Module `{node.id}` may only be used as `{node.id}.name`: do not pass it on, "
                "assign to it, or give a variable its name.",
                line,
            )

    def _attribute(self, node: ast.Attribute) -> Iterator[Violation]:
        name, line = node.attr, node.lineno
        if name in FORBIDDEN_ATTRIBUTES:
            yield Violation("attribute", f"Attribute `{name}` is not allowed: remove it.", line)
        elif name.startswith("_") and name != "__name__":
            yield Violation(
                "attribute",
                f"Attribute `{name}` is not allowed: names that start with an underscore are "
                "closed, rename yours.",
                line,
            )
        elif name in ("format", "format_map") and node not in self._in_place:
            yield Violation(
                "format",
                f"`.{name}` may be called only on a literal with plain field names: use f-strings.",
                line,
            )
        yield from self._module_member(node)

    def _module_member(self, node: ast.Attribute) -> Iterator[Violation]:
        root: ast.expr = node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self._imported:
            return
        module = self._modules.get(root.id)
        if not isinstance(node.ctx, ast.Load):
            yield Violation(
                "module", f"Do not assign to attributes of imported `{root.id}`.", node.lineno
            )
        elif module in MODULES and node.value is root and node.attr not in MODULES[module]:
            yield _bad_member(module, node.attr, node.lineno)

    def _identifiers(self, node: ast.AST) -> Iterator[Violation]:
        """Closed names wherever a node carries one: definitions, patterns, ``global``, aliases."""
        methods = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        closed = isinstance(node, ast.MatchClass)  # its keywords read attributes
        for name in _identifiers_of(node):
            dunder = name.startswith("__")
            if methods and name in ALLOWED_DUNDERS:
                continue
            if (dunder and name != "__name__") or (closed and _closed_attribute(name)):
                line = getattr(node, "lineno", None)
                yield Violation("name", f"Name `{name}` is not allowed: rename it.", line)


def _identifiers_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant | ast.Attribute | ast.ImportFrom):
        return
    for field, value in ast.iter_fields(node):
        if field == "type_comment" or (isinstance(node, ast.alias) and field == "name"):
            continue
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            items = cast("list[object]", value)
            yield from (item for item in items if isinstance(item, str))


def _closed_attribute(name: str) -> bool:
    return name.startswith("_") or name in FORBIDDEN_ATTRIBUTES or name.startswith("format")


def _has_plain_fields(template: str, depth: int = 2) -> bool:
    """Whether no replacement field, nor one in a format spec, reads an attribute or an index."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError:
        return False
    return all(
        not set(".[") & set(field or "")
        and (depth == 0 or _has_plain_fields(spec or "", depth - 1))
        for _, field, spec, _ in parts
    )


def _starred(node: ast.expr) -> bool:
    return isinstance(node, ast.Starred)


def _bad_import(name: str, line: int) -> Violation:
    return Violation(
        "import", f"Module `{name}` may not be imported; allowed are {', '.join(MODULES)}.", line
    )


def _bad_member(module: str, name: str, line: int) -> Violation:
    allowed = ", ".join(sorted(MODULES[module]))
    return Violation(
        "import", f"`{module}.{name}` is not allowed; {module} offers {allowed}.", line
    )
