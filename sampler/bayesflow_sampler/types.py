"""The sampler's domain data, all frozen: steps, workflows, evaluations, particles, generations.

A workflow is the paper's s_{1:T}: source text in front of the first step, then the steps. A prefix
s_{1:t} is a workflow with the first t of them; only a complete one can be run.
"""

import hashlib
import math
import statistics
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "Candidate",
    "Decision",
    "DrawKey",
    "Evaluation",
    "Generation",
    "Origin",
    "Particle",
    "RowSet",
    "Split",
    "Step",
    "Workflow",
]

Split = Literal["validation", "selection", "test"]
Origin = Literal["prior", "refined", "baseline", "submitted", "warm"]


@dataclass(frozen=True, slots=True)
class Step:
    """One block of a workflow, from its `# Step n:` comment to the next.

    Attributes:
        title: What stands behind `# Step n:`.
        body: The statements, verbatim, indented as in the body of `__call__`, ending in a newline.
        module: Module-level imports and helpers that this step brings along, or "".
    """

    title: str
    body: str
    module: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """A workflow or a prefix of one.

    Attributes:
        preamble: The source in front of the first step: imports, class header, `__init__`.
        steps: The steps, in order.
        indent: Spaces in front of a statement in the body of `__call__`.
    """

    preamble: str
    steps: tuple[Step, ...]
    indent: int = 8

    @property
    def source(self) -> str:
        """The Python text, with the steps numbered from 1."""
        modules = dict.fromkeys(step.module for step in self.steps if step.module)
        margin = " " * self.indent
        blocks = (
            f"{margin}# Step {number}: {step.title}\n{step.body}"
            for number, step in enumerate(self.steps, start=1)
        )
        return "\n\n".join([*modules, self.preamble]) + "\n".join(blocks)

    @property
    def workflow_id(self) -> str:
        """Content address: `wf_` and 16 hexadecimal digits of the source's digest."""
        return "wf_" + hashlib.blake2b(self.source.encode(), digest_size=8).hexdigest()

    def prefix(self, length: int) -> "Workflow":
        """The first `length` steps; the whole workflow if it has no more."""
        return Workflow(self.preamble, self.steps[:length], self.indent)

    def __len__(self) -> int:
        return len(self.steps)


class DrawKey(NamedTuple):
    """Names one random draw, so that a result never depends on completion order.

    Attributes:
        kind: What is drawn: `extend`, `complete` or `refine`; `suggest` for what was handed in,
            `stop` for whether the search stops.
        round: Round t, from 1.
        particle: Index i of the particle, or m of the refinement.
        rollout: Index k of the rollout, from 0.
    """

    kind: str
    round: int
    particle: int
    rollout: int = 0

    @property
    def text(self) -> str:
        """The key as the journal writes it."""
        return f"{self.kind}/{self.round}/{self.particle}/{self.rollout}"


@dataclass(frozen=True, slots=True)
class RowSet:
    """Rows to score a workflow on: positions within one split, ascending."""

    split: Split
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A workflow's scores on some rows.

    Attributes:
        workflow_id: Which workflow.
        rows: Which rows.
        scores: One score in [0, 1] (less a cost penalty, if any) a row, in the rows' order.
        failure: Why the workflow does not run at all, or None. A failed workflow scores 0,
            less the penalty.
    """

    workflow_id: str
    rows: RowSet
    scores: tuple[float, ...]
    failure: str | None = None

    @property
    def mean(self) -> float:
        """The reward R on these rows."""
        return statistics.fmean(self.scores)

    def noise(self, floor: float = 0.02) -> float:
        """Variance of `mean` as an estimate of the full reward.

        The sample variance of the row scores is floored, so that rows that all agree do not
        look certain. That a workflow does not run at all is certain, and so is a reward of -inf.
        """
        if self.failure is not None:
            return 0.0
        count, mean = len(self.scores), self.mean
        if math.isinf(mean):
            return 0.0
        # Not statistics.variance: its exact fractions take most of a search's own time.
        squares = math.fsum([(score - mean) ** 2 for score in self.scores])
        spread = squares / (count - 1) if count > 1 else 0.25
        return max(spread, floor) / count


@dataclass(frozen=True, slots=True)
class Candidate:
    """A complete workflow with its score and where it comes from.

    Attributes:
        workflow: The workflow.
        evaluation: Its score in the round that drew it.
        round: Round t, from 1; 0 for a workflow that was there before the search.
        origin: Who wrote it.
        parent_id: The workflow it was edited from, or None.
        clean: No refinement among its ancestors.
    """

    workflow: Workflow
    evaluation: Evaluation
    round: int
    origin: Origin
    parent_id: str | None = None
    clean: bool = True


class Decision(NamedTuple):
    """Something the controller chose for the run.

    Attributes:
        choice: What was chosen, e.g. `beta = 12.3`.
        reason: Why.
        guarantee: What it does to the guarantees: what still holds, or what is no longer claimed.
    """

    choice: str
    reason: str
    guarantee: str

    @property
    def sentence(self) -> str:
        """The decision as a report tells it."""
        return f"{self.choice}: {self.reason}; {self.guarantee}."


@dataclass(frozen=True, slots=True)
class Particle:
    """A prefix with its weight, before selection.

    Attributes:
        prefix: s_{1:t}.
        log_weight: Weight relative to the prior flow, from earlier selections.
        score: log (1/K) Σ_k exp(β R_ik); steers this round's selection only.
        value: The (shrunk) mean reward of the rollouts; a child shrinks towards it.
        rollouts: The K complete workflows that were scored.
        clean: No refined ancestor.
        ancestor: Index of the parent in the previous round's pool; -1 where there is none.
        terminal: The prefix is a complete workflow: nothing will extend it.
        island: Which of the independent populations it belongs to, from 0.
    """

    prefix: Workflow
    log_weight: float
    score: float
    value: float
    rollouts: tuple[Candidate, ...]
    clean: bool
    ancestor: int
    terminal: bool
    island: int = 0


@dataclass(frozen=True, slots=True)
class Generation:
    """What one round of Algorithm 1 produced.

    Attributes:
        round: t, from 1.
        rounds: T.
        inverse_temperature: β used for this round's scores.
        rows: The rows the round was scored on.
        fully_scored: Whether those are all validation rows.
        particles: The N particles, before selection.
        refinements: The M refined workflows, in the order they were made; where the search stopped
            in a minibatch round they keep their minibatch scores.
        injected: The refined workflows as they stand in the selection pool (empty if archived).
        ancestors: Indices into particles + injected, one a child; empty in the last round.
        effective_sample_size: ESS of exp(log_weight + score) over the particles, in [1, N].
        decisions: What was chosen for the run in this round, with reasons.
        resampled: Whether children were drawn; False after the last round, without look-ahead, and
            where the ESS trigger left every island as it was.
        last: Nothing follows: t = T, or the search stopped here.
        counts: Whether its draws enter posterior and evidence: it was to be fully scored whatever
            the rewards, or it is the last.
    """

    round: int
    rounds: int
    inverse_temperature: float
    rows: RowSet
    fully_scored: bool
    particles: tuple[Particle, ...]
    refinements: tuple[Candidate, ...]
    injected: tuple[Particle, ...]
    ancestors: tuple[int, ...]
    effective_sample_size: float
    decisions: tuple[Decision, ...] = ()
    resampled: bool = True
    last: bool = False
    counts: bool = True

    @property
    def notes(self) -> tuple[str, ...]:
        """The decisions as sentences."""
        return tuple(decision.sentence for decision in self.decisions)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """Every complete workflow of the round: P_t^complete of Algorithm 1, line 7."""
        rollouts = [rollout for particle in self.particles for rollout in particle.rollouts]
        return (*rollouts, *self.refinements)
