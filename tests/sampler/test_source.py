import ast
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.errors import SourceError
from bayesflow_sampler.source import indent_code, parse_workflow
from bayesflow_sampler.types import Step, Workflow

HEAD = "class Workflow:\n    async def __call__(self, problem):\n"
TWO_STEPS = HEAD + (
    "        # Step 1: Ask\n        x = 1\n\n        # Step 2: Answer\n        return x, 0\n"
)
DATA = os.environ.get("BAYESFLOW_TEST_DATA")


def titles(source: str) -> list[str]:
    return [step.title for step in parse_workflow(source).steps]


def call_ast(source: str) -> str:
    """The syntax tree of `__call__`, without positions."""
    (owner,) = [n for n in ast.parse(source).body if isinstance(n, ast.ClassDef)]
    (call,) = [n for n in owner.body if isinstance(n, ast.AsyncFunctionDef)]
    return ast.dump(call)


def assert_faithful(source: str) -> Workflow:
    """Parsing keeps the program, and parsing its own output changes nothing."""
    workflow = parse_workflow(source)
    again = parse_workflow(workflow.source)

    assert call_ast(workflow.source) == call_ast(source)
    assert again == workflow
    assert again.source == workflow.source
    return workflow


def test_a_workflow_is_split_at_its_step_comments() -> None:
    workflow = assert_faithful(TWO_STEPS)

    assert workflow == Workflow(
        HEAD, (Step("Ask", "        x = 1\n"), Step("Answer", "        return x, 0\n"))
    )


@pytest.mark.parametrize(
    ("header", "title"),
    [
        ("# Step 1: Ask", "Ask"),
        ("# STEP 1 - Ask", "Ask"),
        ("#Step 1: Ask", "Ask"),
        ("### Step 1: Ask", "Ask"),
        ("# step 1. Ask", "Ask"),
        ("# Step 1) Ask", "Ask"),
        ("# Step 1 \N{EN DASH} Ask", "Ask"),
        ("# Step 1 \N{EM DASH} Ask", "Ask"),
        ("# Step 1 Parse the question", "Parse the question"),
        ("# Step 1 a thing", "a thing"),
        ("# Step 1a: Ask", "Ask"),
        ("# Step 12: Ask", "Ask"),
        ("# Step1: Ask", "Ask"),
        ("# STEP 1 -", ""),
        ("# Step 1:", ""),
        ("# Step 1", ""),
        ("# Step 1: Ask: how?  ", "Ask: how?"),
        ("# --- Step 1: Ask ---", "Ask"),
        ("# ===== Step 1 - Ask =====", "Ask"),
        ("# **Step 1: Ask**", "Ask"),
        ("# **Step 1:** Ask", "Ask"),
        ("# [Step 1] Ask", "Ask"),
        ("# Step #1: Ask", "Ask"),
        ("# Step 1.2: Ask", "Ask"),
        ("# Step 1\uff1a Ask", "Ask"),
        ("# Step 1: Write C#", "Write C#"),
        ("# Step " + "1" * 5000, ""),
    ],
)
def test_every_way_of_writing_a_header_is_read(header: str, title: str) -> None:
    source = HEAD + f"        {header}\n        return problem, 0\n"

    assert_faithful(source)
    assert titles(source) == [title]


@pytest.mark.parametrize(
    ("headers", "titles_"),
    [
        (["2a: A", "2b: B"], ["A"]),
        (["2: A", "2a: B", "2b: C"], ["A"]),
        (["2a: A", "2b: B", "3: C"], ["A", "C"]),
        (["2.1: A", "2.2: B"], ["A"]),
        (["1a: A", "2b: B"], ["A", "B"]),
        (["2: A", "2: B"], ["A", "B"]),
        (["2a: A", "3: B", "2b: C"], ["A", "B", "C"]),
    ],
)
def test_lettered_parts_of_a_step_are_one_step(headers: list[str], titles_: list[str]) -> None:
    blocks = [f"        # Step {header}\n        x = 1\n" for header in headers]
    workflow = assert_faithful(HEAD + "".join(blocks) + "        return x, 0\n")

    assert [step.title for step in workflow.steps] == titles_
    assert "".join(step.body for step in workflow.steps).count("x = 1") == len(headers)


def test_the_second_part_of_a_step_keeps_its_title_as_a_comment() -> None:
    source = TWO_STEPS.replace("Step 2: Answer", "Step 1b: Answer")

    assert "        # Part b: Answer\n" in assert_faithful(source).steps[0].body


def test_a_regular_expression_with_a_bare_backslash_is_no_warning() -> None:
    assert titles(HEAD + "        # Step 1: Ask\n        return '\\d', 0\n") == ["Ask"]


@pytest.mark.parametrize(
    "comment",
    [
        "# - Step 2: no",
        "# Steps 1: no",
        "# Step one",
        "# The Step 1",
        "# Step",
        "# Step 2nd",
        "# Stepping 1",
    ],
)
def test_other_comments_are_no_headers(comment: str) -> None:
    source = HEAD + f"        # Step 1: Ask\n        {comment}\n        return problem, 0\n"

    assert titles(source) == ["Ask"]
    assert comment in assert_faithful(source).steps[0].body


@pytest.mark.parametrize(
    "hidden",
    [
        '        text = """\n        # Step 2: no\n        """\n',
        '        text = f"""\n        # Step 2: {problem}\n        """\n',
        "        text = '# Step 2: no'\n",
        "        if problem:\n            # Step 2: no\n            pass\n",
        "        if problem:\n            pass\n            # Step 2: at the end of the block\n",
        "        if problem:\n            x = 1\n"
        "        # Step 2: no\n        else:\n            pass\n",
        "        text = (\n            1 +\n        # Step 2: no\n            2\n        )\n",
        "        text = 1  # Step 2: no\n",
        "        def inner():\n            # Step 2: no\n            return 1\n",
    ],
)
def test_a_header_inside_a_string_or_a_block_is_not_taken_for_one(hidden: str) -> None:
    source = HEAD + f"        # Step 1: Ask\n{hidden}        # Step 2: End\n        return 1, 0\n"

    assert [step.title for step in assert_faithful(source).steps] == ["Ask", "End"]


def test_a_header_inside_the_docstring_is_not_taken_for_one() -> None:
    doc = '        """Does this:\n\n        # Step 1: no\n        # Step 2: no\n        """\n'
    workflow = assert_faithful(HEAD + doc + "        # Step 1: Ask\n        return 1, 0\n")

    assert len(workflow) == 1
    assert doc in workflow.preamble


def test_a_header_outside_of_the_method_is_not_taken_for_one() -> None:
    source = (
        "# Step 0: no\nclass Workflow:\n    # Step 1: no\n    def __init__(self):\n"
        "        # Step 2: no\n        self.x = 1\n\n    # Step 3: no\n"
        "    async def __call__(\n        self,\n        # Step 4: no\n        problem,\n    ):\n"
        "        # Step 5: Ask\n        return 1, 0\n# Step 6: no\n"
    )

    assert titles(source) == ["Ask"]


def test_a_method_on_one_line_has_no_steps() -> None:
    with pytest.raises(SourceError, match="no steps"):
        parse_workflow(
            "class Workflow:\n    # Step 1: no\n    async def __call__(self, p): return p, 0\n"
        )


def test_comments_may_stand_before_the_first_statement() -> None:
    source = (
        HEAD + "\n        # a remark\n\n        # Step 1: Ask\n        # why\n        return 1, 0\n"
    )
    workflow = assert_faithful(source)

    assert workflow.steps == (Step("Ask", "        # why\n        return 1, 0\n"),)
    assert workflow.preamble.endswith("# a remark\n\n")


def test_statements_before_the_first_header_belong_to_the_preamble() -> None:
    workflow = assert_faithful(HEAD + "        x = 1\n        # Step 1: Ask\n        return x, 0\n")

    assert workflow.preamble.endswith("        x = 1\n")


def test_headers_are_renumbered_from_one() -> None:
    source = TWO_STEPS.replace("Step 1:", "Step 4:").replace("Step 2:", "Step 9:")

    assert parse_workflow(source).source == parse_workflow(TWO_STEPS).source


def test_a_step_may_be_empty() -> None:
    source = HEAD + "        # Step 1: Think\n        # Step 2: Answer\n        return 1, 0\n"

    assert assert_faithful(source).steps[0] == Step("Think", "")


def test_code_after_the_class_is_dropped() -> None:
    workflow = parse_workflow(TWO_STEPS + "\nprint('# Step 3: no')\nclass Other:\n    pass\n")

    assert workflow == parse_workflow(TWO_STEPS)


def test_methods_behind_the_call_move_in_front_of_it() -> None:
    behind = '\n    def ask(self):\n        return """\n\ntext"""\n\n    limit = 3\n'
    workflow = assert_faithful(TWO_STEPS + behind)

    (owner,) = ast.parse(workflow.source).body
    assert isinstance(owner, ast.ClassDef)
    names = [getattr(node, "name", "limit") for node in owner.body]
    assert names == ["ask", "limit", "__call__"]
    assert workflow.steps == parse_workflow(TWO_STEPS).steps


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_systems_give_the_same_workflow(newline: str) -> None:
    assert parse_workflow(TWO_STEPS.replace("\n", newline)) == parse_workflow(TWO_STEPS)


@pytest.mark.parametrize("odd", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028"])
def test_characters_that_only_look_like_line_ends_do_not_shift_the_steps(odd: str) -> None:
    source = TWO_STEPS.replace("x = 1", f"x = '{odd}'")

    assert [step.title for step in assert_faithful(source).steps] == ["Ask", "Answer"]


def test_tabs_are_kept() -> None:
    source = TWO_STEPS.replace("        ", "\t\t").replace("    ", "\t")
    workflow = assert_faithful(source)

    assert workflow.steps[0] == Step("Ask", "\t\tx = 1\n")


def test_a_missing_last_newline_is_supplied() -> None:
    assert parse_workflow(TWO_STEPS.rstrip("\n")) == parse_workflow(TWO_STEPS)


def test_a_body_with_another_margin_keeps_it() -> None:
    source = "class Workflow:\n  async def __call__(self, p):\n    # Step 1: Ask\n    return p, 0\n"
    workflow = assert_faithful(source)

    assert workflow.indent == 4
    assert workflow.source == source


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("class Workflow(:\n", "not valid Python", 1),
        ("x = 1\n", "no `class Workflow`", None),
        ("", "no `class Workflow`", None),
        ("class Workflow:\n    pass\n", "no `async def __call__", 1),
        ("class Workflow:\n    def __call__(self, p):\n        pass\n", "no `async def", 1),
        (HEAD + "        return 1, 0\n", "no steps", 3),
        ("x = '\x00'\n", "not valid Python", None),
        ("(" * 500, "not valid Python", None),
    ],
)
def test_what_is_no_workflow_is_refused_with_one_sentence(
    source: str, message: str, line: int | None
) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        parse_workflow(source)

    assert "\n" not in str(caught.value)
    if line is not None:
        assert caught.value.line == line


bodies = st.lists(
    st.sampled_from(
        [
            "x = 1",
            'text = """a\n  # Step 3: no\nb"""',
            'text = f"""{x}\n\n # Step 4: {x!r}\n"""',
            "for i in range(3):\n            x = i\n            # Step 5: no",
            "# a remark",
            "",
            "value = [\n1,\n  2]",
        ]
    ),
    min_size=0,
    max_size=4,
)


@given(st.lists(bodies, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_any_workflow_survives_the_round_trip(steps: list[list[str]], newline: str) -> None:
    blocks = [
        f"        # Step {number}: t{number}\n" + "".join(f"        {line}\n" for line in body)
        for number, body in enumerate(steps, start=1)
    ]
    source = HEAD + "        x = 0\n" + "".join(blocks) + "        return x, 0\n"
    workflow = assert_faithful(source.replace("\n", newline))

    assert [step.title for step in workflow.steps] == [f"t{i}" for i in range(1, len(steps) + 1)]


def run(code: str) -> object:
    namespace: dict[str, object] = {}
    exec(code, namespace)
    return namespace["x"]


@pytest.mark.parametrize(
    "code",
    [
        'x = """a\n   b\n   \n  c"""\n',
        "y = 2\nx = f'''a\n{y}\n   {y!r:>4}\n\n'''\n",
        "y = 2\nx = f'''a\n{f\"\"\"in\n  {y}\"\"\"}\n b'''\n",
        "x = 'a\\\nb'\n",
        "x = (1 +\n2)\n",
        "x = rb'''\n\\x\n '''\n",
        "if True:\n    x = '''\n  '''\n",
        "x = '\u2028\x0c'\ny = '''\n '''\n",
    ],
)
def test_indenting_leaves_string_literals_untouched(code: str) -> None:
    """The same on Python 3.11, where an f-string is one token, and on 3.12, where it is many."""
    indented = indent_code(code, 4)

    assert run("if True:\n" + indented) == run(code)


def test_indenting_removes_the_margin_of_the_first_statement() -> None:
    assert indent_code("\n    x = 1\n    if x:\n        y = 2\n\n", 8) == (
        "        x = 1\n        if x:\n            y = 2\n"
    )


def test_a_margin_is_not_removed_from_inside_a_string() -> None:
    assert indent_code('    x = """a\n    b\n   \n"""\n    y = 1', 2) == (
        '  x = """a\n    b\n   \n"""\n  y = 1\n'
    )


@pytest.mark.parametrize("code", ['x = """a', "    x = 1\n  y = 2\n", "x = (1"])
def test_code_that_cannot_be_read_is_refused(code: str) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        indent_code(code, 8)


@pytest.mark.skipif(DATA is None, reason="BAYESFLOW_TEST_DATA is not set: no appendix_h files")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("drop", 4),
        ("gpqa", 5),
        ("gsm8k", 6),
        ("hotpotqa", 5),
        ("math", 4),
        ("mbpp", 6),
        ("mmlu_pro", 5),
    ],
)
def test_the_papers_workflow_parses_into_its_steps(name: str, count: int) -> None:
    source = (Path(DATA or "") / "appendix_h" / f"{name}.py").read_text("utf-8")
    workflow = parse_workflow(source)
    again = parse_workflow(workflow.source)

    assert len(workflow) == count
    assert again == workflow
    assert ast.dump(ast.parse(workflow.source)) == ast.dump(ast.parse(source))
