"""Algorithms 1 and 2 of the paper: Sequential Monte Carlo over workflow steps.

A newcomer's tour. `Search.generations()` is the whole of Algorithm 2: T rounds, each one STEPUPDATE
(Algorithm 1), each yielded as a `Generation`. One round, for N particles s_1:t-1 with log-weight ℓ:

    1. extend     s_t and a rollout from the prior; K-1 further rollouts        (line 1-2)
    2. score      g = log (1/K) Σ_k exp(β·R(rollout_k)); at t = T, g = β·R(s)   (line 2)
    3. refine     workflows handed in from outside, then M edits of complete
                  workflows, one after the other                                (line 3-4)
    4. select     N children from particles (and injected edits), `selection`   (line 5-6)

Everything before the selection runs in parallel; selection is the only barrier. There is none after
round T: the last population is weighted by exp(ℓ + β·R). Without look-ahead (paper §4.3) the N
workflows of round 1 stay as they are, nothing is selected, and each round edits the growing pool.
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bayesflow_sampler.codec import (
    decode_edit,
    decode_workflow,
    decode_workflows,
    encode_edit,
    encode_workflow,
    encode_workflows,
)
from bayesflow_sampler.controller import Controller
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit, Journal, Prior, Refiner, Reward, Suggestions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.selection import select
from bayesflow_sampler.shrinkage import reward_variance, shrink
from bayesflow_sampler.types import (
    Candidate,
    DrawKey,
    Evaluation,
    Generation,
    Particle,
    RowSet,
    Workflow,
)
from bayesflow_sampler.weights import effective_sample_size, log_mean_exp

__all__ = ["Search"]

_NO_LOOKAHEAD: Final = (
    "No look-ahead: the posterior rests on the workflows that round 1 drew from the prior; those "
    "that were edited compete for the final pick alone."
)


@dataclass(frozen=True, slots=True)
class _Child:
    """A prefix that waits for its next step."""

    prefix: Workflow
    log_weight: float = 0.0
    value: float | None = None
    clean: bool = True
    ancestor: int = -1  # before round 1 there is no pool
    whole: Candidate | None = None  # the complete workflow, if the prefix is one (terminal)


@dataclass(frozen=True, slots=True)
class _Grown:
    """A child with its scored rollouts."""

    child: _Child
    prefix: Workflow
    rollouts: tuple[Candidate, ...]
    terminal: bool


@dataclass
class Search:
    """One search: the prior, reward, refiner and journal it uses, its options and its seed.

    `suggestions`, if given, brings in whole workflows from outside while the search is under way.
    """

    prior: Prior
    reward: Reward
    refiner: Refiner
    journal: Journal
    options: SearchOptions
    seed: int
    suggestions: Suggestions | None = None
    _seen: set[str] = field(default_factory=set[str], init=False)
    _evaluations: list[Evaluation] = field(default_factory=list[Evaluation], init=False)
    _edits: list[Candidate] = field(default_factory=list[Candidate], init=False)

    async def generations(self) -> AsyncIterator[Generation]:
        """Algorithm 2: yields each round's generation as soon as it is selected.

        The generator may be abandoned between rounds; a new search with the same seed and journal
        repeats the same rounds without repeating a recorded draw.
        """
        self._seen.clear()
        self._evaluations.clear()
        self._edits.clear()
        controller = Controller(self.options, self.reward.size("validation"), self.seed)
        children = [_Child(self.prior.root) for _ in range(self.options.particles)]
        for number in range(1, self.options.rounds + 1):
            generation, children = await self._round(number, children, controller)
            yield generation

    async def _round(
        self, number: int, children: Sequence[_Child], controller: Controller
    ) -> tuple[Generation, list[_Child]]:
        """STEPUPDATE: the round's generation, and the children that enter the next."""
        rows = controller.rows_of(number)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._grow(number, index, child, rows))
                for index, child in enumerate(children)
            ]
        grown = [task.result() for task in tasks]
        full = len(rows.positions) == self.reward.size("validation")
        rollouts = [rollout for one in grown for rollout in one.rollouts]
        notes = controller.observe([c.evaluation.mean for c in rollouts if c.clean]) if full else ()
        if number == 1 and not self.options.lookahead:
            notes = (*notes, _NO_LOOKAHEAD)
        beta = controller.inverse_temperature
        self._evaluations += [rollout.evaluation for rollout in rollouts]
        refinements = await self._refine(number, rollouts, rows)
        particles = self._score(grown, beta, full=full)
        injected = self._inject(number, refinements, particles, beta, full=full)
        children = self._select(number, (*particles, *injected))
        generation = Generation(
            round=number,
            rounds=self.options.rounds,
            inverse_temperature=beta,
            rows=rows,
            fully_scored=full,
            particles=particles,
            refinements=refinements,
            injected=injected,
            ancestors=tuple(child.ancestor for child in children),
            effective_sample_size=effective_sample_size(
                [p.log_weight + p.score for p in particles]
            ),
            notes=notes,
        )
        return generation, children

    def _select(self, number: int, pool: Sequence[Particle]) -> list[_Child]:
        """Lines 5-6; none after the last round, nor without look-ahead."""
        if number == self.options.rounds:
            return []
        if not self.options.lookahead:
            return [_child(entry, index, entry.log_weight) for index, entry in enumerate(pool)]
        chosen = select(
            [entry.log_weight for entry in pool],
            [entry.score for entry in pool],
            self.options.particles,
            lambda index: uniform(self.seed, "select", number, index),
            weighting=self.options.weighting,
            resampling=self.options.resampling,
        )
        return [
            _child(pool[ancestor], ancestor, log_weight)
            for ancestor, log_weight in zip(chosen.ancestors, chosen.log_weights, strict=True)
        ]

    # --- extend and score -------------------------------------------------------------------

    async def _grow(self, number: int, index: int, child: _Child, rows: RowSet) -> _Grown:
        """Lines 1-2: one more step, K rollouts, and their scores."""
        if child.whole is not None:
            evaluation = await self.reward.score(child.whole.workflow, rows)
            return _Grown(child, child.prefix, (replace(child.whole, evaluation=evaluation),), True)
        first = await self._draw(DrawKey("extend", number, index), child.prefix)
        last = number == self.options.rounds or not self.options.lookahead
        prefix = first if last else first.prefix(number)
        terminal = len(first) <= len(prefix)
        further = 0 if terminal else self.options.rollouts - 1
        async with asyncio.TaskGroup() as group:
            scored = [group.create_task(self._candidate(number, child, first, rows))]
            scored += [
                group.create_task(self._complete(number, index, k, child, prefix, rows))
                for k in range(1, further + 1)
            ]
        return _Grown(child, prefix, tuple(task.result() for task in scored), terminal)

    async def _complete(
        self, number: int, index: int, k: int, child: _Child, prefix: Workflow, rows: RowSet
    ) -> Candidate:
        workflow = await self._draw(DrawKey("complete", number, index, k), prefix)
        return await self._candidate(number, child, workflow, rows)

    async def _candidate(
        self, number: int, child: _Child, workflow: Workflow, rows: RowSet
    ) -> Candidate:
        self._seen.add(workflow.workflow_id)
        evaluation = await self.reward.score(workflow, rows)
        return Candidate(workflow, evaluation, number, "prior", clean=child.clean)

    async def _draw(self, key: DrawKey, prefix: Workflow) -> Workflow:
        known = await self.journal.recall(key)
        if known is not None:
            return decode_workflow(known)
        draw = self.prior.extend if key.kind == "extend" else self.prior.complete
        workflow = await draw(prefix, key)
        await self.journal.record(key, encode_workflow(workflow))
        return workflow

    def _score(self, grown: Sequence[_Grown], beta: float, *, full: bool) -> tuple[Particle, ...]:
        """The look-ahead scores; minibatch means are shrunk towards the parent's value first."""
        means = [statistics.fmean(c.evaluation.mean for c in one.rollouts) for one in grown]
        centre = statistics.fmean(means)
        variance = reward_variance(self._evaluations)
        particles: list[Particle] = []
        for one, mean in zip(grown, means, strict=True):
            evaluations = [candidate.evaluation for candidate in one.rollouts]
            if full:
                value = mean
                score = log_mean_exp([beta * evaluation.mean for evaluation in evaluations])
            else:
                noise = (
                    sum(evaluation.noise() for evaluation in evaluations) / len(evaluations) ** 2
                )
                parent = centre if one.child.value is None else one.child.value
                value = shrink(mean, noise, parent, variance)
                score = beta * value
            particles.append(
                Particle(
                    prefix=one.prefix,
                    log_weight=one.child.log_weight,
                    score=score,
                    value=value,
                    rollouts=one.rollouts,
                    clean=one.child.clean,
                    ancestor=one.child.ancestor,
                    terminal=one.terminal,
                )
            )
        return tuple(particles)

    # --- refine -----------------------------------------------------------------------------

    async def _refine(
        self, number: int, rollouts: Sequence[Candidate], rows: RowSet
    ) -> tuple[Candidate, ...]:
        """Lines 3-4: M edits, each scored and put into the pool before the next is made.

        Workflows handed in from outside enter as edits do, in front of them.
        """
        pool = {candidate.workflow.workflow_id: candidate for candidate in rollouts}
        for candidate in await self._rescored(rows):
            pool.setdefault(candidate.workflow.workflow_id, candidate)
        refined = await self._submitted(number, pool, rows)
        pool |= {candidate.workflow.workflow_id: candidate for candidate in refined}
        for index in range(self.options.refinements):
            edit = await self._edit(DrawKey("refine", number, index), list(pool.values()))
            self._seen.add(edit.workflow.workflow_id)
            evaluation = await self.reward.score(edit.workflow, rows)
            candidate = Candidate(
                edit.workflow, evaluation, number, "refined", edit.parent_id, clean=False
            )
            pool.setdefault(edit.workflow.workflow_id, candidate)
            refined.append(candidate)
        if not self.options.lookahead:
            self._edits += refined
        return tuple(refined)

    async def _rescored(self, rows: RowSet) -> list[Candidate]:
        """The edits of earlier rounds, where they stay in the pool, on this round's rows."""
        async with asyncio.TaskGroup() as group:
            scored = [group.create_task(self.reward.score(c.workflow, rows)) for c in self._edits]
        return [
            replace(candidate, evaluation=task.result())
            for candidate, task in zip(self._edits, scored, strict=True)
        ]

    async def _submitted(self, number: int, pool: Collection[str], rows: RowSet) -> list[Candidate]:
        """What was handed in since the round before, scored; less what the pool holds already."""
        suggested = {one.workflow_id: one for one in await self._suggested(number)}
        fresh = [one for name, one in suggested.items() if name not in pool]
        self._seen.update(one.workflow_id for one in fresh)
        async with asyncio.TaskGroup() as group:
            scored = [group.create_task(self.reward.score(one, rows)) for one in fresh]
        return [
            Candidate(one, task.result(), number, "submitted", clean=False)
            for one, task in zip(fresh, scored, strict=True)
        ]

    async def _suggested(self, number: int) -> Sequence[Workflow]:
        if self.suggestions is None:
            return ()
        key = DrawKey("suggest", number, 0)
        known = await self.journal.recall(key)
        if known is not None:
            return decode_workflows(known)
        workflows = await self.suggestions.take(number)
        await self.journal.record(key, encode_workflows(workflows))
        return workflows

    async def _edit(self, key: DrawKey, pool: Sequence[Candidate]) -> Edit:
        known = await self.journal.recall(key)
        if known is not None:
            return decode_edit(known)
        edit = await self.refiner.refine(pool, self._seen, key)
        await self.journal.record(key, encode_edit(edit))
        return edit

    def _inject(
        self,
        number: int,
        refinements: Sequence[Candidate],
        particles: Sequence[Particle],
        beta: float,
        *,
        full: bool,
    ) -> tuple[Particle, ...]:
        """Line 4: refined workflows as entries of the selection pool, projected to t steps.

        A coherent prior has no continuation for the steps of others, so under one a workflow from
        outside competes for the final pick alone.
        """
        if self.options.refinement == "archive" or number == self.options.rounds:
            return ()
        centre = statistics.fmean(particle.value for particle in particles)
        variance = reward_variance(self._evaluations)
        entries: list[Particle] = []
        for candidate in refinements:
            if candidate.origin == "submitted" and self.prior.coherent:
                continue
            mean, noise = candidate.evaluation.mean, candidate.evaluation.noise()
            value = mean if full else shrink(mean, noise, centre, variance)
            prefix = candidate.workflow.prefix(number)
            entries.append(
                Particle(
                    prefix=prefix,
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


def _child(entry: Particle, ancestor: int, log_weight: float) -> _Child:
    """A selected entry as the next round meets it."""
    return _Child(
        prefix=entry.prefix,
        log_weight=log_weight,
        value=entry.value,
        clean=entry.clean,
        ancestor=ancestor,
        whole=entry.rollouts[0] if entry.terminal else None,
    )
