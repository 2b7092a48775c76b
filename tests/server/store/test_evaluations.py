import pytest

from bayesflow_server.errors import NotFoundError, StoreError
from bayesflow_server.store import Store
from bayesflow_server.store.records import NewEvaluation, RowRecord, WorkflowRecord

NEW = NewEvaluation("e", "w", '{"split": "test"}')
ROWS = [RowRecord("test", 0, "a", '"q"', '"a"')]


async def test_an_evaluation_is_stored_with_its_rows_and_updated_in_part(store: Store) -> None:
    await store.put_workflow(WorkflowRecord("w", "", "[]"))
    await store.create_evaluation(NEW, ROWS)
    assert await store.rows("e") == ROWS
    await store.update_evaluation("e", status="running")
    await store.update_evaluation("e", report='{"mean": 1}')
    evaluation = await store.evaluation("e")
    assert evaluation is not None
    assert (evaluation.workflow_id, evaluation.request) == ("w", '{"split": "test"}')
    assert (evaluation.status, evaluation.reason, evaluation.report) == (
        "running",
        None,
        '{"mean": 1}',
    )
    assert evaluation.updated >= evaluation.created > 0


async def test_an_evaluation_of_an_unknown_workflow_stores_nothing(store: Store) -> None:
    with pytest.raises(StoreError, match="does not hold"):
        await store.create_evaluation(NEW, ROWS)
    assert await store.evaluation("e") is None
    assert await store.rows("e") == []


async def test_an_unknown_evaluation_is_named_with_what_to_do(store: Store) -> None:
    with pytest.raises(NotFoundError, match=r"'nope'.*evaluate_workflow"):
        await store.update_evaluation("nope", status="failed")
