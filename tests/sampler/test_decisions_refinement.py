"""Decisions 6-8 where the paper is silent: refined workflows (docs/algorithm.md)."""

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler.archive import Archive, draws_of
from bayesflow_sampler.final_pick import choose
from bayesflow_sampler.operators import pick_parent
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Generation, RowSet, Workflow
from bayesflow_sampler.weights import log_sum_exp
from fakes.approx import approx
from fakes.search_ports import RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, word_of, workflow_of

TOY = make_toy("ab", 4, seed=2, stop=True)
LONG = max((leaf.workflow for leaf in TOY.leaves), key=len)
SHORT = min((leaf.workflow for leaf in TOY.leaves), key=len)
INJECT = SearchOptions(
    particles=8,
    rollouts=2,
    refinements=2,
    rounds=4,
    inverse_temperature=2.0,
    minibatch=None,
    refinement="inject",
)


async def injecting(bonus: float = 0.0) -> list[Generation]:
    """A search whose refiner writes LONG and SHORT in turn, worth so much more than they are."""
    rewards = dict(TOY.rewards)
    for workflow in (LONG, SHORT):
        rewards[workflow.workflow_id] += bonus
    refiner = ScriptedRefiner([LONG, SHORT])
    return await run(search_over(TOY, INJECT, 3, reward=TableReward(rewards), refiner=refiner))


# --- 6: a refined workflow among the particles --------------------------------------------------


async def test_decision_06_a_refined_workflow_enters_as_its_first_t_steps_at_weight_one() -> None:
    for generation in (await injecting())[:-1]:
        long, short = generation.injected
        assert [one.prefix for one in (long, short)] == [LONG.prefix(generation.round), SHORT]
        assert (long.terminal, short.terminal) == (False, True)
        for entry, workflow in zip((long, short), (LONG, SHORT), strict=True):
            assert (entry.log_weight, entry.clean) == (0.0, False)
            assert entry.score == approx(2.0 * TOY.rewards[workflow.workflow_id])
            assert not entry.rollouts[0].clean


async def test_decision_06_children_pay_their_share_of_all_n_plus_m_entries() -> None:
    for earlier, later in itertools.pairwise(await injecting()):
        pool = [*earlier.particles, *earlier.injected]
        assert len(pool) == 10
        total = log_sum_exp([entry.log_weight + entry.score for entry in pool])
        for particle in later.particles:
            parent = pool[particle.ancestor]
            share = parent.log_weight + parent.score - total
            assert particle.log_weight == approx(parent.log_weight - math.log(8) - share)
            assert particle.prefix.prefix(len(parent.prefix)) == parent.prefix


async def test_decision_06_descendants_inherit_that_they_are_not_clean() -> None:
    generations = await injecting(0.5)
    mixed = 0
    for earlier, later in itertools.pairwise(generations):
        pool = [*earlier.particles, *earlier.injected]
        for particle in later.particles:
            assert particle.clean == pool[particle.ancestor].clean
            assert all(rollout.clean == particle.clean for rollout in particle.rollouts)
        mixed += len({particle.clean for particle in later.particles}) == 2
    assert mixed


async def test_decision_06_estimates_use_clean_lineages_alone_and_divide_by_n() -> None:
    archive = Archive(1)
    evidence: list[float] = []
    for generation in await injecting():
        archive.add(generation)
        clean = [particle for particle in generation.particles if particle.clean]
        assert len(clean) < 8 or generation.round == 1
        evidence.append(
            sum(
                math.exp(p.log_weight + 2.0 * TOY.rewards[one.workflow.workflow_id])
                / (8 * len(p.rollouts))
                for p in clean
                for one in p.rollouts
            )
        )
    posterior = archive.posterior(2.0)

    assert posterior is not None
    assert math.exp(posterior.log_evidence) == approx(sum(evidence) / 4)


async def test_decision_06_without_a_clean_survivor_the_run_says_so_and_has_no_posterior() -> None:
    generations = await injecting(300.0)
    archive = Archive(1, pool_rounds=False)
    for generation in generations:
        archive.add(generation)

    assert not any(particle.clean for particle in generations[-1].particles)
    assert archive.posterior(2.0) is None
    assert [said(generation) for generation in generations] == [False] * 3 + [True]
    assert not any(map(said, await injecting(-9.0)))


def said(generation: Generation) -> bool:
    return any("no clean lineage is left" in sentence for sentence in generation.notes)


# --- 7: inside or beside the particles ----------------------------------------------------------


@pytest.mark.parametrize("minibatch", [None, 2])
async def test_decision_07_archived_refinements_compete_for_the_final_pick_alone(
    minibatch: int | None,
) -> None:
    best = workflow_of("best")
    rewards = {name: reward / 2 for name, reward in TOY.rewards.items()}
    rewards[best.workflow_id] = 1.0
    reward = RowReward(rewards, rows=8)
    options = replace(INJECT, refinement="archive", minibatch=minibatch, inverse_temperature=None)
    refiner = ScriptedRefiner([best])
    with_them = await run(search_over(TOY, options, reward=reward, refiner=refiner))
    without = await run(search_over(TOY, replace(options, refinements=0), reward=reward))
    ours, plain = Archive(8), Archive(8)
    for one, other in zip(with_them, without, strict=True):
        assert replace(one, refinements=()) == other
        assert [edit.workflow for edit in one.refinements] == [best, best]
        assert draws_of(one) == draws_of(other)
        ours.add(one)
        plain.add(other)

    assert ours.posterior(2.0) == plain.posterior(2.0)
    assert (await choose(ours, reward))[0].workflow == best
    assert best.workflow_id not in plain.entries


async def test_decision_07_injected_refinements_do_compete_for_selection() -> None:
    drawn = [ancestor for generation in await injecting() for ancestor in generation.ancestors]

    assert any(ancestor >= 8 for ancestor in drawn)
    assert any(ancestor < 8 for ancestor in drawn)


# --- 8: the refiner's pick ----------------------------------------------------------------------


def scored(word: str, reward: float) -> Candidate:
    workflow = workflow_of(word)
    rows = RowSet("validation", (0,))
    return Candidate(workflow, Evaluation(workflow.workflow_id, rows, (reward,)), 1, "prior")


def test_decision_08_the_pick_is_a_softmax_at_a_tenth_over_the_three_best() -> None:
    rewards = {"a": 0.5, "b": 0.8, "c": 0.7, "d": 0.9, "e": 0.6}
    pool = [scored(word, reward) for word, reward in rewards.items()]
    law = [math.exp(reward / 0.1) for reward in (0.9, 0.8, 0.7)]
    first, second = law[0] / sum(law), (law[0] + law[1]) / sum(law)
    edge = 1e-9
    quantiles = (0.0, first - edge, first + edge, second - edge, second + edge, 1 - edge)

    assert "".join(word_of(pick_parent(pool, at).workflow) for at in quantiles) == "ddbbcc"


async def test_decision_08_each_edit_is_scored_and_inserted_before_the_next_is_asked_for() -> None:
    events: list[str] = []
    foreign = [workflow_of(word) for word in ("xyz", "zyx", "xxx")]
    edits = {workflow.workflow_id: word_of(workflow) for workflow in foreign}

    class Reward(TableReward):
        async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
            evaluation = await super().score(workflow, rows)
            if workflow.workflow_id in edits:
                events.append(f"scored {edits[workflow.workflow_id]}")
            return evaluation

    class Told(ScriptedRefiner):
        async def refine(
            self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey
        ) -> Edit:
            shown = [edits[c.workflow.workflow_id] for c in pool if c.workflow.workflow_id in edits]
            events.append(f"asked beside {','.join(shown)}")
            return await super().refine(pool, seen, key)

    options = replace(INJECT, refinements=3, rounds=1)
    reward = Reward(TOY.rewards)
    (generation,) = await run(search_over(TOY, options, reward=reward, refiner=Told(foreign)))

    assert events == [
        "asked beside ",
        "scored xyz",
        "asked beside xyz",
        "scored zyx",
        "asked beside xyz,zyx",
        "scored xxx",
    ]
    assert [edit.workflow for edit in generation.refinements] == foreign


async def test_decision_08_the_pool_is_every_complete_workflow_of_this_round_once() -> None:
    refiner = ScriptedRefiner([LONG, SHORT])
    generations = await run(search_over(TOY, INJECT, refiner=refiner))
    pools = iter(refiner.pools)
    for generation in generations:
        drawn = drawn_in(generation)
        assert next(pools) == list(dict.fromkeys(drawn))
        assert next(pools) == list(dict.fromkeys([*drawn, LONG.workflow_id]))


async def test_decision_08_the_three_best_archived_edits_so_far_stay_in_the_pool() -> None:
    edits = [workflow_of(word) for word in ("v", "w", "x", "y", "z")]
    worth = [edit.workflow_id for edit in edits]
    rewards = dict(zip(worth, (0.2, 0.9, 0.1, 0.8, 0.7), strict=True))
    refiner = ScriptedRefiner(edits)
    options = replace(INJECT, refinement="archive", refinements=5, rounds=2)
    reward = TableReward({**TOY.rewards, **rewards})
    first, second = await run(search_over(TOY, options, reward=reward, refiner=refiner))
    best = [worth[place] for place in (1, 3, 4)]

    assert set(refiner.pools[4]) == {*drawn_in(first), *worth[:4]}
    assert set(refiner.pools[5]) == {*drawn_in(second), *best}


def drawn_in(generation: Generation) -> list[str]:
    return [c.workflow.workflow_id for p in generation.particles for c in p.rollouts]
