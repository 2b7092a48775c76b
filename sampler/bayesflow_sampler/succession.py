"""Lines 5-6 of Algorithm 1: the children of a round, island by island.

Each island selects among its own particles and all injected refinements by random numbers of its
own. Refined lineages are held back where they would leave too few clean ones; where rollouts are
recycled, each child gets one of its parent's.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from bayesflow_sampler.controller import held_back, held_to
from bayesflow_sampler.errors import WeightError
from bayesflow_sampler.growth import Child
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.recycling import recycled
from bayesflow_sampler.selection import Selection, select
from bayesflow_sampler.types import Decision, Particle

__all__ = ["Succession", "extinct", "succession"]

_NONE_CLEAN: Final = Decision(
    "no clean lineage is left",
    "every particle of the last round has a refined ancestor",
    "the last round has no posterior and estimates an evidence of zero; the final pick is not "
    "touched by it",
)


class Succession(NamedTuple):
    """What follows a round.

    Attributes:
        children: N prefixes for the next round; none after the last.
        decisions: What was chosen on the way.
        resampled: Whether any island drew its children.
    """

    children: tuple[Child, ...]
    decisions: tuple[Decision, ...]
    resampled: bool


def succession(
    number: int,
    particles: Sequence[Particle],
    injected: Sequence[Particle],
    options: SearchOptions,
    seed: int,
    *,
    last: bool,
) -> Succession:
    """The children of round t.

    Args:
        number: Round t.
        particles: The N particles.
        injected: Refined workflows as entries of the selection pool.
        options: The search's settings.
        seed: The run's seed.
        last: Nothing is selected after the last round.

    Raises:
        WeightError: No entry has a weight above zero.
    """
    if last:
        pure = any(particle.clean for particle in particles)
        return Succession((), () if pure else (_NONE_CLEAN,), False)
    if not options.lookahead:
        kept = [_child(one, index, one.log_weight) for index, one in enumerate(particles)]
        return Succession(tuple(kept), (), False)
    pool = (*particles, *injected)
    children: list[Child] = []
    decisions: list[Decision] = []
    resampled = False
    for island in range(options.islands):
        members = [
            index
            for index, entry in enumerate(pool)
            if index >= len(particles) or entry.island == island
        ]
        entries = [pool[index] for index in members]
        scores, decided = _scores(number, entries, options)
        decisions += decided
        chosen = _select(number, island, entries, scores, options, seed)
        resampled = resampled or chosen.resampled
        children += [
            replace(_child(entries[place], members[place], log_weight), island=island)
            for place, log_weight in zip(chosen.ancestors, chosen.log_weights, strict=True)
        ]
    # One sentence a round is enough, whichever island it is of.
    return Succession(
        tuple(_inheriting(number, children, pool, options, seed)), tuple(decisions[:1]), resampled
    )


def extinct(number: int) -> WeightError:
    """The error that ends a search in which nothing can be selected."""
    return WeightError(
        f"No particle of round {number} has a weight above zero: every reward is -inf, so there is "
        "nothing to select from. Give rewards that are finite for some workflow."
    )


def _scores(
    number: int, entries: Sequence[Particle], options: SearchOptions
) -> tuple[list[float], list[Decision]]:
    """What the entries are selected by: refined lineages are held back where they must be.

    A prefix whose rollouts all have a weight of zero may go on to a workflow that has one, and a
    score of -inf would take that from the law: it is selected by the least finite score instead.
    """
    floor, scores = options.clean_floor, [entry.score for entry in entries]
    if options.weighting == "paper":
        return scores, []
    least = min([score for score in scores if score > -math.inf], default=-math.inf)
    scores = [
        least if score == -math.inf and entry.clean and not entry.terminal else score
        for score, entry in zip(scores, entries, strict=True)
    ]
    if not floor:
        return scores, []
    held, share = held_back(
        [entry.log_weight for entry in entries],
        scores,
        [entry.clean for entry in entries],
        floor,
    )
    return held, [] if held == scores else [held_to(number, floor, share)]


def _select(
    number: int,
    island: int,
    entries: Sequence[Particle],
    scores: Sequence[float],
    options: SearchOptions,
    seed: int,
) -> Selection:
    if options.islands > 1 and max(scores) == -math.inf:
        # Other islands may have weight: this one goes on as it is, which is proper too.
        kept = range(options.particles // options.islands)
        return Selection(tuple(kept), tuple(entries[i].log_weight for i in kept), resampled=False)
    path = (number,) if options.islands == 1 else (number, island)
    try:
        return select(
            [entry.log_weight for entry in entries],
            scores,
            options.particles // options.islands,
            lambda index: uniform(seed, "select", *path, index),
            weighting=options.weighting,
            resampling=options.resampling,
            ess_threshold=options.ess_threshold,
            tempering=options.tempering,
        )
    except WeightError as error:
        raise extinct(number) from error


def _inheriting(
    number: int,
    children: Sequence[Child],
    pool: Sequence[Particle],
    options: SearchOptions,
    seed: int,
) -> list[Child]:
    """The children, each with a rollout of its parent's where rollouts are recycled."""
    if not options.recycle:
        return list(children)
    given = [
        0 if entry.terminal or index >= options.particles else len(entry.rollouts)
        for index, entry in enumerate(pool)
    ]
    taken = recycled(
        [child.ancestor for child in children],
        given,
        lambda parent, k: uniform(seed, "recycle", number, parent, k),
    )
    return [
        child if k is None else replace(child, recycled=pool[child.ancestor].rollouts[k])
        for child, k in zip(children, taken, strict=True)
    ]


def _child(entry: Particle, ancestor: int, log_weight: float) -> Child:
    """A selected entry as the next round meets it."""
    return Child(
        prefix=entry.prefix,
        log_weight=log_weight,
        value=entry.value,
        clean=entry.clean,
        ancestor=ancestor,
        island=entry.island,
        whole=entry.rollouts[0] if entry.terminal else None,
    )
