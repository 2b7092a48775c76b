"""Each payload of the battery is live: where what stops it is left out, it produces its marker.

    kernel     seccomp, landlock, rlimits, namespaces, capabilities: left out of the child's lock,
               with all the others on; and each of them alone stops it again
    start      environment, descriptors: the zygote is started with the host's
    timer      the limits on run time, sleep and output: raised, it runs until the wall clock
    process    what it wants, or would harm, is put into its own process

Every payload runs in a locked child. What only the language stops in Monty is live here as well,
for this is CPython; how Monty ends it stands in the payload's `monty`, and `test_battery` holds it.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked import process as zygotes
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.locked.kernel import missing
from bayesflow_sandbox.outcome import Outcome
from fakes.payloads import Defence, Payload, load_payloads
from fakes.planted import ENV_NAME, Planted, planted
from sandbox.battery import TIGHT, PreyHost, alone, got_out, ran, shared, together
from sandbox.workflows import workflow

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="plants and watches through /proc"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]
one_loop = pytest.mark.asyncio(loop_scope="module")

# The step of the lock, or of the zygote's start, that each defence of the kernel's is.
KERNEL: Final[dict[Defence, str]] = {
    "seccomp": "seccomp",
    "landlock": "landlock",
    "rlimits": "rlimits",
    "nproc": "rlimits",
    "namespaces": "namespaces",
    "capabilities": "capabilities",
    "dumpable": "no_new_privs",
}
START: Final[frozenset[Defence]] = frozenset({"environment", "descriptors"})
UNTIMED: Final = replace(
    TIGHT, run_seconds=30.0, sleep_seconds=60.0, output_bytes=1 << 20, wall_seconds=0.6
)
ROOMY: Final = replace(TIGHT, run_seconds=10.0, sleep_seconds=10.0, wall_seconds=20.0)
# What ends a payload that would go on for ever, once its own limit is raised as far as may be.
UNBOUND: Final = {"wall_seconds", "output_bytes", "host_calls"}
PAYLOADS: Final = load_payloads()


class Engines:
    """One locked engine for every set of defences left out."""

    def __init__(self, prey: Planted) -> None:
        self._prey = prey
        self._made: dict[frozenset[Defence], LockedEngine] = {}

    async def without(self, off: frozenset[Defence]) -> LockedEngine:
        if off not in self._made:
            engine = self._made[off] = LockedEngine(workers=1, without=steps(off))
            with started_carelessly(self._prey, off & START):
                await engine.report()
        return self._made[off]

    async def drop(self, off: frozenset[Defence]) -> None:
        await self._made.pop(off).aclose()

    async def aclose(self) -> None:
        for off in tuple(self._made):
            await self.drop(off)


@cache
def void() -> frozenset[Defence]:
    """What is no defence against the user that runs this.

    Root may have any number of processes and reads what is root's; others than root have mostly no
    capabilities to lose.
    """
    status = Path("/proc/self/status").read_text().splitlines()
    capable = any(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    found: set[Defence] = {"nproc", "dumpable"} if os.geteuid() == 0 else set()
    return frozenset(found if capable else {*found, "capabilities"})


def left_out(payload: Payload) -> frozenset[Defence]:
    """The defences that a live run of a payload does without."""
    return payload.off - {"process", "timer"} - void()


def steps(off: frozenset[Defence]) -> frozenset[str]:
    """The engine's names for defences of the kernel's."""
    return frozenset(KERNEL[each] for each in off if each in KERNEL)


@contextlib.contextmanager
def started_carelessly(prey: Planted, off: frozenset[Defence]) -> Generator[None, None, None]:
    """Lets a zygote that starts meanwhile inherit what it must not."""
    begin = "import os;"
    options: dict[str, Any] = {}
    if "environment" in off:
        begin += "os.environ.clear = lambda: None;"
        options["env"] = {ENV_NAME: prey.environment}
    if "descriptors" in off:
        begin += "os.closerange = lambda *numbers: None;"
        options["pass_fds"] = (prey.held_file.fileno(),)

    real: Any = subprocess.Popen

    def start(arguments: Any, **given: Any) -> Any:
        inherited = (*given.pop("pass_fds"), *options.get("pass_fds", ()))
        return real(arguments, **{**given, **options, "pass_fds": inherited})

    with pytest.MonkeyPatch.context() as patch:
        if off:
            patch.setattr(zygotes, "BOOT", begin + zygotes.BOOT)
            patch.setattr(subprocess, "Popen", start)
        yield


@pytest.fixture(scope="module")
def prey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    with planted(tmp_path_factory.mktemp("planted")) as prey:
        yield prey
        assert not prey.processes()


@shared()
async def engines(prey: Planted) -> AsyncIterator[Engines]:
    engines = Engines(prey)
    yield engines
    await engines.aclose()


async def produced(
    payload: Payload, prey: Planted, engine: LockedEngine, limits: Limits = ROOMY
) -> bool:
    """Runs a payload and says whether its marker is there."""
    prey.rest()
    host = PreyHost(prey)
    source = (together if "process" in payload.off else alone)(payload, prey)
    await engine.report()
    before = zygote_of(engine)
    if payload.marker == "process":
        limits = replace(limits, wall_seconds=1.0)  # what it starts may hold the channel open
    running = asyncio.create_task(ran(engine, source, host, limits))
    appeared = payload.marker == "process" and await appears(prey, running)
    outcome = await running
    failure = outcome.failure if isinstance(outcome, Outcome) else None
    match payload.marker:
        case "secret" | "proof" | "listener" | "change":
            return payload.marker in got_out(prey, outcome, host)
        case "spill":
            return "proof" in got_out(prey, outcome, host)
        case "victim":
            return prey.sibling.hurt(0.2)
        case "parent":
            done = "proof" in got_out(prey, outcome, host)
            return done or not await answers(engine, prey) or zygote_of(engine) != before
        case "process":
            return appeared
        case "crash":
            return failure is not None and failure.type == "SandboxCrashed"
        case "overrun":
            return failure is not None and failure.limit in UNBOUND


def zygote_of(engine: LockedEngine) -> int:
    """The process id of an engine's zygote: another one, once it has been replaced."""
    zygote = engine._zygote  # pyright: ignore[reportPrivateUsage]
    assert zygote is not None
    return zygote.pid


async def appears(prey: Planted, running: asyncio.Task[Any]) -> bool:
    """Whether a payload's process is seen while it runs, or behind its end; ends it."""
    found: list[int] = []
    looks = 0
    while not found and looks < 20:  # behind its end, what it has started may be about to appear
        await asyncio.wait({running}, timeout=0.01)
        looks += running.done()
        found = prey.processes()
    for number in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return bool(found)


async def answers(engine: LockedEngine, prey: Planted) -> bool:
    """Whether an engine still runs jobs."""
    outcome = await ran(engine, workflow("return 1"), PreyHost(prey), TIGHT)
    return isinstance(outcome, Outcome) and outcome.value == 1


def marked(payload: Payload) -> Any:
    """A case; those that must be waited for are slow."""
    slow = payload.marker == "overrun"
    return pytest.param(payload, id=str(payload), marks=pytest.mark.slow if slow else ())


@one_loop
@pytest.mark.parametrize("payload", [marked(payload) for payload in PAYLOADS])
async def test_a_payload_is_live_without_what_stops_it(
    payload: Payload, prey: Planted, engines: Engines
) -> None:
    off = left_out(payload)
    limits = UNTIMED if "timer" in payload.off else ROOMY
    try:
        assert await produced(payload, prey, await engines.without(off), limits)
    finally:
        if payload.marker == "parent":
            await engines.drop(off)


LAYERED: Final = [
    (payload, kept)
    for payload in PAYLOADS
    if missing() is None
    for kept in sorted(left_out(payload))
    if len(left_out(payload)) > 1
]


@pytest.mark.slow
@one_loop
@pytest.mark.parametrize(
    ("payload", "kept"), LAYERED, ids=[f"{payload} with {kept}" for payload, kept in LAYERED]
)
async def test_each_defence_alone_stops_what_several_stop(
    payload: Payload, kept: Defence, prey: Planted, engines: Engines
) -> None:
    off = left_out(payload) - {kept}
    assert not await produced(payload, prey, await engines.without(off))
