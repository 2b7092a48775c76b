from collections.abc import Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler.diagnostics import summarise, unique_ancestors
from bayesflow_sampler.grammar import Grammar, GrammarPrior, Production
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Generation
from fakes.approx import approx
from fakes.search_ports import TableReward
from fakes.searches import run, search_over
from fakes.toys import letter, make_toy, word_of

TOY = make_toy("ab", 3, seed=2)
OPTIONS = SearchOptions(
    particles=5, rollouts=2, refinements=2, rounds=3, inverse_temperature=4.0, minibatch=None
)


async def test_a_round_in_numbers_is_of_every_complete_workflow_it_scored() -> None:
    failing = TOY.leaves[0].workflow.workflow_id
    reward = TableReward(TOY.rewards, rows=3, failures={failing: "NameError"})
    refiner = GrammarRefiner(TOY.grammar, 0)
    for generation in await run(search_over(TOY, OPTIONS, reward=reward, refiner=refiner)):
        rewards = [TOY.rewards[c.workflow.workflow_id] for c in generation.candidates]
        words = {word_of(c.workflow) for c in generation.candidates}
        summary = summarise(generation)

        assert len(rewards) == 5 * (2 if generation.round < 3 else 1) + 2
        assert (summary.minimum, summary.maximum) == approx((min(rewards), max(rewards)))
        assert summary.mean == approx(sum(rewards) / len(rewards))
        assert summary.distinct == summary.structures == len(words)
        assert summary.failed == (word_of(TOY.leaves[0].workflow) in words)
        assert summary.clean_share == 1.0
        assert summary.rows == 3
        assert (summary.round, summary.inverse_temperature) == (generation.round, 4.0)
        assert summary.unique_parents == len(set(generation.ancestors))


async def test_the_clean_share_falls_where_refinements_win() -> None:
    best = {**dict.fromkeys(TOY.rewards, 0.0), TOY.leaves[3].workflow.workflow_id: 50.0}
    generations = await run(
        search_over(
            TOY,
            replace(OPTIONS, refinement="inject", refinements=8),
            reward=TableReward(best),
            refiner=GrammarRefiner(TOY.grammar, 0),
        )
    )

    assert summarise(generations[0]).clean_share == 1.0
    assert summarise(generations[-1]).clean_share < 1.0
    # A refinement is nobody's descendant: lineages that begin with one end there.
    first = generations[0]
    assert all(ancestor >= 5 for ancestor in first.ancestors)
    assert unique_ancestors([g.ancestors for g in generations[:-1]], 5)[0] == 0


async def test_unique_ancestors_counts_who_still_has_descendants() -> None:
    generations = await run(search_over(TOY, replace(OPTIONS, refinements=0)))
    first, second, _ = generations
    second_alive = set(second.ancestors)
    first_alive = {first.ancestors[index] for index in second_alive}

    assert unique_ancestors([first.ancestors, second.ancestors], 5) == [
        len(first_alive),
        len(second_alive),
        5,
    ]
    assert unique_ancestors([], 5) == [5]


# --- ancestry ---------------------------------------------------------------------------------


def test_unique_ancestors_by_hand() -> None:
    """Five particles; an index of 5 or more is a refinement, where a line ends."""
    selections = [(0, 0, 3, 3, 4), (1, 1, 2, 5, 6), (0, 0, 2, 2, 3)]

    # Round 4 has all five, round 3 has {0, 2, 3}, round 2 {1, 2} (3 came in), round 1 {0, 3}.
    assert unique_ancestors(selections, 5) == [2, 2, 3, 5]


def descendants(generations: Sequence[Generation]) -> list[int]:
    """The same count, from the particles' own word on who their parent was."""
    counts: list[int] = []
    for first in range(len(generations)):
        alive = range(len(generations[-1].particles))
        for generation in reversed(generations[first + 1 :]):
            parents = {generation.particles[index].ancestor for index in alive}
            alive = [index for index in parents if 0 <= index < len(generation.particles)]
        counts.append(len(set(alive)))
    return counts


@pytest.mark.parametrize(
    "options",
    [
        replace(OPTIONS, refinements=0),
        replace(OPTIONS, refinements=3, refinement="inject"),
        replace(OPTIONS, particles=6, refinements=0, islands=3),
        replace(OPTIONS, refinements=0, ess_threshold=0.5),
        replace(OPTIONS, refinements=0, recycle=True),
    ],
    ids=["plain", "injected", "islands", "trigger", "recycling"],
)
async def test_unique_ancestors_are_those_whom_the_particles_name(options: SearchOptions) -> None:
    for seed in range(5):
        refiner = GrammarRefiner(TOY.grammar, seed)
        generations = await run(search_over(TOY, options, seed, refiner=refiner))
        found = unique_ancestors([g.ancestors for g in generations[:-1]], options.particles)

        assert found == descendants(generations)
        assert found[-1] == options.particles
        assert found == sorted(found)  # fewer and fewer, the further back


async def test_the_clean_share_is_of_the_particles_that_have_no_refined_ancestor() -> None:
    options = replace(OPTIONS, refinement="inject", refinements=3, clean_floor=0.4)
    for seed in range(5):
        refiner = GrammarRefiner(TOY.grammar, seed)
        for generation in await run(search_over(TOY, options, seed, refiner=refiner)):
            clean = [particle for particle in generation.particles if particle.clean]

            assert summarise(generation).clean_share == len(clean) / 5
            assert all(rollout.clean for particle in clean for rollout in particle.rollouts)


async def test_workflows_of_the_same_titles_are_distinct_and_have_one_structure() -> None:
    steps = [replace(letter("a", 0), body=f"        letter_0 = {text!r}\n") for text in "abcd"]
    productions = tuple(Production(step, 0.25, None) for step in steps)
    grammar = Grammar("titles", "^", {"^": productions})
    options = replace(OPTIONS, particles=40, rollouts=1, refinements=0, rounds=1)
    (only,) = await run(
        search_over(TOY, options, prior=GrammarPrior(grammar, 0), reward=TableReward({}))
    )
    summary = summarise(only)

    assert (summary.distinct, summary.structures) == (4, 1)
