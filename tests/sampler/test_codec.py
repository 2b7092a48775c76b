import json

from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.codec import decode_edit, decode_workflow, encode_edit, encode_workflow
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


def test_the_journal_text_is_one_line_of_json() -> None:
    text = encode_workflow(Workflow("a\nb", (Step("t", "x\n"),)))

    assert "\n" not in text
    assert json.loads(text)["steps"] == [["t", "x\n", ""]]
