import ast
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.answer import Draft, Unreadable, read_answer
from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.ports import Reply
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Step, Workflow

ROOT = Workflow(PREAMBLE, ())
ASK = Step("Ask", "        replies = await self.llm.call_llm(messages=[problem])\n")
ONE = Workflow(PREAMBLE, (ASK,))
HELPED = Workflow(
    PREAMBLE,
    (
        Step(
            "Clean",
            "        text = clean(problem)\n",
            "import re\n\n\ndef clean(text):\n    return re.sub(' ', '', text)\n",
        ),
    ),
)
DATA = os.environ.get("BAYESFLOW_TEST_DATA")


def draft(prefix: Workflow, text: str) -> Workflow:
    """What was read; it is checked to be whole, and to begin with the prefix."""
    read = read_answer(prefix, Reply(text))
    assert isinstance(read, Draft), read
    workflow = read.workflow
    parsed = parse_workflow(workflow.source)

    assert [(step.title, step.body) for step in parsed.steps] == [
        (step.title, step.body) for step in workflow.steps
    ]
    if len(workflow) > len(prefix):
        assert workflow.steps[: len(prefix)] == prefix.steps
    return workflow


def trouble(prefix: Workflow, text: str) -> Unreadable:
    read = read_answer(prefix, Reply(text))
    assert isinstance(read, Unreadable), read
    assert "\n" not in read.explanation
    return read


def in_class(body: str, before: str = "", members: str = "") -> str:
    return (
        f"{before}class Workflow:\n{members}    async def __call__(self, problem):\n"
        f'        """Answers."""\n{body}'
    )


# --- shapes ---------------------------------------------------------------------------------------

STEP = "# Step 2: Vote\nif replies:\n    best = replies[0]\nreturn best, 0\n"
VOTE = Step("Vote", "        if replies:\n            best = replies[0]\n        return best, 0\n")


def indented(code: str, margin: str) -> str:
    return "".join(f"{margin}{line}" for line in code.splitlines(keepends=True))


@pytest.mark.parametrize(
    "answer",
    [
        STEP,
        indented(STEP, "    "),
        indented(STEP, "        "),
        indented(STEP, "   "),
        indented(STEP, "\t"),
        indented(STEP, "\t\t").replace("    ", "\t"),
        indented(STEP, "        ").lstrip(),
        indented(STEP, "\u00a0\u00a0"),
        STEP.replace("\n", "\r\n"),
        f"```python\n{STEP}```",
        f"Sure!\n\n```\n{STEP}```\nIt doesn't cost much.",
        f"Sure!\n\n{STEP}\nThis isn't expensive: it asks nobody.\n- It's fast.\n",
        f"```python\n{STEP}\n",
        "async def __call__(self, problem):\n" + indented(STEP, "    "),
        "    async def __call__(self, problem):\n" + indented(STEP, "        "),
        in_class(indented(STEP, "        ")),
        in_class("        # Step 1: Ask\n        pass\n" + indented(STEP, "        ")),
        in_class(indented(STEP, "        ")) + "\nprint(1)\nclass Other:\n    pass\n",
        "def __call__(self, problem):\n" + indented(STEP, "  "),
        f"<think>\n# Step 2: No\nx = 1\n</think>\n{STEP}",
    ],
)
def test_every_shape_of_an_answer_gives_the_same_step(answer: str) -> None:
    assert draft(ONE, answer) == Workflow(PREAMBLE, (ASK, VOTE))


def test_the_inside_of_strings_is_never_indented() -> None:
    code = '# Step 2: Prompt\ntext = """a\n  b\n\tc\n# Step 9: no\n"""\nreturn text, 0'
    workflow = draft(ONE, code)

    assert '"""a\n  b\n\tc\n# Step 9: no\n"""' in workflow.source
    assert len(workflow) == 2


def test_a_prefix_in_tabs_is_continued_in_tabs() -> None:
    source = PREAMBLE.replace("    ", "\t") + "\t\t# Step 1: Ask\n\t\tx = 1\n"
    prefix = parse_workflow(source)

    assert draft(prefix, STEP).steps[1].body.startswith("\t\tif replies:\n\t\t    best")
    text = "# Step 2: Text\nif 1:\n    x = '''a\n    b\n'''\nreturn x, 0\n"
    assert "\n    b\n" in draft(prefix, text).steps[1].body


def test_imports_at_the_margin_and_statements_at_theirs_are_told_apart() -> None:
    workflow = draft(ONE, "import re\n\n" + indented(STEP, "        "))

    assert workflow.steps[1] == Step(VOTE.title, VOTE.body, "import re\n")


def test_statements_in_front_of_the_first_header_open_the_first_new_step() -> None:
    workflow = draft(ROOT, in_class("        cost = 0\n        # Step 1: Ask\n        x = cost\n"))

    assert workflow.steps[0].body == "        cost = 0\n        x = cost\n"


@pytest.mark.parametrize(
    "broken",
    [
        "# Step 2: A\nx = 1\n\nif x\n    y\n",
        "        # Step 2: A\n        x = 1\n        Oops this breaks\n",
        "# Step 2: A\nx = 1\nfor y in\n",
        "```\n# Step 2: A\nx = 1\n\nThis is no comment.\n```\n",
        "# Step 2: A\nx = (\n\nand then\n\n# Step 3: B\nreturn 1, 0\n",
        "```\n# Step 2: A\nx = (\n```\nand then\n```\n# Step 3: B\nreturn 1, 0\n```",
    ],
)
def test_broken_code_is_never_cut_off_as_if_it_were_prose(broken: str) -> None:
    assert trouble(ONE, broken).trouble == "syntax"


def test_the_explanation_names_the_line() -> None:
    found = trouble(ONE, "Sure:\n```python\n# Step 2: A\nx = (\nreturn 1, 0\n```\n")

    assert "Line 2 of the code (`x = (`)" in found.explanation
    assert found.code == "# Step 2: A\nx = (\nreturn 1, 0\n"


def test_a_bare_statement_in_front_of_the_header_may_assign_a_variable_of_the_prefix() -> None:
    body = draft(ONE, "replies = replies[:1]\n" + STEP).steps[1].body

    assert body == "        replies = replies[:1]\n" + VOTE.body


def test_blank_lines_in_front_of_the_code_do_not_shift_the_line_that_is_named() -> None:
    found = trouble(ONE, "```\n\n\n    # Step 2: A\n    x = 1 +\n```\n")

    assert "Line 2 of the code (`x = 1 +`)" in found.explanation


def test_code_that_cuts_off_a_thought_is_no_thought() -> None:
    code = "# Step 2: Cut\nx = replies[0].split('</think>')[-1]\nreturn x, 0\n"

    assert "split('</think>')" in draft(ONE, code).steps[1].body


# --- the prefix -----------------------------------------------------------------------------------


def test_a_prefix_that_was_changed_is_ours() -> None:
    body = (
        "        # Step 1: Ask twice\n"
        "        replies = await self.llm.call_llm(messages=[problem], num_of_response=2)\n"
    )

    assert draft(ONE, in_class(body + indented(STEP, "        "))).steps == (ASK, VOTE)


def test_a_body_that_starts_at_one_without_resembling_ours_is_renumbered() -> None:
    workflow = draft(ONE, "# Step 1: Sum\ntotal = sum(map(int, replies))\nreturn total, 0\n")

    assert [step.title for step in workflow.steps] == ["Ask", "Sum"]


def test_a_repeated_prefix_alone_is_no_step() -> None:
    assert trouble(ONE, in_class("        # Step 1: Ask\n" + ASK.body)).trouble == "no step"


def test_steps_that_skip_numbers_are_renumbered() -> None:
    assert "# Step 2: Vote" in draft(ONE, STEP.replace("Step 2", "Step 7")).source


@pytest.mark.parametrize(
    "answer",
    [
        "return replies[0], 0",
        "```python\nreturn replies[0], 0\n```",
        in_class("        # Step 1: Ask\n" + ASK.body + "        return replies[0], 0\n"),
        in_class(ASK.body + "\n        # the end\n        return replies[0], 0\n"),
    ],
)
def test_a_bare_return_finishes_the_workflow_without_a_new_step(answer: str) -> None:
    workflow = draft(ONE, answer)

    assert workflow == Workflow(
        PREAMBLE, (Step("Ask", ASK.body + "        return replies[0], 0\n"),)
    )


def test_a_bare_return_finishes_no_empty_prefix() -> None:
    assert trouble(ROOT, "return problem, 0").trouble == "no step"


def test_code_without_a_header_is_no_step() -> None:
    assert trouble(ONE, "```\nx = replies[0]\nreturn x, 0\n```").trouble == "no step"


# --- definitions and members ----------------------------------------------------------------------


def test_new_definitions_come_with_the_first_new_step() -> None:
    before = (
        "from __future__ import annotations\nimport re\nfrom math import gcd\n\nLIMIT = 3\n\n\n"
        "def clean(text):\n    return re.sub(' ', '', text)\n\n\n"
        "def other(text):\n    return LIMIT\n"
    )
    workflow = draft(HELPED, in_class(indented(STEP, "        "), before))
    module = workflow.steps[1].module

    assert ast.dump(ast.parse(module)) == ast.dump(
        ast.parse("from math import gcd\nLIMIT = 3\ndef other(text):\n    return LIMIT\n")
    )
    assert workflow.source.count("def clean") == 1


def test_a_helper_of_ours_that_was_changed_stays_ours_if_no_new_step_needs_it() -> None:
    before = "def clean(text):\n    return text.upper()\n\n\n"

    assert draft(HELPED, in_class(indented(STEP, "        "), before)).steps[1].module == ""


def test_a_helper_of_ours_with_another_docstring_is_still_ours() -> None:
    before = 'def clean(text) -> str:\n    """Cleans."""\n    return re.sub(" ", "", text)\n\n\n'
    step = "        # Step 2: Use\n        return clean(text), 0\n"

    assert draft(HELPED, in_class(step, before)).steps[1].module == ""


@pytest.mark.parametrize(
    "before",
    [
        "def clean(text):\n    return text.upper()\n",
        "from math import floor as clean\n",
        "def clean(text):\n    return 1\n\n\ndef caller(text):\n    return clean(text)\n",
    ],
)
def test_a_new_step_that_needs_another_helper_of_that_name_is_refused(before: str) -> None:
    step = "        # Step 2: Use\n        return clean(text), caller(text)\n"
    found = trouble(HELPED, in_class(step, before))

    assert found.trouble == "syntax"
    assert "`clean`" in found.explanation
    assert "another name" in found.explanation


def test_a_stub_of_the_sandbox_replaces_nothing() -> None:
    before = "def create_llm_instance(config):\n    return None\n\n\n"
    workflow = draft(ROOT, in_class("        # Step 1: Ask\n        return 1, 0\n", before))

    assert "def create_llm_instance" not in workflow.source


def test_an_import_is_kept_without_the_names_that_are_ours() -> None:
    prefix = Workflow(
        PREAMBLE, (Step("Count", "        n = gcd(4, 2)\n", "from math import gcd\n"),)
    )
    workflow = draft(prefix, "from math import gcd, sqrt\n" + STEP)

    assert workflow.steps[1].module == "from math import sqrt\n"


def test_an_import_never_replaces_a_builtin_that_the_prefix_reads() -> None:
    prefix = Workflow(PREAMBLE, (Step("Add", "        n = pow(4, 2)\n"),))

    assert draft(prefix, "from math import pow\n" + STEP).steps[1].module == ""
    assert trouble(prefix, "from math import pow\n# Step 2: P\nreturn pow(1, 2), 0").trouble == (
        "syntax"
    )


def test_a_constant_finds_the_import_of_the_preamble() -> None:
    prefix = Workflow("import re\n\n\n" + PREAMBLE, (Step("Find", "        m = re.I\n"),))
    workflow = draft(prefix, "import re\n\nWORD = re.compile('a')\n" + STEP)

    exec(compile(workflow.source, "workflow", "exec"), {})
    assert workflow.steps[1].module.startswith("import re\n")


def test_main_blocks_and_statements_on_one_line_do_not_confuse_definitions() -> None:
    before = "import re; import math\nif __name__ == '__main__':\n    print(1)\n"

    module = draft(ONE, in_class(indented(STEP, "        "), before)).steps[1].module
    assert module == "import re\nimport math\n"


def test_new_members_stand_in_front_of_the_call() -> None:
    members = (
        "    LIMIT = 3\n\n"
        "    def __init__(self, name, llm_config, dataset):\n        self.x = 1\n\n"
        "    @staticmethod\n    def pick(texts):\n        return texts[0]\n\n"
    )
    workflow = draft(ONE, in_class(indented(STEP, "        "), members=members))
    inserted = (
        "    LIMIT = 3\n\n    @staticmethod\n    def pick(texts):\n        return texts[0]\n\n"
    )

    assert workflow.preamble == PREAMBLE.replace("    async", inserted + "    async")


def test_a_member_behind_the_call_counts_as_well() -> None:
    answer = in_class(indented(STEP, "        ")) + "\n    def pick(self):\n        return 1\n"

    assert "def pick(self)" in draft(ONE, answer).preamble


def test_another_init_is_taken_for_an_empty_prefix_alone() -> None:
    init = "    def __init__(self, name, llm_config, dataset):\n        self.votes = 3\n\n"
    answer = in_class("        # Step 1: Ask\n        return 1, 0\n", members=init)

    assert "self.votes = 3" in draft(ROOT, answer).preamble
    assert "self.name = name" not in draft(ROOT, answer).preamble
    assert draft(HELPED, answer).preamble == PREAMBLE


def test_an_init_that_says_the_same_leaves_the_preamble_as_it_is() -> None:
    init = (
        "    def __init__(self, name: str, llm_config: dict, dataset) -> None:\n"
        '        """Sets up."""\n        self.name = name\n        self.dataset = dataset\n'
        "        self.llm = create_llm_instance(llm_config)\n\n"
    )
    answer = in_class("        # Step 1: Ask\n        return 1, 0\n", members=init)

    assert draft(ROOT, answer).preamble == PREAMBLE


def test_a_step_that_needs_another_method_of_that_name_is_refused() -> None:
    prefix = draft(
        ROOT,
        in_class("        # Step 1: A\n        x = self.f()\n", members="    def f(self): 1\n"),
    )
    other = in_class(
        "        # Step 2: B\n        return self.f(), 0\n", members="    def f(self): 2\n"
    )

    assert "`f`" in trouble(prefix, other).explanation


# --- several blocks -------------------------------------------------------------------------------


def fenced(*codes: str) -> str:
    return "\n".join(f"Next:\n```python\n{code}\n```" for code in codes)


def test_blocks_are_joined_while_the_numbering_continues() -> None:
    answer = fenced("import re", "# Step 2: A\na = 1", "# Step 3: B\nb = a", "return b, 0")
    workflow = draft(ONE, answer)

    assert [step.title for step in workflow.steps] == ["Ask", "A", "B"]
    assert workflow.steps[1].module == "import re\n"
    assert workflow.steps[2].body == "        b = a\n        return b, 0\n"


def test_where_the_numbering_restarts_the_last_candidate_that_parses_counts() -> None:
    answer = fenced("# Step 2: First\na = 1", "# Step 2: Last\na = 2", "# Step 2: Broken\na = (")

    assert [step.title for step in draft(ONE, answer).steps] == ["Ask", "Last"]


def test_a_block_that_ends_within_the_class_has_the_next_one_behind_it() -> None:
    head = "class Workflow:\n    async def __call__(self, problem):"

    assert draft(ONE, fenced(head, indented(STEP, "        "))).steps == (ASK, VOTE)


def test_of_two_classes_the_last_counts_and_the_first_defines_nothing() -> None:
    first = in_class("        # Step 2: First\n        return 1, 0\n", "import re\n")
    workflow = draft(ONE, f"{first}\n{in_class(indented(STEP, '        '))}")

    assert workflow.steps == (ASK, Step(VOTE.title, VOTE.body, "import re\n"))


def test_of_two_calls_in_a_class_the_last_counts_and_the_first_is_no_member() -> None:
    first = (
        "    async def __call__(self, problem):\n        # Step 2: First\n        return 1, 0\n\n"
    )
    workflow = draft(ONE, in_class(indented(STEP, "        "), members=first))

    assert workflow == Workflow(PREAMBLE, (ASK, VOTE))


def test_examples_of_use_are_left_out() -> None:
    answer = fenced(STEP, "w = Workflow('a', {}, None)\nprint(w)") + '\n```json\n{"a": 1}\n```\n'

    assert draft(ONE, answer).steps == (ASK, VOTE)


# --- hostile text ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "# Step 2: a\nx = " + "-" * 20_000 + "1\n",
        "# Step 2: a\nx = a" + ".b" * 20_000 + "\n",
        "# Step 2: a\nx = " + "(" * 20_000 + "\n",
        "# Step 2: a\nx = '\x00'\n",
        "# Step 2: \ud800\nx = 1\n",
        "# Step 2: a\n" + "".join(f"{' ' * n}if x:\n" for n in range(120)) + " " * 120 + "x = 1\n",
        "```python\n# Step 2: a\n" + "x = 1\n" * 10_000 + "```",
    ],
)
def test_code_that_python_cannot_read_is_explained(text: str) -> None:
    assert trouble(ONE, text).trouble == "syntax"


def test_a_backslash_that_python_warns_of_is_no_trouble() -> None:
    assert len(draft(ONE, "# Step 2: Find\nreturn '\\d', 0\n")) == 2


@pytest.mark.parametrize("piece", ["```\n\\'''\n```\n", "> ```\n", "x = 1\n", "'''", "a ", "`"])
def test_a_million_characters_are_read_in_bounded_memory_and_without_an_error(piece: str) -> None:
    trouble(ONE, piece * (1_000_000 // len(piece)))


# --- laws -----------------------------------------------------------------------------------------

LINES = [
    "import re",
    "# Step 1: Ask",
    "# Step 2: Vote",
    "# Step 2b: Vote",
    "# Step 3: End",
    "  # Step 4: in",
    "x = 1",
    "if x:\n    y = 2",
    "def f(a):\n    return a",
    'text = """a\n # Step 5: no\n"""',
    "return x, 0",
    "```",
    "prose, isn't it",
    "class Workflow:\n    async def __call__(self, problem):\n        # Step 1: Ask\n        pass",
]


@given(
    st.sampled_from([ROOT, ONE, HELPED]),
    st.lists(st.sampled_from(LINES), max_size=10),
    st.sampled_from(["", "    ", "\t"]),
)
def test_whatever_is_read_keeps_the_prefix_and_reads_the_same_again(
    prefix: Workflow, lines: list[str], margin: str
) -> None:
    read = read_answer(prefix, Reply("\n".join(indented(line, margin) for line in lines)))
    if isinstance(read, Unreadable):
        assert read.explanation
        return
    source = read.workflow.source
    again = read_answer(prefix, Reply(source))

    assert parse_workflow(source).source == source
    assert isinstance(again, Draft)
    assert again.workflow.source == source


@pytest.mark.skipif(DATA is None, reason="BAYESFLOW_TEST_DATA is not set: no appendix_h files")
@pytest.mark.parametrize("name", ["drop", "gpqa", "gsm8k", "hotpotqa", "math", "mbpp", "mmlu_pro"])
def test_the_papers_workflow_is_read_behind_each_of_its_prefixes(name: str) -> None:
    source = (Path(DATA or "") / "appendix_h" / f"{name}.py").read_text("utf-8")
    whole = draft(ROOT, f"```python\n{source}\n```")

    assert len(whole) == len(parse_workflow(source))
    for length in range(len(whole)):
        assert draft(whole.prefix(length), f"Sure:\n```python\n{source}```\nDone.") == whole
