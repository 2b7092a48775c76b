"""Writes docs/tools.md from the server's own tool list; `make docs` calls it.

With `--check` it writes nothing, and its exit code is 1 if the file is stale.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcp import Client
from mcp.types import Tool

from bayesflow_server.app import Application
from bayesflow_server.interface.server import BayesFlowServer
from bayesflow_server.settings import read_settings

PAGE = Path(__file__).with_name("tools.md")
HEAD = """\
# Tools

Made from the code by `make docs`. Every result is structured and has an output schema; errors come
as one sentence that says what to do.
"""


async def list_tools() -> list[Tool]:
    """The tools as a client sees them."""
    async with Client(BayesFlowServer(Application(read_settings()))) as client:
        return (await client.list_tools()).tools


def render(tools: list[Tool]) -> str:
    """The page."""
    return "\n".join([HEAD, *(_tool(tool) for tool in tools)])


def _tool(tool: Tool) -> str:
    hints = tool.annotations
    kind = "reads only" if hints and hints.read_only_hint else "acts"
    lines = [f"## `{tool.name}`", "", f"*{tool.title}; {kind}.*", "", tool.description or "", ""]
    lines += _table("argument", tool.input_schema)
    lines += _table("result", tool.output_schema or {})
    return "\n".join(lines)


def _table(what: str, schema: Mapping[str, Any]) -> list[str]:
    fields: Mapping[str, Any] = schema.get("properties", {})
    if not fields:
        return []
    required = set(schema.get("required", ()))
    rows = [f"| {what} | type | |", "|---|---|---|"]
    for name, field in fields.items():
        note = field.get("description", "").replace("|", "\\|")
        if what == "argument" and name not in required:
            default = field.get("default")
            shown = "" if default is None else f" Default `{default}`."
            note = f"{note}{shown}" if note else shown.strip()
        else:
            name = f"**{name}**" if what == "argument" else name
        rows.append(f"| {name} | {_type(field, schema)} | {note} |")
    return [*rows, ""]


def _type(field: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return f"`{field['$ref'].rpartition('/')[2]}`"
    for key in ("anyOf", "oneOf"):
        if key in field:
            return " or ".join(dict.fromkeys(_type(one, schema) for one in field[key]))
    if "enum" in field:
        return " or ".join("null" if one is None else f"`{one}`" for one in field["enum"])
    if field.get("type") == "array":
        return f"list of {_type(field.get('items', {}), schema)}"
    kinds: str | list[str] = field.get("type", "any")
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def main() -> int:
    """Writes or checks the page."""
    page = render(asyncio.run(list_tools()))
    if "--check" in sys.argv:
        return 0 if PAGE.read_text(encoding="utf-8") == page else 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
