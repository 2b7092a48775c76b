"""What an answer advises, read as calls."""

import ast
import re
from typing import NamedTuple

from bayesflow_server.interface.toolset import TOOL_NAMES
from fakes.mcp_sessions import Arguments

__all__ = ["AdvisedCall", "advised_calls", "named_tools"]

_NAME = re.compile(rf"\b(?:{'|'.join(TOOL_NAMES)})\b")
_CALL = re.compile(rf"\b(?:{'|'.join(TOOL_NAMES)})\([^()]*\)")


class AdvisedCall(NamedTuple):
    """A call with all its arguments."""

    tool: str
    arguments: Arguments


def named_tools(advice: str) -> set[str]:
    """The tools that the advice names."""
    return set(_NAME.findall(advice))


def advised_calls(advice: str) -> list[AdvisedCall]:
    """The calls that can be made as they are written: none of their arguments is left open."""
    calls: list[AdvisedCall] = []
    for text in _CALL.findall(advice):
        if "…" in text:
            continue
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call), text
        assert isinstance(call.func, ast.Name), text
        assert not call.args, text
        given = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
        calls.append(AdvisedCall(call.func.id, given))
    return calls
