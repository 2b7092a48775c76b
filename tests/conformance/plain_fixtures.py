"""What the conformance suite calls that only answers: tools, resources, prompts, completions.

Names, arguments and texts are the suite's; it finds them by these.
"""

import base64
import json
import struct
import zlib
from typing import Annotated, Final, TypeAlias

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    AudioContent,
    Completion,
    CompletionArgument,
    CompletionContext,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    PromptReference,
    ResourceTemplateReference,
    TextContent,
    TextResourceContents,
)
from pydantic import Field, JsonValue

__all__ = ["complete", "register_plain"]

AnyContext: TypeAlias = Context[object, object]

_PAUSE: Final = 0.05  # between two notifications, as the suite asks

# The schema that the suite looks for, word by word, in the tool list.
_RICH_SCHEMA: Final[dict[str, JsonValue]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def _pixel() -> bytes:
    """A red picture of one pixel, as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0\xff\0\0")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


def _silence() -> bytes:
    """Eight samples of silence, as WAV."""
    form = struct.pack("<HHIIHH", 1, 1, 8000, 8000, 1, 8)
    data = b"\x80" * 8
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    body += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _picture() -> ImageContent:
    return ImageContent(data=base64.b64encode(_pixel()).decode(), mime_type="image/png")


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, text=text, mime_type=mime_type))


def register_plain(server: MCPServer[object]) -> None:
    """Registers all of them on a server."""
    _register_contents(server)
    _register_notifying(server)
    _register_schemas(server)
    _register_resources(server)
    _register_prompts(server)


def _register_contents(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def test_simple_text() -> str:
        """Answers with a text."""
        return "This is a simple text response for testing."

    @server.tool(structured_output=False)
    async def test_image_content() -> list[ContentBlock]:
        """Answers with a picture."""
        return [_picture()]

    @server.tool(structured_output=False)
    async def test_audio_content() -> list[ContentBlock]:
        """Answers with a sound."""
        sound = base64.b64encode(_silence()).decode()
        return [AudioContent(data=sound, mime_type="audio/wav")]

    @server.tool(structured_output=False)
    async def test_embedded_resource() -> list[ContentBlock]:
        """Answers with a resource's content."""
        return [_embedded("test://embedded-resource", "This is an embedded resource content.")]

    @server.tool(structured_output=False)
    async def test_multiple_content_types() -> list[ContentBlock]:
        """Answers with a text, a picture and a resource's content."""
        data = json.dumps({"test": "data", "value": 123})
        return [
            TextContent(text="Multiple content types test:"),
            _picture(),
            _embedded("test://mixed-content-resource", data, "application/json"),
        ]

    @server.tool(structured_output=False)
    async def test_error_handling() -> str:
        """Fails."""
        raise ToolError("This tool intentionally returns an error for testing")


def _register_notifying(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def test_tool_with_logging(ctx: AnyContext) -> str:
        """Logs three times."""
        for message in ("execution started", "processing data", "execution completed"):
            await ctx.info(f"Tool {message}")  # pyright: ignore[reportDeprecated]
            await anyio.sleep(_PAUSE)
        return "Logged three messages."

    @server.tool(structured_output=False)
    async def test_logging_tool(ctx: AnyContext) -> str:
        """Logs once, which a request that named no level must not hear."""
        await ctx.info("A message")  # pyright: ignore[reportDeprecated]
        return "Logged one message."

    @server.tool(structured_output=False)
    async def test_tool_with_progress(ctx: AnyContext) -> str:
        """Reports progress three times."""
        for progress in (0, 50, 100):
            await ctx.report_progress(progress, 100)
            await anyio.sleep(_PAUSE)
        return "Reported progress three times."

    @server.tool(structured_output=False)
    async def test_reconnection(ctx: AnyContext) -> str:
        """Closes the stream of its own call; the answer waits for who comes back."""
        await ctx.close_sse_stream()
        await anyio.sleep(2 * _PAUSE)
        return "Answered after the stream was closed."

    @server.tool(structured_output=False)
    async def test_trigger_tool_change(ctx: AnyContext) -> str:
        """Says that the tools have changed."""
        await ctx.notify_tools_changed()
        return "Told who listens."

    @server.tool(structured_output=False)
    async def test_trigger_prompt_change(ctx: AnyContext) -> str:
        """Says that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "Told who listens."


def _register_schemas(server: MCPServer[object]) -> None:
    @server.tool(structured_output=False)
    async def test_header_echo(
        text: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Text"})],
    ) -> str:
        """Takes an argument that a header repeats."""
        return text

    @server.tool(structured_output=False)
    async def json_schema_2020_12_tool() -> str:
        """Tool with JSON Schema 2020-12 features."""
        return "Its schema is what matters."

    rich = server._tool_manager.get_tool("json_schema_2020_12_tool")  # pyright: ignore[reportPrivateUsage]
    assert rich is not None
    rich.parameters = dict(_RICH_SCHEMA)


def _register_resources(server: MCPServer[object]) -> None:
    @server.resource("test://static-text", mime_type="text/plain")
    async def static_text() -> str:
        """A text."""
        return "This is the content of the static text resource."

    @server.resource("test://static-binary", mime_type="image/png")
    async def static_binary() -> bytes:
        """A picture."""
        return _pixel()

    @server.resource("test://watched-resource", mime_type="text/plain")
    async def watched_resource() -> str:
        """A text one can subscribe to."""
        return "Watched resource content."

    @server.resource("test://template/{id}/data", mime_type="application/json")
    async def template_data(id: str) -> str:
        """Data for any id."""
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _register_prompts(server: MCPServer[object]) -> None:
    @server.prompt()
    async def test_simple_prompt() -> str:
        """A prompt without arguments."""
        return "This is a simple prompt for testing."

    @server.prompt()
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        """A prompt with two arguments."""
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.prompt()
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        """A prompt that carries a resource."""
        return [
            UserMessage(_embedded(resourceUri, "Embedded resource content for testing.")),
            UserMessage("Please process the embedded resource above."),
        ]

    @server.prompt()
    async def test_prompt_with_image() -> list[UserMessage]:
        """A prompt that carries a picture."""
        return [UserMessage(_picture()), UserMessage("Please analyze the image above.")]


async def complete(
    ref: PromptReference | ResourceTemplateReference,
    argument: CompletionArgument,
    context: CompletionContext | None,
) -> Completion | None:
    """Completes one argument of one prompt."""
    if isinstance(ref, PromptReference) and ref.name == "test_prompt_with_arguments":
        known = ("test", "testing", "tested")
        return Completion(values=[word for word in known if word.startswith(argument.value)])
    return None
