"""Searches to measure against, each in the spirit of its source, all over the shipped edit.

    prior_draws    workflows from the prior, the best of them taken; weighted by exp(β·R), they
                   estimate E_q[R] (self-normalised importance sampling)
    tree_search    one chain of edits over a growing tree (Zhang et al. 2024, AFlow): the workflow
                   to edit is drawn from the first and the best three, by a mixture of a uniform
                   and a softmax of the reward in points; where their edits are all known, from
                   more of the best
    linear_search  (Hu et al. 2024, ADAS) a few workflows to begin with, then each design changes
                   the last one, in the light of the whole archive

Each spends its budget as far as it finds anything to spend it on, and hands back its archive.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import COMPLETED
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.operators import quantile_index
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey, Origin, RowSet, Workflow
from bayesflow_sampler.weights import normalise
from bench.efficiency.edits import edit_of
from bench.efficiency.rows import MeteredReward

__all__ = ["Explorer", "linear_search", "mixed_shares", "prior_draws", "tree_search"]

# An exhausted neighbourhood gives nothing new: stop asking.
_IDLE: Final = 30
_TOP: Final = 3
_WIDEN: Final = 3  # one more of the best may be edited for so many edits that were known already
_UNIFORM: Final = 0.2
_SHARPNESS: Final = 40.0  # of the softmax: 0.4 a point
_FIRST_DESIGNS: Final = 5
_CALLS_PER_EDIT: Final = 2  # a critique and an edit


@dataclass
class Explorer:
    """What every baseline has: the prior, the refiner's edit, a metered reward, an archive.

    Attributes:
        reward: Scores and counts.
        seed: Draws everything.
        informed: Edits prefer steps of well-scored workflows.
        pool: The distinct candidates, in the order of creation.
        drawn: Prior draws in order, those that came twice included.
        calls: Calls to the optimizer's model.
    """

    reward: MeteredReward
    seed: int
    informed: bool = True
    pool: dict[str, Candidate] = field(default_factory=dict[str, Candidate])
    drawn: list[str] = field(default_factory=list[str])
    calls: int = 0
    _prior: GrammarPrior = field(init=False)
    _refiner: GrammarRefiner = field(init=False)

    def __post_init__(self) -> None:
        grammar = self.reward.answers.landscape.grammar
        self._prior = GrammarPrior(grammar, self.seed)
        self._refiner = GrammarRefiner(grammar, self.seed, "linear")

    @property
    def archive(self) -> Archive:
        """All workflows seen, for the final pick."""
        archive = Archive(self.reward.size("validation"))
        for candidate in self.pool.values():
            archive.add_candidate(candidate)
        return archive

    def affords(self, budget: float, cost: float = 1.0) -> bool:
        """Whether a further one still fits in the budget, in full evaluations."""
        return self.reward.evaluations + cost <= budget + 1e-9

    async def draw(self, rows: int | None = None) -> None:
        """One more from the prior, scored on the first `rows` rows, or on all."""
        key = DrawKey("extend", 1, len(self.drawn))
        workflow = await self._prior.extend(self._prior.root, key)
        self.calls += 1
        self.drawn.append(workflow.workflow_id)
        await self._add(workflow, None, rows)

    async def edit(self, parent: Candidate) -> None:
        """One edit of this workflow, made in the light of the whole pool if edits are informed."""
        key = DrawKey("refine", 1, self.calls)
        known = self.pool.values() if self.informed else ()
        made = await edit_of(self._refiner, parent, known, self.pool, key)
        self.calls += _CALLS_PER_EDIT
        await self._add(made.workflow, made.parent_id, None)

    async def _add(self, workflow: Workflow, parent: str | None, rows: int | None) -> None:
        count = self.reward.size("validation") if rows is None else rows
        evaluation = await self.reward.score(workflow, RowSet("validation", tuple(range(count))))
        origin: Origin = "prior" if parent is None else "refined"
        candidate = Candidate(workflow, evaluation, 1, origin, parent, clean=parent is None)
        self.pool.setdefault(workflow.workflow_id, candidate)


async def prior_draws(explorer: Explorer, budget: float, rows: int | None = None) -> None:
    """Draws from the prior, scored on all rows, or first on a few.

    Args:
        explorer: Where to.
        budget: Full evaluations.
        rows: Rows that score each draw; what the final pick may need to complete is kept back.
    """
    total = explorer.reward.size("validation")
    cost = 1.0 if rows is None else rows / total
    kept = 0.0 if rows is None else min(0.7 * budget, COMPLETED * (1 - cost))
    idle = 0
    while explorer.affords(budget - kept, cost) and idle < _IDLE:
        before = len(explorer.pool)
        await explorer.draw(rows)
        idle = 0 if len(explorer.pool) > before else idle + 1


async def tree_search(explorer: Explorer, budget: float) -> None:
    """AFlow's soft mixed selection over one tree of edits."""
    await explorer.draw()
    idle = 0
    while explorer.affords(budget) and idle < _IDLE:
        before = len(explorer.pool)
        nodes = list(explorer.pool.values())
        rewards = [node.evaluation.mean for node in nodes]
        shares = mixed_shares(rewards, _TOP + idle // _WIDEN)
        chosen = quantile_index(shares, uniform(explorer.seed, "node", explorer.calls))
        await explorer.edit(nodes[chosen])
        idle = 0 if len(explorer.pool) > before else idle + 1


def mixed_shares(rewards: Sequence[float], top: int) -> list[float]:
    """λ/n + (1-λ)·softmax over the first workflow and the `top` best; the others have none."""
    best = sorted(range(len(rewards)), key=lambda index: -rewards[index])[:top]
    eligible = sorted({0, *best})
    softmax = normalise([_SHARPNESS * rewards[index] for index in eligible])
    shares = [0.0] * len(rewards)
    for index, share in zip(eligible, softmax, strict=True):
        shares[index] = _UNIFORM / len(eligible) + (1 - _UNIFORM) * share
    return shares


async def linear_search(explorer: Explorer, budget: float) -> None:
    """ADAS's one line of designs, each made after all before it."""
    first = min(_FIRST_DESIGNS, max(1, int(budget / 2)))
    while explorer.affords(budget) and len(explorer.pool) < first:
        await explorer.draw()
    idle = 0
    while explorer.affords(budget) and idle < _IDLE:
        before = len(explorer.pool)
        await explorer.edit(list(explorer.pool.values())[-1])
        idle = 0 if len(explorer.pool) > before else idle + 1
