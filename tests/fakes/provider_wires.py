"""The providers' HTTP answers, what records what was sent, and models over it.

`Wire` stands in for the network; `HttpServer` is a real server on a loopback port.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import httpx2

from bayesflow_server.models.anthropic import AnthropicModel, dial_anthropic
from bayesflow_server.models.connection import Connection
from bayesflow_server.models.endpoints import BUILT_IN_ENDPOINTS, Api, Endpoint
from bayesflow_server.models.openai import OpenAIModel, dial_openai

__all__ = [
    "KEY",
    "HttpServer",
    "JsonObject",
    "Received",
    "Remote",
    "Wire",
    "anthropic_error",
    "anthropic_reply",
    "openai_error",
    "openai_reply",
    "raw",
    "remote",
    "serve",
]

JsonObject = dict[str, object]
KEY = "sk-planted-key-0123456789"


@dataclass(frozen=True, slots=True)
class Remote:
    """A model and the connection that its owner closes."""

    model: AnthropicModel | OpenAIModel
    aclose: Callable[[], Awaitable[None]]


def remote(
    api: Api,
    *,
    wire: "Wire | None" = None,
    endpoint: Endpoint | None = None,
    base_url: str | None = None,
    environment: dict[str, str] | None = None,
    call_seconds: float = 120.0,
) -> Remote:
    """The model `m-1` at the built-in endpoint, or at another, over a `Wire` or the network."""
    place = endpoint or BUILT_IN_ENDPOINTS[api]
    if base_url is not None:
        place = replace(place, base_url=base_url)
    keys = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    keys = keys if environment is None else environment
    http = None if wire is None else wire.client()
    if api == "anthropic":
        claude = Connection(
            place, dial_anthropic, environment=keys, http_client=http, call_seconds=call_seconds
        )
        return Remote(AnthropicModel("m-1", claude), claude.aclose)
    chat = Connection(
        place, dial_openai, environment=keys, http_client=http, call_seconds=call_seconds
    )
    return Remote(OpenAIModel("m-1", chat), chat.aclose)


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came over the wire, header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Received], Awaitable[bytes | None]]


@dataclass(slots=True)
class HttpServer:
    """A server on a loopback port that keeps what it is sent."""

    url: str
    received: list[Received] = field(default_factory=list[Received])


def raw(response: httpx2.Response) -> bytes:
    """The response as bytes on the wire."""
    lines = [f"HTTP/1.1 {response.status_code} Said"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    if "content-length" not in response.headers:
        lines.append(f"content-length: {len(response.content)}")
    return "\r\n".join([*lines, "", ""]).encode() + response.content


@asynccontextmanager
async def serve(answer: Answer) -> AsyncGenerator[HttpServer]:
    """Answers each request with bytes; None hangs up without a word."""
    tasks: set[asyncio.Task[None]] = set()
    record = HttpServer("")

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while request := await _read_request(reader):
                record.received.append(request)
                said = await answer(request)
                if said is None:
                    return
                writer.write(said)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(talk(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    record.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield record
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Received | None:
    first = await reader.readline()
    if not first:
        return None
    headers: dict[str, str] = {}
    while line := (await reader.readline()).decode().strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Received(first.decode().split(" ")[1], headers, body)


class Wire:
    """Answers each request with the next of the given responses; the last one repeats."""

    def __init__(self, *responses: httpx2.Response | type[httpx2.TransportError]) -> None:
        self.sent: list[JsonObject] = []
        self.urls: list[str] = []
        self.headers: list[dict[str, str]] = []
        self._responses = list(responses)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(cast(JsonObject, json.loads(request.content)))
        self.urls.append(str(request.url))
        self.headers.append(dict(request.headers))
        more = len(self._responses) > 1
        response = self._responses.pop(0) if more else self._responses[0]
        if isinstance(response, httpx2.Response):
            return response
        raise response("no network")


def anthropic_reply(text: str = "hi", stop_reason: str = "end_turn") -> httpx2.Response:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 100,
        "output_tokens": 7,
    }
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }
    return httpx2.Response(200, json=body)


def openai_reply(
    text: str | None = "hi",
    finish_reason: str = "stop",
    refusal: str | None = None,
    *,
    more: tuple[str, ...] = (),
) -> httpx2.Response:
    """One answer, and `more` of them as a call with `n` gets."""
    messages: list[JsonObject] = [{"role": "assistant", "content": text, "refusal": refusal}]
    messages.extend({"role": "assistant", "content": other} for other in more)
    usage = {
        "prompt_tokens": 123,
        "completion_tokens": 7,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 20},
    }
    choices = [
        {"index": index, "finish_reason": finish_reason, "message": message, "logprobs": None}
        for index, message in enumerate(messages)
    ]
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": choices,
        "usage": usage,
    }
    return httpx2.Response(200, json=body)


def anthropic_error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> httpx2.Response:
    body = {"type": "error", "error": {"type": "some_error", "message": message}}
    return httpx2.Response(status, json=body, headers=headers)


def openai_error(
    status: int,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    param: str | None = None,
    code: str | None = None,
) -> httpx2.Response:
    error = {"message": message, "type": "some_error", "param": param, "code": code}
    return httpx2.Response(status, json={"error": error}, headers=headers)
