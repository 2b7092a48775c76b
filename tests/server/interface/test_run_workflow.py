"""What run_workflow takes and tells, over the real application with the scripted model."""

import json
from pathlib import Path

import jsonschema
from mcp import Client
from pydantic import JsonValue

from bayesflow_server.app import Application
from bayesflow_server.interface.answer import answered
from bayesflow_server.runs.answering import AnswerReport, VoteReport
from bayesflow_server.store.records import EvaluationRecord
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    call,
    refusal,
    settled,
    task_arguments,
    write_script,
)

QUESTION = "What is 4 plus 5?"
BROKEN = WORKFLOW.replace("return answers[0]", "return answers[0] // 0")


async def answer(client: Client, arguments: Arguments) -> Object:
    found = await call(client, "run_workflow", {"wait_seconds": 45} | arguments)
    assert found["status"] == "finished", found
    return found


def votes(found: Object) -> list[dict[str, JsonValue]]:
    cast = found["votes"]
    assert isinstance(cast, list)
    return [vote for vote in cast if isinstance(vote, dict)]


async def stored(client: Client, source: str, rows: Path) -> str:
    """The id of a workflow that an evaluation has put into the store."""
    asked: Arguments = {"workflow": source, "examples": str(rows), "executor": "scripted:default"}
    found = await call(client, "evaluate_workflow", asked | {"wait_seconds": 45})
    return str(found["workflow_id"])


async def test_a_runs_winner_answers_a_new_input(client: Client, finished: str) -> None:
    best = await call(client, "get_best_workflow", {"run_id": finished})
    found = await answer(client, {"input": QUESTION, "run_id": finished})
    [vote] = votes(found)
    assert vote["workflow_id"] == best["workflow_id"]
    assert vote["answer"] == found["answer"]
    assert (found["agreement"], found["notes"], found["reason"]) == (1.0, [], None)
    [schema] = [t for t in (await client.list_tools()).tools if t.name == "run_workflow"]
    assert schema.output_schema is not None
    jsonschema.validate(found, schema.output_schema)
    assert set(found) == set(schema.output_schema["properties"])


async def test_the_top_of_a_pool_votes(client: Client, finished: str) -> None:
    pool = await call(client, "get_pool", {"run_id": finished})
    items = pool["items"]
    assert isinstance(items, list)
    ranked = [item for item in items if isinstance(item, dict)][:3]
    found = await answer(
        client, {"input": QUESTION, "run_id": finished, "top": 3, "vote": "weighted"}
    )
    assert [vote["workflow_id"] for vote in votes(found)] == [one["workflow_id"] for one in ranked]
    assert [vote["weight"] for vote in votes(found)] == [one["posterior"] or 0 for one in ranked]
    winning = sum(float(str(v["weight"])) for v in votes(found) if v["answer"] == found["answer"])
    assert float(str(found["agreement"])) >= winning - 1e-9
    equal = await answer(client, {"input": QUESTION, "run_id": finished, "top": 3})
    assert [vote["weight"] for vote in votes(equal)] == [1, 1, 1]
    assert equal["calls"] == found["calls"]


async def test_a_workflow_without_a_run_needs_its_executor(client: Client, rows: Path) -> None:
    name = await stored(client, WORKFLOW, rows)
    asked: Arguments = {"input": QUESTION, "workflow_id": name}
    assert "with the `executor`" in await refusal(client, "run_workflow", asked)
    found = await answer(client, asked | {"executor": "scripted:default"})
    assert (found["answer"], found["calls"]) == ("9", 1)


async def test_where_all_fail_there_is_no_answer_and_a_reason(client: Client, rows: Path) -> None:
    name = await stored(client, BROKEN, rows)
    asked = {"input": QUESTION, "workflow_id": name, "executor": "scripted:default"}
    found = await answer(client, {**asked})
    assert (found["answer"], found["agreement"]) == (None, None)
    assert "`votes` has their errors" in str(found["reason"])
    assert str(votes(found)[0]["error"]).startswith("TypeError")


async def test_an_answer_can_be_waited_for_by_its_id(
    client: Client, finished: str, tmp_path: Path
) -> None:
    write_script(tmp_path / "script.json", latency_ms=50, default="11")
    asked: Arguments = {"input": "What is new?", "run_id": finished, "wait_seconds": 0}
    begun = await call(client, "run_workflow", asked)
    assert (begun["status"], begun["answer"], begun["votes"]) == ("running", None, [])
    assert f"answer_id='{begun['answer_id']}'" in str(begun["next"])
    handle: Arguments = {"answer_id": begun["answer_id"]}
    found = await answer(client, handle)
    assert found["answer"] is not None
    assert "Pass either `input`" in await refusal(client, "run_workflow", handle | {"input": "x"})


async def test_named_inputs_come_in_the_order_of_the_runs_rows(
    client: Client, application: Application
) -> None:
    rows = [
        {"input": {"question": f"{n} plus 1?", "hint": "count"}, "target": str(n + 1)}
        for n in range(12)
    ]
    started = await call(client, "start_bayesflow_run", task_arguments(rows))
    assert (await settled(client, started["run_id"]))["status"] == "finished"
    run: Arguments = {"run_id": started["run_id"]}
    one = await answer(client, run | {"input": {"hint": "count", "question": "3 plus 1?"}})
    same = await answer(client, run | {"input": "question: 3 plus 1?\n\nhint: count"})
    other = await answer(client, run | {"input": "hint: count\n\nquestion: 3 plus 1?"})
    service = await application.answers()
    asked = [await service.wait(str(found["answer_id"]), 0) for found in (one, same, other)]
    problems = [json.loads(record.request)["problem"] for record in asked]
    assert problems[0] == problems[1] != problems[2]
    wrong = run | {"input": {"hint": "count"}}
    assert await answer(client, wrong)  # rows that brought objects do not say what they must name


async def test_what_cannot_be_asked_is_refused(client: Client, finished: str) -> None:
    run: Arguments = {"run_id": finished}
    asked: list[tuple[Arguments, str]] = [
        (run, "Pass `input`"),
        ({"input": "x"}, "Pass `run_id`"),
        (run | {"input": " "}, "`input` is empty"),
        (run | {"input": "x" * 200_001}, "longer than 200,000"),
        (run | {"input": {}}, "`input` is empty"),
        (run | {"input": {"question": "x"}}, "no inputs named question"),
        (run | {"input": "x", "entry_point": "os.system('x')"}, "no name of a function"),
        (run | {"input": "x", "entry_point": "class"}, "no name of a function"),
        (run | {"input": "x", "public_tests": ["assert True"]}, "as `entry_point` too"),
        (run | {"input": "x", "top": 33}, "`top`"),
        (run | {"input": "x", "vote": "loudest"}, "`vote`"),
        (run | {"input": "x", "workflow_id": "wf_0"}, "no workflow 'wf_0'"),
        (run | {"input": "x", "workflow_id": "wf_0", "top": 2}, "`top` takes"),
        (run | {"input": "x", "executor": "gpt"}, "Unknown model"),
        (run | {"input": "x", "budget": {"dollars": 1}}, "`budget`"),
        ({"input": "x", "run_id": "run_0"}, "no run 'run_0'"),
        ({"answer_id": "ans_0"}, "There is no answer 'ans_0'"),
    ]
    for arguments, said in asked:
        sentence = await refusal(client, "run_workflow", arguments)
        assert said in sentence, sentence


async def test_a_run_that_goes_on_answers_by_its_best_so_far(
    client: Client, application: Application, finished: str
) -> None:
    store = (await application.runs()).workplace.store
    await store.update_run(finished, outcome=None)
    found = await answer(client, {"input": QUESTION, "run_id": finished})
    assert "best so far" in str(found["notes"])


def test_many_long_votes_leave_a_result_readable() -> None:
    votes = tuple(
        VoteReport(workflow_id=f"wf_{n}", answer="a" * 20_000, weight=1.0, error="e" * 2_000)
        for n in range(32)
    )
    report = AnswerReport(
        answer="a" * 20_000,
        agreement=1.0,
        equal_weights=True,
        votes=votes,
        calls=1,
        tokens=1,
        usd=None,
        seconds=1.0,
    )
    request, found = "{}", report.model_dump_json()
    record = EvaluationRecord("ans_1", "wf_0", request, "finished", None, found, 0.0, 0.0)
    shown = answered(record, [])
    assert len(shown.votes) == 32
    assert len(shown.model_dump_json()) <= 32_000
