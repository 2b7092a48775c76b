"""Reading a model's answer: first the collected ones, then laws that hold for any."""

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesflow_sampler.answer import Draft, Unreadable, read_answer
from bayesflow_sampler.ports import Reply, ReplyEnding
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Step, Workflow
from fakes.answer_corpus import AnswerCase, load_cases, load_prefix
from fakes.written_answers import Written, written_answers

CASES = load_cases()
PREFIXES = [load_prefix(name) for name in ("none", "ask", "ask_read", "helper")]
ENDINGS: list[ReplyEnding] = ["end", "truncated", "refused", "overflow"]


def draft(prefix: Workflow, text: str) -> Workflow:
    read = read_answer(prefix, Reply(text))
    assert isinstance(read, Draft), read
    return read.workflow


def tree(code: str) -> str:
    """The statements' syntax tree; a step may hold none."""
    return ast.dump(ast.parse(f"async def call():\n    if True:\n        pass\n{code}"))


def layout(code: str) -> str:
    """The statements as they stand; blank lines around them do not count."""
    return code.strip("\n").rstrip()


def top_level(source: str) -> set[str]:
    """Everything that stands beside the classes of that source."""
    return {ast.dump(n) for n in ast.parse(source).body if not isinstance(n, ast.ClassDef)}


def class_names(source: str) -> set[str]:
    """What `class Workflow` of that source defines."""
    (owner,) = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "Workflow"
    ]
    return {str(getattr(node, "name", "")) for node in owner.body}


def assert_step(case: AnswerCase, number: int, step: Step) -> None:
    if number <= len(case.prefix) and number not in case.bodies:
        assert step == case.prefix.steps[number - 1]
        return
    same = tree if case.by_tree else layout
    assert same(step.body) == same(case.bodies[number])
    if number > len(case.prefix):
        module = case.modules.get(number, "")
        assert ast.dump(ast.parse(step.module)) == ast.dump(ast.parse(module))


@pytest.mark.parametrize("case", [c for c in CASES if not c.troubles], ids=lambda case: case.name)
def test_an_answer_becomes_the_workflow_it_means(case: AnswerCase) -> None:
    workflow = draft(case.prefix, case.reply.text)

    assert tuple(step.title for step in workflow.steps) == case.titles
    for number, step in enumerate(workflow.steps, start=1):
        assert_step(case, number, step)
    assert workflow.indent == case.prefix.indent
    if case.keeps_preamble or (case.prefix.steps and not case.members):
        assert workflow.preamble == case.prefix.preamble
    assert set(case.members) <= class_names(workflow.source)
    assert [text for text in case.contains if text not in workflow.source] == []
    assert [text for text in case.lacks if text in workflow.source] == []


@pytest.mark.parametrize("case", [c for c in CASES if not c.troubles], ids=lambda case: case.name)
def test_what_was_read_is_a_workflow_that_reads_the_same_again(case: AnswerCase) -> None:
    workflow = draft(case.prefix, case.reply.text)
    parsed = parse_workflow(workflow.source)

    compile(workflow.source, "workflow", "exec")
    assert [step.title for step in parsed.steps] == [step.title for step in workflow.steps]
    assert draft(case.prefix, f"```python\n{workflow.source}```\n") == workflow


@pytest.mark.parametrize("case", [c for c in CASES if c.troubles], ids=lambda case: case.name)
def test_what_cannot_be_read_is_named_and_explained(case: AnswerCase) -> None:
    read = read_answer(case.prefix, case.reply)

    assert isinstance(read, Unreadable), read
    assert read.trouble in case.troubles
    assert read.explanation.strip()
    assert "\n" not in read.explanation


LINES = [
    "```python",
    "```",
    "~~~",
    "    ```py",
    "class Workflow:",
    "    def __init__(self, name, llm_config, dataset):",
    "    async def __call__(self, problem):",
    '        """Answers."""',
    "        # Step 1: Ask for a solution",
    "# Step 2: Read",
    "        # Step 2a: Read",
    "\t\t# Step 3: Return",
    "        return replies[0], 0.0",
    "return 1, 0",
    "        if problem:",
    "            pass",
    "        else:",
    '        x = """',
    '"""',
    "        y = f'''{problem}",
    "'''",
    "x = (",
    ")",
    "\\",
    "        x = 1 \\",
    "import re",
    "def helper():",
    "<think>",
    "</think>",
    "<code>",
    "</code>",
    "It's prose: Step 2 (or so).",
    "...",
    "\x00",
    "\x0c",
    "\u2028x = 1",
    "\ufeff",
    "\u00a0\u00a0x = 1",
    "\r",
]


@st.composite
def spliced(draw: st.DrawFn) -> str:
    """Two collected answers, cut and put together."""
    first, second = (draw(st.sampled_from(CASES)).reply.text.splitlines(True) for _ in range(2))
    start, stop = draw(st.integers(0, len(first))), draw(st.integers(0, len(second)))
    return "".join([*first[:start], *draw(st.sampled_from(["", "```\n", '"""\n'])), *second[stop:]])


replies = st.one_of(
    st.text(),
    spliced(),
    st.lists(st.sampled_from(LINES), max_size=14).map("\n".join),
    st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=8)), max_size=10).map("\n".join),
)


@settings(deadline=None)
@given(st.sampled_from(PREFIXES), replies, st.sampled_from(ENDINGS))
def test_no_text_makes_the_reader_fail(prefix: Workflow, text: str, ending: ReplyEnding) -> None:
    read = read_answer(prefix, Reply(text, ending))

    if isinstance(read, Unreadable):
        assert read.explanation.strip()
        return
    assert ending == "end"
    titles = [step.title for step in read.workflow.steps]
    assert titles[: len(prefix)] == [step.title for step in prefix.steps]
    # A bare return is put behind the last step; all before it stay as they are.
    settled = prefix.steps[:-1]
    assert read.workflow.steps[: len(settled)] == settled
    assert [step.title for step in parse_workflow(read.workflow.source).steps] == titles


@pytest.mark.parametrize("text", ["(" * 5000, "```python\n" + "[" * 5000 + "\n```", "`" * 9999])
def test_deep_nesting_makes_no_reader_fail(text: str) -> None:
    assert isinstance(read_answer(PREFIXES[0], Reply(text)), Unreadable)


@settings(deadline=None)
@given(written_answers())
def test_however_a_workflow_is_written_down_it_is_read_as_itself(written: Written) -> None:
    workflow = draft(written.prefix, written.text)
    length = len(written.prefix)

    assert workflow.preamble == written.workflow.preamble
    assert workflow.steps[:length] == written.prefix.steps
    assert [(step.title, layout(step.body)) for step in workflow.steps] == [
        (step.title, layout(step.body)) for step in written.workflow.steps
    ]
    assert top_level(workflow.source) == top_level(written.workflow.source)


@settings(deadline=None)
@given(written_answers(), st.data())
def test_no_cut_answer_is_salvaged(written: Written, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(written.text)))
    read = read_answer(written.prefix, Reply(written.text[:end], "truncated"))

    assert isinstance(read, Unreadable)
    assert read.trouble == "truncated"
