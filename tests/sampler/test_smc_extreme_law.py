"""What a reward of -inf may do to the law: take the workflow's weight, not its prefix's."""

import math
import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler import succession
from bayesflow_sampler.archive import Archive
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.types import Decision, Evaluation, Generation, Particle, RowSet, Workflow
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.search_ports import RowReward, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy

INF = math.inf
TOY = make_toy("ab", 3, seed=2)
LOST = sorted(TOY.leaves, key=lambda leaf: -leaf.probability)[:2]
OPTIONS = SearchOptions(
    particles=40, refinements=0, rounds=3, inverse_temperature=2.0, minibatch=None
)


@dataclass
class HolyReward(RowReward):
    """The likeliest workflows score -inf on every row."""

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        if workflow in [leaf.workflow for leaf in LOST]:
            return Evaluation(workflow.workflow_id, rows, (-INF,) * len(rows.positions))
        return await super().score(workflow, rows)


async def found(options: SearchOptions) -> list[Generation]:
    return await run(search_over(TOY, options, reward=HolyReward(TOY.rewards, rows=6)))


async def mean_evidence(replicates: int) -> tuple[float, float]:
    """Mean of Ẑ/Z where the likeliest workflow has a reward of -inf, with its standard error."""
    toy = make_toy("ab", 2, seed=4)
    lost = max(toy.leaves, key=lambda leaf: leaf.probability).workflow.workflow_id
    rewards = toy.rewards | {lost: -INF}
    evidence = sum(
        leaf.probability * math.exp(2 * rewards[leaf.workflow.workflow_id]) for leaf in toy.leaves
    )
    options = replace(OPTIONS, particles=8, rounds=2)
    estimates: list[float] = []
    for seed in range(replicates):
        archive = Archive(1, pool_rounds=False)
        # A search that ends because no particle has a weight has estimated Z by zero.
        with suppress(ExceptionGroup):
            for generation in await run(
                search_over(toy, options, seed, reward=TableReward(rewards))
            ):
                archive.add(generation)
        posterior = archive.posterior(2.0)
        estimates.append(0.0 if posterior is None else math.exp(posterior.log_evidence) / evidence)
    return statistics.fmean(estimates), statistics.stdev(estimates) / math.sqrt(replicates)


@pytest.mark.slow
async def test_a_prefix_whose_rollout_has_no_weight_keeps_its_other_continuations() -> None:
    """|z| < 4: false alarm 6 in 100,000."""
    mean, error = await mean_evidence(2000)

    assert abs(mean - 1) < 4 * error


@pytest.mark.slow
async def test_the_control_that_drops_such_prefixes_loses_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def plain(
        number: int, entries: Sequence[Particle], options: SearchOptions
    ) -> tuple[list[float], list[Decision]]:
        return [entry.score for entry in entries], []

    monkeypatch.setattr(succession, "_scores", plain)
    mean, error = await mean_evidence(2000)

    assert (mean - 1) / error < -20


async def test_it_is_selected_by_the_least_finite_score() -> None:
    first, second, _ = await found(OPTIONS)
    scores = [particle.score for particle in first.particles]
    least = min(score for score in scores if score > -INF)
    lost = [index for index, score in enumerate(scores) if score == -INF]
    shares = normalise([max(score, least) for score in scores])

    assert set(lost) & set(first.ancestors)
    for particle in second.particles:
        assert particle.log_weight == approx(-math.log(40 * shares[particle.ancestor]))


async def test_on_a_minibatch_its_child_shrinks_towards_the_rounds_mean() -> None:
    options = replace(OPTIONS, minibatch=3)
    first, second, _ = await found(options)
    orphans = [
        particle
        for particle in second.particles
        if first.particles[particle.ancestor].score == -INF and particle.value > -INF
    ]

    assert orphans
    assert all(0 <= particle.value <= 1 for particle in orphans)
