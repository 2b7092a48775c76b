"""What a search finds, and how well it estimates E_q[R], against the evaluations it may spend.

An evaluation is one workflow on all validation rows. All contenders meet the same landscapes, the
same rows and, where they edit, the same edit; they are compared in pairs.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.evaluation.task import Preset
from bayesflow_server.runs.options import PRESETS
from bench.efficiency.contenders import BETA, Contender, Outcome, Sized, baselines
from bench.efficiency.landscapes import KINDS
from bench.efficiency.measuring import (
    MINIBATCH,
    ROWS,
    Estimate,
    compare,
    gain,
    kind_of,
    mean_of,
    rmse,
)
from bench.figures import Figure, say

__all__ = ["sample_efficiency"]

BUDGETS: Final = (10, 25, 50, 100, 200)
BALANCED: Final = "balanced"
_SEED: Final = 1_000
_MIDDLE: Final = 50

Table = dict[int, dict[str, list[Outcome]]]


def sample_efficiency(
    landscapes: int, *, budgets: Sequence[int] = BUDGETS, informed: bool = True
) -> list[Figure]:
    """All contenders at all budgets, on so many landscapes.

    Args:
        landscapes: How many; a third of each kind.
        budgets: Full evaluations; 50 is among them.
        informed: Edits prefer steps of well-scored workflows, as the shipped refiner's do.
    """
    return asyncio.run(_run(landscapes, budgets, informed=informed))


async def _run(landscapes: int, budgets: Sequence[int], *, informed: bool) -> list[Figure]:
    table: Table = {}
    for budget in budgets:
        table[budget] = await compare(
            _contenders(budget, informed=informed), budget, landscapes, _SEED
        )
    names = list(table[_MIDDLE])
    say(f"Edits are {'informed' if informed else 'blind'}.")
    _say_table("true accuracy of the final pick, in points", table, names, _truth)
    _say_table("the same, of the plain maximum of validation", table, names, _maximum)
    for kind in KINDS:
        _say_table(f"true accuracy of the final pick: {kind}", _only(table, kind), names, _truth)
    _say_table(f"less {BALANCED}, in pairs", table, names[1:], _truth_gain)
    _say_table(f"RMSE of E_q[R] at β = {BETA:g}, all rounds pooled, in points", table, names, _rmse)
    _say_table("the same from the last round alone", table, names, _last_rmse)
    _say_table("evaluations spent", table, names, _spent)
    _say_table("calls to the optimizer", table, names, _calls)
    middle = table[_MIDDLE]
    return [
        Figure(
            f"{BALANCED} less {name}: points of the pick, {_MIDDLE} evaluations",
            "above two standard errors",
            (ahead := gain(middle[BALANCED], middle[name], _value)).points(signed=True),
            ahead.value > 2 * ahead.error,
        )
        for name in names[1:]
    ]


def _contenders(budget: int, *, informed: bool) -> dict[str, Contender]:
    """The searches at a first guess of their size, and the baselines."""
    searches = {
        BALANCED: Sized(_as_shipped("balanced"), budget / 4),
        "paper preset": Sized(_as_shipped("paper"), budget / 8),
        "exact, scored in full, no edits": Sized(_exact, budget / 5),
        "the same, paper weighting": Sized(_paper_weighting, budget / 5),
        "refinement alone": Sized(_refinement_alone, budget / 6),
    }
    for search in searches.values():
        search.informed = informed
    return {**searches, **baselines(MINIBATCH, informed=informed)}


def _as_shipped(preset: Preset) -> Callable[[int], SearchOptions]:
    """The preset with another number of particles, and of edits in proportion."""
    shipped = PRESETS[preset]

    def sized(size: int) -> SearchOptions:
        edits = round(size * shipped.refinements / shipped.particles)
        return replace(shipped, particles=size, refinements=min(max(edits, 1), 100))

    return sized


def _exact(size: int) -> SearchOptions:
    return SearchOptions(particles=size, refinements=0, inverse_temperature=BETA, minibatch=None)


def _paper_weighting(size: int) -> SearchOptions:
    return replace(_exact(size), weighting="paper")


def _refinement_alone(size: int) -> SearchOptions:
    return SearchOptions(
        particles=size, refinements=min(size, 100), minibatch=None, lookahead=False
    )


def _say_table(
    title: str,
    table: Table,
    names: Sequence[str],
    cell: Callable[[dict[str, list[Outcome]], str], str],
) -> None:
    """A table in Markdown: a row each contender, a column each budget."""
    say(f"\n{title}; {len(table[_MIDDLE][BALANCED])} landscapes, {ROWS} rows\n")
    say("| evaluations | " + " | ".join(str(budget) for budget in table) + " |")
    say("|---" * (len(table) + 1) + "|")
    for name in names:
        cells = [cell(outcomes, name) for outcomes in table.values()]
        if any(cells):
            say(f"| {name} | " + " | ".join(cells) + " |")


def _only(table: Table, kind: str) -> Table:
    return {
        budget: {
            name: [one for trial, one in enumerate(row) if kind_of(trial) == kind]
            for name, row in outcomes.items()
        }
        for budget, outcomes in table.items()
    }


def _value(outcome: Outcome) -> float:
    return outcome.truth


def _truth(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return mean_of(outcomes[name], _value).points()


def _maximum(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return mean_of(outcomes[name], lambda outcome: outcome.maximum_truth).points()


def _truth_gain(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return gain(outcomes[name], outcomes[BALANCED], _value).points(signed=True)


def _rmse(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return _or_nothing(rmse([outcome.error for outcome in outcomes[name]]))


def _last_rmse(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return _or_nothing(rmse([outcome.last_error for outcome in outcomes[name]]))


def _or_nothing(estimate: Estimate | None) -> str:
    return "" if estimate is None else estimate.points()


def _spent(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return f"{mean_of(outcomes[name], lambda outcome: outcome.evaluations).value:.1f}"


def _calls(outcomes: dict[str, list[Outcome]], name: str) -> str:
    return f"{mean_of(outcomes[name], lambda outcome: outcome.calls).value:.0f}"
