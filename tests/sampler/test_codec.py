import json

from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.codec import (
    decode_edit,
    decode_workflow,
    decode_workflows,
    encode_edit,
    encode_workflow,
    encode_workflows,
)
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.types import Step, Workflow

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
