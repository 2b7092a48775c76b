"""Sources and hosts that the sandbox's tests share."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.locked.kernel import missing

NO_LOCK = missing()
needs_lock = pytest.mark.skipif(NO_LOCK is not None, reason=NO_LOCK or "")
ENGINES = [pytest.param("monty"), pytest.param("locked", marks=needs_lock)]

HEADER = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: do it
"""


def workflow(body: str, before: str = "") -> str:
    """A workflow of one step with this body; `before` stands at module level."""
    head = textwrap.dedent(before)
    return head + HEADER + textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8) + "\n"


@dataclass
class EchoHost:
    """Answers every call with its last turn's text, and keeps the calls."""

    calls: list[LLMCall] = field(default_factory=list[LLMCall])

    async def call_llm(self, call: LLMCall) -> list[str]:
        self.calls.append(call)
        return [call.turns[-1].content] * call.num_of_response

    def get_usage_summary(self) -> Mapping[str, float]:
        return {"total_cost": 0.25 * len(self.calls)}
