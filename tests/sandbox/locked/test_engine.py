"""The engine and its processes: one fresh child a run, and nothing of them is left behind."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxClosedError
from bayesflow_sandbox.host import workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked.codec import encode
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.program import compile_program
from sandbox.workflows import EchoHost, needs_lock, workflow

pytestmark = needs_lock

ROOT = Path(__file__).parents[3]


@pytest.fixture
async def engine() -> AsyncIterator[LockedEngine]:
    engine = LockedEngine(workers=2)
    yield engine
    await engine.aclose()


async def run(engine: LockedEngine, body: str, limits: Limits | None = None) -> Outcome:
    limits = limits or Limits(wall_seconds=20)
    host = EchoHost()
    door = Door(workflow_functions(host), host.get_usage_summary, limits.host_calls)
    return await engine.run(compile_program(workflow(body)), ["six"], door, limits, seed=0)


async def test_a_child_runs_with_the_least_memory_that_may_be_given(engine: LockedEngine) -> None:
    outcome = await run(engine, "return sum(range(1000))", Limits(memory_bytes=4 << 20))
    assert outcome.value == 499500


async def test_a_set_of_texts_has_one_order_in_every_zygote() -> None:
    body = "return list({str(i) for i in range(50)})"
    orders: list[object] = []
    for _ in range(2):
        engine = LockedEngine(workers=1)
        orders.append((await run(engine, body)).value)
        await engine.aclose()
    assert orders[0] == orders[1]


async def test_time_and_unseeded_randomness_are_the_same_every_time(engine: LockedEngine) -> None:
    body = """
    import datetime, random, time
    random.seed()
    return [
        time.monotonic(), time.time_ns(), str(datetime.datetime.now()),
        str(datetime.datetime.now(datetime.timezone.utc)), str(datetime.date.today()),
        isinstance(datetime.datetime(2020, 1, 1), datetime.date),
        isinstance(datetime.datetime.now() - datetime.timedelta(1), datetime.datetime),
        datetime.datetime.strptime("2020-01-02", "%Y-%m-%d").day,
        random.random(), random.Random().random(), random.Random(5).random(),
        random.sample(range(9), 3),
    ]
    """
    first, again = await run(engine, body), await run(engine, body)
    assert first.failure is None
    assert first.value == again.value


async def test_a_sleep_within_the_limit_is_slept(engine: LockedEngine) -> None:
    body = "import asyncio, time\ntime.sleep(0.01)\nawait asyncio.sleep(0.01)\nreturn 1"
    outcome = await run(engine, body, Limits(sleep_seconds=0.1))
    assert outcome.value == 1
    assert outcome.seconds >= 0.02


@pytest.mark.parametrize(
    "frame",
    [
        b"\0\0\0\1R?",
        b"\0\0\0\1?N",
        b"\xff\xff\xff\xffR",
        b"\0\0\0\1JN",
        b"\0\0\0\1CN",
        b"\0\0\0\1FN",
        b"\0\0\0\1LN",
        b"\0\0\0\1",
        b"\0\0\0\x0aLl\x02s\x03abcl\x00",
        b"\0\0\0\x0bFl\x03i\x01\x01s\x01al\x00",
    ],
)
async def test_what_is_no_message_fails_the_execution_and_nothing_else(
    engine: LockedEngine, frame: bytes
) -> None:
    outcome = await run(engine, f"import os\nos.write(3, {frame!r})\nos._exit(0)")
    assert outcome.failure is not None
    assert outcome.failure.type == "SandboxCrashed"
    assert (await run(engine, "return 1")).value == 1


@pytest.mark.parametrize("kind", ["S", "X"])
async def test_a_child_is_not_believed_that_it_was_never_confined(
    engine: LockedEngine, kind: str
) -> None:
    outcome = await run(engine, f"import os\nos.write(3, b'\\0\\0\\0\\0{kind}')\nos._exit(0)")
    assert outcome.failure is not None
    assert outcome.failure.type == "SandboxCrashed"


async def test_a_child_that_tells_of_no_cause_is_a_crash(engine: LockedEngine) -> None:
    for body in ("import os\nos._exit(0)", "import ctypes\nctypes.string_at(0)"):
        outcome = await run(engine, body)
        assert outcome.failure is not None
        assert outcome.failure.type == "SandboxCrashed"


async def test_a_crowd_of_executions_shares_few_slots(engine: LockedEngine) -> None:
    outcomes = await asyncio.gather(*[run(engine, f"return {i}") for i in range(40)])
    assert [outcome.value for outcome in outcomes] == list(range(40))


async def test_a_silent_child_is_killed_when_its_caller_leaves(engine: LockedEngine) -> None:
    async with engine.open("workflow", Limits()) as process:
        pass
    assert (await process.death()).signal in (signal.SIGKILL, None)


async def test_the_zygote_kills_who_outstays_its_wall_time(engine: LockedEngine) -> None:
    async with engine.open("workflow", Limits(wall_seconds=0.01)) as process:
        async with asyncio.timeout(20):
            assert (await process.death()).signal == signal.SIGKILL
        assert await process.channel.receive() is None


async def test_a_child_of_a_closed_engine_is_gone() -> None:
    engine = LockedEngine(workers=1)
    async with engine.open("workflow", Limits()) as process:
        await process.channel.send(b"J", encode(None, 10))
        await engine.aclose()
        async with asyncio.timeout(20):
            await process.death()
    with pytest.raises(SandboxClosedError):
        async with engine.open("workflow", Limits()):
            pytest.fail("a process was started")


HOST = """
import asyncio, sys
sys.path[:0] = [{sandbox!r}, {tests!r}]
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, workflow

class Hanging(EchoHost):
    async def call_llm(self, call):
        print("running", flush=True)
        await asyncio.Event().wait()

async def main():
    async with Sandbox(workers=2, engine="locked") as sandbox:
        assert (await sandbox.run_workflow(workflow("return 1"), ["six"], EchoHost())).value == 1
        if len(sys.argv) > 1:
            ask = workflow("await self.llm.call_llm([problem])")
            await sandbox.run_workflow(ask, ["six"], Hanging())

asyncio.run(main())
"""


def _host() -> str:
    return HOST.format(sandbox=str(ROOT / "sandbox"), tests=str(ROOT / "tests"))


def test_a_process_that_used_the_engine_exits_cleanly() -> None:
    command = [sys.executable, "-W", "error", "-c", _host()]
    done = subprocess.run(command, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_when_the_host_is_killed_everything_of_the_engine_ends() -> None:
    command = [sys.executable, "-c", _host(), "hang"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == b"running\n"
        family = [os.pidfd_open(pid) for pid in _descendants(host.pid)]
        assert len(family) >= 2
        host.kill()
        for descriptor in family:
            # A pidfd is readable once its process has ended.
            assert select.select([descriptor], [], [], 20)[0]
            os.close(descriptor)


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *_descendants(child)]
    return found
