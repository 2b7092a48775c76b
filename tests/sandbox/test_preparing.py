import asyncio
import threading

import pytest

from bayesflow_sandbox import sandbox as module
from bayesflow_sandbox.errors import SandboxClosedError
from bayesflow_sandbox.policy import violations
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, workflow

SOURCE = workflow("return problem, 0.0")


async def test_a_workflow_is_prepared_once_and_on_the_event_loop_s_own_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before Python 3.11.8 parsing in two threads at once may fail."""
    checked: list[str] = []
    threads: set[int] = set()

    def counted(source: str, *, exec_code: bool = False) -> object:
        checked.append(source)
        threads.add(threading.get_ident())
        return violations(source, exec_code=exec_code)

    monkeypatch.setattr(module, "violations", counted)
    async with Sandbox(workers=4, engine="monty") as sandbox:
        outcomes = await asyncio.gather(
            *(sandbox.run_workflow(SOURCE, [str(number)], EchoHost()) for number in range(8))
        )
        assert [one.value for one in outcomes] == [(str(number), 0.0) for number in range(8)]
        broken = await sandbox.run_workflow("import os", ["x"], EchoHost())
        assert broken.failure is not None
        assert broken.failure.type == "PolicyViolation"
    assert checked == [SOURCE, "import os"]
    assert threads == {threading.get_ident()}


async def test_one_caller_that_gives_up_takes_the_program_from_no_other() -> None:
    async with Sandbox(workers=2, engine="monty") as sandbox:
        first = asyncio.create_task(sandbox.run_workflow(SOURCE, ["a"], EchoHost()))
        second = asyncio.create_task(sandbox.run_workflow(SOURCE, ["b"], EchoHost()))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).value == ("b", 0.0)
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_closed_sandbox_prepares_nothing() -> None:
    sandbox = Sandbox(workers=1, engine="monty")
    await sandbox.aclose()
    with pytest.raises(SandboxClosedError):
        await sandbox.run_workflow(SOURCE, ["a"], EchoHost())


@pytest.mark.parametrize("name", ["exec_code", "ｅxec_code", "exec_cｏde"])
async def test_other_letters_that_spell_a_forbidden_name_do_not_pass(name: str) -> None:
    async with Sandbox(workers=1, engine="monty") as sandbox:
        outcome = await sandbox.run_workflow(
            workflow(f'return {name}("a", "b"), 0.0'), ["x"], EchoHost()
        )
    assert outcome.failure is not None
    assert outcome.failure.type == "PolicyViolation"
