"""Reference solutions of HumanEval and MBPP pass their tests; one that returns None passes none.

The rows are not ours to copy: `BAYESFLOW_TEST_DATA` names the folder. What a reference does under
plain Python is decided beside: reference and tests loaded as one text, in one locked process.
"""

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_sandbox.unit_tests import TestReport, UnitTests
from sandbox.workflows import needs_lock

FOLDER = Path(os.environ.get("BAYESFLOW_TEST_DATA", ""))
pytestmark = [
    needs_lock,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FOLDER / "humaneval.jsonl").is_file() or not (FOLDER / "mbpp.jsonl").is_file(),
        reason="BAYESFLOW_TEST_DATA names no folder with humaneval.jsonl and mbpp.jsonl",
    ),
]
LIMITS = Limits(run_seconds=20, memory_bytes=256 << 20, wall_seconds=300)
NOTHING = UnitTests(("pass",))

# Its helper reads names that nothing defines: a NameError when called.
BROKEN = {"mbpp-630"}
# Public tests that are not true of the reference: `candidate` stands where another function of the
# original test did, or the expected value is an earlier one.
UNTRUE = {"mbpp-2", "mbpp-111", "mbpp-140", "mbpp-232", "mbpp-287", "mbpp-412", "mbpp-631"}


class Reference(NamedTuple):
    row: str
    entry_point: str
    solution: str
    tests: UnitTests
    plain: str  # what runs solution and tests as one text
    public: UnitTests | None = None


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


def humaneval() -> list[Reference]:
    found: list[Reference] = []
    for row in rows("humaneval.jsonl"):
        entry_point, test = row["meta"]["entry_point"], row["meta"]["test"]
        solution = row["input"] + row["target"]
        plain = f"{solution}\n{test}\ncheck({entry_point})\n"
        # Some tests use helpers that the prompt defines; the prompt's own stub is never called.
        tests = UnitTests((test,), setup=row["input"] + "\n    pass\n")
        found.append(Reference(row["id"], entry_point, solution, tests, plain))
    return found


def mbpp() -> list[Reference]:
    found: list[Reference] = []
    for row in rows("mbpp.jsonl"):
        meta = row["meta"]
        imports = "\n".join(meta["test_imports"])
        plain = f"{row['target']}\n{imports}\n{meta['test']}\ncheck()\n"
        tests = UnitTests((meta["test"],), imports)
        public = UnitTests(tuple(meta["public_tests"]), imports)
        entry_point = meta["entry_point"]
        found.append(Reference(row["id"], entry_point, row["target"], tests, plain, public))
    return found


async def failing(
    references: Sequence[Reference],
    tried: dict[str, UnitTests] | None = None,
    solutions: dict[str, str] | None = None,
) -> set[str]:
    """Rows whose report is no pass; `tried` and `solutions` replace what a reference brings."""
    async with Sandbox(workers=3) as sandbox:

        async def run(reference: Reference) -> TestReport:
            return await sandbox.run_tests(
                (solutions or {}).get(reference.row, reference.solution),
                reference.entry_point,
                (tried or {}).get(reference.row, reference.tests),
                LIMITS,
            )

        reports = await asyncio.gather(*map(run, references))
    named = zip(references, reports, strict=True)
    return {reference.row for reference, report in named if not report.passed}


async def test_every_reference_of_humaneval_passes() -> None:
    references = humaneval()
    assert len(references) == 164
    assert await failing(references) == set()


async def test_every_reference_of_mbpp_passes_that_runs_under_plain_python() -> None:
    references = mbpp()
    plain = {reference.row: reference.plain for reference in references}
    alone = dict.fromkeys(plain, NOTHING)
    assert len(references) == 300
    assert await failing(references, tried=alone, solutions=plain) == BROKEN
    assert await failing(references) == BROKEN


async def test_the_public_tests_of_mbpp_pass_where_they_are_true() -> None:
    references = mbpp()
    public = {item.row: item.public for item in references if item.public is not None}
    assert await failing(references, tried=public) == BROKEN | UNTRUE


@pytest.mark.parametrize("answer", ["None", "Same()", "Same(3)"])
async def test_a_wrong_solution_passes_none(answer: str) -> None:
    """None where any test asks for something; else an object that is equal to everything."""
    references = [*humaneval(), *mbpp()]
    wrong = {item.row: _wrong(item.entry_point, answer) for item in references}
    passed = {item.row for item in references} - await failing(references, solutions=wrong)
    assert passed == set()


def _wrong(entry_point: str, answer: str) -> str:
    same = "int" if answer == "Same(3)" else "object"
    return f"""
class Same({same}):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    __hash__ = {same}.__hash__

def {entry_point}(*args, **kwargs):
    return {answer}
"""
