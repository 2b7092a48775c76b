"""A finished run made as large as a store can hold, by writing to its database."""

import dataclasses
import json
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

from bayesflow_sampler.source import parse_workflow
from bayesflow_server.evaluation.ensembles import EnsembleScore
from bayesflow_server.evaluation.report import GainReport, TestScore
from bayesflow_server.evaluation.scorers import Exact
from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.runs.answering import AnswerReport, AnswerSpec, VoteReport
from bayesflow_server.runs.evaluation_report import (
    EnsembleReport,
    EvaluationReport,
    MemberScore,
)
from bayesflow_server.runs.evaluations import EvaluationSpec
from bayesflow_server.runs.members import Member
from bayesflow_server.store.records import (
    EvaluationRecord,
    ExecutionRecord,
    PoolEntry,
    RowRecord,
    SummaryRecord,
    WorkflowRecord,
)

__all__ = ["NASTY", "Big", "enlarge"]

# What takes the most room once it is written as JSON, and nothing of it is plain.
NASTY: Final = '"\\\n\x1b[31m\u202e\U000e0041é'
_ROWS: Final = 200
_PASSES: Final = 2
_MEMBERS: Final = 32
_OTHER: Final = """\
class Workflow:
    async def __call__(self, problem):
        # Step 1: Guess
        return '1', 0.0
"""


class Big(NamedTuple):
    """What was put in.

    Attributes:
        pool: Ids of the run's workflows, those of the search included.
        runs: Ids of all runs.
        source: The winner's source.
        evaluation_id: An evaluation of 200 rows with long answers and traces, and a comparison.
        answer_id: An answer by a vote of 32.
        row_ids: Of the evaluation.
    """

    pool: set[str]
    runs: set[str]
    source: str
    evaluation_id: str
    answer_id: str
    row_ids: set[str]


def enlarge(database: Path, run_id: str, workflows: int, runs: int = 120) -> Big:
    """Fills the run's pool, its winner and its notes, adds runs, an evaluation and an answer."""
    with sqlite3.connect(database) as connection:
        winner = _long_winner(connection, run_id)
        _insert(connection, "workflows", map(_workflow, range(workflows)))
        _insert(connection, "pool", (_entry(run_id, number) for number in range(workflows)))
        _insert(connection, "summaries", (_summary(run_id, number) for number in range(workflows)))
        _long_phase(connection, run_id)
        _more_runs(connection, run_id, runs)
        _evaluation(connection, winner)
        _answer(connection)
        pool = _ids(connection, "SELECT workflow_id FROM pool WHERE run_id = ?", run_id)
        listed = _ids(connection, "SELECT run_id FROM runs")
        row_ids = _ids(connection, "SELECT row_id FROM dataset_rows WHERE scope = ?", "eval_big")
    connection.close()
    return Big(pool, listed, winner, "eval_big", "ans_big", row_ids)


def _ids(connection: sqlite3.Connection, sql: str, *parameters: str) -> set[str]:
    return {str(row[0]) for row in connection.execute(sql, parameters)}


def _insert(connection: sqlite3.Connection, table: str, records: Iterable[object]) -> None:
    rows = [dataclasses.asdict(cast("WorkflowRecord", record)) for record in records]
    names = ", ".join(rows[0])
    marks = ", ".join("?" for _ in rows[0])
    connection.executemany(
        f"INSERT INTO {table} ({names}) VALUES ({marks})", [tuple(row.values()) for row in rows]
    )


def _long_winner(connection: sqlite3.Connection, run_id: str) -> str:
    """Gives the winner a source of 100 kB, a line of 40 kB in it, and 200 steps."""
    [outcome] = connection.execute("SELECT outcome FROM runs WHERE run_id = ?", (run_id,))
    report = json.loads(outcome[0])
    winner = report["best"][0]["workflow_id"]
    for one in report["best"]:
        one["step_titles"] = [NASTY * 100] * 200
    connection.execute("UPDATE runs SET outcome = ? WHERE run_id = ?", (json.dumps(report), run_id))
    [found] = connection.execute("SELECT source FROM workflows WHERE workflow_id = ?", (winner,))
    lines = [f"# {number} \"'\\ é\u202e\U000e0041" for number in range(3_000)]
    source = "\n".join([str(found[0]), *lines, "# " + '"\t' * 20_000, "# the end\n"])
    connection.execute(
        "UPDATE workflows SET source = ?, steps = ? WHERE workflow_id = ?",
        (source, json.dumps([NASTY * 100] * 200), winner),
    )
    return source


def _workflow(number: int) -> WorkflowRecord:
    return WorkflowRecord(f"wf_big{number}", _OTHER, json.dumps([NASTY * 3] * (number % 40)))


def _entry(run_id: str, number: int) -> PoolEntry:
    return PoolEntry(run_id, f"wf_big{number}", 1, "prior")


def _summary(run_id: str, number: int) -> SummaryRecord:
    error = json.dumps(NASTY * 200) if number % 3 == 0 else None
    return SummaryRecord(
        run_id, f"wf_big{number}", "validation", 10, 1 / (number + 2), 0.1, error=error
    )


def _long_phase(connection: sqlite3.Connection, run_id: str) -> None:
    [found] = connection.execute("SELECT phase FROM runs WHERE run_id = ?", (run_id,))
    phase = json.loads(found[0]) | {
        "notes": [NASTY * 500] * 100,
        "top_errors": [NASTY * 500] * 10,
    }
    connection.execute("UPDATE runs SET phase = ? WHERE run_id = ?", (json.dumps(phase), run_id))


def _more_runs(connection: sqlite3.Connection, run_id: str, count: int) -> None:
    cursor = connection.execute("SELECT * FROM runs WHERE run_id = ?", (run_id,))
    names = [column[0] for column in cursor.description]
    [row] = cursor
    for number in range(count):
        changes = {
            "run_id": f"run_big{number}",
            "name": NASTY * 30,
            "status": "paused",
            "reason": NASTY * 500,
            "created": float(number),
            "outcome": None,
        }
        record = dict(zip(names, row, strict=True)) | changes
        marks = ", ".join("?" for _ in names)
        connection.execute(f"INSERT INTO runs VALUES ({marks})", [record[name] for name in names])


def _evaluation(connection: sqlite3.Connection, winner: str) -> None:
    first, second = parse_workflow(_OTHER), parse_workflow(_OTHER.replace("'1'", "'2'"))
    stored = [
        WorkflowRecord(one.workflow_id, one.source, json.dumps([])) for one in (first, second)
    ]
    _insert(connection, "workflows", stored)
    score = TestScore(score=0.5, low=0.4, high=0.6, rows=_ROWS, method="wilson")
    members = [f"wf_big{number}" for number in range(_MEMBERS)]
    report = EvaluationReport(
        score=score,
        compare_with=score,
        gain=GainReport(delta=0.0, low=-0.1, high=0.1),
        beats="unclear",
        replicates=(0.123456789,) * _PASSES,
        ensemble=EnsembleReport(
            members=tuple(
                MemberScore(workflow_id=one, weight=0.1234, score=0.9) for one in members
            ),
            sizes=tuple(EnsembleScore(size, 0.1, 0.2, 0.3, 0.4) for size in range(_MEMBERS)),
        ),
        top_errors=(NASTY * 500,) * 3,
        notes=(NASTY * 500,) * 30,
        calls=10,
        tokens=10,
    )
    spec = EvaluationSpec(
        workflow=first.source,
        compare_with=second.source,
        scorer=Exact(),
        executor="scripted:default",
        split="test",
        budget=BudgetLimits(),
        seed=0,
        replicates=_PASSES,
    )
    _put_evaluation(connection, "eval_big", first.workflow_id, spec.model_dump_json(), report)
    rows = [RowRecord("test", place, f"row {place} {NASTY * 50}", "x") for place in range(_ROWS)]
    names = "scope, split, position, row_id, input, target, meta"
    connection.executemany(
        f"INSERT INTO dataset_rows ({names}) VALUES ('eval_big', ?, ?, ?, ?, ?, ?)",
        [dataclasses.astuple(row) for row in rows],
    )
    failure = json.dumps(
        {"type": "ValueError", "message": NASTY * 90, "line": 3, "code": NASTY, "step": NASTY * 60}
    )
    _insert(
        connection,
        "executions",
        (
            ExecutionRecord(
                "eval_big",
                workflow.workflow_id,
                "test",
                row.position,
                row.row_id,
                NASTY * 60,
                score,
                error=failure if row.position % 2 and not score else None,
                replicate=replicate,
                trace=NASTY * 200,
            )
            for workflow, score in ((first, 0.0), (second, 1.0))
            for row in rows
            for replicate in range(_PASSES)
        ),
    )


def _answer(connection: sqlite3.Connection) -> None:
    members = tuple(Member(workflow_id=f"wf_big{number}") for number in range(_MEMBERS))
    spec = AnswerSpec(members=members, problem=NASTY, executor="scripted:default")
    votes = [
        VoteReport(workflow_id=one.workflow_id, answer=NASTY * 500, weight=0.5, error=NASTY * 500)
        for one in members
    ]
    report = AnswerReport(
        answer=NASTY * 5_000,
        agreement=0.5,
        equal_weights=True,
        votes=tuple(votes),
        calls=1,
        tokens=1,
        usd=None,
        seconds=1.0,
    )
    _put_evaluation(connection, "ans_big", "wf_big0", spec.model_dump_json(), report)


def _put_evaluation(
    connection: sqlite3.Connection,
    evaluation_id: str,
    workflow_id: str,
    request: str,
    report: EvaluationReport | AnswerReport,
) -> None:
    record: Sequence[EvaluationRecord] = [
        EvaluationRecord(
            evaluation_id=evaluation_id,
            workflow_id=workflow_id,
            request=request,
            status="finished",
            reason=NASTY * 500,
            report=report.model_dump_json(),
            created=1.0,
            updated=1.0,
        )
    ]
    _insert(connection, "evaluations", record)
