"""A tool's result as blocks: its JSON as text, and a link to what it shows a part of.

Every `uri` at the top of a result becomes a link. In the text no character is invisible, so that a
model reads what a person would not see; read as JSON it is the result itself.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from mcp.types import CallToolResult, ContentBlock, ResourceLink, TextContent

from bayesflow_server.excerpt import INVISIBLE
from bayesflow_server.interface.uris import RUNS

__all__ = ["blocks", "json_text"]


def json_text(value: object) -> str:
    """The value as compact JSON, invisible characters escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return INVISIBLE.sub(_escaped, text)


def blocks(result: CallToolResult) -> CallToolResult:
    """The result with its structured content as text, its own pictures, and its links."""
    structured = result.structured_content
    if structured is None:
        return result
    pictures = [block for block in result.content if not isinstance(block, TextContent)]
    content: list[ContentBlock] = [TextContent(text=json_text(structured)), *pictures]
    return result.model_copy(update={"content": [*content, *_links(structured)]})


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]


def _links(structured: Mapping[str, Any]) -> list[ContentBlock]:
    uri = structured.get("uri")
    if not isinstance(uri, str):
        return []
    python = not uri.startswith(RUNS)
    return [
        ResourceLink(
            uri=uri,
            name=uri.partition("://")[2],
            mime_type="text/x-python" if python else "application/json",
        )
    ]
