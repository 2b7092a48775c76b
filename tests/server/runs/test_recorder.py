from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bayesflow_sampler.types import DrawKey
from bayesflow_server.runs.recorder import Recorder, workflow_record
from bayesflow_server.store.records import NewRun
from bayesflow_server.store.store import Store
from fakes.tasks import workflow


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[Store, None]:
    async with await Store.open(path) as store:
        await store.create_run(NewRun(run_id="run", request="{}", request_hash="h"), [])
        yield store


async def test_a_later_sitting_recalls_what_was_drawn(store: Store) -> None:
    key = DrawKey("extend", 2, 3)
    await Recorder(store, "run").record(key, "a draw")
    later = Recorder(store, "run")
    assert await later.recall(key) is None
    await later.load()
    assert await later.recall(key) == "a draw"
    assert await later.recall(DrawKey("extend", 2, 4)) is None


def test_a_workflow_is_kept_under_its_content() -> None:
    one = workflow("return problem, 0.0")
    record = workflow_record(one)
    assert (record.workflow_id, record.source, record.steps) == (
        one.workflow_id,
        one.source,
        '["Only"]',
    )
