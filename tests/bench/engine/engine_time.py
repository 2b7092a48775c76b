"""How far a search is from the time that its calls allow at best, in virtual time.

Lognormal latencies (`latencies.py`), one limit C on the calls of all roles, 60 validation rows.
The bound is that of the calls each search really made (`bound.py`). Beside the shipped engine:
barriers between phases, a refiner that runs one score ahead, and other orders of waiting calls.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from bayesflow_sampler.options import SearchOptions
from bench.engine.trial import DISCIPLINES, SHIPPED, Trial, trial
from bench.figures import Figure

__all__ = ["engine_time"]

_CAPACITIES: Final = (16, 64, 256)
_SEEDS: Final = range(10)
_FEWER_SEEDS: Final = range(5)
_MOST: Final = 1.05

_BALANCED: Final = SearchOptions()
_PAPER_SIZE: Final = SearchOptions(refinements=10, minibatch=None, inverse_temperature=1.0)
_CASES: Final = {
    "archive M=2": _BALANCED,
    "archive M=2 K=2": replace(_BALANCED, rollouts=2),
    "archive M=10": _PAPER_SIZE,
    "inject M=2": replace(_BALANCED, refinement="inject"),
    "inject M=10": replace(_PAPER_SIZE, refinement="inject"),
}


def engine_time() -> list[Figure]:
    """Every case at every C; then the lag; then the orders of waiting, where C is small."""
    against_bound = [_against_bound(case, capacity) for case in _CASES for capacity in _CAPACITIES]
    cases = [case for case in _CASES if "K=2" not in case]
    lags = [_lag(case, capacity) for case in cases for capacity in _CAPACITIES]
    orders = [
        _order(case, capacity, name)
        for case in cases
        for capacity in _CAPACITIES[:1]
        for name in DISCIPLINES
        if name != SHIPPED
    ]
    return [*against_bound, *lags, *orders]


def _against_bound(case: str, capacity: int) -> Figure:
    options = _CASES[case]
    shipped = _trials(_SEEDS, lambda seed: trial(options, capacity, seed))
    control = _trials(_FEWER_SEEDS, lambda seed: trial(options, capacity, seed, barriers=True))
    ratio = _ratio(shipped)
    return Figure(
        f"engine, {case}, C={capacity}: time over its bound",
        f"at most {_MOST}",
        f"{ratio:.3f} (worst {max(one.ratio for one in shipped):.3f}), {_seconds(shipped):.0f} s; "
        f"with barriers {_ratio(control):.2f}",
        ratio <= _MOST,
    )


def _lag(case: str, capacity: int) -> Figure:
    options = _CASES[case]
    ahead = replace(options, refiner_lag=1)
    waits = _trials(_FEWER_SEEDS, lambda seed: trial(options, capacity, seed))
    runs_ahead = _trials(_FEWER_SEEDS, lambda seed: trial(ahead, capacity, seed))
    saved = 1 - _seconds(runs_ahead) / _seconds(waits)
    return Figure(
        f"refiner_lag=1 against 0, {case}, C={capacity}",
        "none",
        f"{saved:.0%} shorter: {_seconds(runs_ahead):.0f} s against {_seconds(waits):.0f} s",
        None,
    )


def _order(case: str, capacity: int, name: str) -> Figure:
    options, discipline = _CASES[case], DISCIPLINES[name]
    trials = _trials(_FEWER_SEEDS, lambda seed: trial(options, capacity, seed, discipline))
    return Figure(
        f"waiting calls {name}, {case}, C={capacity}",
        "none",
        f"{_ratio(trials):.3f}, {_seconds(trials):.0f} s",
        None,
    )


def _trials(seeds: Sequence[int], run: Callable[[int], Trial]) -> list[Trial]:
    return [run(seed) for seed in seeds]


def _ratio(trials: Sequence[Trial]) -> float:
    return statistics.fmean([one.ratio for one in trials])


def _seconds(trials: Sequence[Trial]) -> float:
    return statistics.fmean([one.seconds for one in trials])
