"""Rollout recycling: a rollout that was scored serves its particle's children as their next step.

Under a coherent prior a rollout of s_1:t continues it by the law of the next steps, so its first
step is a proper draw of s_t+1 and what follows it a proper rollout. Siblings walk one random
permutation of their parent's K rollouts cyclically: each child's rollout is uniform among the K, so
the expectation over selection is that of a fresh draw, whatever the scores were. Two rules that
look alike are biased: the first copy recycles and the rest draw afresh (a child's step then depends
on how many siblings it has, which depends on the scores), and a fixed order of the rollouts.

Optimizer calls fall from N·K·(T−1) + N to N·K + N·(K−1)·(T−2).
"""

from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["recycled"]


def recycled(
    ancestors: Sequence[int], rollouts: Sequence[int], draw: Callable[[int, int], float]
) -> list[int | None]:
    """Which rollout of its parent each child continues with.

    Args:
        ancestors: Index of each child's parent in the pool.
        rollouts: How many rollouts each entry of the pool has to give away.
        draw: `draw(parent, k)` gives a uniform in [0, 1) to shuffle the parent's rollouts by.

    Returns:
        The rollout's index k, or None where the parent has none to give: the child draws afresh.
    """
    orders: dict[int, list[int]] = {}
    copies: Counter[int] = Counter()
    taken: list[int | None] = []
    for parent in ancestors:
        if parent not in orders:
            keys = [(draw(parent, k), k) for k in range(rollouts[parent])]
            orders[parent] = [k for _, k in sorted(keys)]
        order = orders[parent]
        taken.append(order[copies[parent] % len(order)] if order else None)
        copies[parent] += 1
    return taken
