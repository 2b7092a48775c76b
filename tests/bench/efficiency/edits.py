"""How much an edit knows: the shipped refiner's, or the same edit in the dark.

The grammar's refiner prefers steps that stood in well-scored workflows, and on a landscape whose
effects add up that is worth a lot. Nobody knows whether a model's edits are as well informed, so
what is concluded from edits is looked at under both.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from bayesflow_sampler.grammar import Grammar
from bayesflow_sampler.operators import pick
from bayesflow_sampler.ports import Edit, Refiner
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey

__all__ = ["BlindRefiner", "edit_of", "refiner_of"]


def refiner_of(grammar: Grammar, seed: int, *, informed: bool) -> Refiner:
    """The shipped refiner, or the one in the dark."""
    return GrammarRefiner(grammar, seed) if informed else BlindRefiner(grammar, seed)


@dataclass(frozen=True)
class BlindRefiner:
    """Picks as the shipped refiner does; the edit itself is drawn from the prior.

    Attributes:
        grammar: The grammar that wrote the workflows.
        seed: Draws the picks and the edits.
    """

    grammar: Grammar
    seed: int

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        """One edit of one of the best."""
        parent = pick("best", pool, self.seed, *key, "parent")[0]
        return await edit_of(
            GrammarRefiner(self.grammar, self.seed, "linear"), parent, (), seen, key
        )


async def edit_of(
    refiner: GrammarRefiner,
    parent: Candidate,
    known: Collection[Candidate],
    seen: Collection[str],
    key: DrawKey,
) -> Edit:
    """An edit of this very workflow.

    Args:
        refiner: One that goes on from the latest refinement; the parent is handed in as that.
        parent: What is edited.
        known: What else the edit is made in the light of; nothing leaves it in the dark.
        seen: Ids of all workflows of the run.
        key: Names the draw.
    """
    others = [one for one in known if one is not parent]
    return await refiner.refine([*others, replace(parent, origin="refined")], seen, key)
