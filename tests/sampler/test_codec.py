import json

from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.codec import (
    decode_decision,
    decode_edit,
    decode_workflow,
    decode_workflows,
    encode_decision,
    encode_edit,
    encode_workflow,
    encode_workflows,
)
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.types import Decision, Step, Workflow

steps = st.builds(Step, st.text(), st.text(), st.text())
workflows = st.builds(
    Workflow, st.text(), st.lists(steps, max_size=4).map(tuple), st.integers(0, 12)
)


@given(workflows)
def test_a_workflow_survives_its_journal(workflow: Workflow) -> None:
    again = decode_workflow(encode_workflow(workflow))

    assert again == workflow
    assert again.workflow_id == workflow.workflow_id


@given(workflows, st.text())
def test_an_edit_survives_its_journal(workflow: Workflow, parent: str) -> None:
    edit = Edit(workflow, parent)

    assert decode_edit(encode_edit(edit)) == edit


@given(st.lists(workflows, max_size=3))
def test_a_list_of_workflows_survives_its_journal(several: list[Workflow]) -> None:
    assert decode_workflows(encode_workflows(several)) == tuple(several)


def test_the_journal_text_is_one_line_of_json() -> None:
    text = encode_workflow(Workflow("a\nb", (Step("t", "x\n"),)))

    assert "\n" not in text
    assert json.loads(text)["steps"] == [["t", "x\n", ""]]


@given(st.none() | st.builds(Decision, st.text(), st.text(), st.text()))
def test_a_decision_survives_its_journal(decision: Decision | None) -> None:
    again = decode_decision(encode_decision(decision))

    assert again == decision
    assert type(again) is type(decision)


def test_that_nothing_was_decided_is_a_draw_like_any_other() -> None:
    """A journal that recalls no text has no draw; `null` is one."""
    assert encode_decision(None) == "null"
