"""Algorithms 1 and 2 of the paper: Sequential Monte Carlo over workflow steps.

A newcomer's tour. `Search.generations()` is the whole of Algorithm 2: T rounds, each one STEPUPDATE
(Algorithm 1), each yielded as a `Generation`. One round, for N particles s_1:t-1 with log-weight ℓ:

    1. extend     s_t and a rollout from the prior; K-1 further rollouts        `growth`
    2. score      g = log (1/K) Σ_k exp(β·R(rollout_k)); at t = T, g = β·R(s)   `growth`
    3. refine     workflows handed in from outside, then M edits of complete
                  workflows, one after the other                                `refinement`
    4. select     N children from particles (and injected edits)                `succession`

All work of a search runs in one task group and waits for nothing but what it needs: a rollout is
scored as soon as it is written, and selection is the only barrier. Refinements that are archived go
on beside the next round's growth; those that are injected must be there when the round selects.
There is no selection after round T: the last population is weighted by exp(ℓ + β·R). Without
look-ahead (paper §4.3) the N workflows of round 1 stay as they are, nothing is selected, and each
round edits the growing pool.
"""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bayesflow_sampler.controller import Controller
from bayesflow_sampler.drawing import Drawing
from bayesflow_sampler.errors import OptionsError, WeightError
from bayesflow_sampler.growth import Child, Grown, Growth, lookahead_particles
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Journal, Prior, Purse, Refiner, Reward, Suggestions
from bayesflow_sampler.refinement import Refining, injected_particles
from bayesflow_sampler.shrinkage import RewardSpread
from bayesflow_sampler.succession import extinct, succession
from bayesflow_sampler.types import Candidate, Decision, Generation, Particle, RowSet, Workflow
from bayesflow_sampler.weights import effective_sample_size

__all__ = ["Search"]

_NO_LOOKAHEAD: Final = Decision(
    "no look-ahead",
    "every round edits the pool that round 1 drew, and nothing grows step by step",
    "the posterior rests on the prior's draws of round 1; workflows that were edited compete for "
    "the final pick alone",
)

_Refinements = asyncio.Task[tuple[Candidate, ...]]


@dataclass
class Search:
    """One search: the prior, reward, refiner and journal it uses, its options and its seed.

    Attributes:
        prior: p(s).
        reward: R(s).
        refiner: Proposes edits.
        journal: Remembers every draw.
        options: Settings.
        seed: Every random number of the search itself depends on it and on its own name alone.
        suggestions: Brings in whole workflows from outside while the search is under way.
        warm: Complete workflows to start with, from earlier searches or a person: they enter round
            1 as refined candidates, never as draws of the prior.
        purse: Where `tolerance` is set: says whether a further round can be paid.

    Raises:
        OptionsError: Rollouts are to be recycled under a prior that is not coherent.
    """

    prior: Prior
    reward: Reward
    refiner: Refiner
    journal: Journal
    options: SearchOptions
    seed: int
    suggestions: Suggestions | None = None
    warm: Sequence[Workflow] = ()
    purse: Purse | None = None

    def __post_init__(self) -> None:
        if self.options.recycle and not self.prior.coherent:
            raise OptionsError(
                "`recycle` takes a rollout for later steps, and only a grammar writes rollouts by "
                "the law of its steps: leave `recycle` out."
            )

    async def generations(self) -> AsyncGenerator[Generation]:
        """Algorithm 2: yields each round's generation once it is selected and refined.

        The search works ahead of whoever reads it. It may be abandoned between rounds; a new one
        with the same seed and journal repeats the same rounds without repeating a recorded draw.

        Raises:
            ExceptionGroup: What went wrong in the prior, the reward, the refiner or the journal.
        """
        finished: asyncio.Queue[Generation | None] = asyncio.Queue()
        driver = asyncio.create_task(self._drive(finished))
        try:
            while (generation := await finished.get()) is not None:
                yield generation
            await driver
        finally:
            driver.cancel()
            # Not `await driver`: it could not tell our own cancellation from the driver's.
            await asyncio.wait([driver])

    async def _drive(self, finished: asyncio.Queue[Generation | None]) -> None:
        """The search itself, in a task group of its own."""
        try:
            async with asyncio.TaskGroup() as group:
                await _Course(self, group, finished).run()
        except ExceptionGroup as errors:
            # An error passes through every task that waits for it; it is told once.
            raise errors.derive(list(dict.fromkeys(errors.exceptions))) from None
        finally:
            finished.put_nowait(None)


class _Course:
    """What a search knows while it is under way."""

    def __init__(
        self,
        search: Search,
        group: asyncio.TaskGroup,
        finished: asyncio.Queue[Generation | None],
    ) -> None:
        self._options, self._seed = search.options, search.seed
        self._prior, self._reward, self._purse = search.prior, search.reward, search.purse
        self._group, self._finished, self._warm = group, finished, search.warm
        self._drawing = Drawing(search.prior, search.refiner, search.journal, search.suggestions)
        self._growth = Growth(self._drawing, search.reward, search.options, group)
        self._refining = Refining(self._drawing, search.reward, search.options, group, search.warm)
        self._all = RowSet("validation", tuple(range(search.reward.size("validation"))))
        self._controller = Controller(search.options, len(self._all.positions), search.seed)
        self._spread = RewardSpread()
        self._refinements: _Refinements | None = None
        self._published: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """T rounds, or fewer if the controller stops."""
        count, islands = self._options.particles, self._options.islands
        children: Sequence[Child] = [
            Child(self._prior.root, island=index * islands // count) for index in range(count)
        ]
        for number in range(1, self._options.rounds + 1):
            generation, children = await self._round(number, children)
            self._publish(generation)
            if generation.last:
                break

    async def _round(
        self, number: int, children: Sequence[Child]
    ) -> tuple[Generation, Sequence[Child]]:
        """STEPUPDATE: the round's generation, and the children that enter the next."""
        options, rows = self._options, self._controller.rows_of(number)
        grown = await self._growth.grow(number, children, rows)
        decisions = self._observe(number, grown, full=rows == self._all)
        self._refine(number, grown, rows)
        stop = await self._stops(number, grown)
        if stop is not None:
            decisions, rows = (*decisions, stop), self._all
            grown = await self._completed(grown)
        full, beta = rows == self._all, self._controller.inverse_temperature
        particles = lookahead_particles(grown, beta, self._spread.variance, full=full)
        last = number == options.rounds or stop is not None
        injected: tuple[Particle, ...] = ()
        if options.refinement == "inject" and not last:
            injected = injected_particles(
                number,
                await self._refined(),
                particles,
                beta,
                self._spread.variance,
                full=full,
                coherent=self._prior.coherent,
            )
        joint = [particle.log_weight + particle.score for particle in particles]
        following = succession(number, particles, injected, options, self._seed, last=last)
        generation = Generation(
            round=number,
            rounds=options.rounds,
            inverse_temperature=beta,
            rows=rows,
            fully_scored=full,
            particles=particles,
            refinements=(),
            injected=injected,
            ancestors=tuple(child.ancestor for child in following.children),
            effective_sample_size=_size(joint, number),
            decisions=(*decisions, *following.decisions),
            resampled=following.resampled,
            last=last,
            counts=last or self._controller.counts(number),
        )
        return generation, following.children

    def _observe(self, number: int, grown: Sequence[Grown], *, full: bool) -> tuple[Decision, ...]:
        """What the controller makes of the round's rewards."""
        rollouts = [rollout for one in grown for rollout in one.rollouts]
        if all(rollout.evaluation.mean == -math.inf for rollout in rollouts):
            raise extinct(number)
        self._spread.add(rollout.evaluation for rollout in rollouts)
        decisions = self._controller.plan() if number == 1 else ()
        if full:
            rewards = [c.evaluation.mean for c in rollouts if c.clean]
            rewards = [reward for reward in rewards if reward > -math.inf]
            decisions += self._controller.observe(rewards)
        if number == 1 and self._warm:
            decisions += (_warm_start(len(self._warm)),)
        if number == 1 and not self._options.lookahead:
            decisions += (_NO_LOOKAHEAD,)
        return decisions

    # --- refinements ------------------------------------------------------------------------

    def _refine(self, number: int, grown: Sequence[Grown], rows: RowSet) -> None:
        """Sets the round's refinements going, behind those of the round before."""
        rollouts = [rollout for one in grown for rollout in one.rollouts]
        self._refinements = self._group.create_task(
            self._refining.refine(number, rollouts, rows, self._refinements)
        )

    async def _refined(self) -> tuple[Candidate, ...]:
        assert self._refinements is not None  # every round sets them going
        return await self._refinements

    def _publish(self, generation: Generation) -> None:
        """Hands the generation over once its refinements are there, in the rounds' order."""
        self._published = self._group.create_task(
            self._handed_over(generation, self._refinements, self._published)
        )

    async def _handed_over(
        self,
        generation: Generation,
        refinements: _Refinements | None,
        earlier: asyncio.Task[None] | None,
    ) -> None:
        if earlier is not None:
            await earlier
        refined = () if refinements is None else await refinements
        self._finished.put_nowait(replace(generation, refinements=refined))

    # --- the stop ---------------------------------------------------------------------------

    async def _stops(self, number: int, grown: Sequence[Grown]) -> Decision | None:
        """The decision to stop after this round, or None; made once and journaled."""
        if self._options.tolerance is None or number == self._options.rounds:
            return None
        rollouts = [rollout.evaluation for one in grown for rollout in one.rollouts]
        edits = [candidate.evaluation for candidate in await self._refined()]
        # Outside the journal: a resumed search must know the best of the rounds that it repeats.
        decision = self._controller.stop(number, rollouts, edits)

        async def decide() -> Decision | None:
            if decision is not None or self._purse is None:
                return decision
            refusal = await self._purse.refuses(number + 1)
            return None if refusal is None else self._controller.stop_for(number, refusal)

        return await self._drawing.stopped(number, decide)

    async def _completed(self, grown: Sequence[Grown]) -> list[Grown]:
        """The rollouts of a search's last round on every row, so that they count in full."""
        tasks = [
            [self._group.create_task(self._growth.again(c, self._all)) for c in one.rollouts]
            for one in grown
        ]
        return [
            replace(one, rollouts=tuple([await task for task in rollouts]))
            for one, rollouts in zip(grown, tasks, strict=True)
        ]


def _warm_start(count: int) -> Decision:
    return Decision(
        f"{count} workflow{'s' if count > 1 else ''} to start with",
        "given as `warm_start`",
        "they are scored, edited and picked as refinements are, never counted as draws of the "
        "prior, so its posterior and evidence stay as they are",
    )


def _size(joint: Sequence[float], number: int) -> float:
    try:
        return effective_sample_size(joint)
    except WeightError as error:
        raise extinct(number) from error
