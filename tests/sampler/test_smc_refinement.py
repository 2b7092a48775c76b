"""Decisions 6-8: what refined workflows do to a search."""

from dataclasses import replace

import pytest

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.shrinkage import reward_variance, shrink
from bayesflow_sampler.types import Generation
from fakes.approx import approx
from fakes.search_ports import RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

TOY = make_toy("ab", 3, seed=2, stop=True)
LONG = max((leaf.workflow for leaf in TOY.leaves), key=len)
SHORT = min((leaf.workflow for leaf in TOY.leaves), key=len)
INJECT = SearchOptions(
    particles=4,
    refinements=2,
    rounds=3,
    inverse_temperature=1.0,
    minibatch=None,
    refinement="inject",
)
# Refined workflows win every selection, so that their descendants can be followed.
LOVED = TableReward({**TOY.rewards, LONG.workflow_id: 400.0, SHORT.workflow_id: 400.0})


async def refined(options: SearchOptions = INJECT) -> list[Generation]:
    refiner = ScriptedRefiner([LONG, SHORT])
    return await run(search_over(TOY, options, reward=LOVED, refiner=refiner))


async def test_decision_06_a_refined_workflow_enters_as_its_first_t_steps() -> None:
    generations = await refined()

    for generation in generations[:2]:
        long = generation.injected[0]
        assert long.prefix == LONG.prefix(generation.round)
        assert long.rollouts[0].workflow == LONG
        assert not long.terminal


async def test_decision_06_a_refined_workflow_of_t_steps_or_fewer_is_whole_and_terminal() -> None:
    generations = await refined()

    for generation in generations[:2]:
        short = generation.injected[1]
        assert short.prefix == SHORT
        assert short.terminal
    last = generations[-1].particles
    assert all(p.terminal and p.prefix == SHORT for p in last if len(p.prefix) == 1)


async def test_decision_06_a_refined_workflow_has_log_weight_zero_and_is_not_clean() -> None:
    for generation in (await refined())[:2]:
        for entry in generation.injected:
            assert entry.log_weight == 0
            assert entry.score == 400.0
            assert entry.ancestor == -1
            assert not entry.clean
            assert not entry.rollouts[0].clean
            assert entry.rollouts[0].origin == "refined"


async def test_decision_06_descendants_of_a_refinement_inherit_that_they_are_not_clean() -> None:
    first, second, third = await refined()
    assert all(particle.clean for particle in first.particles)
    assert all(ancestor >= 4 for ancestor in first.ancestors)

    for generation in (second, third):
        for particle in generation.particles:
            assert not particle.clean
            assert all(not rollout.clean for rollout in particle.rollouts)


async def test_decision_06_particles_that_win_over_refinements_stay_clean() -> None:
    dull = TableReward({**TOY.rewards, LONG.workflow_id: -400.0, SHORT.workflow_id: -400.0})
    refiner = ScriptedRefiner([LONG, SHORT])
    for generation in await run(search_over(TOY, INJECT, reward=dull, refiner=refiner)):
        for particle in generation.particles:
            drawn = particle.rollouts[0]
            assert particle.clean
            assert drawn.clean
            assert drawn.origin == "prior"


async def test_decision_06_a_childs_weight_is_paid_over_the_whole_pool() -> None:
    first, second, _ = await refined()
    # The two loved entries share the selection evenly: N·π = 2.
    assert sorted(first.ancestors) == [4, 4, 5, 5]
    for particle in second.particles:
        assert particle.log_weight == approx(0.0 - 0.6931471805599453)


async def test_decision_06_the_last_round_injects_nothing() -> None:
    last = (await refined())[-1]

    assert last.injected == ()
    assert len(last.refinements) == 2


@pytest.mark.parametrize("minibatch", [None, 2])
async def test_decision_07_archived_refinements_leave_the_particles_alone(
    minibatch: int | None,
) -> None:
    """Also on minibatches, whose shrinkage learns its s² from the rollouts alone."""
    reward = RowReward({**TOY.rewards, LONG.workflow_id: 1.0, SHORT.workflow_id: 0.0}, rows=6)
    options = replace(INJECT, refinement="archive", minibatch=minibatch)
    refiner = ScriptedRefiner([LONG, SHORT])
    archived = await run(search_over(TOY, options, reward=reward, refiner=refiner))
    without = await run(search_over(TOY, replace(options, refinements=0), reward=reward))

    for ours, plain in zip(archived, without, strict=True):
        assert ours.particles == plain.particles
        assert ours.ancestors == plain.ancestors
        assert ours.injected == ()
        assert [c.workflow for c in ours.refinements] == [LONG, SHORT]
        assert set(ours.refinements) <= set(ours.candidates)


async def test_decision_08_each_edit_sees_the_rounds_workflows_and_the_edits_before_it() -> None:
    foreign = [workflow_of("xyz"), workflow_of("zyx"), workflow_of("xxx")]
    refiner = ScriptedRefiner(foreign)
    options = replace(INJECT, refinements=3, rounds=1)
    (generation,) = await run(search_over(TOY, options, refiner=refiner))
    drawn = list(
        dict.fromkeys(
            rollout.workflow.workflow_id
            for particle in generation.particles
            for rollout in particle.rollouts
        )
    )
    edits = [workflow.workflow_id for workflow in foreign]

    assert refiner.pools == [drawn, [*drawn, edits[0]], [*drawn, edits[0], edits[1]]]


async def test_decision_09_the_refiner_is_told_of_every_workflow_of_the_run() -> None:
    foreign = [workflow_of(word) for word in ("xyz", "zyx", "xxx", "yyy", "zzz", "xzx")]
    refiner = ScriptedRefiner(foreign)
    options = replace(INJECT, refinement="archive")
    generations = await run(search_over(TOY, options, refiner=refiner))
    known: set[str] = set()
    told = iter(refiner.seen)
    for generation in generations:
        known |= {r.workflow.workflow_id for p in generation.particles for r in p.rollouts}
        for edit in generation.refinements:
            assert next(told) == known
            known.add(edit.workflow.workflow_id)


async def test_decision_13_beta_is_fitted_to_clean_rollouts_alone() -> None:
    """Prior draws are all worth ½; two refined ones differ and take over the second round."""
    loved = [workflow_of("x"), workflow_of("y")]
    rewards = dict.fromkeys(TOY.rewards, 0.5)
    reward = TableReward({**rewards, loved[0].workflow_id: 8.0, loved[1].workflow_id: 8.5})
    options = replace(INJECT, inverse_temperature=None)
    generations = await run(
        search_over(TOY, options, reward=reward, refiner=ScriptedRefiner(loved))
    )
    means = {p.rollouts[0].evaluation.mean for p in generations[1].particles}

    assert means == {8.0, 8.5}
    assert [generation.inverse_temperature for generation in generations] == [1.0] * 3


async def test_decision_08_the_pool_is_of_this_round_alone_and_holds_no_workflow_twice() -> None:
    refiner = ScriptedRefiner([LONG])
    generations = await run(search_over(TOY, INJECT, reward=LOVED, refiner=refiner))
    for generation, pool in zip(generations, refiner.pools[::2], strict=True):
        drawn = {r.workflow.workflow_id for p in generation.particles for r in p.rollouts}
        assert set(pool) == drawn
        assert len(pool) == len(drawn)


async def test_a_refinement_on_a_minibatch_is_shrunk_towards_the_particles_values() -> None:
    reward = RowReward(TOY.rewards, rows=10, seed=2)
    options = replace(INJECT, minibatch=4)
    refiner = ScriptedRefiner([LONG, SHORT])
    first = (await run(search_over(TOY, options, reward=reward, refiner=refiner)))[0]
    centre = sum(particle.value for particle in first.particles) / 4
    variance = reward_variance([p.rollouts[0].evaluation for p in first.particles])

    for entry in first.injected:
        evaluation = entry.rollouts[0].evaluation
        assert evaluation.mean != approx(centre)
        value = shrink(evaluation.mean, evaluation.noise(), centre, variance)
        assert entry.value == approx(value)
        assert entry.score == approx(value)


async def test_the_shipped_refiner_works_in_a_search() -> None:
    options = replace(INJECT, refinements=3)
    generations = await run(search_over(TOY, options, refiner=GrammarRefiner(TOY.grammar, 0)))

    for generation in generations:
        assert len(generation.refinements) == 3
        assert all(TOY.grammar.log_probability(c.workflow) < 0 for c in generation.refinements)
