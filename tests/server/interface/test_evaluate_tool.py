"""What evaluate_workflow takes, and how all of a long evaluation can be read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from mcp import Client
from pydantic import JsonValue

from bayesflow_server.app import Application
from bayesflow_server.export.script import ExportSettings, script_of
from fakes.mcp_sessions import (
    WORKFLOW,
    Arguments,
    Object,
    call,
    refusal,
    task_arguments,
    write_rows,
)

STUBBORN = WORKFLOW.replace("return answers[0]", 'return "1"')
BROKEN = WORKFLOW.replace("return answers[0]", "return answers[0] // 0")
MOST_CHARACTERS = 32_000


async def report(client: Client, arguments: Mapping[str, object]) -> Object:
    found = await call(client, "evaluate_workflow", {"wait_seconds": 45, **arguments})
    assert found["status"] == "finished", found
    inner = found["report"]
    assert isinstance(inner, dict)
    return {**inner, "evaluation_id": found["evaluation_id"], "next": found["next"]}


def listed(report: Object, name: str) -> list[dict[str, JsonValue]]:
    values = report[name]
    assert isinstance(values, list)
    return [value for value in values if isinstance(value, dict)]


@pytest.fixture
def own(rows: Path) -> Arguments:
    """Arguments for the 24 additions, of which the model gets 13 right."""
    return {"examples": str(rows), "scorer": "numeric", "executor": "scripted:default"}


async def test_an_exported_file_is_evaluated_by_its_text_or_its_path(
    client: Client, own: Arguments, tmp_path: Path
) -> None:
    exported = script_of(WORKFLOW, ExportSettings(executor="openai:gpt-5-mini", api="openai"))
    plain, script = tmp_path / "plain.py", tmp_path / "script.py"
    plain.write_text(WORKFLOW)
    script.write_text(exported)
    ids = set[str]()
    for workflow in (WORKFLOW, exported, str(plain), str(script)):
        asked = own | {"workflow": workflow, "compare_with": str(script), "wait_seconds": 45}
        found = await call(client, "evaluate_workflow", asked)
        ids.add(str(found["workflow_id"]))
        assert isinstance(found["report"], dict)
        assert found["report"]["differ"] == 0
    assert len(ids) == 1


async def test_what_is_no_file_of_a_workflow_is_refused(
    client: Client, own: Arguments, tmp_path: Path
) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "big.py").write_text("#" * 300_000)
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "secret.py").write_text("PASSWORD = 'hunter2'\n")
    os.mkfifo(tmp_path / "pipe.py")
    for name, said in (
        ("none.py", "cannot be read (No such file"),
        ("folder.py", "cannot be read (Is a directory"),
        ("pipe.py", "not a regular file"),
        ("big.py", "longer than 200,000 bytes"),
        ("binary.py", "not UTF-8"),
        ("secret.py", "The workflow cannot be used"),
        ("nul\0.py", "cannot be read"),
    ):
        sentence = await refusal(
            client, "evaluate_workflow", own | {"workflow": str(tmp_path / name)}
        )
        assert said in sentence, sentence
        assert "hunter2" not in sentence
    relative = await refusal(client, "evaluate_workflow", own | {"workflow": "folder/mine.py"})
    assert "not absolute" in relative


async def test_two_are_compared_with_a_test_and_the_rows_they_differ_on(
    client: Client, own: Arguments
) -> None:
    found = await report(client, own | {"workflow": WORKFLOW, "compare_with": STUBBORN})
    # The stubborn one gets 0 plus 1 right, and so does the other.
    assert found["paired"] == {
        "method": "mcnemar exact",
        "p_value": 2 / 2**12,
        "wins": 12,
        "losses": 0,
        "ties": 12,
    }
    assert found["differ"] == 12
    assert len(listed(found, "differences")) == 10
    assert len(listed(found, "rows")) == 24
    asked = {"evaluation_id": found["evaluation_id"], "show": "differences"}
    apart = await report(client, asked)
    assert apart["cursor"] is None
    assert apart["rows"] == []
    assert len(listed(apart, "differences")) == 12
    for one in listed(apart, "differences"):
        assert (one["other_answer"], one["score"], one["other_score"]) == ("1", 1.0, 0.0)


async def test_every_row_can_be_read_though_a_page_is_bounded(
    client: Client, own: Arguments, tmp_path: Path
) -> None:
    rows = write_rows(tmp_path / "many.jsonl", 130)
    page = await report(client, own | {"examples": str(rows), "workflow": WORKFLOW})
    seen: list[tuple[JsonValue, JsonValue]] = []
    while True:
        assert 0 < len(listed(page, "rows")) <= 50
        seen += [(row["row_id"], row["score"]) for row in listed(page, "rows")]
        if page["cursor"] is None:
            break
        assert f"cursor='{page['cursor']}'" in str(page["next"])
        further = {"evaluation_id": page["evaluation_id"], "cursor": page["cursor"]}
        page = await report(client, further)
    assert len({str(row_id) for row_id, _ in seen}) == len(seen) == 130
    assert [score for _, score in seen] == [0.0] * 117 + [1.0] * 13
    wrong = {"evaluation_id": page["evaluation_id"], "cursor": "soon"}
    assert "not one that evaluate_workflow gave" in await refusal(
        client, "evaluate_workflow", wrong
    )


async def test_traces_are_shown_on_request_alone_and_cut_to_fit(
    client: Client, own: Arguments
) -> None:
    chatty = WORKFLOW.replace("[problem]", '[problem + " " + "word " * 3000]')
    plain = await report(client, own | {"workflow": chatty})
    assert all(row["trace"] is None for row in listed(plain, "rows"))
    asked = {"evaluation_id": plain["evaluation_id"], "show": "traces"}
    traced = await report(client, asked)
    assert all("What is" in str(row["trace"]) for row in listed(traced, "rows"))
    assert len(json.dumps(traced)) <= MOST_CHARACTERS


async def test_an_error_says_its_type_and_place(client: Client, own: Arguments) -> None:
    found = await report(client, own | {"workflow": BROKEN})
    for row in listed(found, "rows"):
        assert str(row["error"]).startswith("TypeError: ")
        assert str(row["error"]).endswith(" in Step 1: Ask once, line 8")
        assert (row["answer"], row["calls"]) == (None, 1)


async def test_replicates_are_distinct_samples_and_each_is_told(
    client: Client, own: Arguments
) -> None:
    found = await report(client, own | {"workflow": WORKFLOW, "replicates": 3})
    assert found["replicates"] == [13 / 24] * 3
    assert found["calls"] == 72
    assert all(row["calls"] == 3 for row in listed(found, "rows"))
    assert all(row["later_answers"] == [row["answer"]] * 2 for row in listed(found, "rows"))


async def test_a_runs_best_are_scored_together(client: Client, finished: str) -> None:
    asked: Arguments = {"run_id": finished, "split": "test", "top": 3}
    found = await report(client, asked)
    assert [one["size"] for one in listed(found, "ensemble")] == [1, 2, 3]
    members = listed(found, "members")
    pool = await call(client, "get_pool", {"run_id": finished})
    ranked = listed(pool, "items")[:3]
    assert [one["workflow_id"] for one in members] == [one["workflow_id"] for one in ranked]
    assert [one["weight"] for one in members] == [one["posterior"] for one in ranked]
    first = listed(found, "ensemble")[0]
    assert first["best"] == first["mean"] == first["majority"] == members[0]["score"]


async def test_answers_that_nobody_could_grade_are_counted(client: Client, own: Arguments) -> None:
    source = "def score(answer, target):\n    return 1.0 if answer == target else 1 / 0\n"
    asked = own | {"workflow": WORKFLOW, "scorer": {"kind": "python", "source": source}}
    found = await report(client, asked)
    assert found["notes"] == ["11 answers could not be graded and count as 0."]
    assert found["replicates"] == [13 / 24]


async def test_a_scorer_that_cannot_score_the_rows_is_refused(
    client: Client, own: Arguments
) -> None:
    raising = "def score(answer, target):\n    return 1 / 0\n"
    for scorer, said in (
        ({"kind": "python", "source": raising}, "score() raised ZeroDivisionError in line 2"),
        ({"kind": "python", "source": "import os\n" + raising}, "breaks a rule of the sandbox"),
        ({"kind": "file", "name": "none"}, "There is no scorer file 'none'"),
    ):
        sentence = await refusal(
            client, "evaluate_workflow", own | {"workflow": WORKFLOW, "scorer": scorer}
        )
        assert said in sentence, sentence
    judged = {"kind": "judge", "rubric": "Is it good?"}
    rows = [{"input": f"Say {n}."} for n in range(12)]
    task = task_arguments(rows, scorer=judged)
    options = {"particles": 1, "rounds": 1, "refinements": 0, "judge": "scripted:default"}
    started = await call(client, "start_bayesflow_run", task | {"options": options})
    asked: Arguments = {"workflow": WORKFLOW, "run_id": started["run_id"], "scorer": "exact"}
    assert "has no expected answer" in await refusal(client, "evaluate_workflow", asked)


async def test_labels_are_those_of_all_rows_of_a_run(
    client: Client, finished: str, application: Application
) -> None:
    asked: Arguments = {"workflow": WORKFLOW, "run_id": finished, "scorer": "label"}
    found = await report(client, asked | {"split": "test"})
    service = await application.evaluations()
    record = await service.wait(str(found["evaluation_id"]), 0)
    assert len(json.loads(record.request)["scorer"]["labels"]) == 24
    assert len(listed(found, "rows")) < 24


async def test_a_spent_budget_says_how_to_go_on(client: Client, own: Arguments) -> None:
    asked = own | {"workflow": WORKFLOW, "budget": {"calls": 3}, "wait_seconds": 45}
    found = await call(client, "evaluate_workflow", asked)
    assert found["status"] == "failed"
    assert "Resume the run" not in str(found["reason"])
    assert "larger `budget`" in str(found["next"])


async def test_what_contradicts_itself_is_refused(
    client: Client, own: Arguments, finished: str
) -> None:
    for arguments, said in (
        ({"run_id": finished, "top": 2, "workflow": WORKFLOW}, "`top` takes a run's best"),
        (own | {"top": 2}, "`top` takes a run's best"),
        (own | {"workflow": WORKFLOW, "replicates": 6}, "`replicates`"),
        ({"run_id": finished, "workflow": WORKFLOW, "fields": {"input": "q"}}, "a run has its own"),
        ({"evaluation_id": "eval_1", "top": 2}, "Pass either `workflow`"),
        ({"evaluation_id": "ans_1"}, "There is no evaluation 'ans_1'"),
        (own | {"workflow": WORKFLOW, "split": "train"}, "`split`"),
    ):
        sentence = await refusal(client, "evaluate_workflow", arguments)
        assert said in sentence, sentence


async def test_the_demonstration_rows_of_a_run_can_be_run_on(client: Client, finished: str) -> None:
    arguments: Arguments = {"workflow": WORKFLOW, "run_id": finished, "split": "demonstration"}
    sentence = await refusal(client, "evaluate_workflow", arguments)
    assert "no demonstration rows" in sentence
