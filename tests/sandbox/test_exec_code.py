"""`exec_code` inside workflows: the paper's Figure 4, to the letter."""

import asyncio

import pytest

from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.policy import check_workflow, describe
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_sandbox.unit_tests import UnitTests
from sandbox.workflows import EchoHost, needs_lock, workflow

ADDS = UnitTests(("assert candidate(1, 2) == 3", "assert add(0, 0) == 0, 'nothing is nothing'"))
RIGHT = "def add(a, b):\n    return a + b\n"


async def answered(
    solution: str, call: str = "exec_code(problem, 'add')", before: str = ""
) -> Outcome:
    async with Sandbox(workers=2) as sandbox:
        source = workflow(f"return {call}", before)
        return await sandbox.run_workflow(source, [solution], EchoHost(), public_tests=ADDS)


@needs_lock
async def test_a_right_solution_is_no_error() -> None:
    outcome = await answered(RIGHT)
    assert (outcome.failure, outcome.value) == (None, "no error")
    assert outcome.host_calls == 1


@needs_lock
async def test_failed_assertions_are_told_one_by_one() -> None:
    outcome = await answered("def add(a, b):\n    return 7\n")
    assert outcome.value == [
        {
            "test_case": "assert candidate(1, 2) == 3",
            "error_type": "AssertionError",
            "error_message": "add(1, 2) returned 7",
            "traceback": ['File "<tests>", line 1, in <module>: assert candidate(1, 2) == 3'],
        },
        {
            "test_case": "assert add(0, 0) == 0, 'nothing is nothing'",
            "error_type": "AssertionError",
            "error_message": "nothing is nothing",
            "traceback": [
                "File \"<tests>\", line 1, in <module>: assert add(0, 0) == 0, 'nothing is nothing'"
            ],
        },
    ]


@needs_lock
@pytest.mark.parametrize(
    ("solution", "said"),
    [
        ("def add(a, b)\n    return 7", "SyntaxError: expected ':'"),
        ("1 / 0", 'ZeroDivisionError: division by zero\nFile "<solution>", line 1'),
        ("def plus(a, b):\n    return 7", "NameError: the solution defines no function 'add'"),
        ("def add(a, b):\n    return a[b]", "TypeError: 'int' object is not subscriptable"),
        ("def add(a, b):\n    import os\n    os._exit(3)", "ended its process with status 3"),
        ("def add(a, b):\n    raise SystemExit(3)", "SolutionError: SystemExit: 3"),
    ],
)
async def test_what_does_not_run_is_told_as_a_failed_execution(solution: str, said: str) -> None:
    outcome = await answered(solution)
    assert isinstance(outcome.value, dict)
    assert list(outcome.value) == ["exec_fail_case"]
    assert said in str(outcome.value["exec_fail_case"])


@needs_lock
async def test_it_is_synchronous_anywhere_in_the_workflow() -> None:
    before = """
    def passes(solution):
        return exec_code(entry_point="add", solution=solution) == "no error"

    """
    call = "[passes(problem), *map(passes, ['x', problem])]"
    outcome = await answered(RIGHT, call, before)
    assert outcome.value == [True, False, True]


@needs_lock
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("exec_code(problem)", "TypeError: exec_code() needs both solution and entry_point"),
        ("exec_code(problem, 'add', 3)", "TypeError: exec_code() takes solution and entry_point"),
        ("exec_code(problem, problem='add')", "TypeError: exec_code() takes solution"),
        ("exec_code(None, 'add')", "TypeError: exec_code(): solution must be a string, not None"),
        ("exec_code(problem, print)", "TypeError: exec_code(): entry_point must be a string"),
        ("exec_code(problem, 'a b')", "ValueError: exec_code(): entry_point must be the name"),
        ("exec_code(problem * 9000, 'add')", "ValueError: exec_code(): a solution of"),
    ],
)
async def test_a_bad_argument_is_an_exception_inside(call: str, error: str) -> None:
    outcome = await answered(RIGHT, call)
    assert outcome.failure is not None
    assert f"{outcome.failure.type}: {outcome.failure.message}".startswith(error)
    assert outcome.failure.code == f"return {call}"


@needs_lock
async def test_more_workflows_than_workers_test_at_once() -> None:
    source = workflow("return exec_code(problem, 'add')")
    async with Sandbox(workers=2) as sandbox:
        runs = (
            sandbox.run_workflow(source, [RIGHT], EchoHost(), public_tests=ADDS) for _ in range(6)
        )
        async with asyncio.timeout(60):
            outcomes = await asyncio.gather(*runs)
    assert [outcome.value for outcome in outcomes] == ["no error"] * 6


async def test_without_public_tests_the_policy_refuses_it() -> None:
    source = workflow("return exec_code(problem, 'add')")
    async with Sandbox(workers=1) as sandbox:
        outcome = await sandbox.run_workflow(source, ["x"], EchoHost())
    assert outcome.failure is not None
    assert outcome.failure.type == "PolicyViolation"
    assert "no public tests" in outcome.failure.message


async def test_public_tests_need_no_locked_engine_unless_they_are_run() -> None:
    async with Sandbox(workers=1, engine="monty") as sandbox:
        plain = workflow("return problem")
        outcome = await sandbox.run_workflow(plain, ["x"], EchoHost(), public_tests=ADDS)
        assert outcome.value == "x"
        tests = workflow("return exec_code(problem, 'add')")
        with pytest.raises(SandboxUnavailableError, match="in the locked engine alone"):
            await sandbox.run_workflow(tests, ["x"], EchoHost(), public_tests=ADDS)


def test_the_policy_prints_and_checks_what_a_task_allows() -> None:
    source = workflow("return exec_code(problem, entry_point)")
    assert check_workflow(source, exec_code=True) is None
    assert "exec_code" in (check_workflow(source) or "")
    assert "__call__(self, problem, entry_point)" in describe(exec_code=True)
    assert "exec_code(solution, entry_point) is available" in describe(exec_code=True)
    assert "exec_code is not available" in describe()
