"""The interpreter's threads must have left Python before the process ends (else SIGABRT)."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import asyncio, sys
sys.path[:0] = [{sandbox!r}, {tests!r}]
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.sandbox import Sandbox
from sandbox.workflows import EchoHost, workflow

async def main():
    async with Sandbox(workers=4) as sandbox:
        ask = workflow("return (await self.llm.call_llm([problem]))[0]")
        spin = workflow("while True:\\n    pass")
        spinning = asyncio.create_task(sandbox.run_workflow(spin, ["six"], EchoHost()))
        runs = [sandbox.run_workflow(ask, ["six"], EchoHost()) for _ in range(4)]
        assert all([outcome.ok for outcome in await asyncio.gather(*runs)])
        spinning.cancel()

asyncio.run(main())
"""
ROOT = Path(__file__).parents[2]


def test_a_process_that_used_the_sandbox_exits_cleanly_every_time() -> None:
    """Without the drain about one exit in eight aborts: 20 clean ones have a chance of 7 %."""
    source = PROGRAM.format(sandbox=str(ROOT / "sandbox"), tests=str(ROOT / "tests"))
    for _ in range(20):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", source], capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b"")


def test_importing_the_sandbox_does_not_load_the_interpreter() -> None:
    source = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'sandbox')!r})\n"
        "import bayesflow_sandbox.sandbox, bayesflow_sandbox.policy\n"
        "assert 'pydantic_monty' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", source], check=True, timeout=60)
