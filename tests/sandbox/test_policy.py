import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sandbox.policy import (
    MAX_SOURCE_CHARACTERS,
    Violation,
    check_workflow,
    describe,
    violations,
)
from sandbox.workflows import workflow

GOOD = [
    "return problem",
    "import re, json\nreturn re.findall('[0-9]+', json.dumps(problem))",
    "from statistics import median as middle\nreturn middle([1, 2, 3])",
    "import statistics as st\nreturn st.mean([1, 2])",
    "from __future__ import annotations\nreturn 1",
    "try:\n    return int(problem)\nexcept Exception as error:\n    return type(error).__name__",
    "return '{} and {name:>{width}}'.format(1, name=problem, width=5)",
    "return f'{self.name.upper()} {[1, 2][0]}'",
    "for _ in range(3):\n    pass\nreturn [x for x in 'abc' if x]",
    "match problem:\n    case str(text):\n        return 1\n    case {'a': b}:\n        return b",
    "print('__class__')\nreturn 'open(eval)'",
]

BAD: list[tuple[str, str]] = [
    ("import", "import os"),
    ("import", "import os.path"),
    ("import", "import sys as json"),
    ("import", "from os import path"),
    ("import", "from . import x"),
    ("import", "from json import codecs"),
    ("import", "from random import _os"),
    ("import", "from math import *"),
    ("import", "import asyncio\nasyncio.run(1)"),
    ("import", "import asyncio as a\na.create_subprocess_shell('id')"),
    ("import", "import statistics\nstatistics.sys.modules"),
    ("import", "import json\njson.codecs.open('x')"),
    ("import", "import typing\ntyping.get_type_hints(self)"),
    ("import", "import collections\ncollections.abc.sys"),
    ("module", "import statistics\nm = statistics\nm.sys"),
    ("module", "import re\nreturn [re]"),
    ("module", "import re\nfor re in [1]:\n    pass"),
    ("module", "import math\nmath.pi = 3"),
    ("module", "from collections import Counter\nCounter.update = print"),
    ("module", "import collections\ncollections.Counter.update = print"),
    ("module", "import math\ndel math.pi"),
    ("name", "open('x')"),
    ("name", "o = open"),
    ("name", "return [eval][0]('1')"),
    ("name", "exec('1')"),
    ("name", "compile('1', '', 'eval')"),
    ("name", "getattr(self, 'x')"),
    ("name", "map(getattr, [self], ['x'])"),
    ("name", "setattr(self, 'x', 1)"),
    ("name", "delattr(self, 'x')"),
    ("name", "globals()"),
    ("name", "locals()"),
    ("name", "vars(self)"),
    ("name", "dir(self)"),
    ("name", "input()"),
    ("name", "breakpoint()"),
    ("name", "license"),
    ("name", "__import__('os')"),
    ("name", "__builtins__"),
    ("name", "\uff45val('1')"),  # NFKC: eval
    ("name", "type('X', (), {})"),
    ("name", "type(*['X', (), {}])"),
    ("name", "t = type"),
    ("name", "import re as __builtins__"),
    ("name", "global __builtins__\n__builtins__ = 1"),
    ("name", "def __del__(self):\n    pass"),
    ("name", "lambda __x: 1"),
    ("name", "class A:\n    def __eq__(self, other):\n        return True"),
    ("name", "class A:\n    __eq__ = print"),
    ("name", "match self:\n    case object(__class__=c):\n        return c"),
    ("name", "match self:\n    case object(gi_frame=f):\n        return f"),
    ("name", "match self:\n    case object(_loop=f):\n        return f"),
    ("name", "match 'x':\n    case str(format=f):\n        return f"),
    ("name", "match self:\n    case __x:\n        return 1"),
    ("name", "try:\n    pass\nexcept Exception as __e:\n    pass"),
    ("name", "dict(__class__=1)"),
    ("attribute", "self.__class__"),
    ("attribute", "().__class__.__bases__"),
    ("attribute", "self.__init__.__globals__"),
    ("attribute", "self.llm._client"),
    ("attribute", "self._private"),
    ("attribute", "(i for i in []).gi_frame"),
    ("attribute", "self().cr_frame.f_back"),
    ("attribute", "print.f_globals"),
    ("attribute", "int.mro()"),
    ("attribute", "self.x.get_loop()"),
    ("attribute", "f'{self.__class__}'"),
    ("attribute", "f'{1:{self.__class__}}'"),
    ("attribute", "[x.__class__ for x in '']"),
    ("attribute", "@self.__class__\ndef f():\n    pass"),
    ("attribute", "def f(x: self.__class__):\n    pass"),
    ("attribute", "self.__x = 1"),
    ("format", "'{0.x}'.format(self)"),
    ("format", "'{0[x]}'.format(self)"),
    ("format", "'{:{0.x}}'.format(self)"),
    ("format", "'{x.y}'.format_map({})"),
    ("format", "problem.format(self)"),
    ("format", "f'{problem}'.format(self)"),
    ("format", "('{0.' + 'x}').format(self)"),
    ("format", "f = '{0.x}'.format\nf(self)"),
    ("format", "str.format('{0.x}', self)"),
    ("format", "'}{'.format(self)"),
    ("exec_code", "exec_code(problem, 'f')"),
]


def rules(source: str) -> set[str]:
    return {violation.rule for violation in violations(source)}


@pytest.mark.parametrize("body", GOOD)
def test_ordinary_code_is_accepted(body: str) -> None:
    assert violations(workflow(body)) == ()
    assert check_workflow(workflow(body)) is None


@pytest.mark.parametrize(("rule", "body"), BAD)
def test_a_breach_is_found_wherever_it_stands(rule: str, body: str) -> None:
    assert rule in rules(workflow(body))
    if "self" not in body:
        assert rule in rules(workflow("return 1", before=body + "\n"))


def test_a_breach_names_its_line_and_what_to_do() -> None:
    assert violations(workflow("x = 1\nopen('x')")) == (
        Violation("name", "`open` is not allowed: remove it or rename yours.", 10),
    )


def test_exec_code_is_refused_once_with_one_sentence() -> None:
    found = violations(workflow("exec_code(problem, 'f')\nexec_code(problem, 'f')"))
    assert [(item.rule, item.line) for item in found] == [("exec_code", 9)]
    assert found[0].message.count(". ") == 0


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        ("syntax", "def ("),
        ("syntax", "x = '\ud800'"),
        ("syntax", "x = 1\0"),
        ("syntax", "(" * 500),
        ("syntax", "#" * (MAX_SOURCE_CHARACTERS + 1)),
        ("workflow", ""),
        ("workflow", "class Work:\n    pass"),
        ("workflow", "if True:\n    class Workflow:\n        pass"),
        (
            "workflow",
            "class Workflow:\n    def __call__(self):\n        # Step 1: x\n        return 1",
        ),
        ("workflow", workflow("return 1") * 2),
        ("steps", workflow("return 1").replace("# Step 1", "# Phase 1")),
        ("steps", workflow("if 1:\n    # Step 2: x\n    pass").replace("# Step 1", "#")),
        ("steps", workflow("x = '''\n# Step 2: x\n'''").replace("# Step 1", "#")),
    ],
)
def test_what_is_no_workflow_is_said_to_be_none(rule: str, source: str) -> None:
    assert rules(source) == {rule}
    assert check_workflow(source)


def test_the_check_tells_three_breaches_and_counts_the_rest() -> None:
    refusal = check_workflow(workflow("open(1)\neval(2)\nexec(3)\nvars(4)\ndir(5)"))
    assert refusal is not None
    assert refusal.startswith("line 9: `open` is not allowed")
    assert refusal.endswith("(2 more)")


def test_the_description_tells_every_module_and_the_shape() -> None:
    text = describe()
    for part in ("class Workflow", "# Step 1:", "statistics:", "create_llm_instance", "f-strings"):
        assert part in text


@given(st.text(max_size=300))
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    assert violations(text)


FRAGMENTS = (
    "class Workflow :\n async def __call__ ( self ) # Step 1: x\n return import re from . f'{x}' "
    "'{0.a}' .format lambda : match case {} [] * ** = := @ \\\n \t \f \r \0 \ud800 0x1 1e999 await "
    "yield __x__ type type( global nonlocal del try except* b'' '''"
)


@given(st.lists(st.sampled_from(FRAGMENTS.split(" ")), max_size=60), st.sampled_from(["", " "]))
def test_any_heap_of_python_is_judged_without_a_crash(parts: list[str], glue: str) -> None:
    violations(glue.join(parts))
    violations(workflow("return 1") + glue.join(parts))


@given(st.sampled_from([body for _, body in BAD]), st.integers(0, 6))
def test_hiding_a_breach_in_nested_blocks_does_not_help(body: str, depth: int) -> None:
    nested = body
    for _ in range(depth):
        nested = "if problem:\n" + "\n".join("    " + line for line in nested.split("\n"))
    assert violations(workflow(nested))


DEEP = [
    "'(' * 90 + ')' * 90",
    "'-' * 90000 + '1'",
    "'+'.join(['1'] * 45000)",
    "'a' + '.b' * 45000",
    "'lambda:' * 14000 + '1'",
    "'[' * 190 + ']' * 190",
    "'not ' * 24000 + '1'",
    "'f(' * 190 + ')' * 190",
    "'\\n'.join(' ' * i + 'if 1:' for i in range(95))",
    "'a' + '[0]' * 30000",
    "'x=' * 45000 + '1'",
    "'1 if 1 else ' * 8000 + '1'",
]


def test_deep_nesting_is_judged_without_a_crash() -> None:
    """In a process of its own: a stack overflow would take the test run along."""
    root = Path(__file__).parents[2]
    for deep in DEEP:
        source = (
            f"import sys; sys.path.insert(0, {str(root / 'sandbox')!r})\n"
            f"from bayesflow_sandbox.policy import violations\nassert violations({deep})\n"
        )
        subprocess.run([sys.executable, "-c", source], check=True, timeout=120)
