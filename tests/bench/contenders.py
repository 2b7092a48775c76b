"""Ways to run one and the same small workflow, for the sandbox's bench.

`exec` runs in this very process and protects from nothing: it is the floor, and gets the code below
alone. smolagents' LocalPythonExecutor is a peer, measured where it is installed; its authors say
that it is no sandbox. It runs no `async` code, so it takes the same steps without, in threads.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, NamedTuple, cast

from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.sandbox import EngineName, Sandbox

__all__ = ["PEER", "Contender", "contenders"]

PEER: Final = "smolagents"
_CLASS: Final = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        # Step 1: Ask
        answers = await self.llm.call_llm(messages=[problem], temperature=0.0)
        # Step 2: Read
        return answers[0].strip(), self.llm.get_usage_summary()["total_cost"]
"""
_STEPS: Final = """\
answers = call_llm(messages=[problem], temperature=0.0)
answers[0].strip(), get_usage_summary()["total_cost"]
"""
_PROBLEM: Final = "What is 6 times 7?"
_RESULT: Final = ("42", 0.0)


# Runs the workflow once; the model takes so many seconds to answer.
Run = Callable[[float], Awaitable[None]]


class Contender(NamedTuple):
    """One way to run the workflow.

    Attributes:
        name: What the table calls it.
        open: Starts it, for so many runs at once.
    """

    name: str
    open: Callable[[int], AbstractAsyncContextManager[Run]]


def contenders() -> list[Contender]:
    """Those of this machine."""
    ways = [
        Contender("Monty", partial(_boxed, "monty")),
        Contender("locked", partial(_boxed, "locked")),
        Contender("plain exec", _bare),
    ]
    return [*ways, Contender(PEER, _peer)] if find_spec(PEER) else ways


@asynccontextmanager
async def _boxed(engine: EngineName, workers: int) -> AsyncGenerator[Run]:
    async with Sandbox(workers=workers, engine=engine) as sandbox:

        async def run(latency: float) -> None:
            outcome = await sandbox.run_workflow(_CLASS, (_PROBLEM,), _Model(latency))
            _check(outcome.value, outcome.failure)

        yield run


@asynccontextmanager
async def _bare(workers: int) -> AsyncGenerator[Run]:
    del workers  # nothing to start

    async def run(latency: float) -> None:
        names: dict[str, Any] = {"create_llm_instance": lambda _: _Asked(latency)}  # pyright: ignore[reportUnknownLambdaType]
        exec(_CLASS, names)
        _check(await names["Workflow"]("bench", {}, "bench")(_PROBLEM))

    yield run


@asynccontextmanager
async def _peer(workers: int) -> AsyncGenerator[Run]:
    # Imported by name: no dependency of ours.
    executor: Any = import_module(f"{PEER}.local_python_executor").LocalPythonExecutor

    def once(latency: float) -> object:
        alone = executor([])
        alone.send_tools({"call_llm": partial(_wait, latency), "get_usage_summary": _usage})
        alone.send_variables({"problem": _PROBLEM})
        while True:
            try:
                return alone(_STEPS).output
            except SystemError:  # CPython 3.11, rarely, where many threads parse at once
                continue

    with ThreadPoolExecutor(workers) as threads:

        async def run(latency: float) -> None:
            loop = asyncio.get_running_loop()
            _check(await loop.run_in_executor(threads, once, latency))

        yield run


class _Model:
    """The host of a sandbox: a model that takes its time."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    async def call_llm(self, call: LLMCall) -> list[str]:
        await asyncio.sleep(self._latency)
        return [_RESULT[0]] * call.num_of_response

    def get_usage_summary(self) -> Mapping[str, float]:
        return _usage()


class _Asked:
    """What plain `exec` gives as `self.llm`."""

    def __init__(self, latency: float) -> None:
        self._latency = latency

    async def call_llm(self, messages: Sequence[str], temperature: float) -> list[str]:
        await asyncio.sleep(self._latency)
        return [_RESULT[0]]

    def get_usage_summary(self) -> Mapping[str, float]:
        return _usage()


def _wait(latency: float, messages: Sequence[str], temperature: float) -> list[str]:
    time.sleep(latency)
    return [_RESULT[0]]


def _usage() -> dict[str, float]:
    return {"total_cost": 0.0}


def _check(value: object, failure: object = None) -> None:
    """A bench of failures would be quick."""
    if not isinstance(value, tuple) or cast("tuple[object, ...]", value) != _RESULT:
        raise RuntimeError(f"a run gave {value!r} ({failure})")
