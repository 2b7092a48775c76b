"""The control: the same search with a barrier after each phase.

extend all | complete all | score all | refine | select. It makes the same draws and edits as
the shipped engine, with the shipped selection; only what may overlap is kept apart.
"""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Prior, Refiner, Reward
from bayesflow_sampler.randomness import permutation, uniform
from bayesflow_sampler.refinement import KEPT
from bayesflow_sampler.selection import select
from bayesflow_sampler.types import Candidate, DrawKey, RowSet, Workflow

__all__ = ["BarrierSearch"]

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class BarrierSearch:
    """One search; its ports and options are those of `Search`."""

    prior: Prior
    reward: Reward
    refiner: Refiner
    options: SearchOptions
    seed: int
    edits: list[Candidate] = field(default_factory=list[Candidate])

    async def run(self) -> None:
        """All rounds."""
        prefixes = [self.prior.root] * self.options.particles
        for t in range(1, self.options.rounds + 1):
            prefixes = await self._round(t, prefixes)

    async def _round(self, t: int, prefixes: Sequence[Workflow]) -> list[Workflow]:
        last = t == self.options.rounds
        firsts = await _all(
            self.prior.extend(prefix, DrawKey("extend", t, i)) for i, prefix in enumerate(prefixes)
        )
        grown = [first if last else first.prefix(t) for first in firsts]
        further = 1 if last else self.options.rollouts
        rest = await _all(
            self.prior.complete(prefix, DrawKey("complete", t, i, k))
            for i, prefix in enumerate(grown)
            for k in range(1, further)
        )
        rows = self._rows(t)
        scored = await _all(self.reward.score(workflow, rows) for workflow in [*firsts, *rest])
        pool = [
            Candidate(workflow, evaluation, t, "prior")
            for workflow, evaluation in zip([*firsts, *rest], scored, strict=True)
        ]
        if self.options.refinement == "archive":
            pool += await self._rescored(rows)
        edits = await self._refine(t, pool, rows)
        self.edits.extend(edits)
        scores = [evaluation.mean for evaluation in scored[: len(grown)]]
        if self.options.refinement == "inject":
            grown += [edit.workflow.prefix(t) for edit in edits]
            scores += [edit.evaluation.mean for edit in edits]
        chosen = select(
            [0.0] * len(grown),
            scores,
            self.options.particles,
            lambda j: uniform(self.seed, "select", t, j),
        )
        return [grown[ancestor] for ancestor in chosen.ancestors]

    async def _refine(self, t: int, pool: Sequence[Candidate], rows: RowSet) -> list[Candidate]:
        edits: list[Candidate] = []
        for m in range(self.options.refinements):
            edit = await self.refiner.refine([*pool, *edits], (), DrawKey("refine", t, m))
            evaluation = await self.reward.score(edit.workflow, rows)
            edits.append(Candidate(edit.workflow, evaluation, t, "refined", edit.parent_id))
        return edits

    async def _rescored(self, rows: RowSet) -> list[Candidate]:
        """The best edits of earlier rounds, as the shipped engine keeps them in the pool."""
        kept = sorted(self.edits, key=lambda edit: -edit.evaluation.mean)[:KEPT]
        scored = await _all(self.reward.score(edit.workflow, rows) for edit in kept)
        return [
            Candidate(edit.workflow, evaluation, edit.round, "refined", edit.parent_id)
            for edit, evaluation in zip(kept, scored, strict=True)
        ]

    def _rows(self, t: int) -> RowSet:
        """As many as the shipped engine scores on: all of them first, to fit beta, and last."""
        size = self.reward.size("validation")
        full = t == self.options.rounds or (t == 1 and self.options.inverse_temperature is None)
        count = size if full else min(size, self.options.minibatch or size)
        order = permutation(size, self.seed, "rows", t)
        return RowSet("validation", tuple(sorted(order[:count])))


async def _all(work: Iterable[Coroutine[object, object, _Result]]) -> list[_Result]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
