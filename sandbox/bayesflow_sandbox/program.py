"""A workflow made ready for the interpreter: its world in front, its call behind, lines kept.

The user's text stays line for line, so a line of the program less ``offset`` is a line of the
source. What the interpreter lacks is rewritten in place: ``import statistics`` to the shim, the
rest by ``dialect``.
"""

import ast
import warnings
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Final

from bayesflow_sandbox.dialect import adapt
from bayesflow_sandbox.policy import names_exec_code
from bayesflow_sandbox.steps import StepHeader, call_method, source_lines, step_at, step_headers

__all__ = ["ARGUMENTS", "HOST_PREFIX", "USAGE", "Place", "Program", "compile_program"]

# Names by which the world's code reaches the host. A workflow that calls them meets the same door.
HOST_PREFIX: Final = "_bayesflow_host_"
USAGE: Final = "_bayesflow_usage"
ARGUMENTS: Final = "_bayesflow_arguments"

_WORLD: Final = f"""\
from typing import Any, Dict, List, Optional, Tuple, Union
DatasetType = str
class _BayesflowLLM:
    async def call_llm(self, *args, **kwargs):
        return await {HOST_PREFIX}call_llm(*args, **kwargs)
    def get_usage_summary(self):
        return {USAGE}()
def create_llm_instance(llm_config=None):
    return _BayesflowLLM()
"""
_CALL: Final = f'\nawait Workflow("workflow", {{}}, "task")(*{ARGUMENTS})\n'
_SHIM: Final = "_bayesflow_statistics"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's source something happened; None where it is not known."""

    line: int | None = None
    code: str | None = None
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """What an engine runs.

    Attributes:
        code: The whole text.
        offset: Lines in front of the user's source.
        source: The user's text as it is, for an engine with a world of its own.
        lines: The user's source.
        headers: Its step headers.
        call: Lines of ``__call__``.
        exec_code: Whether it names ``exec_code``.
    """

    code: str
    offset: int
    source: str
    lines: tuple[str, ...]
    headers: tuple[StepHeader, ...]
    call: range
    exec_code: bool = False

    def place(self, frames: list[int]) -> Place:
        """Places a traceback, given as program lines, outermost first.

        The line is the innermost one in the user's source; the step is that of the innermost line
        in ``__call__``, so a failing helper function is charged to the step that called it.
        """
        return self.place_in_source([line - self.offset for line in frames])

    def place_in_source(self, frames: list[int]) -> Place:
        """Places a traceback given as lines of the user's source; lines outside it are dropped."""
        inner = [line for line in frames if 0 < line <= len(self.lines)]
        if not inner:
            return Place()
        called = [line for line in inner if line in self.call]
        return Place(
            line=inner[-1],
            code=self.lines[inner[-1] - 1].strip()[:200],
            step=step_at(called[-1], self.headers) if called else None,
        )


def compile_program(source: str) -> Program:
    """Returns the program of any text that parses and has ``Workflow.__call__``; no policy here."""
    text = "".join(source_lines(source))
    tree = _parsed(text)
    call = call_method(tree)
    assert call is not None
    adapted = adapt(text, tree)
    rewritten = _with_shim(adapted, tree if adapted == text else _parsed(adapted))
    before = _WORLD if rewritten == adapted else _WORLD + _shim_source()
    return Program(
        code=before + rewritten + _CALL,
        offset=before.count("\n"),
        source=text,
        lines=tuple(source_lines(source)),
        headers=step_headers(source, call),
        call=range(call.lineno, (call.end_lineno or call.lineno) + 1),
        exec_code=names_exec_code(text, tree),
    )


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def _with_shim(text: str, tree: ast.Module) -> str:
    """Replaces imports of ``statistics`` in place, keeping the number of lines."""
    if text.isascii() and "statistics" not in text:  # other letters may spell it in other ways
        return text
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    data = text.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    # From the last to the first, so that the positions ahead stay valid.
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset), reverse=True):
        replacement = _replacement(node)
        if replacement is None:
            continue
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        data = data[:begin] + replacement.encode() + data[end:]
    return data.decode()


def _replacement(node: ast.Import | ast.ImportFrom) -> str | None:
    """Assignments from the shim, on as many lines as the import; None if it is of other modules."""
    kept: list[str] = []
    if isinstance(node, ast.ImportFrom):
        if node.module != "statistics":
            return None
        bound = {alias.asname or alias.name: f"{_SHIM}.{alias.name}" for alias in node.names}
    else:
        wanted = [alias for alias in node.names if alias.name == "statistics"]
        if not wanted:
            return None
        bound = {alias.asname or alias.name: _SHIM for alias in wanted}
        kept = [ast.unparse(alias) for alias in node.names if alias.name != "statistics"]
    padding = "\n" * ((node.end_lineno or node.lineno) - node.lineno)
    values = "".join(f"{value}, " for value in bound.values())
    assignment = f"({''.join(f'{name}, ' for name in bound)}) = ({values}{padding})"
    return f"import {', '.join(kept)}; {assignment}" if kept else assignment


@lru_cache(maxsize=1)
def _shim_source() -> str:
    return files("bayesflow_sandbox").joinpath("statistics_shim.py").read_text("utf-8")
