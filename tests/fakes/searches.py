"""Searches over toys, in one line."""

from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Journal, Prior, Refiner, Reward
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Generation
from fakes.search_ports import NoJournal, NoRefiner, TableReward
from fakes.toys import Toy

__all__ = ["run", "search_over"]


def search_over(
    toy: Toy,
    options: SearchOptions,
    seed: int = 0,
    *,
    prior: Prior | None = None,
    reward: Reward | None = None,
    refiner: Refiner | None = None,
    journal: Journal | None = None,
) -> Search:
    """A search of the toy; what is not given is the plainest that does."""
    return Search(
        prior or GrammarPrior(toy.grammar, seed),
        reward or TableReward(toy.rewards),
        refiner or NoRefiner(),
        journal or NoJournal(),
        options,
        seed,
    )


async def run(search: Search) -> list[Generation]:
    """All rounds of the search."""
    return [generation async for generation in search.generations()]
