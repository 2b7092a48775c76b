"""Lines 3-4 of Algorithm 1: workflows from outside, then M edits of complete workflows.

The refiner is sequential: an edit is scored and joins the pool before the next is proposed; with
`refiner_lag` 1 the next is proposed meanwhile, from a pool without it. Where refined workflows are
archived nothing waits for them, so the refinements of a round go on beside the growth of the next;
what they see is fixed beforehand, whatever finishes first.
"""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bayesflow_sampler.drawing import Drawing
from bayesflow_sampler.growth import scored
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit, Reward
from bayesflow_sampler.shrinkage import finite_mean, shrink
from bayesflow_sampler.types import (
    Candidate,
    DrawKey,
    Evaluation,
    Origin,
    Particle,
    RowSet,
    Workflow,
)
from bayesflow_sampler.urgency import AHEAD

__all__ = ["KEPT", "Refining", "injected_particles"]

# The best edits of earlier rounds stay in the refiner's pool, scored on the round's rows: 1 point
# better final picks for 2 % more evaluations (`make bench`, sample_efficiency).
KEPT: Final = 3


@dataclass
class Refining:
    """The refinements of a search, round after round.

    Attributes:
        drawing: The refiner and those who hand workflows in, through the journal.
        reward: Scores the edits.
        options: The search's settings.
        group: The run's task group.
        warm: Complete workflows that the search starts with; they enter as refined candidates.
    """

    drawing: Drawing
    reward: Reward
    options: SearchOptions
    group: asyncio.TaskGroup
    warm: Sequence[Workflow] = ()
    _seen: set[str] = field(default_factory=set[str], init=False)
    _edits: list[Candidate] = field(default_factory=list[Candidate], init=False)

    async def refine(
        self,
        number: int,
        rollouts: Sequence[Candidate],
        rows: RowSet,
        earlier: asyncio.Task[tuple[Candidate, ...]] | None,
    ) -> tuple[Candidate, ...]:
        """Round t's refined candidates: what came from outside, then the edits, as they were made.

        Args:
            number: Round t.
            rollouts: The round's complete workflows.
            rows: What scores them.
            earlier: The refinements of the round before, which come first.
        """
        AHEAD.set(True)  # for this task and those it starts
        if earlier is not None:
            await earlier
        self._seen.update(candidate.evaluation.workflow_id for candidate in rollouts)
        pool = {candidate.evaluation.workflow_id: candidate for candidate in rollouts}
        for candidate in await self._rescored(rows):
            pool.setdefault(candidate.workflow.workflow_id, candidate)
        refined = await self._outside(number, pool, rows)
        pool |= {candidate.workflow.workflow_id: candidate for candidate in refined}
        refined += await self._edited(number, pool, rows)
        self._edits += refined
        return tuple(refined)

    async def _edited(
        self, number: int, pool: dict[str, Candidate], rows: RowSet
    ) -> list[Candidate]:
        """M edits; each joins the pool once it is scored."""
        edits: list[Candidate] = []
        scoring: list[asyncio.Task[Candidate]] = []
        for index in range(self.options.refinements):
            key = DrawKey("refine", number, index)
            edit = await self.drawing.edited(list(pool.values()), self._seen, key)
            self._seen.add(edit.workflow.workflow_id)
            scoring.append(self.group.create_task(self._scored(edit, number, rows)))
            while len(scoring) > self.options.refiner_lag:
                edits.append(await scoring.pop(0))
                pool.setdefault(edits[-1].workflow.workflow_id, edits[-1])
        return edits + [await task for task in scoring]

    async def _scored(self, edit: Edit, number: int, rows: RowSet) -> Candidate:
        evaluation = await scored(self.reward, edit.workflow, rows)
        return Candidate(edit.workflow, evaluation, number, "refined", edit.parent_id, clean=False)

    async def _rescored(self, rows: RowSet) -> list[Candidate]:
        """The edits of earlier rounds, where they stay in the pool, on this round's rows.

        Those that are injected live on among the particles, or not at all (the paper).
        """
        kept = self._edits
        if self.options.lookahead:
            distinct = {edit.evaluation.workflow_id: edit for edit in kept}.values()
            most = KEPT if self.options.refinement == "archive" else 0
            kept = sorted(distinct, key=lambda edit: -edit.evaluation.mean)[:most]
        evaluations = await self._scores([edit.workflow for edit in kept], rows)
        return [
            replace(edit, evaluation=evaluation)
            for edit, evaluation in zip(kept, evaluations, strict=True)
        ]

    async def _outside(self, number: int, pool: Collection[str], rows: RowSet) -> list[Candidate]:
        """What the search starts with and what was handed in, less what the pool holds already."""
        origins: dict[str, tuple[Workflow, Origin]] = {}
        if number == 1:
            origins |= {one.workflow_id: (one, "warm") for one in self.warm}
        for one in await self.drawing.suggested(number):
            origins.setdefault(one.workflow_id, (one, "submitted"))
        fresh = [entry for name, entry in origins.items() if name not in pool]
        self._seen.update(workflow.workflow_id for workflow, _ in fresh)
        evaluations = await self._scores([workflow for workflow, _ in fresh], rows)
        return [
            Candidate(workflow, evaluation, number, origin, clean=False)
            for (workflow, origin), evaluation in zip(fresh, evaluations, strict=True)
        ]

    async def _scores(self, workflows: Sequence[Workflow], rows: RowSet) -> list[Evaluation]:
        tasks = [
            self.group.create_task(scored(self.reward, workflow, rows)) for workflow in workflows
        ]
        return [await task for task in tasks]


def injected_particles(
    number: int,
    refinements: Sequence[Candidate],
    particles: Sequence[Particle],
    beta: float,
    variance: float,
    *,
    full: bool,
    coherent: bool,
) -> tuple[Particle, ...]:
    """Refined workflows as entries of the selection pool, projected to their first t steps.

    Args:
        number: Round t.
        refinements: The round's refined candidates.
        particles: The round's particles; minibatch means are shrunk towards the mean of these.
        beta: β.
        variance: s², the variance of true rewards.
        full: Whether the round has every validation row.
        coherent: A coherent prior has no continuation for the steps of others, so under one a
            workflow from outside competes for the final pick alone.
    """
    centre = finite_mean([particle.value for particle in particles])
    entries: list[Particle] = []
    for candidate in refinements:
        if coherent and candidate.origin in ("submitted", "warm"):
            continue
        mean, noise = candidate.evaluation.mean, candidate.evaluation.noise()
        value = mean if full else shrink(mean, noise, centre, variance)
        entries.append(
            Particle(
                prefix=candidate.workflow.prefix(number),
                log_weight=0.0,
                score=beta * value,
                value=value,
                rollouts=(candidate,),
                clean=False,
                ancestor=-1,
                terminal=len(candidate.workflow) <= number,
            )
        )
    return tuple(entries)
