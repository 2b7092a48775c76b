"""Every complete workflow of a search, merged by content, and the posterior over them.

A clean rollout k of particle i in round t estimates the target with weight
w = exp(ℓ_i) · exp(β·R) / (N·K_i): each round's rollouts are properly weighted for p(s)·exp(β·R(s)),
so Σ w is an unbiased estimate of Z for a β fixed beforehand, and normalised weights estimate q.
Lineages that descend from a refinement are left out and the sum is still divided by N; all
lineages together overrate Z. Rounds are pooled for coherent priors; else the last round counts
alone. A round is pooled if it was to be fully scored before any of its rewards was known: to pool
those that turn out to be would select rounds by their rewards.

The particles of one population are not independent, so their spread says nothing of Ẑ's error.
Islands do: given the past, each selects and extends by random numbers of its own, so their
estimates are uncorrelated, whatever steered them in common (β, shrinkage, refinements). The error
of their mean is their standard deviation over √islands. With one island there is none to report.
"""

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bayesflow_sampler.types import Candidate, Evaluation, Generation, Origin, RowSet, Workflow
from bayesflow_sampler.weights import effective_sample_size, log_sum_exp

__all__ = ["Archive", "Draw", "Entry", "Posterior", "draws_of", "weigh"]


@dataclass(frozen=True)
class Entry:
    """One distinct complete workflow and all that is known of it.

    Attributes:
        workflow: The workflow.
        scores: Validation score by row position, from every round that ran it.
        round: The round that first wrote it; 0 if it was there before the search.
        origin: Who wrote it first; a clean prior draw supersedes a refinement.
        parent_id: The workflow it was edited from, or None.
        clean: Some lineage without a refined ancestor wrote it.
        failure: Why it does not run, or None.
    """

    workflow: Workflow
    scores: dict[int, float]
    round: int
    origin: Origin
    parent_id: str | None
    clean: bool
    failure: str | None

    @property
    def evaluation(self) -> Evaluation:
        """Its validation scores so far, as one evaluation."""
        positions = tuple(sorted(self.scores))
        return Evaluation(
            self.workflow.workflow_id,
            RowSet("validation", positions),
            tuple(self.scores[position] for position in positions),
            self.failure,
        )


class Posterior(NamedTuple):
    """The weighted archive at one β.

    Attributes:
        probability: Posterior probability of each workflow id; they sum to 1.
        log_evidence: log Ẑ, averaged over the pooled rounds.
        effective_sample_size: ESS of the pooled draws, as if they were independent: an upper
            bound, for draws of different rounds share ancestors.
        rounds: The rounds that were pooled.
        island_evidence: log Ẑ of each island, averaged over the pooled rounds; -inf where it has
            no clean lineage left.
    """

    probability: dict[str, float]
    log_evidence: float
    effective_sample_size: float
    rounds: tuple[int, ...]
    island_evidence: tuple[float, ...] = ()

    @property
    def relative_error(self) -> float | None:
        """Standard error of Ẑ over Ẑ, from the islands' spread; None where there is one alone."""
        count = len(self.island_evidence)
        if count < 2:
            return None
        shares = [math.exp(each - self.log_evidence) for each in self.island_evidence]
        return statistics.stdev(shares) / math.sqrt(count)


class Draw(NamedTuple):
    """A clean rollout as a weighted draw from the prior.

    Attributes:
        round: The round t that drew it.
        workflow_id: What was drawn.
        log_share: ℓ_i − log(N·K_i), its log-weight but for β·R.
        island: Which population drew it, from 0.
    """

    round: int
    workflow_id: str
    log_share: float
    island: int = 0


def draws_of(generation: Generation) -> list[Draw]:
    """The clean rollouts of a round that counts; shares are of all N particles, clean or not."""
    if not generation.counts:
        return []
    count = len(generation.particles)
    return [
        Draw(
            generation.round,
            rollout.workflow.workflow_id,
            particle.log_weight - math.log(count * len(particle.rollouts)),
            particle.island,
        )
        for particle in generation.particles
        if particle.clean
        for rollout in particle.rollouts
    ]


def weigh(
    draws: Sequence[Draw],
    rewards: Mapping[str, float | None],
    inverse_temperature: float,
    *,
    pool_rounds: bool = True,
    extinct: Collection[int] = (),
    islands: int = 1,
) -> Posterior | None:
    """The posterior q over the drawn workflows, at any β > 0, without a further call.

    Args:
        draws: The clean rollouts of every round.
        rewards: Full validation reward of each drawn workflow; None where it is not known.
        inverse_temperature: β.
        pool_rounds: Whether every fully scored round counts (coherent priors), or the last alone.
        extinct: Fully scored rounds with no clean lineage. They estimate Z by zero; to leave them
            out would overrate Z.
        islands: How many populations of equal size drew them.

    Returns:
        None if no round is fully scored, or no clean draw with a positive weight is left.
    """
    rounds = sorted({draw.round for draw in draws} | set(extinct))
    missing = {draw.round for draw in draws if rewards[draw.workflow_id] is None}
    whole = [number for number in rounds if number not in missing]
    used = tuple(whole if pool_rounds else whole[-1:])
    pooled = [
        (draw, draw.log_share + inverse_temperature * reward)
        for draw in draws
        if draw.round in used and (reward := rewards[draw.workflow_id]) is not None
    ]
    log_weights = [log_weight for _, log_weight in pooled]
    total = log_sum_exp(log_weights)
    if total == -math.inf:
        return None
    probability: dict[str, float] = {}
    for draw, log_weight in pooled:
        share = math.exp(log_weight - total)
        probability[draw.workflow_id] = probability.get(draw.workflow_id, 0.0) + share
    by_island = [
        log_sum_exp([weight for draw, weight in pooled if draw.island == island])
        for island in range(islands)
    ]
    return Posterior(
        probability,
        total - math.log(len(used)),
        effective_sample_size(log_weights),
        used,
        # Shares are of all N particles, so an island's own mean is `islands` times its part.
        tuple(part + math.log(islands / len(used)) for part in by_island),
    )


@dataclass
class Archive:
    """Collects generations; answers what has been seen and how probable it is.

    Attributes:
        validation_rows: How many validation rows there are; a reward is full with that many.
        pool_rounds: Whether all fully scored rounds are pooled (coherent priors) or the last only.
        islands: Populations that the particles are divided into.
        entries: Every distinct workflow, in the order of appearance.
        draws: The clean rollouts of every round.
        extinct: Fully scored rounds that had none.
    """

    validation_rows: int
    pool_rounds: bool = True
    islands: int = 1
    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    draws: list[Draw] = field(default_factory=list[Draw])
    extinct: list[int] = field(default_factory=list[int])

    def add(self, generation: Generation) -> None:
        """Takes in one round."""
        for candidate in generation.candidates:
            self.add_candidate(candidate)
        draws = draws_of(generation)
        self.draws += draws
        if generation.counts and generation.fully_scored and not draws:
            self.extinct.append(generation.round)

    def add_candidate(self, candidate: Candidate) -> None:
        """Merges one scored workflow."""
        workflow_id = candidate.workflow.workflow_id
        known = self.entries.get(workflow_id)
        if known is None or (candidate.clean and not known.clean):
            scores, failure = ({}, None) if known is None else (known.scores, known.failure)
            known = Entry(
                candidate.workflow,
                scores,
                candidate.round,
                candidate.origin,
                candidate.parent_id,
                candidate.clean,
                failure,
            )
            self.entries[workflow_id] = known
        self.add_evaluation(candidate.evaluation)

    def add_evaluation(self, evaluation: Evaluation) -> None:
        """Merges further validation scores of a workflow that is already here."""
        entry = self.entries[evaluation.workflow_id]
        scores = entry.scores | dict(zip(evaluation.rows.positions, evaluation.scores, strict=True))
        # A workflow fails only as long as every row it met says so.
        failure = evaluation.failure if not entry.scores or entry.failure else None
        self.entries[evaluation.workflow_id] = replace(entry, scores=scores, failure=failure)

    def full_reward(self, workflow_id: str) -> float | None:
        """R(s), or None while not every validation row is scored.

        A failed workflow scores the same on every row (0, less a cost penalty), so any will do.
        """
        entry = self.entries[workflow_id]
        if entry.failure is None and len(entry.scores) < self.validation_rows:
            return None
        return statistics.fmean(entry.scores.values())

    def posterior(self, inverse_temperature: float) -> Posterior | None:
        """Q over the workflows drawn from the prior, at any β > 0, without a further call.

        Returns:
            None if no round is fully scored, or no clean draw with a positive weight is left.
        """
        rewards = {draw.workflow_id: self.full_reward(draw.workflow_id) for draw in self.draws}
        return weigh(
            self.draws,
            rewards,
            inverse_temperature,
            pool_rounds=self.pool_rounds,
            extinct=self.extinct,
            islands=self.islands,
        )
