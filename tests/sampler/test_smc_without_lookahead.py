"""Paper §4.3: without look-ahead the search is pure refinement of complete workflows."""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.diagnostics import summarise, unique_ancestors
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.operators import Operator
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey, Generation, Workflow
from fakes.approx import approx
from fakes.search_ports import (
    CountingPrior,
    MemoryJournal,
    RowReward,
    ScriptedRefiner,
    ShuffledPrior,
    ShuffledReward,
    TableReward,
)
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("abc", 4, seed=6, stop=True)
OPTIONS = SearchOptions(
    particles=4,
    rollouts=3,
    refinements=2,
    rounds=4,
    inverse_temperature=2.0,
    minibatch=None,
    lookahead=False,
)
EDITS = [workflow_of(word) for word in ("xa", "xb", "xc", "xd", "xe", "xf", "xg", "xh")]


async def edited(options: SearchOptions = OPTIONS) -> tuple[list[Generation], ScriptedRefiner]:
    refiner = ScriptedRefiner(EDITS)
    return await run(search_over(TOY, options, refiner=refiner)), refiner


async def test_the_prior_is_asked_for_the_seeds_and_never_again() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    await run(search_over(TOY, OPTIONS, prior=prior, refiner=ScriptedRefiner(EDITS)))

    assert [key.text for key, _ in prior.asked] == [f"extend/1/{i}/0" for i in range(4)]


async def test_the_seeds_stay_whole_and_unselected_in_every_round() -> None:
    generations, _ = await edited()
    seeds = [particle.prefix for particle in generations[0].particles]

    assert len(generations) == 4
    for generation in generations:
        assert [particle.prefix for particle in generation.particles] == seeds
        assert [particle.rollouts[0].workflow for particle in generation.particles] == seeds
        assert all(p.terminal and p.clean and p.log_weight == 0 for p in generation.particles)
        assert generation.injected == ()
        assert len(generation.refinements) == 2
    assert [generation.ancestors for generation in generations] == [(0, 1, 2, 3)] * 3 + [()]
    assert unique_ancestors([g.ancestors for g in generations[:-1]], 4) == [4, 4, 4, 4]
    assert summarise(generations[-1]).clean_share == 1


async def test_every_edit_sees_all_workflows_so_far_in_the_order_of_creation() -> None:
    generations, refiner = await edited()
    seeds = list(dict.fromkeys(p.prefix.workflow_id for p in generations[0].particles))
    names = [workflow.workflow_id for workflow in EDITS]

    assert refiner.pools == [[*seeds, *names[:made]] for made in range(8)]


async def test_the_pool_is_scored_on_the_rounds_own_rows() -> None:
    """A minibatch compares all workflows on the same rows, those of earlier rounds too."""
    rewards = TOY.rewards | {workflow.workflow_id: 0.5 for workflow in EDITS}
    reward = TableReward(rewards, rows=9)
    options = replace(OPTIONS, minibatch=3)
    generations = await run(
        search_over(TOY, options, reward=reward, refiner=ScriptedRefiner(EDITS))
    )
    second = generations[1]
    asked = [name for name, rows in reward.asked if rows == second.rows]

    assert second.rows != generations[0].rows
    assert {workflow.workflow_id for workflow in EDITS[:4]} <= set(asked)
    assert EDITS[4].workflow_id not in asked


@dataclass
class WatchingRefiner:
    """Answers with the given workflows in turn; keeps the pool it was shown."""

    edits: Sequence[Workflow]
    pools: list[list[Candidate]] = field(default_factory=list[list[Candidate]])

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        self.pools.append(list(pool))
        edit = self.edits[(len(self.pools) - 1) % len(self.edits)]
        return Edit(edit, pool[0].workflow.workflow_id)


async def test_earlier_edits_are_shown_with_their_scores_on_the_rounds_rows() -> None:
    rewards = TOY.rewards | {workflow.workflow_id: 0.5 for workflow in EDITS}
    refiner = WatchingRefiner(EDITS)
    options = replace(OPTIONS, minibatch=3)
    generations = await run(
        search_over(TOY, options, reward=RowReward(rewards, rows=9), refiner=refiner)
    )

    for generation, pool in zip(generations, refiner.pools[::2], strict=True):
        assert {candidate.evaluation.rows for candidate in pool} == {generation.rows}


async def test_an_edit_that_is_a_seed_stays_a_seed_in_the_pool() -> None:
    seed = (await edited())[0][0].particles[0].prefix
    refiner = WatchingRefiner([seed])
    await run(search_over(TOY, OPTIONS, refiner=refiner))

    for pool in refiner.pools:
        assert all(candidate.origin == "prior" for candidate in pool)


async def test_a_search_that_is_iterated_twice_starts_from_its_seeds_again() -> None:
    refiner = ScriptedRefiner(EDITS)
    search = search_over(TOY, OPTIONS, refiner=refiner)
    first, second = await run(search), await run(search)

    assert first == second
    assert refiner.pools[:8] == refiner.pools[8:]


async def test_the_run_says_what_its_posterior_rests_on() -> None:
    generations, _ = await edited()

    assert "the posterior rests on the prior's draws of round 1" in generations[0].notes[-1]
    assert all(not generation.notes for generation in generations[1:])


@pytest.mark.parametrize("pool_rounds", [True, False])
async def test_the_posterior_is_that_of_the_seeds_and_no_edit_is_in_it(pool_rounds: bool) -> None:
    generations, _ = await edited()
    archive = Archive(1, pool_rounds=pool_rounds)
    for generation in generations:
        archive.add(generation)
    posterior = archive.posterior(2.0)
    seeds = [particle.rollouts[0].workflow.workflow_id for particle in generations[0].particles]
    weights = {name: 2.718281828459045 ** (2 * TOY.rewards[name]) for name in seeds}
    total = sum(weights[name] for name in seeds)

    assert posterior is not None
    assert posterior.probability == approx(
        {name: seeds.count(name) * weights[name] / total for name in seeds}
    )
    assert not posterior.probability.keys() & {workflow.workflow_id for workflow in EDITS}
    assert {workflow.workflow_id for workflow in EDITS} <= archive.entries.keys()


@pytest.mark.parametrize("operator", ["best", "linear", "evolutionary", "tree"])
async def test_every_search_operator_climbs_from_a_single_seed(operator: Operator) -> None:
    options = replace(OPTIONS, particles=1, rounds=12)
    refiner = GrammarRefiner(TOY.grammar, seed=2, operator=operator)
    generations = await run(search_over(TOY, options, refiner=refiner))
    rewards = [c.evaluation.mean for generation in generations for c in generation.candidates]
    median = sorted(TOY.rewards.values())[len(TOY.rewards) // 2]

    assert max(rewards) > rewards[0]
    assert max(rewards) > median


async def test_the_result_does_not_depend_on_the_order_of_completion() -> None:
    reward = RowReward(TOY.rewards, rows=8)
    options = replace(OPTIONS, minibatch=4)
    refiner = GrammarRefiner(TOY.grammar, seed=2)
    plain = await run(search_over(TOY, options, reward=reward, refiner=refiner))
    for seed in range(3):
        order = random.Random(seed)
        prior = ShuffledPrior(GrammarPrior(TOY.grammar, 0), order)
        shuffled = ShuffledReward(reward, order)
        again = search_over(TOY, options, prior=prior, reward=shuffled, refiner=refiner)
        assert await run(again) == plain


async def test_a_repeated_search_draws_nothing_anew() -> None:
    journal = MemoryJournal()
    search = search_over(TOY, OPTIONS, refiner=ScriptedRefiner(EDITS), journal=journal)
    first = await run(search)
    drawn = dict(journal.draws)

    assert await run(search) == first
    assert journal.draws == drawn
