from collections import Counter
from typing import get_args

from bayesflow_server.evaluation.outcomes import (
    NOT_WELL,
    UNGRADED,
    outcome_sentences,
    outcome_totals,
    outcomes_json,
)
from bayesflow_server.models.chat import StopReason
from bayesflow_server.store.records import ExecutionRecord


def execution(**outcomes: int) -> ExecutionRecord:
    return ExecutionRecord(
        "run", "wf", "validation", 0, "r", "a", 1.0, outcomes=outcomes_json(outcomes)
    )


def test_the_counts_are_written_in_one_order() -> None:
    assert outcomes_json(Counter(refusal=1, empty=2)) == '{"empty": 2, "refusal": 1}'
    assert outcomes_json({}) == "{}"


def test_executions_add_up() -> None:
    records = [execution(length=2), execution(), execution(length=1, refusal=1)]
    assert outcome_totals(records) == {"length": 3, "refusal": 1}


def test_notes_are_sentences_one_a_kind() -> None:
    assert outcome_sentences(outcome_totals([execution()])) == ()
    records = [execution(length=11), execution(length=1, refusal=1)]
    assert outcome_sentences(outcome_totals(records)) == (
        "12 answers were cut at max_tokens.",
        "1 answer was a refusal.",
    )


def test_every_kind_has_its_sentence() -> None:
    assert set(get_args(StopReason)) > NOT_WELL
    for kind in (*NOT_WELL, UNGRADED):
        assert len(outcome_sentences(outcome_totals([execution(**{kind: 1})]))) == 1
