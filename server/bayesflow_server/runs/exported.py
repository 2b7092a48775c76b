"""Finds the workflow in an exported file: it stands there as text between two marker lines."""

import ast
from typing import Final

from bayesflow_sandbox.steps import source_lines

__all__ = ["BEGIN", "END", "workflow_in"]

BEGIN: Final = "# --- the workflow: begin ---"
END: Final = "# --- the workflow: end ---"
_LONGEST_FILE: Final = 1_000_000


def workflow_in(text: str) -> str | None:
    """The source of the workflow in an exported file, or None if the text is none."""
    if BEGIN not in text or len(text) > _LONGEST_FILE:
        return None
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    lines = source_lines(text)
    for node in body:
        match node:
            case ast.Assign([ast.Name(id="WORKFLOW")], ast.Constant(str(value))):
                last = node.end_lineno or node.lineno
                around = lines[node.lineno - 2 : node.lineno - 1] + lines[last : last + 1]
                if [line.strip() for line in around] == [BEGIN, END]:
                    return value.removeprefix("\n")
            case _:
                pass
    return None
