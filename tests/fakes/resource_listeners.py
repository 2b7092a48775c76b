"""A client that hears of changed resources, on either protocol revision."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from mcp import Client, StdioServerParameters
from mcp.client.subscriptions import ResourceUpdated, Subscription
from mcp.types import (
    EmptyResult,
    ResourceUpdatedNotification,
    SubscribeRequest,
    SubscribeRequestParams,
    UnsubscribeRequest,
    UnsubscribeRequestParams,
)

from bayesflow_server.interface.server import BayesFlowServer

__all__ = ["LIST_CHANGED", "Listener", "ask", "listener", "subscribe", "unsubscribe"]

# What a listener hears when the list of resources changed.
LIST_CHANGED = "list changed"


class Listener:
    """What was heard so far.

    Attributes:
        client: Connected.
        heard: URIs in the order they came.
    """

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: list[str] = []
        self._more = asyncio.Event()

    def add(self, uri: str) -> None:
        """Notes one."""
        self.heard.append(uri)
        self._more.set()

    async def until(self, *uris: str) -> list[str]:
        """Waits until each was heard; returns all that was, and forgets it."""
        async with asyncio.timeout(60):
            while not set(uris) <= set(self.heard):
                self._more.clear()
                await self._more.wait()
        heard, self.heard = self.heard, []
        return heard


@asynccontextmanager
async def listener(
    server: BayesFlowServer | StdioServerParameters,
    wire: str,
    uris: Sequence[str],
    *,
    lists: bool = False,
) -> AsyncGenerator[Listener]:
    """A connected client that hears of these, in the way of its revision.

    Args:
        server: Whose resources.
        wire: The client's mode.
        uris: What it subscribes to.
        lists: Whether it asks for changes of the list; only the newer revision can.
    """

    async def notified(message: object) -> None:
        # What a stream brings comes here, too.
        if wire == "legacy" and isinstance(message, ResourceUpdatedNotification):
            found.add(message.params.uri)

    client = Client(server, mode=wire, message_handler=notified)
    found = Listener(client)
    async with client, AsyncExitStack() as stack:
        if wire == "legacy":
            for uri in uris:
                await subscribe(client, uri)
            yield found
            return
        stream = await stack.enter_async_context(
            client.listen(resource_subscriptions=uris, resources_list_changed=lists)
        )
        reading = asyncio.create_task(_read(stream, found))
        try:
            yield found
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def ask(client: Client, wire: str, uris: Sequence[str]) -> None:
    """Asks to hear of these, and no more."""
    if wire == "legacy":
        for uri in uris:
            await subscribe(client, uri)
    else:
        async with client.listen(resource_subscriptions=uris):
            pass


async def subscribe(client: Client, uri: str) -> None:
    """Subscribes to one resource, as the older revision does."""
    request = SubscribeRequest(params=SubscribeRequestParams(uri=uri))
    await client.session.send_request(request, EmptyResult)


async def unsubscribe(client: Client, uri: str) -> None:
    """Ends such a subscription."""
    request = UnsubscribeRequest(params=UnsubscribeRequestParams(uri=uri))
    await client.session.send_request(request, EmptyResult)


async def _read(stream: Subscription, found: Listener) -> None:
    async for event in stream:
        found.add(event.uri if isinstance(event, ResourceUpdated) else LIST_CHANGED)
