"""The paper's own workflows (Appendix H), with a scripted model in place of the real one."""

import os
from pathlib import Path

import pytest

from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.outcome import Outcome, answer_of
from bayesflow_sandbox.policy import violations
from bayesflow_sandbox.sandbox import EngineName, Sandbox
from bayesflow_sandbox.unit_tests import UnitTests
from sandbox.workflows import ENGINES, EchoHost, needs_lock

FOLDER = Path(os.environ.get("BAYESFLOW_TEST_DATA", "")) / "appendix_h"
needs_data = pytest.mark.skipif(
    "BAYESFLOW_TEST_DATA" not in os.environ or not FOLDER.is_dir(),
    reason="BAYESFLOW_TEST_DATA names no folder with appendix_h",
)
pytestmark = needs_data


class Scripted(EchoHost):
    def __init__(self, *answers: str) -> None:
        super().__init__()
        self.answers = list(answers)

    async def call_llm(self, call: LLMCall) -> list[str]:
        self.calls.append(call)
        answer = self.answers[min(len(self.calls), len(self.answers)) - 1]
        return [answer] * call.num_of_response


async def run(name: str, host: Scripted, engine: EngineName) -> Outcome:
    source = (FOLDER / name).read_text("utf-8")
    async with Sandbox(workers=1, engine=engine) as sandbox:
        return await sandbox.run_workflow(source, ["Which is it?"], host)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "answers", "answer", "calls"),
    [
        ("drop.py", ["a count", "3 + 4", "The answer is 7."], "7", 3),
        ("gpqa.py", ["think", "sums", "reasons", "so", "It is B, surely"], "B", 5),
        ("gsm8k.py", ["so the result is\n42"], "\\boxed{42}", 2),
        ("hotpotqa.py", ["key", "fact"], "fact", 12),
        ("math.py", ["plan", "work", "checked", "12"], "\\boxed{12}", 4),
        ("mmlu_pro.py", ["parts", "analysis", "check", "the letter is C"], "C", 4),
    ],
)
async def test_a_workflow_of_the_paper_runs(
    name: str, answers: list[str], answer: str, calls: int, engine: EngineName
) -> None:
    host = Scripted(*answers)
    outcome = await run(name, host, engine)
    assert outcome.failure is None
    assert isinstance(outcome.value, tuple)
    assert answer_of(outcome.value) == answer
    assert outcome.value[1] == 0.25 * calls
    assert (outcome.host_calls, len(host.calls)) == (calls, calls)


RIGHT = "def twice(x):\n    return 2 * x"
WRONG = "def twice(x):\n    return x"


@needs_lock
@pytest.mark.parametrize(
    ("answers", "answer", "calls"),
    [
        ([RIGHT], RIGHT, 1),
        ([WRONG, RIGHT], RIGHT, 2),
        ([WRONG, WRONG, "the last"], "the last", 3),
    ],
)
async def test_the_papers_coding_workflow_tests_its_solutions(
    answers: list[str], answer: str, calls: int
) -> None:
    host = Scripted(*answers)
    source = (FOLDER / "mbpp.py").read_text("utf-8")
    tests = UnitTests(("assert candidate(3) == 6",))
    async with Sandbox(workers=2) as sandbox:
        outcome = await sandbox.run_workflow(
            source, ["Double it.", "twice"], host, public_tests=tests
        )
    assert outcome.failure is None
    assert outcome.value == (answer, 0.25 * calls)
    if calls > 1:
        assert "twice(3) returned 3" in host.calls[1].turns[-1].content


@pytest.mark.parametrize("name", ["drop", "gpqa", "gsm8k", "hotpotqa", "math", "mmlu_pro", "mbpp"])
def test_the_policy_refuses_nothing_of_them_but_exec_code(name: str) -> None:
    found = violations((FOLDER / f"{name}.py").read_text("utf-8"))
    assert [violation.rule for violation in found] == (["exec_code"] if name == "mbpp" else [])
    assert violations((FOLDER / f"{name}.py").read_text("utf-8"), exec_code=True) == ()
