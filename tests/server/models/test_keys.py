"""A planted key is looked for wherever a failing call could leave it; real HTTP throughout."""

import asyncio
import logging
import subprocess
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import httpx2
import pytest

from bayesflow_server.errors import ServerError
from bayesflow_server.models.anthropic import dial_anthropic
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest
from bayesflow_server.models.connection import Connection
from bayesflow_server.models.endpoints import Api, Endpoint, parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from fakes.provider_wires import KEY, Received, anthropic_reply, openai_reply, raw, serve

APIS: tuple[Api, ...] = ("anthropic", "openai")
ASK = ChatRequest((ChatMessage("user", "Say hi"),), temperature=0.5)
Connect = Callable[..., ChatModel]


def json_error(status: int, said: str) -> bytes:
    """An error that repeats the key in its body and in a header of its own."""
    body = {"error": {"message": f"{said}: {KEY}", "type": f"x{KEY}", "param": KEY}, "key": KEY}
    return raw(httpx2.Response(status, json=body, headers={"x-you-sent": f"Bearer {KEY}"}))


def page(text: str, kind: str) -> bytes:
    headers = {"content-type": kind, "x-you-sent": KEY}
    return raw(httpx2.Response(200, text=text, headers=headers))


UNHAPPY = {
    **{
        f"status-{status}": json_error(status, "your key is")
        for status in (400, 401, 402, 403, 404, 413, 422, 429, 500, 529)
    },
    "temperature": json_error(400, "unsupported 'temperature' seed stop max_tokens"),
    "overflow": json_error(400, "prompt is too long"),
    "text": raw(httpx2.Response(400, text=KEY)),
    "list": raw(httpx2.Response(400, json=[KEY])),
    "redirect": raw(httpx2.Response(307, headers={"location": f"http://127.0.0.1:9/{KEY}"})),
    "page": page(f"<html>{KEY}</html>", "text/html"),
    "broken-json": page(f'{{"{KEY}', "application/json"),
    "other-json": page(f'{{"content": "{KEY}", "choices": "{KEY}"}}', "application/json"),
    "error-in-json": page(f'{{"error": {{"message": "{KEY}", "code": 400}}}}', "application/json"),
    "not-http": f"{KEY}\r\n\r\n".encode(),
    "not-gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    "cut": f"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{KEY}".encode(),
    "hangs-up": None,
    "hangs": b"",
}


def everything_of(error: BaseException | None, seen: set[int]) -> str:
    """The error with all that is chained to it, suppressed or not, and the frames' variables."""
    if error is None or id(error) in seen:
        return ""
    seen.add(id(error))
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    return shown + everything_of(error.__cause__, seen) + everything_of(error.__context__, seen)


@asynccontextmanager
async def answering(said: bytes | None) -> AsyncGenerator[str]:
    async def answer(_: Received) -> bytes | None:
        if said == b"":
            await asyncio.Event().wait()
        return said

    async with serve(answer) as server:
        yield server.url
        assert server.received[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", UNHAPPY)
async def test_the_key_is_in_no_error_no_log_and_no_answer(
    connect: Connect, api: Api, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("anthropic", "openai", "httpx2", "httpcore2", "aiohttp", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)
    async with answering(UNHAPPY[kind]) as url:
        model = connect(api, base_url=url, call_seconds=0.3)
        try:
            shown = repr(await model.complete(ASK))
        except ServerError as error:
            shown = everything_of(error, set())
    logged = "".join(repr(vars(record)) + record.getMessage() for record in caplog.records)
    assert "Request options" in logged or "HTTP Request" in logged  # the SDK did write its log
    for place in (shown, repr(model) + repr(vars(model)), logged, caplog.text):
        assert KEY not in place


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("stop", ["planted", "key", "0", "9"])
async def test_a_stop_text_leaves_no_part_of_a_key_that_a_model_repeats(
    connect: Connect, api: Api, stop: str
) -> None:
    reply = (anthropic_reply if api == "anthropic" else openai_reply)(f"You sent {KEY}.\n0")
    async with answering(raw(reply)) as url:
        asked = replace(ASK, stop=(f"\n{stop}", stop))
        completion = await connect(api, base_url=url).complete(asked)
    assert completion.text.startswith("You sent <")
    assert "sk-" not in completion.text


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [200, 400])
async def test_a_key_with_marks_is_known_however_it_is_written(
    connect: Connect, api: Api, status: int
) -> None:
    key = "sk/planted+key=0.1_2~3"
    shapes = [key, quote(key, safe=""), quote(key, safe="").lower(), key.replace("/", r"\/")]
    shapes.append(key.replace("+", r"\u002b").replace("=", r"\u003D"))
    said = " ".join(f"[{shape}]" for shape in shapes)

    async def answer(_: Received) -> bytes:
        if status == 400:
            return raw(httpx2.Response(400, text=said))
        return raw((anthropic_reply if api == "anthropic" else openai_reply)(said))

    endpoint = Endpoint("lab", api, key_variable="LAB_KEY")
    async with serve(answer) as server:
        model = connect(api, endpoint=endpoint, base_url=server.url, environment={"LAB_KEY": key})
        try:
            shown = (await model.complete(ASK)).text
        except ServerError as error:
            shown = str(error)
    assert shown.count("[<key>]") == len(shapes)
    assert "planted" not in shown


@pytest.mark.parametrize("api", APIS)
async def test_the_key_is_in_no_log_of_a_call_that_succeeds(
    connect: Connect, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = (anthropic_reply if api == "anthropic" else openai_reply)()
    async with answering(raw(reply)) as url:
        await connect(api, base_url=url).complete(ASK)
    assert caplog.records
    assert KEY not in caplog.text + "".join(repr(vars(record)) for record in caplog.records)


async def test_no_object_that_is_about_shows_the_key_when_printed() -> None:
    endpoints = parse_endpoints(["lab=http://localhost:1,key=LAB_KEY"])
    registry = ModelRegistry({"LAB_KEY": KEY}, endpoints=endpoints)
    model = registry.model("lab:m")
    connection = Connection(
        endpoints["lab"], dial_anthropic, environment={"LAB_KEY": KEY}, call_seconds=1.0
    )
    for thing in (endpoints, registry, model, connection, model.identity, registry.available()):
        assert KEY not in repr(thing) + str(thing)
    await registry.aclose()


_DEBUG = """
import asyncio, sys
sys.path[:0] = {paths!r}
from fakes.provider_wires import remote, serve, raw, openai_reply, anthropic_reply
from bayesflow_server.models.chat import ChatMessage, ChatRequest

async def main():
    async def answer(request):
        return raw((anthropic_reply if "messages" in request.path else openai_reply)())
    async with serve(answer) as server:
        for api in ("anthropic", "openai"):
            built = remote(api, base_url=server.url)
            await built.model.complete(ChatRequest((ChatMessage("user", "hi"),)))
            await built.aclose()

asyncio.run(main())
"""


def test_the_sdks_own_debug_logs_do_not_show_the_key() -> None:
    paths = [path for path in sys.path if path]
    done = subprocess.run(
        [sys.executable, "-c", _DEBUG.format(paths=paths)],
        env={"ANTHROPIC_LOG": "debug", "OPENAI_LOG": "debug"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Request options" in done.stderr
    assert KEY not in done.stderr + done.stdout
