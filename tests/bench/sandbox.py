"""What running untrusted code costs: both engines, side by side with two that are no sandbox.

One small workflow with one model call. Start: nothing there to the first result, modules loaded.
Overhead: one run after the other, the model answering at once, in rounds and in turns; the median
of the quietest round counts, for other programs only add, and the median of all is told with it.
Pace: 1,000 runs, 50 at a time, the model taking 20 ms.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import chain, repeat
from typing import Final, NamedTuple

from bayesflow_sandbox.locked.kernel import missing
from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_sandbox.unit_tests import UnitTests
from bench.contenders import PEER, Contender, contenders
from bench.figures import Figure

__all__ = ["sandbox"]

_STARTS: Final = 5
_ROUNDS, _IN_A_ROUND = 10, 20
_RUNS, _CONCURRENT, _LATENCY = 1_000, 50, 0.02
_TRIALS, _PAIRS = 200, 4
_MOST_MS: Final = {"Monty": 1.0, "locked": 5.0}
_LEAST_PACE: Final = {"Monty": 350}
_LEAST_TRIALS: Final = 80

_SOLUTION: Final = """\
def add_up(numbers):
    total = 0
    for number in numbers:
        total += number
    return total
"""
_TESTS: Final = UnitTests(
    (
        "assert add_up([]) == 0",
        "assert add_up([1, 2, 3]) == 6",
        "assert add_up([-1, 1]) == 0",
        "assert add_up([4] * 10) == 40",
    )
)


class _Measured(NamedTuple):
    start_ms: float
    quietest_ms: float
    usual_ms: float
    pace: float


def sandbox() -> list[Figure]:
    """Start, overhead and pace of each; then unit tests a second."""
    why = missing()
    runners = [each for each in contenders() if each.name != "locked" or why is None]
    measured = asyncio.run(_measure(runners))
    figures = [line for name, each in measured.items() for line in _lines(name, each)]
    if PEER not in measured:
        figures.append(Figure(f"{PEER}: LocalPythonExecutor", "none", "not installed", None))
    if why is not None:
        return [*figures, Figure("locked, run_tests", "none", why, None)]
    return [*figures, _trials(asyncio.run(_trials_pace()))]


def _lines(name: str, measured: _Measured) -> list[Figure]:
    most, least = _MOST_MS.get(name), _LEAST_PACE.get(name)
    overhead, pace = measured.quietest_ms, measured.pace
    return [
        Figure(f"{name}: start to first result", "none", f"{measured.start_ms:.1f} ms", None),
        Figure(
            f"{name}: a run with one call, answered at once",
            f"at most {most:g} ms" if most else "none",
            f"{overhead:.2f} ms ({measured.usual_ms:.2f})",
            overhead <= most if most else None,
        ),
        Figure(
            f"{name}: runs a second, model of 20 ms, {_CONCURRENT} concurrent",
            f"at least {least}" if least else "none",
            f"{pace:.0f}",
            pace >= least if least else None,
        ),
    ]


def _trials(pace: float) -> Figure:
    return Figure(
        f"run_tests a second, {len(_TESTS.cases)} cases, {_PAIRS} concurrent",
        f"at least {_LEAST_TRIALS}",
        f"{pace:.0f}",
        pace >= _LEAST_TRIALS,
    )


async def _measure(runners: list[Contender]) -> dict[str, _Measured]:
    starts: dict[str, list[float]] = {runner.name: [] for runner in runners}
    rounds: dict[str, list[list[float]]] = {runner.name: [] for runner in runners}
    paces: dict[str, float] = {}
    for _ in range(_STARTS + 1):
        for runner in runners:
            starts[runner.name].append(await _seconds(partial(_first_run, runner)))
    async with AsyncExitStack() as stack:
        runs = {each.name: await stack.enter_async_context(each.open(1)) for each in runners}
        for _ in range(_ROUNDS):
            for name, run in runs.items():
                rounds[name].append([await _seconds(partial(run, 0.0)) for _ in range(_IN_A_ROUND)])
    for runner in runners:
        async with runner.open(_CONCURRENT) as run:
            asked = partial(run, _LATENCY)
            await _crowd(asked, 2 * _CONCURRENT, _CONCURRENT)
            seconds = await _seconds(partial(_crowd, asked, _RUNS, _CONCURRENT))
            paces[runner.name] = _RUNS / seconds
    return {
        name: _Measured(
            # The first start of all loads modules.
            statistics.median(starts[name][1:]) * 1000,
            min(statistics.median(each) for each in rounds[name]) * 1000,
            statistics.median(chain.from_iterable(rounds[name])) * 1000,
            paces[name],
        )
        for name in starts
    }


async def _first_run(runner: Contender) -> None:
    async with runner.open(1) as run:
        await run(0.0)


async def _trials_pace() -> float:
    async with Sandbox(workers=_PAIRS) as box:

        async def once() -> None:
            report = await box.run_tests(_SOLUTION, "add_up", _TESTS)
            if not report.passed:
                raise RuntimeError(f"a solution failed: {report}")

        await _crowd(once, 4 * _PAIRS, _PAIRS)
        return _TRIALS / await _seconds(partial(_crowd, once, _TRIALS, _PAIRS))


async def _crowd(run: Callable[[], Awaitable[None]], runs: int, at_once: int) -> None:
    """Runs so often, so many at a time."""
    left = iter(repeat(None, runs))

    async def one_after_the_other() -> None:
        for _ in left:
            await run()

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))


async def _seconds(run: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await run()
    return time.perf_counter() - started
