"""A watch says what changed since its last look, once, and loses nothing to a look that fails."""

from collections.abc import Collection

import pytest
from mcp.server.subscriptions import ResourcesListChanged, ResourceUpdated, ServerEvent

from bayesflow_server.app import Application
from bayesflow_server.errors import StoreError
from bayesflow_server.interface.uris import RUNS, events_uri, run_uri
from bayesflow_server.interface.watch import LIST, Watch
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import NewRun
from bayesflow_server.store.store import Store

RUN, EVENTS = run_uri("run_a"), events_uri("run_a")


@pytest.fixture
async def service(application: Application) -> RunService:
    service = await application.runs()
    await service.workplace.store.create_run(NewRun("run_a", '{"executor": "x"}', "a"), [])
    return service


async def changed(watch: Watch, *uris: str) -> list[ServerEvent]:
    return [event async for event in watch.changed(uris)]


def uris(events: Collection[ServerEvent]) -> list[str]:
    return [event.uri for event in events if isinstance(event, ResourceUpdated)]


async def test_a_change_is_told_once(service: RunService) -> None:
    watch = Watch(service)
    await watch.begin([RUN, EVENTS, RUNS, LIST])
    assert await changed(watch, RUN, EVENTS, RUNS, LIST) == []
    await service.workplace.store.update_run("run_a", status="failed")
    assert uris(await changed(watch, RUN, EVENTS, RUNS, LIST)) == [RUN, EVENTS, RUNS]
    assert await changed(watch, RUN, EVENTS, RUNS, LIST) == []
    await service.workplace.store.create_run(NewRun("run_b", '{"executor": "x"}', "b"), [])
    assert await changed(watch, RUNS, LIST) == [ResourceUpdated(RUNS), ResourcesListChanged()]
    assert await changed(Watch(service), RUN, RUNS) == []  # what was never seen has not changed


async def test_who_begins_later_takes_no_change_from_who_listens_already(
    service: RunService,
) -> None:
    watch = Watch(service)
    await watch.begin([RUN])
    await service.workplace.store.update_run("run_a", status="failed")
    await watch.begin([RUN, EVENTS])
    assert uris(await changed(watch, RUN, EVENTS)) == [RUN]


async def test_who_begins_during_a_look_misses_no_change(service: RunService) -> None:
    class Interrupted(Watch):
        """While it notes how the story stands, another look goes all the way."""

        async def _mark(self, uri: str) -> tuple[object, ...] | None:
            mark = await super()._mark(uri)
            if uri == EVENTS and RUN in self._marks:
                await changed(self, RUN)
            return mark

    watch = Interrupted(service)
    await watch.begin([RUN])
    await watch.begin([EVENTS])
    await service.workplace.store.update_run("run_a", status="failed")
    assert uris(await changed(watch, EVENTS)) == [EVENTS]


async def test_what_nobody_wants_any_more_is_forgotten(service: RunService) -> None:
    watch = Watch(service)
    await watch.begin([RUN, EVENTS])
    await changed(watch, EVENTS)
    await service.workplace.store.update_run("run_a", status="failed")
    await watch.begin([RUN])
    assert uris(await changed(watch, RUN, EVENTS)) == [EVENTS]


async def test_a_look_that_fails_loses_nothing(
    service: RunService, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch(service)
    await watch.begin([RUN, EVENTS])
    await service.workplace.store.update_run("run_a", status="failed")

    async def fails(store: Store, run_id: str) -> int:
        raise StoreError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "last_event", fails)
        look = watch.changed([RUN, EVENTS])
        assert await anext(look) == ResourceUpdated(RUN)
        with pytest.raises(StoreError):
            await anext(look)
    assert uris(await changed(watch, RUN, EVENTS)) == [EVENTS]
