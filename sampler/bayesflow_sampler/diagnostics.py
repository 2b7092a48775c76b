"""What a search's health looks like from outside: rewards, ESS, diversity, ancestry of a round."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from bayesflow_sampler.types import Generation

__all__ = ["RoundSummary", "summarise", "unique_ancestors"]


class RoundSummary(NamedTuple):
    """One round in numbers.

    Attributes:
        round: t.
        minimum: Least reward of the round's complete workflows, on the rows it was scored on.
        mean: Mean reward.
        maximum: Largest reward.
        distinct: Distinct complete workflows.
        structures: Distinct sequences of step titles.
        failed: Distinct workflows that do not run.
        effective_sample_size: ESS of the particles before selection.
        clean_share: Share of particles without a refined ancestor.
        inverse_temperature: β.
        rows: Rows it was scored on.
        unique_parents: Distinct ancestors among the children (0 in the last round).
    """

    round: int
    minimum: float
    mean: float
    maximum: float
    distinct: int
    structures: int
    failed: int
    effective_sample_size: float
    clean_share: float
    inverse_temperature: float
    rows: int
    unique_parents: int


def summarise(generation: Generation) -> RoundSummary:
    """The round in numbers; rewards are of every complete workflow it scored (paper Figure 2)."""
    candidates = generation.candidates
    rewards = [candidate.evaluation.mean for candidate in candidates]
    workflows = {candidate.workflow.workflow_id: candidate for candidate in candidates}
    structures = {
        tuple(step.title for step in candidate.workflow.steps) for candidate in candidates
    }
    return RoundSummary(
        round=generation.round,
        minimum=min(rewards),
        mean=statistics.fmean(rewards),
        maximum=max(rewards),
        distinct=len(workflows),
        structures=len(structures),
        failed=sum(c.evaluation.failure is not None for c in workflows.values()),
        effective_sample_size=generation.effective_sample_size,
        clean_share=statistics.fmean(particle.clean for particle in generation.particles),
        inverse_temperature=generation.inverse_temperature,
        rows=len(generation.rows.positions),
        unique_parents=len(set(generation.ancestors)),
    )


def unique_ancestors(ancestors: Sequence[Sequence[int]], particles: int) -> list[int]:
    """For each round, how many of its particles still have descendants in the last one.

    Args:
        ancestors: For each selection, the index that each child was drawn from: one selection less
            than there are rounds. Indices from N on are injected refinements: lineages end there.
        particles: N.

    Returns:
        One count a round, from the first; the last is N.
    """
    alive = set(range(particles))
    counts = [particles]
    for parents in reversed(ancestors):
        alive = {parents[index] for index in alive if parents[index] < particles}
        counts.append(len(alive))
    return counts[::-1]
