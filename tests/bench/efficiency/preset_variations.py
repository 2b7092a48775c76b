"""Would other settings serve `balanced` and `quick` better, at what they cost?

The preset runs as shipped; each variation changes one thing, or a few, and takes as many particles
as make its average cost the preset's. Gains are differences in pairs over the same landscapes: the
true accuracy of the final pick, and the RMSE of E_q[R]. Among two dozen variations one or two look
better by luck at two standard errors: what does is run again, on landscapes of another seed.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.evaluation.task import Preset
from bayesflow_server.runs.options import PRESETS
from bench.efficiency.contenders import Contender, Outcome, Sized, baselines
from bench.efficiency.landscapes import KINDS, Kind
from bench.efficiency.measuring import MINIBATCH, compare, gain, kind_of, mean_of, rmse
from bench.figures import Figure, say

__all__ = ["VARIATIONS", "Variation", "preset_variations"]

Variation = Callable[[SearchOptions], SearchOptions]

_AS_SHIPPED: Final = "as shipped"
_SEED: Final = 50_000
_TOLERATED: Final = 1.03  # of the cost: the smallest size may still be too dear

VARIATIONS: Final[Mapping[str, Variation]] = {
    "M = 0": lambda shipped: replace(shipped, refinements=0),
    "M = 1": lambda shipped: replace(shipped, refinements=1),
    "M = 2": lambda shipped: replace(shipped, refinements=2),
    "M = 4": lambda shipped: replace(shipped, refinements=4),
    "M = 8": lambda shipped: replace(shipped, refinements=8),
    "K = 2": lambda shipped: replace(shipped, rollouts=2),
    "T = 2": lambda shipped: replace(shipped, rounds=2),
    "T = 3": lambda shipped: replace(shipped, rounds=3),
    "T = 4": lambda shipped: replace(shipped, rounds=4),
    "T = 5": lambda shipped: replace(shipped, rounds=5),
    "all rows each round": lambda shipped: replace(shipped, minibatch=None),
    "minibatch 10": lambda shipped: replace(shipped, minibatch=10),
    "minibatch 30": lambda shipped: replace(shipped, minibatch=30),
    "beta = 5": lambda shipped: replace(shipped, inverse_temperature=5.0),
    "beta = 10": lambda shipped: replace(shipped, inverse_temperature=10.0),
    "beta = 20": lambda shipped: replace(shipped, inverse_temperature=20.0),
    "beta = 40": lambda shipped: replace(shipped, inverse_temperature=40.0),
    "beta = 20, M = 4": lambda shipped: replace(shipped, inverse_temperature=20.0, refinements=4),
    "beta = 20, M = 8": lambda shipped: replace(shipped, inverse_temperature=20.0, refinements=8),
    "beta = 10, minibatch 10": lambda shipped: replace(
        shipped, inverse_temperature=10.0, minibatch=10
    ),
    "multinomial": lambda shipped: replace(shipped, resampling="multinomial"),
    "stratified": lambda shipped: replace(shipped, resampling="stratified"),
    "residual": lambda shipped: replace(shipped, resampling="residual"),
    "ESS trigger 0.8": lambda shipped: replace(shipped, ess_threshold=0.8),
    "ESS trigger 0.5": lambda shipped: replace(shipped, ess_threshold=0.5),
    "tempering 0.5": lambda shipped: replace(shipped, tempering=0.5),
    "islands = 2": lambda shipped: replace(shipped, particles=2 * shipped.particles, islands=2),
    "recycle, K = 2": lambda shipped: replace(shipped, rollouts=2, recycle=True),
    "injected": lambda shipped: replace(shipped, refinement="inject"),
    "injected, clean floor 0.3": lambda shipped: replace(
        shipped, refinement="inject", clean_floor=0.3
    ),
    "paper weighting": lambda shipped: replace(shipped, weighting="paper"),
    "refinement alone": lambda shipped: replace(shipped, lookahead=False),
}


def preset_variations(
    preset: Preset,
    landscapes: int,
    variations: Mapping[str, Variation] = VARIATIONS,
    *,
    seed: int = _SEED,
    informed: bool = True,
) -> list[Figure]:
    """The preset and its variations on so many landscapes.

    Args:
        preset: Which.
        landscapes: How many; a third of each kind.
        variations: What is changed, by name; a change that changes nothing is left out.
        seed: Of the first landscape.
        informed: Edits prefer steps of well-scored workflows, as the shipped refiner's do.
    """
    shipped = PRESETS[preset]
    searches = {_AS_SHIPPED: _sized(lambda same: same, shipped, informed=informed)}
    searches[_AS_SHIPPED].steady = True
    for name, variation in variations.items():
        if variation(shipped) != shipped:
            searches[name] = _sized(variation, shipped, informed=informed)
    contenders: dict[str, Contender] = {**searches, **baselines(MINIBATCH, informed=informed)}
    outcomes = asyncio.run(compare(contenders, None, landscapes, seed))
    reference = outcomes[_AS_SHIPPED]
    say(f"\n{preset}, edits {'informed' if informed else 'blind'}, {landscapes} landscapes: ")
    say(f"{mean_of(reference, _truth).points()} points, RMSE of E_q[R] {_rmse(reference)}\n")
    say(f"| | gain of the pick | {' | '.join(KINDS)} | RMSE of E_q[R] | N | evaluations | calls |")
    say("|---" * 8 + "|")
    for name, found in outcomes.items():
        size = f"{searches[name].size:.1f}" if name in searches else ""
        say(_line(name, found, reference, size))
    better = [
        f"{name} ({more.points(signed=True)})"
        for name in searches
        if (more := gain(outcomes[name], reference, _truth)).value > 2 * more.error
        and _spent(outcomes[name]) < _TOLERATED * _spent(reference)
    ]
    return [
        Figure(
            f"{preset}: variations better by two standard errors at its cost",
            "none",
            ", ".join(better) or "none",
            not better,
        )
    ]


def _sized(variation: Variation, shipped: SearchOptions, *, informed: bool) -> Sized:
    options = partial(_at, variation(shipped))
    return Sized(options, float(shipped.particles), informed=informed)


def _at(options: SearchOptions, size: int) -> SearchOptions:
    """The options with so many particles; with islands, the next number they can share out."""
    if options.islands > 1:
        size = options.islands * max(2, -(-size // options.islands))
    return replace(options, particles=size)


def _line(name: str, found: Sequence[Outcome], reference: Sequence[Outcome], size: str) -> str:
    kinds = [
        gain(_of(kind, found), _of(kind, reference), _truth).points(signed=True) for kind in KINDS
    ]
    calls = mean_of(found, lambda outcome: outcome.calls).value
    cells = [
        gain(found, reference, _truth).points(signed=True),
        *kinds,
        _rmse(found),
        size,
        f"{_spent(found):.1f}",
        f"{calls:.0f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def _of(kind: Kind, outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [one for trial, one in enumerate(outcomes) if kind_of(trial) == kind]


def _truth(outcome: Outcome) -> float:
    return outcome.truth


def _spent(outcomes: Sequence[Outcome]) -> float:
    return mean_of(outcomes, lambda outcome: outcome.evaluations).value


def _rmse(outcomes: Sequence[Outcome]) -> str:
    found = rmse([outcome.error for outcome in outcomes])
    return "" if found is None else found.points()
