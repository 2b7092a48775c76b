from dataclasses import replace

from bayesflow_sampler.diagnostics import summarise, unique_ancestors
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from fakes.approx import approx
from fakes.search_ports import TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, word_of

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
