"""Telling clients that a resource changed: who listens, and the one task that looks while any does.

Revision 2026-07-28 opens a stream (`subscriptions/listen`); the one before asks for one URI at a
time (`resources/subscribe`). Both are kept here as listeners. While there is any, one task looks at
the store every second and publishes what changed to the bus, which tells the streams and the
sessions. It starts with the first listener and stops with the last; the server waits for its end.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.server.session import ServerSession
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourceUpdated, ServerEvent
from mcp.shared.exceptions import MCPError
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionFilter,
    UnsubscribeRequestParams,
)

from bayesflow_server.errors import NotFoundError, ServerError
from bayesflow_server.interface.addresses import Address, is_ours, parse_address
from bayesflow_server.interface.backend import Backend
from bayesflow_server.interface.watch import LIST, Watch

__all__ = ["WATCHER", "UpdateBus", "Updates"]

_LOG = logging.getLogger(__name__)

# The watching task's name.
WATCHER: Final = "resource updates"
_SECONDS: Final = 1.0
# A session that does not read holds up the others no longer than this.
_SEND_SECONDS: Final = 5.0
# URIs looked at, over all listeners (a look at each takes a query or two); and URIs of a session.
_MOST_WATCHED: Final = 200
_LONGEST_URI: Final = 2000


@dataclass(slots=True)
class _Session:
    """A session of the older revision and what it subscribed to."""

    session: ServerSession
    uris: set[str] = field(default_factory=set[str])


class UpdateBus(InMemorySubscriptionBus):
    """The SDK's bus to the open streams, which also tells sessions of the older revision."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[int, _Session] = {}

    async def publish(self, event: ServerEvent) -> None:
        """Delivers the event to whoever asked for it."""
        await super().publish(event)
        if isinstance(event, ResourceUpdated):
            for one in [one for one in self.sessions.values() if event.uri in one.uris]:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SEND_SECONDS):
                        await one.session.send_resource_updated(event.uri)


class Updates:
    """Keeps the listeners and, while there are any, the watch."""

    def __init__(self, backend: Backend, bus: UpdateBus) -> None:
        """Starts nothing.

        Args:
            backend: Opened by the first listener.
            bus: Where changes are published.
        """
        self._backend = backend
        self._bus = bus
        # What each listener wants to hear of.
        self._wanted: dict[Hashable, frozenset[str]] = {}
        self._watch: Watch | None = None
        # Invariant: it runs while anything is wanted. The server awaits those that were stopped.
        self._task: asyncio.Task[None] | None = None
        self._stopped: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def heard(self, asked: SubscriptionFilter) -> AsyncGenerator[None]:
        """Watches what a stream asked for, until the block ends.

        URIs that are not ours, or name nothing, are no error: nothing is ever heard of them.

        Raises:
            MCPError: The store cannot be read, or too much is watched.
        """
        uris = {uri for uri in asked.resource_subscriptions or () if _watchable(uri)}
        if asked.resources_list_changed:
            uris.add(LIST)
        listener = object()
        try:
            await self._listen(listener, uris)
            yield
        finally:
            self._leave(listener)

    async def subscribe(
        self, context: ServerRequestContext[Any, Any], params: SubscribeRequestParams
    ) -> EmptyResult:
        """Subscribes a session of the older revision to one resource. Idempotent.

        Raises:
            MCPError: The URI names nothing, the store cannot be read, or too much is watched.
        """
        address = await self._known(params.uri)
        connection = _connection(context.session)
        number = id(connection)
        known = self._bus.sessions.get(number)
        if known is None:
            known = self._bus.sessions[number] = _Session(context.session)
            connection.exit_stack.callback(self._forget, number)
        if len(known.uris | {params.uri}) > _MOST_WATCHED:
            raise _too_many()
        if address is not None and address.subject != "workflow":
            await self._listen((number, params.uri), {params.uri})
        if number in self._bus.sessions:
            known.uris.add(params.uri)
        else:  # the session ended meanwhile
            self._leave((number, params.uri))
        return EmptyResult()

    async def unsubscribe(
        self, context: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams
    ) -> EmptyResult:
        """Ends a session's subscription; one that never was is no error."""
        number = id(_connection(context.session))
        known = self._bus.sessions.get(number)
        if known is not None:
            known.uris.discard(params.uri)
        self._leave((number, params.uri))
        return EmptyResult()

    async def settled(self) -> None:
        """Returns when every task that was stopped has ended."""
        if self._stopped:
            await asyncio.wait(self._stopped)

    async def _known(self, uri: str) -> Address | None:
        """What of ours the URI names; None for another's."""
        if len(uri) > _LONGEST_URI:
            raise MCPError(
                INVALID_PARAMS,
                f"A URI of {len(uri)} characters is not watched; the longest has {_LONGEST_URI}.",
            )
        if not is_ours(uri):
            return None
        try:
            address = parse_address(uri)
            service = await self._backend.runs()
            if address.subject == "workflow":
                await service.workflow(address.id)
            elif address.subject != "runs":
                await service.record(address.id)
        except (NotFoundError, ResourceNotFoundError) as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except ServerError as error:
            raise MCPError(INTERNAL_ERROR, str(error)) from error
        return address

    async def _listen(self, listener: Hashable, uris: Collection[str]) -> None:
        """Adds a listener; from then on no change of these is missed.

        Raises:
            MCPError: The store cannot be read, or too much is watched.
        """
        if not uris:
            return
        if len(self._all().union(uris)) > _MOST_WATCHED:
            raise _too_many()
        self._wanted[listener] = frozenset(uris)
        try:
            service = await self._backend.runs()
            watch = self._watch = self._watch or Watch(service)
            await watch.begin(uris)
        except BaseException as error:
            self._leave(listener)
            if isinstance(error, ServerError):
                raise MCPError(INTERNAL_ERROR, str(error)) from error
            raise
        if listener in self._wanted and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._look(watch), name=WATCHER)

    def _leave(self, listener: Hashable) -> None:
        self._wanted.pop(listener, None)
        if self._wanted:
            return
        self._watch = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._stopped.add(task)
            task.add_done_callback(self._stopped.discard)

    def _forget(self, number: int) -> None:
        """Ends all subscriptions of a session that is gone."""
        known = self._bus.sessions.pop(number, None)
        for uri in known.uris if known is not None else ():
            self._leave((number, uri))

    async def _look(self, watch: Watch) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                async for event in watch.changed(self._all()):
                    await self._bus.publish(event)
            except ServerError as error:  # the next look may find the disk well again
                _LOG.info("cannot look for changes: %s", error)

    def _all(self) -> frozenset[str]:
        return frozenset[str]().union(*self._wanted.values())


def _watchable(uri: str) -> bool:
    """Whether it is an address of ours whose text can change."""
    if not is_ours(uri):
        return False
    try:
        return parse_address(uri).subject != "workflow"
    except ResourceNotFoundError:
        return False


def _connection(session: ServerSession) -> Connection:
    """The connection of a session: what is per connection, and its end, are only there."""
    return session._connection  # pyright: ignore[reportPrivateUsage]


def _too_many() -> MCPError:
    return MCPError(
        INVALID_PARAMS,
        f"At most {_MOST_WATCHED} resources are watched at once; end a subscription first, or "
        "subscribe to bayesflow://runs, which tells of every run.",
    )
