"""Lines 1-2 of Algorithm 1: one more step, K look-ahead rollouts, and what they score.

A child is a prefix s_1:t-1 that waits for its step t. It takes the step from one call, which writes
the rest of the workflow too (rollout 1), or from a rollout of its parent's (recycling). K−1 further
rollouts condition on s_1:t. A child that is a whole workflow (terminal) is only scored again.
"""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bayesflow_sampler.drawing import Drawing
from bayesflow_sampler.errors import RewardError
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Reward
from bayesflow_sampler.shrinkage import finite_mean, shrink
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Particle, RowSet, Workflow
from bayesflow_sampler.weights import log_mean_exp

__all__ = ["Child", "Grown", "Growth", "lookahead_particles", "scored"]


@dataclass(frozen=True, slots=True)
class Child:
    """A prefix that waits for its next step.

    Attributes:
        prefix: s_1:t-1.
        log_weight: ℓ, from the selections so far.
        value: The shrunk mean reward its parent carried, or None before the first round.
        clean: No refined ancestor.
        ancestor: Index of its parent in the pool it was selected from; -1 before the first round.
        island: Its population.
        whole: The complete workflow, if the prefix is one (terminal).
        recycled: The rollout of its parent that it continues with, or None: it draws.
    """

    prefix: Workflow
    log_weight: float = 0.0
    value: float | None = None
    clean: bool = True
    ancestor: int = -1
    island: int = 0
    whole: Candidate | None = None
    recycled: Candidate | None = None


@dataclass(frozen=True, slots=True)
class Grown:
    """A child with its scored rollouts."""

    child: Child
    prefix: Workflow
    rollouts: tuple[Candidate, ...]
    terminal: bool


@dataclass(frozen=True)
class Growth:
    """Grows children, each as soon as what it needs is there.

    Attributes:
        drawing: The prior, through the journal.
        reward: Scores the rollouts.
        options: The search's settings.
        group: The run's task group.
    """

    drawing: Drawing
    reward: Reward
    options: SearchOptions
    group: asyncio.TaskGroup

    async def grow(self, number: int, children: Sequence[Child], rows: RowSet) -> list[Grown]:
        """Round t's rollouts of every child, scored on the rows."""
        tasks = [
            self.group.create_task(self._grow(number, index, child, rows))
            for index, child in enumerate(children)
        ]
        return [await task for task in tasks]

    async def _grow(self, number: int, index: int, child: Child, rows: RowSet) -> Grown:
        if child.whole is not None:
            return Grown(child, child.prefix, (await self.again(child.whole, rows),), True)
        first = await self._first(number, index, child)
        last = number == self.options.rounds or not self.options.lookahead
        prefix = first.workflow if last else first.workflow.prefix(number)
        terminal = len(first.workflow) <= len(prefix)
        further = 0 if terminal else self.options.rollouts - 1
        tasks = [
            self.group.create_task(self._complete(number, index, k, child, prefix, rows))
            for k in range(1, further + 1)
        ]
        rollouts = [await self.again(first, rows), *[await task for task in tasks]]
        return Grown(child, prefix, tuple(rollouts), terminal)

    async def _first(self, number: int, index: int, child: Child) -> Candidate:
        """Rollout 1, not scored yet on this round's rows: it begins with the new step."""
        if child.recycled is not None:
            return child.recycled
        key = DrawKey("extend", number, index)
        workflow = await self.drawing.extended(child.prefix, key)
        return _unscored(workflow, number, clean=child.clean)

    async def _complete(
        self, number: int, index: int, k: int, child: Child, prefix: Workflow, rows: RowSet
    ) -> Candidate:
        key = DrawKey("complete", number, index, k)
        workflow = await self.drawing.completed(prefix, key)
        return await self.again(_unscored(workflow, number, clean=child.clean), rows)

    async def again(self, candidate: Candidate, rows: RowSet) -> Candidate:
        """The candidate, scored on these rows."""
        return replace(candidate, evaluation=await scored(self.reward, candidate.workflow, rows))


async def scored(reward: Reward, workflow: Workflow, rows: RowSet) -> Evaluation:
    """R on the rows.

    Raises:
        RewardError: It is NaN or +inf. (-inf is a weight of zero.)
    """
    evaluation = await reward.score(workflow, rows)
    # Not by the mean: of +inf and -inf together there is none.
    for score in evaluation.scores:
        if math.isnan(score) or score == math.inf:
            raise RewardError(
                f"The reward of workflow {evaluation.workflow_id} is {score}; a reward must be a "
                "finite number, or -inf for a weight of zero. Mend the scorer."
            )
    return evaluation


def lookahead_particles(
    grown: Sequence[Grown], beta: float, variance: float, *, full: bool
) -> tuple[Particle, ...]:
    """The particles of a round, scored.

    Args:
        grown: Children with their rollouts.
        beta: β.
        variance: s², the variance of true rewards over workflows so far.
        full: Whether the rollouts have every validation row; else their noisy means are shrunk
            towards what the parents carried before they score.
    """
    means = [_mean(one.rollouts) for one in grown]
    centre = finite_mean(means)
    return tuple(
        _particle(one, mean, centre, beta, variance, full=full)
        for one, mean in zip(grown, means, strict=True)
    )


def _particle(
    one: Grown, mean: float, centre: float, beta: float, variance: float, *, full: bool
) -> Particle:
    value, child = mean, one.child
    if full:
        score = log_mean_exp([beta * rollout.evaluation.mean for rollout in one.rollouts])
    else:
        living = [c.evaluation for c in one.rollouts if math.isfinite(c.evaluation.mean)]
        weighted = max(1, len(living))
        noise = sum(evaluation.noise() for evaluation in living) / weighted**2
        parent = centre if child.value in (None, -math.inf) else child.value
        value = shrink(mean, noise, parent, variance)
        # Rollouts of weight zero count here as they do in the mean of exponentials.
        score = beta * value + math.log(weighted / len(one.rollouts))
    return Particle(
        prefix=one.prefix,
        log_weight=child.log_weight,
        score=score,
        value=value,
        rollouts=one.rollouts,
        clean=child.clean,
        ancestor=child.ancestor,
        terminal=one.terminal,
        island=child.island,
    )


def _mean(rollouts: Sequence[Candidate]) -> float:
    """Mean reward of the rollouts that have a weight; -inf if none has."""
    rewards = [rollout.evaluation.mean for rollout in rollouts]
    return -math.inf if max(rewards) == -math.inf else finite_mean(rewards)


def _unscored(workflow: Workflow, number: int, *, clean: bool) -> Candidate:
    nothing = Evaluation(workflow.workflow_id, RowSet("validation", ()), ())
    return Candidate(workflow, nothing, number, "prior", clean=clean)
