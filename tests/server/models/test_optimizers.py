"""The functions that play an optimizer in end-to-end tests do what those tests rely on."""

import ast
from collections.abc import Callable

import pytest

from bayesflow_sampler.answer import Draft, Unreadable, read_answer
from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.ports import Reply
from bayesflow_sampler.types import Workflow
from bayesflow_sandbox.policy import check_workflow
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from fakes.messy_answers import STYLES, Answer, NumberedStep, fenced
from fakes.optimizers import GoodOptimizer, MessyOptimizer

EMPTY = Workflow(PREAMBLE, ())
SAMPLES = 120


def question(text: str, sample: int = 0) -> ChatRequest:
    return ChatRequest((ChatMessage("system", "rules"), ChatMessage("user", text)), sample=sample)


def extend(prefix: Workflow, sample: int = 0) -> ChatRequest:
    return question(f"Go on.\n\n```python\n{prefix.source}\n```\n\nWrite the rest.", sample)


def repair(prefix: Workflow, code: str, log: str) -> str:
    question = extend(prefix).messages[-1].content
    return f"{question}\n\nYou wrote:\n\n```python\n{code}\n```\n\nThe error: {log}. Correct it."


def titles(workflow: Workflow) -> list[str]:
    return [step.title for step in workflow.steps]


def read(prefix: Workflow, text: str) -> Workflow:
    draft = read_answer(prefix, Reply(text))
    assert isinstance(draft, Draft), draft
    return draft.workflow


@pytest.mark.parametrize("optimizer", [GoodOptimizer(), MessyOptimizer()])
def test_an_optimizer_answers_one_request_always_the_same(
    optimizer: GoodOptimizer | MessyOptimizer,
) -> None:
    answers = [[optimizer(extend(EMPTY, sample)) for sample in range(20)] for _ in range(2)]

    assert answers[0] == answers[1]
    assert len(set(answers[0])) > 5


def test_a_good_optimizer_writes_workflows_that_may_run() -> None:
    for sample in range(SAMPLES // 4):
        whole = read(EMPTY, GoodOptimizer()(extend(EMPTY, sample)))

        assert check_workflow(whole.source) is None
        for length in range(1, len(whole)):
            prefix = whole.prefix(length)
            longer = read(prefix, GoodOptimizer()(extend(prefix, sample)))
            assert longer.steps[:length] == prefix.steps
            assert check_workflow(longer.source) is None


def test_a_good_optimizer_edits_a_step_and_what_follows() -> None:
    whole = read(EMPTY, GoodOptimizer()(extend(EMPTY)))
    text = f"Edit this:\n```python\n{whole.source}\n```\nCritique: too slow"
    edits = {read(EMPTY, GoodOptimizer()(question(text, sample))) for sample in range(20)}

    assert len(edits - {whole}) > 3
    assert any(edit.steps[:1] == whole.steps[:1] for edit in edits - {whole})


def test_a_critique_holds_no_code() -> None:
    assert "```" not in GoodOptimizer()(question("Write a critique of it."))
    assert "```" not in MessyOptimizer()(question("Say what goes wrong. Write no code."))


def test_a_messy_optimizer_errs_in_every_way() -> None:
    drafts = [
        read_answer(EMPTY, Reply(MessyOptimizer()(extend(EMPTY, sample))))
        for sample in range(SAMPLES)
    ]
    troubles = {draft.trouble for draft in drafts if isinstance(draft, Unreadable)}
    workflows = {draft.workflow for draft in drafts if isinstance(draft, Draft)}
    ends = {titles(workflow)[-1] for workflow in workflows}

    assert {"no code", "syntax"} <= troubles
    assert {"Answer", "Cut the answer", "Fail", "Answer in haste", "Answer from home"} <= ends
    assert len(workflows) > 30
    assert any(check_workflow(workflow.source) for workflow in workflows)


def test_a_messy_optimizer_keeps_the_prefix_however_it_wraps_its_answer() -> None:
    prefix = read(EMPTY, GoodOptimizer()(extend(EMPTY))).prefix(2)
    drafts = [
        read_answer(prefix, Reply(MessyOptimizer()(extend(prefix, sample))))
        for sample in range(SAMPLES)
    ]
    read_ones = [draft.workflow for draft in drafts if isinstance(draft, Draft)]

    assert len(read_ones) > SAMPLES // 2
    for workflow in read_ones:
        assert workflow.steps[:2] == prefix.steps
        assert not {"Style 1", "Style 2", "Style 3", "Style 4"} & set(titles(workflow)[1:])


def test_a_messy_optimizer_mends_most_faults_some_of_them_with_try() -> None:
    prefix = read(EMPTY, GoodOptimizer()(extend(EMPTY))).prefix(2)
    code = prefix.source + "        # Step 3: Answer in haste\n        return oot, 0.0\n"
    text = repair(prefix, code, "NameError: oot is not defined")
    drafts = [
        read_answer(prefix, Reply(MessyOptimizer()(question(text, sample))))
        for sample in range(SAMPLES)
    ]
    mended = [draft.workflow for draft in drafts if isinstance(draft, Draft)]
    sound = [w for w in mended if {"Answer", "Answer and pay", "Cut the answer"} & set(titles(w))]

    assert SAMPLES // 2 < len(sound) < SAMPLES
    assert any(titles(workflow)[-1] == "Answer in haste" for workflow in mended)


def test_a_repair_may_hold_a_try() -> None:
    code = PREAMBLE + "        # Step 1: Style 1\n        text = txt\n"
    text = repair(EMPTY, code, "NameError: txt is not defined")
    answers = [MessyOptimizer()(question(text, sample)) for sample in range(SAMPLES)]
    drafts = [read_answer(EMPTY, Reply(answer)) for answer in answers]
    trees = [ast.parse(d.workflow.source) for d in drafts if isinstance(d, Draft)]

    assert any(isinstance(node, ast.Try) for tree in trees for node in ast.walk(tree))


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__.strip("_"))
@pytest.mark.parametrize("kept", [0, 1, 2])
@pytest.mark.parametrize("whole", [False, True])
def test_every_wrapping_means_the_same_workflow(
    style: Callable[[Answer], str], kept: int, whole: bool
) -> None:
    steps = (
        NumberedStep(1, "Style 1", 'text = "style1 " + problem'),
        NumberedStep(2, "Ask", "out = await self.llm.call_llm(messages=[text])"),
        NumberedStep(3, "Answer", "return out[0], 0.0"),
    )
    complete = read(EMPTY, fenced(Answer((), steps)))
    prefix = EMPTY if whole else complete.prefix(kept)

    assert read(prefix, style(Answer(steps[:kept], steps[kept:], whole))) == complete
