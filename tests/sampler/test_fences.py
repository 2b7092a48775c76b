import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.fences import (
    Block,
    after_thought,
    code_blocks,
    looks_like_code,
    plain_blocks,
    string_state,
)
from bayesflow_sampler.source import source_lines

FENCE = "```"


def texts(answer: str) -> list[str]:
    return [block.text for block in code_blocks(source_lines(answer))]


def test_a_fence_is_found_between_prose() -> None:
    answer = "Here:\n\n```python\nx = 1\n```\n\nIt works.\n"

    assert code_blocks(source_lines(answer)) == [Block("x = 1\n", python=True)]


@pytest.mark.parametrize(
    "opening",
    [
        "```",
        "```python",
        "``` python",
        "```py",
        "```Python3",
        "```{.python}",
        '```python title="a.py"',
        "````python",
        "~~~",
        "~~~python",
        "   ```python",
        "Here it is: ```python",
        "Here it is: ```",
        "1. ```python",
        "- ```",
    ],
)
def test_every_way_of_opening_a_fence_is_read(opening: str) -> None:
    closing = "~~~" if "~" in opening else "````"

    assert code_blocks([f"{opening}\n", "x = 1\n", f"{closing}\n", "prose\n"]) == [
        Block("x = 1\n", python=True)
    ]


@pytest.mark.parametrize(
    "line", ["Use `x` here.\n", "Call ```x``` twice.\n", "It ends with x```\n", "``\n"]
)
def test_backticks_in_prose_open_no_fence(line: str) -> None:
    assert texts(line + "prose\n") == []


@pytest.mark.parametrize("language", ["json", "bash", "text", "diff"])
def test_another_language_is_told_apart(language: str) -> None:
    assert [block.python for block in code_blocks([f"{FENCE}{language}\n", "x\n", FENCE])] == [
        False
    ]


def test_several_fences_come_in_order_and_empty_ones_not_at_all() -> None:
    answer = "```\na = 1\n```\n\n```python\n\n```\n~~~\nb = 2\n~~~\n"

    assert texts(answer) == ["a = 1\n", "b = 2\n"]


def test_a_fence_that_is_never_closed_reaches_to_the_end() -> None:
    assert texts("```python\nx = 1\ny = 2") == ["x = 1\ny = 2"]


def test_a_fence_may_be_closed_behind_its_last_statement() -> None:
    assert texts("```python\nreturn x, 0```\nThat is all.\n") == ["return x, 0"]


@pytest.mark.parametrize("quote", ['"""', "'''"])
def test_a_fence_inside_a_string_closes_nothing(quote: str) -> None:
    code = f"x = f{quote}\n```json\n{{}}\n```\n{quote}\ny = 2\n"

    assert texts(f"```python\n{code}```\nprose\n") == [code]


def test_a_string_that_never_ends_does_not_swallow_the_next_fence() -> None:
    assert texts('```\nx = """a\n```\nor\n```\ny = 2\n```\n') == ['x = """a\n', "y = 2\n"]


def test_a_fence_within_a_wrapper_of_markdown_is_found() -> None:
    assert "x = 1\n" in texts("````markdown\nText\n```python\nx = 1\n```\n````\n")


def test_the_quotation_marks_of_a_quoted_fence_are_removed() -> None:
    assert texts("> ```python\n> if x:\n>     y = 1\n> ```\n") == ["if x:\n    y = 1\n"]


def test_a_header_behind_the_language_belongs_to_the_code() -> None:
    assert texts("```python # Step 2: Vote\nx = 1\n```\n") == ["# Step 2: Vote\nx = 1\n"]


def test_a_shorter_mark_does_not_close_a_longer_fence() -> None:
    assert texts("````\nx = 1\n```\ny = 2\n````\n") == ["x = 1\n```\ny = 2\n"]


@pytest.mark.parametrize(
    "line",
    [
        "# Step 2: Vote",
        "        # STEP 2 - Vote",
        "### Step 2",
        "import re",
        "from collections import Counter",
        "class Workflow:",
        "    async def __call__(self, problem):",
        "def helper(x):",
        "@cache",
        "x = 1",
        "x, y = 1, 2",
        "self.votes: list[str] = []",
        "x['a'] += 1",
        "return x, 0",
        "return self.llm.get()",
        "return",
        "for x in y:",
        "async for x in y:",
        "while True:  # always",
        "else:",
        "await self.llm.call_llm(",
        "votes.append(x)",
    ],
)
def test_code_is_taken_for_code(line: str) -> None:
    assert looks_like_code(line + "\n")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "This workflow votes.",
        "Note: it's cheap.",
        "- It asks twice",
        "# Steps",
        "return the answer to me",
        "import is hard",
        "For example:",
        "x == y",
        "The class of problems (see above).",
        "In step 2: vote",
        "x" * 5000 + " = 1",
    ],
)
def test_prose_is_not_taken_for_code(line: str) -> None:
    assert not looks_like_code(line + "\n")


def test_plain_code_begins_at_the_first_line_that_looks_like_it() -> None:
    assert plain_blocks(source_lines("Sure.\nx = 1\n\n    y\nprose\nz = 2\n")) == [
        "x = 1\n\n    y\nprose\nz = 2\n",
        "z = 2\n",
    ]


def test_prose_has_no_plain_code() -> None:
    assert plain_blocks(source_lines("I cannot help with that.\n")) == []


def test_no_more_beginnings_are_given_than_asked_for() -> None:
    assert len(plain_blocks(["x = 1\n", "prose\n"] * 9, limit=3)) == 3


@pytest.mark.parametrize(
    ("answer", "rest"),
    [
        ("<think>\nx = 1\nso</think>y = 2\nz\n", "y = 2\nz\n"),
        ("\n <thinking>a</thinking>\ny\n", "\ny\n"),
        ("I think\n</think>\ny\n", "\ny\n"),
        ("x = r.split('</think>')[-1]\ny\n", None),
        ('# Step 1: a\nx = """<think>\n</think>\n"""\n', None),
        ("<think>\nwithout an end\n", None),
        ("x\n", None),
    ],
)
def test_the_thought_in_front_of_an_answer_is_left_out(answer: str, rest: str | None) -> None:
    lines = source_lines(answer)

    assert "".join(after_thought(lines)) == (answer if rest is None else rest)


@pytest.mark.parametrize(
    ("line", "inside", "after"),
    [
        ("x = 1\n", "", ""),
        ('x = """a\n', "", '"""'),
        ("x = '''a\n", "", "'''"),
        ('x = """a"""\n', "", ""),
        ('x = """a""" + """b\n', "", '"""'),
        ('x = \'"""\'\n', "", ""),
        ('# it is """\n', "", ""),
        ('x = "# no" + """a\n', "", '"""'),
        ('end"""\n', '"""', ""),
        ("'''\n", '"""', '"""'),
        ('\\""" no\n', '"""', '"""'),
        ("\"\"\" + '''\n", '"""', "'''"),
        ("it's\n", "", ""),
        ("x = 'a\\'b' + '''\n", "", "'''"),
    ],
)
def test_open_strings_are_followed_from_line_to_line(line: str, inside: str, after: str) -> None:
    assert string_state(line, inside) == after


@given(st.lists(st.sampled_from(["```", "~~~", "```py", "x", "'''", '"""', "> ```", "a ```"])))
def test_blocks_hold_lines_of_the_answer_in_order(lines: list[str]) -> None:
    answer = [f"{line}\n" for line in lines]
    found = "".join(block.text for block in code_blocks(answer))

    left = iter("".join(answer))
    assert all(character in left for character in found)
