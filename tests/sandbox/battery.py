"""Runs payloads of the battery and says what got out; the two test files ask, this answers."""

import asyncio
import json
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar, cast

import pytest_asyncio

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxError
from bayesflow_sandbox.host import workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.llm_call import LLMCall
from bayesflow_sandbox.outcome import JsonValue, Outcome
from bayesflow_sandbox.program import Program, compile_program
from bayesflow_sandbox.unit_tests import TestReport
from fakes.payloads import Payload
from fakes.planted import OUTPUT, Planted
from sandbox.workflows import EchoHost, workflow

__all__ = [
    "TIGHT",
    "Engine",
    "PreyHost",
    "alone",
    "following",
    "got_out",
    "ran",
    "shared",
    "solution",
    "together",
]

Fixture = TypeVar("Fixture", bound=Callable[..., object])
MEMORY: Final = 16 << 20
TIGHT: Final = Limits(
    run_seconds=0.1,
    memory_bytes=MEMORY,
    host_calls=50,
    sleep_seconds=0.05,
    output_bytes=OUTPUT,
    return_bytes=OUTPUT,
    wall_seconds=0.4,
)
# Far beyond any limit above, for a machine that is slow; a run that takes it has hung.
_HANGS_SECONDS: Final = 60
_MAX_CALL: Final = 1_000_000
_JUDGE: Final = """\
class Judge:
    def __init__(self, expected):
        self.expected = expected
    def passes(self, answer):
        return answer == self.expected
    def read(self):
        return self.expected
"""
_TOGETHER: Final = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
    async def __call__(self, problem):
        # Step 1: judge what the payload makes, in its own process
        expected = judge.expected
        try:
            answer = await self.attempt(problem)
        except BaseException as error:
            answer = error
"""


def shared(*parameters: str) -> Callable[[Fixture], Fixture]:
    """An asynchronous fixture that serves a module, by one event loop."""
    # Its type leaves too much open for the checkers.
    fixture = cast("Any", pytest_asyncio.fixture)  # pyright: ignore[reportUnknownMemberType]
    made = fixture(scope="module", loop_scope="module", params=parameters or None)
    return cast("Callable[[Fixture], Fixture]", made)


class Engine(Protocol):
    """What both engines are."""

    async def run(
        self,
        program: Program,
        arguments: Sequence[JsonValue],
        door: Door,
        limits: Limits,
        seed: int,
    ) -> Outcome: ...

    async def aclose(self) -> None: ...


class PreyHost(EchoHost):
    """A host that holds what payloads want."""

    def __init__(self, planted: Planted) -> None:
        super().__init__()
        self.expected = planted.memory.value.decode()

    async def call_llm(self, call: LLMCall) -> list[str]:
        for text in (
            call.agent_role,
            call.instructions,
            *call.stop,
            *(t.content for t in call.turns),
        ):
            text.encode()  # as whoever stores or sends it must
        return await super().call_llm(call)


def alone(payload: Payload, planted: Planted) -> str:
    """The payload as a workflow of its own."""
    return workflow(payload.code, before=_names(planted) + payload.module)


def following(payload: Payload, planted: Planted) -> str:
    """What asks, as a job of its own, whether the payload has left anything."""
    return workflow(payload.next, before=_names(planted))


def together(payload: Payload, planted: Planted) -> str:
    """The payload in one process with a judge that knows the answer, and what the judge sees."""
    judged = payload.judged or payload.next or "return answer"
    source = _names(planted) + _JUDGE + payload.module + _TOGETHER + _indented(judged)
    source += "    async def attempt(self, problem):\n" + _indented(payload.code)
    return source + f"judge = Judge({planted.memory.value.decode()!r})\n"


def solution(payload: Payload, planted: Planted) -> str:
    """The payload as a function that a unit test calls."""
    body = textwrap.indent(payload.code.strip("\n"), "    ")
    return f"{_names(planted)}{payload.module}\ndef solve():\n{body}\n"


async def ran(
    engine: Engine, source: str, host: PreyHost, limits: Limits = TIGHT
) -> Outcome | SandboxError:
    """Runs a source as it is, whatever the policy says of it."""
    door = Door(workflow_functions(host), host.get_usage_summary, limits.host_calls)
    with suppress(SandboxError, UnicodeError):
        async with asyncio.timeout(_HANGS_SECONDS):
            return await engine.run(compile_program(source), ["six"], door, limits, seed=0)
    return SandboxError("the engine broke")


def got_out(
    planted: Planted, outcome: Outcome | TestReport | SandboxError, host: PreyHost
) -> set[str]:
    """Says by which marks something got out; empty if nothing did."""
    told = repr(outcome)
    calls = repr(host.calls)
    marks = {
        "secret": any(secret in told or secret in calls for secret in planted.secrets),
        "proof": planted.proof in told,
        "listener": bool(planted.heard()),
        "change": planted.changed(),
        "victim": planted.sibling.hurt(),
        "broken": isinstance(outcome, SandboxError),
        "foreign": isinstance(outcome, Outcome) and not _plain(outcome.value),
        "flood": len(told) > 16 * OUTPUT
        or any(len(repr(call)) > 2 * _MAX_CALL for call in host.calls)
        or len(host.calls) > TIGHT.host_calls,
        "equal": isinstance(outcome, Outcome) and outcome.value == host.expected,
        "passed": isinstance(outcome, TestReport) and outcome.passed,
        "patched": json.dumps([1]) != "[1]",
    }
    return {mark for mark, shown in marks.items() if shown}


def _names(planted: Planted) -> str:
    return "".join(f"{name} = {value!r}\n" for name, value in planted.names(MEMORY).items())


def _indented(code: str) -> str:
    return textwrap.indent(code.strip("\n"), " " * 8) + "\n"


def _plain(value: object) -> bool:
    """Whether a value is of just the plain types, all the way down."""
    if type(value) is dict:
        items = cast("dict[object, object]", value)
        return all(map(_plain, (*items, *items.values())))
    if type(value) in (list, tuple):
        return all(map(_plain, cast("list[object]", value)))
    return value is None or type(value) in (bool, int, float, str)
