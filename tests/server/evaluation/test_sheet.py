import dataclasses

from bayesflow_server.evaluation.sheet import Figures, Sheet
from bayesflow_server.store.records import ExecutionRecord

RECORD = ExecutionRecord(
    scope="run",
    workflow_id="w",
    split="validation",
    position=7,
    row_id="a",
    answer="42",
    score=0.1,
    calls=3,
    input_tokens=100,
    output_tokens=10,
    cost_usd=0.003,
    seconds=0.7,
)
FIGURES = Figures(0.1, False, 3, 110, 0.003, 0.7)


def test_the_figures_of_a_record_come_back_as_they_were() -> None:
    unknown = Figures.of(dataclasses.replace(RECORD, cost_usd=None, error="{}"))
    assert Figures.of(RECORD) == FIGURES
    assert unknown == FIGURES._replace(cost_usd=None, failed=True)
    sheet = Sheet()
    sheet.add(7, FIGURES)
    sheet.add(2, unknown)
    assert sheet.at([7, 2, 7]) == [FIGURES, unknown, FIGURES]
    assert sheet.all() == [unknown, FIGURES]


def test_the_first_execution_of_a_row_stands() -> None:
    sheet = Sheet()
    assert 7 not in sheet
    assert sheet.add(7, FIGURES)
    assert not sheet.add(7, FIGURES._replace(score=1.0))
    assert 7 in sheet
    assert sheet.all() == [FIGURES]
