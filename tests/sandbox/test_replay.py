"""The second try: what Monty lacks runs locked, and nothing is asked or paid twice."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from bayesflow_sandbox import sandbox as sandbox_module
from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.monty import MontyEngine
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, needs_lock, workflow

YIELDS = """
def numbers():
    yield 1
return list(numbers())
"""
LATE = """
import re
first = await self.llm.call_llm([problem])
again = await self.llm.call_llm([problem])
other = await self.llm.call_llm(["other"])
seen = self.llm.get_usage_summary()["total_cost"]
if len(problem) == 3:
    text = re.sub("[0-9]", lambda match: "<" + match.group() + ">", first[0] + again[0])
last = await self.llm.call_llm(["last"])
return [text, other[0], last[0], seen, self.llm.get_usage_summary()["total_cost"]]
"""


class Counting(EchoHost):
    """Every answer is new, so that a second draw shows."""

    async def call_llm(self, call: LLMCall) -> list[str]:
        await super().call_llm(call)
        return [str(len(self.calls))]


@needs_lock
async def test_what_monty_lacks_runs_locked() -> None:
    async with Sandbox(workers=2) as sandbox:
        outcome = await sandbox.run_workflow(workflow(YIELDS), ["six"], EchoHost())
    assert (outcome.value, outcome.unsupported) == ([1], False)


@needs_lock
async def test_calls_already_made_are_not_made_again() -> None:
    host = Counting()
    async with Sandbox(workers=2) as sandbox:
        outcome = await sandbox.run_workflow(workflow(LATE), ["six"], host)
    assert outcome.value == ["<1><2>", "3", "4", 0.75, 1.0]
    assert [call.turns[0].content for call in host.calls] == ["six", "six", "other", "last"]
    assert outcome.host_calls == 4


@needs_lock
async def test_a_remembered_workflow_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def count(engine: type[MontyEngine | LockedEngine]) -> None:
        run = engine.run

        async def counted(self: Any, *args: Any) -> Outcome:
            tries.append(engine.__name__)
            outcome: Outcome = await run(self, *args)
            return outcome

        monkeypatch.setattr(engine, "run", counted)

    count(MontyEngine)
    count(LockedEngine)
    async with Sandbox(workers=2) as sandbox:
        for _ in range(3):
            outcome = await sandbox.run_workflow(workflow(LATE), ["six"], Counting())
            assert outcome.value == ["<1><2>", "3", "4", 0.75, 1.0]
        await sandbox.run_workflow(workflow("return 1"), ["six"], EchoHost())
    assert tries == ["MontyEngine", "LockedEngine", "LockedEngine", "LockedEngine", "MontyEngine"]


@needs_lock
async def test_a_call_under_way_when_the_first_try_ends_answers_the_second() -> None:
    class Slow(EchoHost):
        def __init__(self) -> None:
            super().__init__()
            self.asked = asyncio.Event()
            self.cancelled = 0

        async def call_llm(self, call: LLMCall) -> list[str]:
            answer = await super().call_llm(call)
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
            return answer

    body = """
    import asyncio
    async def fail():
        await asyncio.sleep(0)
        return callable(print)
    answers = await asyncio.gather(self.llm.call_llm(["slow"]), fail())
    return answers[0][0]
    """
    host = Slow()
    async with Sandbox(workers=2) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], host)
    assert outcome.value == "slow"
    assert len(host.calls) == 1
    assert host.cancelled == 0


@needs_lock
async def test_a_refusal_is_heard_again() -> None:
    class Refusing(EchoHost):
        async def call_llm(self, call: LLMCall) -> list[str]:
            await super().call_llm(call)
            raise CallRefusedError("too long")

    body = """
    try:
        await self.llm.call_llm([problem])
    except ValueError as error:
        if callable(print):
            return str(error)
    """
    host = Refusing()
    async with Sandbox(workers=2) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], host)
    assert outcome.value == "too long"
    assert len(host.calls) == 1


@needs_lock
async def test_a_fault_in_the_second_try_is_the_host_s_own_object() -> None:
    fault = LookupError("529")

    class Failing(EchoHost):
        async def call_llm(self, call: LLMCall) -> list[str]:
            if call.turns[0].content == "last":
                raise fault
            return await super().call_llm(call)

    async with Sandbox(workers=2) as sandbox:
        with pytest.raises(LookupError) as raised:
            await sandbox.run_workflow(workflow(LATE), ["six"], Failing())
    assert raised.value is fault


async def test_where_nothing_can_be_locked_the_feature_and_its_line_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sandbox_module, "missing", lambda: "no Landlock")
    async with Sandbox(workers=1) as sandbox:
        outcome = await sandbox.run_workflow(workflow(YIELDS), ["six"], EchoHost())
    assert outcome.unsupported
    assert outcome.failure is not None
    assert "yield" in outcome.failure.message
    assert outcome.failure.code == "yield 1"


@needs_lock
async def test_a_mistake_of_the_workflow_s_own_is_not_tried_again() -> None:
    host = EchoHost()
    body = "await self.llm.call_llm([problem])\nreturn problem.nonsense"
    async with Sandbox(workers=1) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], host)
    assert outcome.failure is not None
    assert outcome.failure.type == "AttributeError"
    assert len(host.calls) == 1


async def test_usage_is_the_host_s_where_nothing_is_replayed() -> None:
    class Priced(EchoHost):
        def get_usage_summary(self) -> Mapping[str, float]:
            return {"total_cost": 7.5}

    async with Sandbox(workers=1) as sandbox:
        body = "return self.llm.get_usage_summary()['total_cost']"
        outcome = await sandbox.run_workflow(workflow(body), ["six"], Priced())
    assert outcome.value == 7.5
