"""Many independent searches of a toy, and how far their mean lies from what it should be."""

import math
import statistics
from collections.abc import AsyncIterator, Sequence

from bayesflow_sampler.archive import Archive, Posterior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Reward
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Generation
from fakes.searches import run, search_over
from fakes.toys import Toy

__all__ = ["REPLICATES", "archived", "evidence", "replicates", "z_score"]

REPLICATES = 20_000


def z_score(estimates: Sequence[float], truth: float) -> float:
    """How many standard errors the mean of the estimates lies from the truth."""
    error = statistics.stdev(estimates) / math.sqrt(len(estimates))
    return (statistics.fmean(estimates) - truth) / error


async def replicates(
    toy: Toy, options: SearchOptions, *, reward: Reward | None = None
) -> AsyncIterator[list[Generation]]:
    """The rounds of `REPLICATES` searches of the toy, with edits by its own grammar."""
    for seed in range(REPLICATES):
        refiner = GrammarRefiner(toy.grammar, seed)
        yield await run(search_over(toy, options, seed, reward=reward, refiner=refiner))


def archived(
    generations: Sequence[Generation], *, rows: int = 1, pool_rounds: bool = False, islands: int = 1
) -> Archive:
    """The rounds as the shipped archive keeps them."""
    archive = Archive(rows, pool_rounds=pool_rounds, islands=islands)
    for generation in generations:
        archive.add(generation)
    return archive


def evidence(posterior: Posterior | None) -> float:
    """Ẑ; no posterior is an estimate of zero."""
    return 0.0 if posterior is None else math.exp(posterior.log_evidence)
