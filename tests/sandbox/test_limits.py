import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bayesflow_sandbox.errors import LimitsError
from bayesflow_sandbox.limits import LimitName, Limits
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.sandbox import EngineName, Sandbox
from sandbox.workflows import ENGINES, EchoHost, workflow

TIGHT = Limits(
    run_seconds=0.2,
    memory_bytes=16 << 20,
    host_calls=5,
    sleep_seconds=0.05,
    output_bytes=1_000,
    return_bytes=10_000,
    wall_seconds=20,
)

each_engine = pytest.mark.parametrize("engine", ENGINES)

SWALLOWING_LOOP = """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
"""
SWALLOWING_CALLS = """
for i in range(9):
    try:
        await self.llm.call_llm([problem])
    except Exception:
        pass
return 1
"""
GATHERED_CALLS = """
import asyncio
await asyncio.gather(*[self.llm.call_llm([problem]) for i in range(6)])
"""
EXHAUSTING: list[tuple[LimitName, str]] = [
    ("run_seconds", "while True:\n    pass"),
    ("run_seconds", SWALLOWING_LOOP),
    ("run_seconds", "return sum(range(10 ** 12))"),
    ("run_seconds", "x = 3 ** 3000000\nfor i in range(50):\n    y = x * x"),
    ("memory_bytes", "x = []\nwhile True:\n    x.append('a' * 100000 + str(len(x)))"),
    ("memory_bytes", "return 'a' * 10 ** 12"),
    ("memory_bytes", "return f'{1:>999999999}'"),
    ("memory_bytes", "x = [0]\nwhile True:\n    x = x + x"),
    ("memory_bytes", "import itertools\nreturn list(itertools.product(range(1000), repeat=9))"),
    ("sleep_seconds", "import time\ntime.sleep(3600)"),
    ("sleep_seconds", "import asyncio\nawait asyncio.sleep(3600)"),
    ("sleep_seconds", "import time\ntry:\n    time.sleep(3600)\nexcept:\n    return 1"),
    ("host_calls", "while True:\n    await self.llm.call_llm([problem])"),
    ("host_calls", GATHERED_CALLS),
    ("host_calls", SWALLOWING_CALLS),
    ("output_bytes", "print('a' * 2000)"),
    ("output_bytes", "while True:\n    print('a')"),
    ("return_bytes", "return 'a' * 20000"),
    ("return_bytes", "x = [0]\nfor i in range(20):\n    x = [x, x]\nreturn x"),
    ("return_bytes", "return list(range(9000))"),
]


# What one engine runs out of, and the other.
EITHER: list[tuple[frozenset[LimitName], str]] = [
    (frozenset({"memory_bytes", "run_seconds"}), "return 9 ** 9 ** 9"),
    (frozenset({"memory_bytes", "run_seconds"}), "return (2 ** 10000000) ** 10000"),
    (frozenset({"host_calls", "run_seconds"}), "import time\nwhile True:\n    time.sleep(0)"),
    (
        frozenset({"host_calls", "run_seconds"}),
        "while True:\n    self.llm.get_usage_summary()",
    ),
]
CASES = [(frozenset({limit}), body) for limit, body in EXHAUSTING] + EITHER


@each_engine
@pytest.mark.parametrize(("limits", "body"), CASES)
async def test_reaching_a_limit_is_a_failure_that_names_it(
    engine: EngineName, limits: frozenset[LimitName], body: str
) -> None:
    host = EchoHost()
    async with Sandbox(workers=1, engine=engine) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], host, TIGHT)
        assert outcome.failure is not None
        assert outcome.failure.type == "LimitExceeded"
        assert outcome.failure.limit in limits
        assert len(host.calls) <= TIGHT.host_calls
        # The worker, or its successor, serves the next execution.
        assert (await sandbox.run_workflow(workflow("return 1"), ["six"], host, TIGHT)).value == 1


@each_engine
async def test_too_many_calls_name_the_line_of_the_first_one_too_many(engine: EngineName) -> None:
    body = "for i in range(9):\n    await self.llm.call_llm([problem])"
    async with Sandbox(workers=1, engine=engine) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], EchoHost(), TIGHT)
    assert outcome.failure is not None
    assert outcome.failure.code == "await self.llm.call_llm([problem])"
    assert outcome.failure.step == "Step 1: do it"
    assert outcome.host_calls == TIGHT.host_calls + 1


@each_engine
@pytest.mark.parametrize(
    ("body", "type_"),
    [
        ("def f(n):\n    return f(n + 1)\nreturn f(0)", "RecursionError"),
        ("x = []\nfor i in range(100000):\n    x = [x]\nreturn x", "InvalidReturnValue"),
        ("return 7 ** 5000", "InvalidReturnValue"),
        ("return float('nan')", "InvalidReturnValue"),
        ("return self", "InvalidReturnValue"),
        ("return print", "InvalidReturnValue"),
        ("return {1, 2}", "InvalidReturnValue"),
        ("return {1: 2}", "InvalidReturnValue"),
        ("return ValueError('x')", "InvalidReturnValue"),
    ],
)
async def test_what_is_no_plain_answer_is_a_failure(
    engine: EngineName, body: str, type_: str
) -> None:
    async with Sandbox(workers=1, engine=engine) as sandbox:
        outcome = await sandbox.run_workflow(workflow(body), ["six"], EchoHost(), TIGHT)
    assert outcome.failure is not None
    assert outcome.failure.type == type_


async def test_a_cycle_comes_out_of_monty_cut() -> None:
    async with Sandbox(workers=1, engine="monty") as sandbox:
        body = "x = []\nx.append(x)\nreturn x"
        outcome = await sandbox.run_workflow(workflow(body), ["six"], EchoHost(), TIGHT)
    assert outcome.value == ["[...]"]


@each_engine
async def test_a_busy_loop_does_not_hold_up_the_others(engine: EngineName) -> None:
    """The loop runs until the others are done: its last call is answered only then."""
    others_done = asyncio.Event()

    class Spinning(EchoHost):
        async def call_llm(self, call: LLMCall) -> list[str]:
            await asyncio.sleep(0)
            return ["stop" if others_done.is_set() else "go on"]

    body = """
    while True:
        for i in range(20000):
            pass
        if (await self.llm.call_llm([problem]))[0] == "stop":
            return "stopped"
    """
    wide = Limits(run_seconds=60, host_calls=10_000, wall_seconds=120)
    async with Sandbox(workers=2, engine=engine) as sandbox:
        spinning = asyncio.create_task(
            sandbox.run_workflow(workflow(body), ["six"], Spinning(), wide)
        )
        ask = workflow("return (await self.llm.call_llm([problem]))[0]")
        outcomes = await asyncio.gather(
            *[sandbox.run_workflow(ask, [str(i)], EchoHost()) for i in range(100)]
        )
        others_done.set()
        assert (await spinning).value == "stopped"
    assert [outcome.value for outcome in outcomes] == [str(i) for i in range(100)]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds workers through /proc")
@each_engine
async def test_a_killed_worker_fails_what_it_ran_and_the_next_execution_runs(
    engine: EngineName,
) -> None:
    class Killing(EchoHost):
        async def call_llm(self, call: LLMCall) -> list[str]:
            for worker in _children():
                os.kill(worker, signal.SIGKILL)
            if engine == "locked":  # dies on its own time; Monty's death shows with the answer
                await asyncio.Event().wait()
            return await super().call_llm(call)

    async with Sandbox(workers=1, engine=engine) as sandbox:
        source = workflow("return (await self.llm.call_llm([problem]))[0]")
        outcome = await sandbox.run_workflow(source, ["six"], Killing())
        assert outcome.failure is not None
        assert outcome.failure.type == "SandboxCrashed"
        assert (await sandbox.run_workflow(source, ["six"], EchoHost())).value == "six"


def _children() -> list[int]:
    tasks = Path("/proc/self/task").iterdir()
    found = [(task / "children").read_text().split() for task in tasks]
    return [int(child) for children in found for child in children]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("run_seconds", 0.0),
        ("run_seconds", float("nan")),
        ("memory_bytes", 1),
        ("host_calls", -1),
        ("sleep_seconds", 61),
        ("output_bytes", -1),
        ("return_bytes", 1 << 30),
        ("wall_seconds", float("inf")),
    ],
)
def test_a_limit_outside_its_range_is_refused(name: str, value: float) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(LimitsError, match=name) as raised:
        replace(Limits(), **changes)
    assert raised.value.limit == name
