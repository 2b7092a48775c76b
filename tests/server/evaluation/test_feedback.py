from collections.abc import Callable

import pytest

from bayesflow_sampler.llm_refiner import Feedback
from bayesflow_sampler.types import Evaluation, RowSet
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.evaluate import Evaluator
from bayesflow_server.evaluation.example import Row
from bayesflow_server.evaluation.feedback import StoredFeedback
from bayesflow_server.evaluation.scorers import TokenF1
from bayesflow_server.store.store import Store
from fakes.models import FakeModel
from fakes.sessions import free_session
from fakes.tasks import workflow

ROWS = [
    Row(id="right", problem="one two", target="one two"),
    Row(id="half", problem="one three", target="one two"),
    Row(id="wrong", problem="four", target=["one", "two"]),
    Row(id="failing", problem="fail", target="one"),
    Row(id="unlabelled", problem="x \ud800" + "x" * 5_000, target=None),
]
WORKFLOW = workflow("""answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        return answers[0] if problem != "fail" else undefined, 0.0""")
ALL = RowSet("validation", (0, 1, 2, 3, 4))

Make = Callable[[], Evaluator]


@pytest.fixture
def make(store: Store, sandbox: Sandbox) -> Make:
    def build() -> Evaluator:
        session = free_session(store, FakeModel())
        return Evaluator("run", {"validation": ROWS}, TokenF1(), session, sandbox, store)

    return build


async def test_decision_09_the_worst_rows_come_first_and_equal_ones_by_position(make: Make) -> None:
    evaluator = make()
    done = await evaluator.score(WORKFLOW, ALL)
    feedback: Feedback = StoredFeedback(evaluator)
    traces = await feedback.worst(done, 4)
    assert [trace.score for trace in traces] == [0.0, 0.0, 0.0, 0.5]
    wrong, failing, unlabelled, half = traces
    assert (wrong.input, wrong.gold, wrong.answer) == ("four", "one\n(or)\ntwo", "four")
    assert wrong.trace == "call 1 asked: four\ncall 1 answered: four"
    assert wrong.error is None
    assert failing.answer is None
    assert failing.error is not None
    assert failing.error.startswith("NameError: ")
    assert failing.error.endswith("in Step 1: Only, line 8")
    assert failing.trace.startswith("call 1 asked: fail")
    assert unlabelled.gold is None
    assert half.answer == "one three"


async def test_texts_are_cut_and_can_be_stored(make: Make) -> None:
    evaluator = make()
    done = await evaluator.score(WORKFLOW, ALL)
    for trace in await StoredFeedback(evaluator).worst(done, 5):
        texts = [trace.input, trace.gold or "", trace.answer or "", trace.error or "", trace.trace]
        assert all(len(text.encode()) <= 1_000 for text in texts)


async def test_a_resumed_run_is_told_the_same(make: Make) -> None:
    evaluator = make()
    done = await evaluator.score(WORKFLOW, RowSet("validation", (1, 2)))
    told = await StoredFeedback(evaluator).worst(done, 3)
    again = make()
    await again.load()
    assert await StoredFeedback(again).worst(done, 3) == told
    assert len(told) == 2


async def test_rows_that_the_evaluation_did_not_meet_are_not_told(make: Make) -> None:
    """Another round may have run them by then, or not: what is told must not depend on it."""
    evaluator = make()
    done = await evaluator.score(WORKFLOW, RowSet("validation", (1, 2)))
    told = await StoredFeedback(evaluator).worst(done, 5)
    await evaluator.score(WORKFLOW, ALL)
    assert await StoredFeedback(evaluator).worst(done, 5) == told


async def test_a_workflow_that_was_never_run_has_no_rows(make: Make) -> None:
    nothing = Evaluation("wf_unknown", ALL, (0.0,) * 5)
    assert await StoredFeedback(make()).worst(nothing, 3) == []
