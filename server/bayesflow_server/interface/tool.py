"""A tool whose errors are one sentence a model can act on, and whose results are compact.

The SDK's own tool prefixes every error with the tool's name, prints a validation dump for arguments
that break the schema, ignores arguments it does not know, and indents the JSON it repeats as text.
"""

import inspect
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

from bayesflow_server.errors import ServerError
from bayesflow_server.excerpt import excerpt
from bayesflow_server.interface.compact_schema import compact, compact_result
from bayesflow_server.interface.complaint import complaint
from bayesflow_server.interface.guidance import (
    advice_without,
    complaint_without,
    description_without,
)
from bayesflow_server.interface.result import blocks

if TYPE_CHECKING:
    from mcp.server.mcpserver import Context

__all__ = ["PlainTool", "make_tool"]

_LONGEST_ERROR: Final = 1000


class PlainTool(Tool):
    """The SDK's tool with plain errors and compact results.

    Attributes:
        absent: Names of tools that the server does not offer.
    """

    absent: frozenset[str] = Field(default=frozenset(), exclude=True)

    def narrow(self, absent: frozenset[str]) -> None:
        """From now on advises none of these tools."""
        self.absent = absent
        self.description = description_without(self.description, absent)

    async def run(
        self,
        arguments: dict[str, Any],
        context: "Context[Any, Any]",
        convert_result: bool = False,
    ) -> Any:
        """Runs the tool.

        Raises:
            ToolError: The caller's mistake or the application's refusal, in one sentence.
            UnexpectedToolError: A defect of the server; its own text stays on the server.
        """
        self._refuse_unknown(arguments)
        try:
            result = await super().run(arguments, context, convert_result)
        except ToolError as error:
            raise self._plain(error) from error.__cause__
        if not isinstance(result, CallToolResult):
            return result
        told = result.structured_content
        if self.absent and told is not None and isinstance(told.get("next"), str):
            told["next"] = advice_without(told["next"], self.absent)
        return blocks(result)

    def _refuse_unknown(self, arguments: dict[str, Any]) -> None:
        known: list[str] = list(self.parameters.get("properties", {}))
        for name in arguments:
            if name not in known:
                hint = get_close_matches(name, known, n=1)
                meant = f"; did you mean `{hint[0]}`?" if hint else ""
                raise _refusal(
                    f"{self.name} has no argument `{excerpt(name, 60)}`{meant or '.'} "
                    f"It takes {', '.join(known)}."
                )

    def _plain(self, error: ToolError) -> ToolError:
        cause = error.__cause__
        if isinstance(cause, ValidationError) and not isinstance(error, UnexpectedToolError):
            return _refusal(complaint(self.name, self.fn_metadata.arg_model, cause))
        if isinstance(cause, ServerError | ToolError):
            sentence = excerpt(str(cause), _LONGEST_ERROR)
            return _refusal(complaint_without(sentence, self.absent))
        return UnexpectedToolError(
            f"{self.name} failed inside the server, which is a defect of bayesflow-mcp; the log "
            "on its stderr tells more. What was found so far is kept."
        )


def _refusal(sentence: str) -> ToolError:
    """The sentence on one line, whatever line feeds the words of others in it have."""
    return ToolError(" ".join(sentence.split("\n")))


def make_tool(
    function: Callable[..., Awaitable[BaseModel]], title: str, annotations: ToolAnnotations
) -> Tool:
    """A tool from an async function; its docstring is the description."""
    tool = PlainTool.from_function(
        function,
        title=title,
        description=inspect.getdoc(function),
        annotations=annotations,
        structured_output=True,
    )
    tool.parameters = compact(tool.parameters) | {"additionalProperties": False}
    metadata = tool.fn_metadata
    assert metadata.output_schema is not None
    metadata.output_schema = compact_result(metadata.output_schema)
    return tool
