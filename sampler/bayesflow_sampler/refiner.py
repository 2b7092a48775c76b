"""The refiner of paper §5 for grammars: pick one of the best, make one consequential edit.

The pick is the search operator's (the paper's unless another is chosen). The edit replaces one
step by another production of the same state; if that leads to another state, later steps are kept
where the grammar still writes them, else redrawn. Which edit: productions that stood in well-scored
workflows are likelier (the grammar's twin of a textual gradient); an edit seen before is asked
again at most twice.
"""

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bayesflow_sampler.grammar import PREAMBLE, Grammar, Production
from bayesflow_sampler.operators import TEMPERATURE, Operator, pick, quantile_index
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.shrinkage import finite_mean
from bayesflow_sampler.types import Candidate, DrawKey, Step, Workflow
from bayesflow_sampler.weights import normalise

__all__ = ["GrammarRefiner"]

_ATTEMPTS: Final = 3


class _Move(NamedTuple):
    """Replace the step at `position` by `production`."""

    position: int
    production: Production


@dataclass(frozen=True)
class GrammarRefiner:
    """Edits workflows within a grammar.

    Attributes:
        grammar: The grammar that wrote them.
        seed: The run's seed.
        operator: Which workflow is edited.
    """

    grammar: Grammar
    seed: int
    operator: Operator = "best"

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        """One edit of the workflow that the operator picks; unseen if three tries find one."""
        effects = _step_effects(pool)
        edit: Edit | None = None
        for attempt in range(_ATTEMPTS):
            path = (*key, attempt)
            parent = pick(self.operator, pool, self.seed, *path)[0]
            moves = self._moves(parent.workflow)
            if not moves:
                edit = Edit(parent.workflow, parent.workflow.workflow_id)
                continue
            average = finite_mean([candidate.evaluation.mean for candidate in pool])
            gains = [
                effects.get(move.production.step, average) / TEMPERATURE
                + math.log(move.production.probability)
                for move in moves
            ]
            chosen = moves[quantile_index(normalise(gains), uniform(self.seed, *path, "move"))]
            workflow = self._apply(parent.workflow, chosen, path)
            edit = Edit(workflow, parent.workflow.workflow_id)
            if workflow.workflow_id not in seen:
                break
        assert edit is not None
        return edit

    def _moves(self, workflow: Workflow) -> list[_Move]:
        """Every replacement of one step by another production of its state."""
        moves: list[_Move] = []
        state: str | None = self.grammar.start
        for position, step in enumerate(workflow.steps):
            if state is None:
                break
            productions = self.grammar.productions[state]
            moves += [_Move(position, other) for other in productions if other.step != step]
            state = next((p.next for p in productions if p.step == step), None)
        return moves

    def _apply(self, workflow: Workflow, move: _Move, path: tuple[str | int, ...]) -> Workflow:
        """The edited workflow; later steps stay wherever the grammar still writes them."""
        steps: list[Step] = [*workflow.steps[: move.position], move.production.step]
        state = move.production.next
        while state is not None:
            place = len(steps)
            productions = self.grammar.productions[state]
            old = workflow.steps[place] if place < len(workflow) else None
            kept = next((p for p in productions if p.step == old), None)
            choice = kept or self.grammar.choose(state, uniform(self.seed, *path, "step", place))
            steps.append(choice.step)
            state = choice.next
        return Workflow(PREAMBLE, tuple(steps))


def _step_effects(pool: Sequence[Candidate]) -> dict[Step, float]:
    """Mean reward of the pool's workflows that contain a step; -inf says nothing of a step."""
    scores: dict[Step, list[float]] = {}
    for candidate in pool:
        if candidate.evaluation.mean == -math.inf:
            continue
        for step in candidate.workflow.steps:
            scores.setdefault(step, []).append(candidate.evaluation.mean)
    return {step: statistics.fmean(values) for step, values in scores.items()}
