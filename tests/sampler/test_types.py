from bayesflow_sampler.types import DrawKey, Evaluation, RowSet, Step, Workflow
from fakes.approx import approx
from fakes.toys import workflow_of


def test_a_prefix_is_the_first_steps_and_never_more_than_there_are() -> None:
    workflow = workflow_of("abc")

    assert workflow.prefix(2) == workflow_of("ab")
    assert workflow.prefix(9) == workflow
    assert len(workflow.prefix(0)) == 0


def test_the_source_numbers_the_steps_and_writes_each_module_text_once() -> None:
    steps = (Step("a", "    x\n", "import m\n"), Step("b", "    y\n", "import m\n"))
    source = Workflow("P\n", steps, indent=4).source

    assert source == "import m\n\n\nP\n    # Step 1: a\n    x\n\n    # Step 2: b\n    y\n"


def test_a_workflow_is_addressed_by_its_source_alone() -> None:
    assert workflow_of("ab").workflow_id == workflow_of("ab").workflow_id
    assert workflow_of("ab").workflow_id != workflow_of("ba").workflow_id
    assert workflow_of("ab").workflow_id.startswith("wf_")
    assert len(workflow_of("ab").workflow_id) == 3 + 16


def test_a_draw_key_names_its_draw_in_the_journal() -> None:
    assert DrawKey("complete", 2, 3, 1).text == "complete/2/3/1"
    assert DrawKey("extend", 1, 0).text == "extend/1/0/0"


def test_a_reward_is_the_mean_of_the_row_scores() -> None:
    evaluation = Evaluation("wf", RowSet("validation", (0, 1, 2)), (1.0, 0.0, 0.5))

    assert evaluation.mean == approx(0.5)
    assert evaluation.noise() == approx(0.25 / 3)
