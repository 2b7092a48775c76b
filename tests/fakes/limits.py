"""What a search of a toy tends to as N grows: the deterministic flow of its population.

In the limit a population is a law on prefixes, every look-ahead score is log V(s_1:t), and a round
is arithmetic: extend by the prior, let in M = ρ·N refined workflows, select. No formula for the
result is put in, so that the closed forms of the theorems can be held against it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.selection import Weighting
from bayesflow_sampler.types import Step, Workflow
from fakes.toys import Toy

__all__ = [
    "Cell",
    "Law",
    "divergence",
    "flow",
    "mean_reward",
    "normalised",
    "prior_law",
    "total_variation",
    "weighed",
]

Law = Mapping[str, float]


@dataclass(frozen=True)
class Cell:
    """The particles that share a prefix and a past.

    Attributes:
        steps: The prefix s_1:t.
        mass: Their share of the N particles.
        log_weight: What each of them carries.
        clean: They have no refined ancestor.
        whole: The refined workflow that they are the beginning of, while it is in the pool.
    """

    steps: tuple[Step, ...] = ()
    mass: float = 1.0
    log_weight: float = 0.0
    clean: bool = True
    whole: tuple[Step, ...] | None = None


def flow(
    toy: Toy,
    beta: float,
    rounds: int,
    weighting: Weighting,
    injected: Sequence[Mapping[tuple[Step, ...], float]] | None = None,
) -> list[Cell]:
    """The weighted population after the last round, in which nothing is selected.

    Args:
        toy: What is searched.
        beta: β.
        rounds: T.
        weighting: As in `selection.select`.
        injected: For each round before the last, refined workflows with their number over N. Each
            scores by its own reward, whatever its prefix is worth.
    """
    population = [Cell()]
    for number in range(1, rounds):
        grown = _extended(toy, population)
        for steps, share in injected[number - 1].items() if injected else ():
            grown.append(Cell(steps[:number], share, clean=False, whole=steps))
        population = _selected(toy, beta, grown, weighting)
    return [
        replace(cell, log_weight=cell.log_weight + math.log(toy.value(cell.steps, beta)))
        for cell in _extended(toy, population)
    ]


def _extended(toy: Toy, population: Sequence[Cell]) -> list[Cell]:
    grown: list[Cell] = []
    for cell in population:
        state = toy.grammar.state_after(cell.steps)
        if state is None:
            grown.append(cell)
            continue
        grown += [
            replace(cell, steps=(*cell.steps, one.step), mass=cell.mass * one.probability)
            for one in toy.grammar.productions[state]
        ]
    return grown


def _selected(toy: Toy, beta: float, pool: Sequence[Cell], weighting: Weighting) -> list[Cell]:
    scores = [math.log(toy.value(cell.whole or cell.steps, beta)) for cell in pool]
    exact = weighting == "exact"
    pull = [
        cell.mass * math.exp(score + (cell.log_weight if exact else 0.0))
        for cell, score in zip(pool, scores, strict=True)
    ]
    total = math.fsum(pull)
    return [
        replace(
            cell,
            mass=drawn / total,
            # N·π of one particle: the cell's share of the children over its share of the parents.
            log_weight=cell.log_weight - math.log(drawn / total / cell.mass) if exact else 0.0,
            whole=None,
        )
        for cell, drawn in zip(pool, pull, strict=True)
    ]


# --- laws -------------------------------------------------------------------------------------


def prior_law(toy: Toy) -> dict[str, float]:
    """p(s)."""
    return {leaf.workflow.workflow_id: leaf.probability for leaf in toy.leaves}


def weighed(cells: Sequence[Cell], *, clean: bool | None = None) -> dict[str, float]:
    """Σ mass·exp(log-weight) of each word; of clean or refined lineages alone if told so."""
    measure: dict[str, float] = {}
    for cell in cells:
        if clean is None or cell.clean == clean:
            name = Workflow(PREAMBLE, cell.steps).workflow_id
            measure[name] = measure.get(name, 0.0) + cell.mass * math.exp(cell.log_weight)
    return measure


def normalised(measure: Law) -> dict[str, float]:
    """The law that is proportional to the measure."""
    total = math.fsum(measure.values())
    return {name: value / total for name, value in measure.items()}


def total_variation(first: Law, second: Law) -> float:
    """Half the sum of absolute differences."""
    names = first.keys() | second.keys()
    return 0.5 * math.fsum(abs(first.get(name, 0.0) - second.get(name, 0.0)) for name in names)


def divergence(first: Law, second: Law) -> float:
    """KL(first ‖ second) in nats; `second` is positive wherever `first` is."""
    return math.fsum(
        share * math.log(share / second[name]) for name, share in first.items() if share > 0
    )


def mean_reward(law: Law, rewards: Mapping[str, float]) -> float:
    """E[R] under the law."""
    return math.fsum(share * rewards[name] for name, share in law.items())
