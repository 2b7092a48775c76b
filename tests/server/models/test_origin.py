"""A key goes to its endpoint's origin and nowhere else; real HTTP on loopback ports."""

import asyncio
import contextlib
import os
from collections.abc import Callable

import httpx2
import pytest
from anthropic import AsyncAnthropic

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models.anthropic import dial_anthropic
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest
from bayesflow_server.models.connection import STAND_IN, Connection
from bayesflow_server.models.endpoints import Api, Endpoint
from fakes.provider_wires import (
    KEY,
    Received,
    Wire,
    anthropic_reply,
    openai_reply,
    raw,
    remote,
    serve,
)

APIS: tuple[Api, ...] = ("anthropic", "openai")
REPLIES = {"anthropic": anthropic_reply, "openai": openai_reply}
ASK = ChatRequest((ChatMessage("user", "Say hi"),))
SECRET = "another-secret-of-this-machine"
Connect = Callable[..., ChatModel]


async def hi(request: Received) -> bytes:
    return raw((anthropic_reply if "messages" in request.path else openai_reply)())


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirecting_endpoint_gets_nothing_and_is_to_be_corrected(
    connect: Connect, api: Api, status: int
) -> None:
    async with serve(hi) as elsewhere:

        async def away(_: Received) -> bytes:
            return raw(httpx2.Response(status, headers={"location": f"{elsewhere.url}/v1/{KEY}"}))

        async with serve(away) as endpoint:
            model = connect(api, base_url=endpoint.url)
            with pytest.raises(ProviderError, match="Set the endpoint to its final URL") as caught:
                await model.complete(ASK)
            assert len(endpoint.received) == 1
        assert elsewhere.received == []
    assert not caught.value.transient


@pytest.mark.parametrize("api", APIS)
async def test_the_endpoint_gets_its_own_key_whatever_the_environment_tells_the_sdk(
    connect: Connect, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(hi) as elsewhere, serve(hi) as endpoint:
        for name in ("ANTHROPIC", "OPENAI"):
            for part in ("API_KEY", "AUTH_TOKEN", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "PROFILE"):
                monkeypatch.setenv(f"{name}_{part}", SECRET)
            monkeypatch.setenv(f"{name}_BASE_URL", elsewhere.url)
            headers = f"Authorization: Bearer {SECRET}\nX-Api-Key: {SECRET}\nX-Own: {SECRET}"
            monkeypatch.setenv(f"{name}_CUSTOM_HEADERS", f"{headers}\nCookie: a={SECRET}")
        completion = await connect(api, base_url=endpoint.url).complete(ASK)
    assert completion.text == "hi"
    assert elsewhere.received == []
    (request,) = endpoint.received
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert SECRET not in repr(request)
    assert STAND_IN not in repr(request)


@pytest.mark.parametrize("api", APIS)
async def test_the_built_in_providers_keep_their_origin(
    connect: Connect, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://elsewhere.invalid")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.invalid")
    wire = Wire(REPLIES[api]())
    await connect(api, wire=wire).complete(ASK)
    assert wire.urls == [
        {
            "anthropic": "https://api.anthropic.com/v1/messages",
            "openai": "https://api.openai.com/v1/chat/completions",
        }[api]
    ]


@pytest.mark.parametrize("api", APIS)
async def test_an_endpoint_without_a_key_is_sent_none(
    connect: Connect, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    async with serve(hi) as server:
        endpoint = Endpoint("lab", api=api, base_url=server.url)
        await connect(api, endpoint=endpoint, environment=dict(os.environ)).complete(ASK)
    (request,) = server.received
    assert "authorization" not in request.headers
    assert "x-api-key" not in request.headers
    assert SECRET not in repr(request)
    assert STAND_IN not in repr(request)


@pytest.mark.parametrize("api", APIS)
async def test_an_endpoint_that_wants_a_key_nobody_gave_says_how_to_give_one(
    connect: Connect, api: Api
) -> None:
    async def locked(_: Received) -> bytes:
        return raw(httpx2.Response(401, json={"error": {"message": "no key"}}))

    async with serve(locked) as server:
        endpoint = Endpoint("lab", api=api, base_url=server.url)
        with pytest.raises(ModelUnavailableError, match="key=VARIABLE"):
            await connect(api, endpoint=endpoint, environment={}).complete(ASK)


PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


@pytest.mark.parametrize("api", APIS)
async def test_a_proxy_of_the_environment_is_told_the_host_of_an_https_endpoint_and_nothing_else(
    connect: Connect, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no(_: Received) -> bytes:
        return raw(httpx2.Response(503))

    async with serve(no) as proxy, serve(hi) as here:
        for name in PROXIES:
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        # Over plain http a proxy would read the key; to this machine none leads.
        for place in (here.url, "http://lab.invalid", "https://127.0.0.1:9", "https://[::1]:9"):
            model = connect(api, endpoint=Endpoint("lab", api, place, "ANTHROPIC_API_KEY"))
            with contextlib.suppress(ProviderError):
                await model.complete(ASK)
            assert proxy.received == []
        assert len(here.received) == 1
        model = connect(api, endpoint=Endpoint("lab", api, "https://lab.invalid", "OPENAI_API_KEY"))
        with pytest.raises(ProviderError, match="cannot be reached"):
            await model.complete(ASK)
        (asked,) = proxy.received
        assert asked.path == "lab.invalid:443"
        assert KEY not in repr(asked)


@pytest.mark.parametrize("api", APIS)
async def test_a_proxy_that_is_none_is_to_be_corrected(
    connect: Connect, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://host")
    model = connect(api, endpoint=Endpoint("lab", api, "https://lab.invalid"))
    with pytest.raises(ModelUnavailableError, match="HTTPS_PROXY"):
        await model.complete(ASK)


@pytest.mark.parametrize("api", APIS)
async def test_a_port_where_nobody_listens_is_told_at_once_and_as_what_it_is(
    connect: Connect, api: Api
) -> None:
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        await connect(api, base_url="http://127.0.0.1:9").complete(ASK)
    assert caught.value.transient


async def test_what_is_to_leave_for_another_origin_is_stopped() -> None:
    wire = Wire(anthropic_reply())
    endpoint = Endpoint("lab", api="anthropic", base_url="http://lab.invalid", key_variable="K")
    connection = Connection(
        endpoint, dial_anthropic, environment={"K": KEY}, http_client=wire.client()
    )

    async def astray(client: AsyncAnthropic) -> object:
        elsewhere = client.with_options(base_url="http://elsewhere.invalid")
        return await elsewhere.messages.create(
            model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]
        )

    with pytest.raises(ProviderError, match="was stopped") as caught:
        await connection.call("m", astray)
    assert not caught.value.transient
    assert wire.sent == []
    await connection.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_as_many_calls_are_in_flight_as_the_endpoint_bears(
    connect: Connect, api: Api
) -> None:
    calls = 150
    all_here = asyncio.Event()
    waiting = 0

    async def when_all_are_here(request: Received) -> bytes:
        nonlocal waiting
        waiting += 1
        if waiting == calls:
            all_here.set()
        await all_here.wait()
        return await hi(request)

    async with serve(when_all_are_here) as server:
        endpoint = Endpoint("lab", api=api, base_url=server.url, concurrency=calls)
        model = connect(api, endpoint=endpoint, environment={}, call_seconds=30.0)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(model.complete(ASK)) for _ in range(calls)]
    assert {task.result().text for task in tasks} == {"hi"}


@pytest.mark.parametrize("api", APIS)
async def test_a_connection_is_kept_for_the_next_call(connect: Connect, api: Api) -> None:
    opened: set[int] = set()

    async def note(request: Received) -> bytes:
        task = asyncio.current_task()
        opened.add(id(task))
        return await hi(request)

    async with serve(note) as server:
        model = connect(api, base_url=server.url)
        for _ in range(3):
            await model.complete(ASK)
        assert (len(server.received), len(opened)) == (3, 1)


@pytest.mark.parametrize("api", APIS)
async def test_a_closed_connection_opens_anew_for_the_next_call(api: Api) -> None:
    async with serve(hi) as server:
        built = remote(api, base_url=server.url)
        for _ in range(2):
            assert (await built.model.complete(ASK)).text == "hi"
            await built.aclose()
            await built.aclose()


@pytest.mark.parametrize("api", APIS)
async def test_a_server_that_hangs_is_given_up(connect: Connect, api: Api) -> None:
    async def never(_: Received) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with serve(never) as server:
        model = connect(api, base_url=server.url, call_seconds=0.05)
        with pytest.raises(ProviderError, match=r"within 0\.05 s") as caught:
            await model.complete(ASK)
        assert caught.value.transient


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    "said",
    [
        None,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}",
    ],
    ids=["hangs-up", "cut", "not-http", "not-gzip"],
)
async def test_a_broken_connection_is_a_transient_failure(
    connect: Connect, api: Api, said: bytes | None
) -> None:
    hung_up = asyncio.Event()

    async def broken(_: Received) -> bytes | None:
        if hung_up.is_set():
            return None
        hung_up.set()
        return said

    async with serve(broken) as server:
        model = connect(api, base_url=server.url, call_seconds=0.3)
        with pytest.raises(ProviderError) as caught:
            await model.complete(ASK)
    assert caught.value.transient


@pytest.mark.parametrize("api", APIS)
async def test_a_call_that_is_cancelled_ends_and_the_next_one_works(
    connect: Connect, api: Api
) -> None:
    came = asyncio.Event()

    async def first_never(request: Received) -> bytes:
        if not came.is_set():
            came.set()
            await asyncio.Event().wait()
        return await hi(request)

    async with serve(first_never) as server:
        model = connect(api, base_url=server.url)
        call = asyncio.create_task(model.complete(ASK))
        await came.wait()
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert (await model.complete(ASK)).text == "hi"
