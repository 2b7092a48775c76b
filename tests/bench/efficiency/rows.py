"""Validation rows over a landscape: right or wrong answers, and what it cost to ask for them.

A word answers each row rightly with the probability that is its truth; its answers are drawn once,
so that all contenders meet the same ones. A row that was asked of a word before costs nothing.
"""

from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np

from bayesflow_sampler.types import Evaluation, RowSet, Workflow
from bench.efficiency.landscapes import Floats, Landscape, words

__all__ = ["Answers", "MeteredReward"]


@dataclass(frozen=True)
class Answers:
    """Every word's answers on every row.

    Attributes:
        landscape: What they were drawn from.
        rows: Validation rows.
        seed: Draws them.
    """

    landscape: Landscape
    rows: int
    seed: int

    @cached_property
    def scores(self) -> list[tuple[float, ...]]:
        """Row scores, 0 or 1, of each word."""
        quantiles = np.random.default_rng([self.seed, 1]).random((len(self._truth), self.rows))
        right = (quantiles < self._truth[:, None]).astype(float)
        return [tuple(row) for row in right.tolist()]

    @cached_property
    def reward(self) -> Floats:
        """R(s) of each word: its mean over all validation rows. It is what q is made of."""
        means: Floats = np.array(self.scores).mean(1)
        return means

    def expectation(self, beta: float) -> float:
        """E_q[R] for q(s) ∝ p(s)·exp(β·R(s)), by enumeration."""
        weights = self.landscape.prior * np.exp(beta * self.reward)
        return float((weights * self.reward).sum() / weights.sum())

    @property
    def _truth(self) -> Floats:
        return self.landscape.truth


@dataclass
class MeteredReward:
    """The answers as the sampler's `Reward`, with a meter.

    Attributes:
        answers: The answers.
        executions: Rows run so far, each once a word.
    """

    answers: Answers
    executions: int = 0
    _asked: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def evaluations(self) -> float:
        """What was spent, in full evaluations: all validation rows of one word."""
        return self.executions / self.answers.rows

    def size(self, split: str) -> int:
        """How many rows the split has; there is validation alone."""
        return self.answers.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        """The word's answers on these rows."""
        name = workflow.workflow_id
        word = words().places[name]
        asked, wanted = self._asked.get(word, 0), _mask(rows.positions)
        self.executions += (wanted & ~asked).bit_count()
        self._asked[word] = asked | wanted
        scores = self.answers.scores[word]
        if len(rows.positions) != len(scores):
            scores = tuple(scores[position] for position in rows.positions)
        return Evaluation(name, rows, scores)


@cache
def _mask(positions: tuple[int, ...]) -> int:
    """The rows as bits."""
    return sum(1 << position for position in positions)
