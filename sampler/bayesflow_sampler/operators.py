"""Search operators: which workflows of the pool a refiner edits (paper §4.2-4.3).

`best` is the paper's pick; the others are the searches that the paper's framework subsumes:
`linear` goes on from the latest refinement (as ADAS), `evolutionary` takes the winners of two
tournaments, `tree` descends the tree of edits by upper confidence bounds (as MCTS). All are
functions of the pool and of counter-based random numbers; both refiners call `pick`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from bayesflow_sampler.randomness import permutation, uniform
from bayesflow_sampler.types import Candidate
from bayesflow_sampler.weights import normalise

__all__ = ["Operator", "pick", "pick_parent", "quantile_index"]

Operator = Literal["best", "linear", "evolutionary", "tree"]

TOP: Final = 3
TEMPERATURE: Final = 0.1
TOURNAMENT: Final = 3
# Rewards of good workflows lie within a few tenths of each other; √2, made for rewards spread over
# [0, 1], would visit all of them in turn.
EXPLORATION: Final = 0.2


def pick(
    operator: Operator, pool: Sequence[Candidate], seed: int, *path: str | int
) -> tuple[Candidate, ...]:
    """The workflow to edit, and for `evolutionary` a second one to cross it with.

    Args:
        operator: How to pick.
        pool: Scored complete workflows in the order of creation, each once, at least one.
        seed: The run's seed.
        path: Names the draw.

    Returns:
        One workflow, or two different ones, the better first.
    """
    match operator:
        case "best":
            return (pick_parent(pool, uniform(seed, *path, "parent")),)
        case "linear":
            return (_latest(pool),)
        case "evolutionary":
            return _winners(pool, seed, *path)
        case "tree":
            return (_descend(pool),)


def pick_parent(pool: Sequence[Candidate], quantile: float) -> Candidate:
    """One of the three best by a softmax of the reward at temperature 0.1 (paper §5).

    Args:
        pool: Scored complete workflows, at least one; ties keep their order.
        quantile: A uniform in [0, 1).
    """
    best = sorted(pool, key=_loss)[:TOP]
    weights = normalise([candidate.evaluation.mean / TEMPERATURE for candidate in best])
    return best[quantile_index(weights, quantile)]


def quantile_index(weights: Sequence[float], quantile: float) -> int:
    """Which index of weights that sum to 1 stands at `quantile`, a number in [0, 1)."""
    cumulative = 0.0
    for index, weight in enumerate(weights):
        cumulative += weight
        if quantile < cumulative:
            return index
    return len(weights) - 1


def _loss(candidate: Candidate) -> float:
    return -candidate.evaluation.mean


def _latest(pool: Sequence[Candidate]) -> Candidate:
    """The last refinement, ours or one handed in; before there is one, the best workflow."""
    later = [candidate for candidate in pool if candidate.origin in ("refined", "submitted")]
    return later[-1] if later else min(pool, key=_loss)


def _winners(pool: Sequence[Candidate], seed: int, *path: str | int) -> tuple[Candidate, ...]:
    """The winners of two tournaments among three each; nobody stands in both."""
    order = [pool[index] for index in permutation(len(pool), seed, *path, "tournament")]
    # With fewer than six workflows each tournament gets half of them.
    size = min(TOURNAMENT, math.ceil(len(order) / 2))
    rounds = (order[:size], order[size : 2 * size])
    return tuple(sorted((min(entrants, key=_loss) for entrants in rounds if entrants), key=_loss))


def _descend(pool: Sequence[Candidate]) -> Candidate:
    """UCT over the tree of edits, whose roots are the workflows without a parent in the pool.

    At a workflow one may stop, to edit it once more, or descend into one of its edits. Each choice
    has a mean reward (of the workflow; of the edit's subtree) and visits (one more than the edits
    it has; the size of the subtree), and the highest upper bound wins, ties by order.
    """
    children = _children(pool)
    options = children[-1]
    here: int | None = None
    while options:
        arms = [(index, tuple(_subtree(index, children))) for index in options]
        visits = sum(len(subtree) for _, subtree in arms)
        stop = -math.inf
        if here is not None:
            visits += 1 + len(options)
            stop = _bound([pool[here].evaluation.mean], 1 + len(options), visits)
        bounds = [
            _bound([pool[node].evaluation.mean for node in subtree], len(subtree), visits)
            for _, subtree in arms
        ]
        highest = max(bounds)
        if stop >= highest:
            break
        here = arms[bounds.index(highest)][0]
        options = children[here]
    assert here is not None
    return pool[here]


def _children(pool: Sequence[Candidate]) -> dict[int, list[int]]:
    """The edits of each workflow by index; those of -1 are the roots."""
    children: dict[int, list[int]] = {index: [] for index in range(-1, len(pool))}
    places: dict[str, int] = {}
    for index, candidate in enumerate(pool):
        # Invariant: a parent stands in front of its edits, so there is no cycle.
        children[places.get(candidate.parent_id or "", -1)].append(index)
        places.setdefault(candidate.workflow.workflow_id, index)
    return children


def _subtree(root: int, children: dict[int, list[int]]) -> Iterator[int]:
    """The workflow and all edits below it; not recursive, for a chain of edits may be long."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending += children[node]


def _bound(rewards: Sequence[float], visits: int, total: int) -> float:
    """The upper confidence bound (UCB1) of an arm."""
    return math.fsum(rewards) / len(rewards) + EXPLORATION * math.sqrt(math.log(total) / visits)
