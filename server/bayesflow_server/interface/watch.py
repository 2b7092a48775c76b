"""What changed since the last look at the resources that somebody listens to.

Each has a mark, a small value that differs whenever the resource's text does. Marks come from the
store, so changes by other processes count like our own; a run whose process died has no commit, but
another status.
"""

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Final, TypeAlias

from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from bayesflow_server.interface.addresses import parse_address

if TYPE_CHECKING:
    from bayesflow_server.runs.service import RunService

__all__ = ["LIST", "Watch"]

Mark: TypeAlias = tuple[object, ...] | None

# Stands among the URIs for the list of resources.
LIST: Final = ""


class Watch:
    """Remembers how things stood and says what changed."""

    def __init__(self, service: "RunService") -> None:
        """Looks at nothing yet.

        Args:
            service: Where to look. It is never opened again, however long the watch lasts.
        """
        self._service = service
        self._marks: dict[str, Mark] = {}

    async def begin(self, uris: Collection[str]) -> None:
        """Notes how these stand now, so that every later change is seen.

        Raises:
            StoreError: The store cannot be read.
        """
        for uri in uris:
            if uri not in self._marks:
                mark = await self._mark(uri)
                # Not in place of what a look noted in between: that would lose a change. Nor into
                # the marks as they were before, which that look may have replaced.
                self._marks.setdefault(uri, mark)

    async def changed(self, uris: Collection[str]) -> AsyncIterator[ServerEvent]:
        """What happened to these since they were last looked at; forgets all others.

        Raises:
            StoreError: The store cannot be read; what was not looked at is told next time.
        """
        self._marks = {uri: mark for uri, mark in self._marks.items() if uri in uris}
        for uri in uris:
            new = await self._mark(uri)
            known, old = uri in self._marks, self._marks.get(uri)
            self._marks[uri] = new
            if known and new != old:
                yield ResourcesListChanged() if uri == LIST else ResourceUpdated(uri)

    async def _mark(self, uri: str) -> Mark:
        # Imported here: they build schemas, and this module is loaded when the server starts.
        from bayesflow_server.interface.resources import MOST_LISTED, MOST_RUNS

        service = self._service
        if uri == LIST:
            return tuple(record.run_id for record in await service.newest(MOST_LISTED))
        address = parse_address(uri)
        match address.subject:
            case "runs":
                records = await service.newest(MOST_RUNS)
                return tuple((one.run_id, service.status(one), one.outcome) for one in records)
            case "run":
                record = await service.workplace.store.run(address.id)
                return None if record is None else (record.revision, service.status(record))
            case "pool":
                return await service.workplace.store.pool_mark(address.id)
            case "events":
                return (await service.workplace.store.last_event(address.id),)
            case "workflow":
                return None
