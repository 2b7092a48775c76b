import asyncio
import dataclasses

from bayesflow_server.store import Store
from bayesflow_server.store.records import ExecutionRecord

EXECUTION = ExecutionRecord(
    scope="run",
    workflow_id="w",
    split="validation",
    position=0,
    row_id="a",
    answer="42",
    score=1.0,
    calls=3,
    cached_calls=1,
    input_tokens=100,
    output_tokens=10,
    cost_usd=0.001,
    seconds=0.5,
)


async def test_the_first_execution_of_a_row_stands(store: Store) -> None:
    await store.record_execution(EXECUTION)
    await store.record_execution(dataclasses.replace(EXECUTION, score=0.0, answer="41"))
    assert await store.executions("run", "w", "validation") == [EXECUTION]


async def test_executions_are_found_by_scope_workflow_split_and_replicate(store: Store) -> None:
    failed = dataclasses.replace(
        EXECUTION, position=1, answer=None, score=0.0, error='{"type": "x"}', cost_usd=None
    )
    others = [
        dataclasses.replace(EXECUTION, split="test"),
        dataclasses.replace(EXECUTION, replicate=1),
        dataclasses.replace(EXECUTION, workflow_id="w2"),
    ]
    for record in (failed, EXECUTION, *others, dataclasses.replace(EXECUTION, scope="evaluation")):
        await store.record_execution(record)
    assert await store.executions("run", "w", "validation") == [EXECUTION, failed]
    assert await store.executions("run", "w", "validation", 1) == [others[1]]
    assert await store.all_executions("run") == [failed, EXECUTION, *others]


async def test_executions_come_in_pages_that_leave_out_none_and_repeat_none(store: Store) -> None:
    made = [
        dataclasses.replace(
            EXECUTION, workflow_id=f"w{number % 3}", position=number // 3, replicate=replicate
        )
        for number in range(1203)
        for replicate in (0, 1)
    ]
    await asyncio.gather(*(store.record_execution(record) for record in made))
    await store.record_execution(dataclasses.replace(EXECUTION, scope="evaluation"))
    pages = [page async for page in store.pages_of_executions("run", 1)]
    assert [len(page) for page in pages] == [500, 500, 203]
    found = [record for page in pages for record in page]
    assert len(set(found)) == len(found)
    assert set(found) == {record for record in made if record.replicate == 1}
    assert [page async for page in store.pages_of_executions("nobody")] == []
