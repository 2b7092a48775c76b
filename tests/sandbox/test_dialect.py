"""What the interpreter lacks is said in Python that it has: the same answers, the same lines."""

import ast
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sandbox.dialect import adapt
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost

_HEAD = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Only
"""

BODIES = [
    'votes = ["a", "b", "a"]\nreturn max(set(votes), key=votes.count)',
    'sums = {"ä": 1, "b": 2}\nreturn max(sums, key=sums.get)',
    'rows = [{"n": 2}, {"n": 1}]\nreturn sorted(rows[0], key=rows[0].get)[0]',
    'return list(map(str.strip, [" a", "b "]))',
    'return list(filter(str.isdigit, ["1", "x"]))',
    'return sorted(["B", "a"], key=str.lower)',
    'groups = [["a"], ["b", "c"]]\nreturn [max(g, key=g.count) for g in groups]',
    "return next(x for x in [1, 2] if x > 1)",
    "return next((x for x in [1, 2] if x > 3), None)",
    'return next(\n    line.strip()\n    for line in ["", "é"]\n    if line\n)',
    'return next(max(w, key=w.count) for w in ["aab"])',
    'return [(2.0).is_integer(), (2.5 + 1).is_integer(), float("3").is_integer()]',
    "value = 7.0\nreturn int(value) if value.is_integer() else value",
    "return [x.is_integer() and x > 1 for x in [1.0, 2.0, 2.5]]",
    'return f"{max([3, 1], key=[3, 3, 1].count)}"',
    'x = 3.0\nreturn f"\\\\boxed{{{int(x) if x.is_integer() else x}}}"',
]


def source_of(body: str) -> str:
    return _HEAD + "".join(f"        {line}\n" for line in body.splitlines())


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with Sandbox(workers=1) as opened:
        yield opened


@pytest.mark.parametrize("body", BODIES)
async def test_it_means_what_python_means(sandbox: Sandbox, body: str) -> None:
    function = "def run(problem):\n" + "".join(f"    {line}\n" for line in body.splitlines())
    world: dict[str, Any] = {}
    exec(function, world)  # written above, so no stranger's code
    outcome = await sandbox.run_workflow(source_of(body), ["Q"], EchoHost())
    assert outcome.failure is None
    assert outcome.value == world["run"]("Q")


@pytest.mark.parametrize("body", BODIES)
def test_lines_stay_where_they_are(body: str) -> None:
    source = source_of(body)
    adapted = adapt(source, ast.parse(source))
    assert adapted != source
    assert adapted.count("\n") == source.count("\n")
    ast.parse(adapted)


@pytest.mark.parametrize(
    "code",
    [
        "x = len('a')\n",
        "text = 'next(x for x in y) key=d.get value.is_integer()'\n",
        "keep = sorted(d, key=len) + sorted(d, key=lambda k: d[k])\n",
        "def is_integer(x):\n    return True\nis_integer(3)\n",
        "flag = value.is_integer(3)\n",
        "flag = value.is_integer\n",
        "flag = value. \\\n    is_integer()\n",
    ],
)
def test_what_needs_nothing_stays_as_it_is(code: str) -> None:
    assert adapt(code, ast.parse(code)) == code


async def test_a_failure_shows_the_author_s_own_line(sandbox: Sandbox) -> None:
    body = "votes = None\nreturn max([1], key=votes.count)"
    outcome = await sandbox.run_workflow(source_of(body), ["Q"], EchoHost())
    assert outcome.failure is not None
    assert outcome.failure.code == "return max([1], key=votes.count)"


@given(st.lists(st.sampled_from(BODIES), min_size=1, max_size=4))
def test_many_in_one_text_are_all_adapted(bodies: list[str]) -> None:
    source = "".join(
        f"def run{n}(problem):\n" + "".join(f"    {line}\n" for line in body.splitlines())
        for n, body in enumerate(bodies)
    )
    once = adapt(source, ast.parse(source))
    alone = "".join(
        adapt(one, ast.parse(one))
        for one in (
            f"def run{n}(problem):\n" + "".join(f"    {line}\n" for line in body.splitlines())
            for n, body in enumerate(bodies)
        )
    )
    assert once == alone
