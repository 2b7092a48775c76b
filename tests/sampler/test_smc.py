"""The decisions of docs/algorithm.md that the engine makes about particles, a test for each."""

import asyncio
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler import selection
from bayesflow_sampler.grammar import GrammarPrior
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.resampling import Resampling, resample
from bayesflow_sampler.shrinkage import reward_variance, shrink
from bayesflow_sampler.types import DrawKey, Evaluation, Generation, RowSet, Workflow
from bayesflow_sampler.weights import effective_sample_size, log_mean_exp, normalise
from fakes.approx import approx
from fakes.search_ports import (
    CountingPrior,
    RowReward,
    ShuffledPrior,
    ShuffledReward,
    TableReward,
)
from fakes.searches import run, search_over
from fakes.toys import make_toy, word_of

TOY = make_toy("abc", 4, seed=3)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
PLAIN = SearchOptions(
    particles=6, rollouts=2, refinements=0, rounds=4, inverse_temperature=3.0, minibatch=None
)


def kinds(prior: CountingPrior, kind: str, number: int) -> list[DrawKey]:
    return [key for key, _ in prior.asked if (key.kind, key.round) == (kind, number)]


# --- decisions 1, 2: rounds and draws ---------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 4])
async def test_decision_01_n_empty_prefixes_and_exactly_t_rounds(rounds: int) -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    generations = await run(search_over(TOY, replace(PLAIN, rounds=rounds), prior=prior))

    assert [generation.round for generation in generations] == list(range(1, rounds + 1))
    assert all(generation.rounds == rounds for generation in generations)
    assert [prefix for key, prefix in prior.asked if key.round == 1][:6] == [prior.root] * 6
    assert all(particle.ancestor == -1 for particle in generations[0].particles)
    assert all(particle.log_weight == 0 for particle in generations[0].particles)
    assert generations[-1].ancestors == ()


async def test_decision_02_one_call_draws_the_step_and_the_first_rollout() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    generations = await run(search_over(TOY, PLAIN, prior=prior))

    for number in (1, 2, 3):
        assert len(kinds(prior, "extend", number)) == 6
        assert len(kinds(prior, "complete", number)) == 6
    # K is ignored in the last round: N·K·(T−1) + N calls in all.
    assert len(kinds(prior, "extend", 4)) == 6
    assert len(prior.asked) == 6 * 2 * 3 + 6
    for generation in generations:
        for particle in generation.particles:
            assert len(particle.prefix) == generation.round
            assert all(
                rollout.workflow.prefix(generation.round) == particle.prefix
                for rollout in particle.rollouts
            )


async def test_decision_02_a_particle_extends_its_ancestors_prefix() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    generations = await run(search_over(TOY, PLAIN, prior=prior))

    for earlier, later in itertools.pairwise(generations):
        for index, particle in enumerate(later.particles):
            assert particle.ancestor == earlier.ancestors[index]
            parent = earlier.particles[particle.ancestor]
            assert particle.prefix.prefix(earlier.round) == parent.prefix
            key = DrawKey("extend", later.round, index)
            assert (key, parent.prefix) in prior.asked


async def test_no_two_draws_share_a_key() -> None:
    prior = CountingPrior(GrammarPrior(TOY.grammar, 0))
    await run(search_over(TOY, PLAIN, prior=prior))

    assert len({key.text for key, _ in prior.asked}) == len(prior.asked)


# --- weights and scores -----------------------------------------------------------------------


async def test_the_score_is_the_log_mean_of_the_exponential_rewards() -> None:
    for generation in await run(search_over(TOY, PLAIN)):
        for particle in generation.particles:
            rewards = [rollout.evaluation.mean for rollout in particle.rollouts]
            assert particle.score == approx(log_mean_exp([3.0 * reward for reward in rewards]))
            assert len(rewards) == (2 if generation.round < 4 else 1)


async def test_children_carry_the_weight_that_exact_selection_gives_them() -> None:
    generations = await run(search_over(TOY, PLAIN))
    for earlier, later in itertools.pairwise(generations):
        pool = [particle.log_weight + particle.score for particle in earlier.particles]
        probabilities = normalise(pool)
        assert earlier.effective_sample_size == approx(effective_sample_size(pool))
        for particle in later.particles:
            parent = earlier.particles[particle.ancestor]
            paid = math.log(6 * probabilities[particle.ancestor])
            assert particle.log_weight == approx(parent.log_weight - paid)


async def test_paper_weighting_forgets_every_weight() -> None:
    for generation in await run(search_over(TOY, replace(PLAIN, weighting="paper"))):
        assert all(particle.log_weight == 0 for particle in generation.particles)


async def test_multinomial_selection_is_another_selection() -> None:
    systematic = await run(search_over(TOY, PLAIN))
    multinomial = await run(search_over(TOY, replace(PLAIN, resampling="multinomial")))

    assert [g.ancestors for g in systematic] != [g.ancestors for g in multinomial]


async def test_every_selection_has_uniforms_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same uniform in every round would tie the rounds together."""
    offsets: list[float] = []

    def spying(
        weights: Sequence[float], count: int, scheme: Resampling, draw: Callable[[int], float]
    ) -> list[int]:
        offsets.append(draw(0))
        return resample(weights, count, scheme, draw)

    monkeypatch.setattr(selection, "resample", spying)
    await run(search_over(TOY, PLAIN, 7))

    assert offsets == [uniform(7, "select", number, 0) for number in (1, 2, 3)]


# --- decision 4: workflows shorter than T -----------------------------------------------------


def whole(generation: Generation) -> list[int]:
    return [i for i, particle in enumerate(generation.particles) if particle.terminal]


async def test_decision_04_a_finished_workflow_makes_no_further_draw() -> None:
    prior = CountingPrior(GrammarPrior(STOPPING.grammar, 1))
    options = replace(PLAIN, particles=12)
    generations = await run(search_over(STOPPING, options, 1, prior=prior))
    assert any(len(particle.prefix) < 4 for particle in generations[-1].particles)

    for earlier, later in itertools.pairwise(generations):
        stopped = {
            index
            for index, ancestor in enumerate(earlier.ancestors)
            if earlier.particles[ancestor].terminal
        }
        drawn = {key.particle for key in kinds(prior, "extend", later.round)}
        completed = {key.particle for key in kinds(prior, "complete", later.round)}
        assert drawn == set(range(12)) - stopped
        assert not completed & stopped
        for index in stopped:
            parent = earlier.particles[earlier.ancestors[index]]
            assert later.particles[index].prefix == parent.prefix
            assert later.particles[index].terminal


async def test_decision_04_a_finished_workflow_is_one_rollout_and_needs_no_completion() -> None:
    prior = CountingPrior(GrammarPrior(STOPPING.grammar, 1))
    generations = await run(search_over(STOPPING, replace(PLAIN, particles=12), 1, prior=prior))
    for generation in generations:
        for index in whole(generation):
            particle = generation.particles[index]
            assert len(particle.rollouts) == 1
            assert particle.rollouts[0].workflow == particle.prefix
            assert particle.score == approx(3.0 * particle.rollouts[0].evaluation.mean)
            assert index not in {key.particle for key in kinds(prior, "complete", generation.round)}
        assert whole(generation) or generation.round == 1


async def test_decision_04_paper_weighting_scores_a_finished_workflow_again_each_round() -> None:
    options = replace(PLAIN, particles=12, weighting="paper")
    generations = await run(search_over(STOPPING, options, 1))
    again = [
        particle
        for generation in generations[1:]
        for particle in generation.particles
        if len(particle.prefix) < generation.round
    ]

    assert again
    for particle in again:
        assert particle.score == approx(3.0 * particle.rollouts[0].evaluation.mean)
        assert particle.log_weight == 0


async def test_decision_04_a_minibatch_reward_is_completed_in_the_last_round() -> None:
    reward = RowReward(STOPPING.rewards, rows=9)
    options = replace(PLAIN, particles=12, minibatch=2)
    generations = await run(search_over(STOPPING, options, 1, reward=reward))
    early = [p for p in generations[-1].particles if len(p.prefix) < 4]

    assert early
    for particle in early:
        (rollout,) = particle.rollouts
        assert rollout.evaluation.rows.positions == tuple(range(9))
        assert rollout.evaluation.mean == approx(reward.full(rollout.workflow.workflow_id))
        assert rollout.round < 4


# --- decision 5: workflows longer than T ------------------------------------------------------


async def test_decision_05_the_last_round_takes_all_the_rest() -> None:
    generations = await run(search_over(TOY, replace(PLAIN, rounds=2)))

    assert all(len(particle.prefix) == 1 for particle in generations[0].particles)
    for particle in generations[1].particles:
        assert len(particle.prefix) == 4
        assert particle.terminal
        assert particle.rollouts[0].workflow == particle.prefix


# --- decision 13: beta from the data ----------------------------------------------------------


async def test_decision_13_beta_is_fitted_to_the_first_rounds_rollouts_and_scores_them() -> None:
    options = replace(PLAIN, inverse_temperature=None, rollouts=1)
    generations = await run(search_over(TOY, options))
    beta = generations[0].inverse_temperature

    assert beta > 1
    assert "beta = " in generations[0].notes[0]
    assert generations[0].effective_sample_size == approx(3.0, abs=0.01)
    assert [generation.inverse_temperature for generation in generations] == [beta] * 4
    assert [generation.notes for generation in generations[1:]] == [(), (), ()]


async def test_decision_13_without_spread_three_rounds_are_fully_scored() -> None:
    reward = TableReward(dict.fromkeys(TOY.rewards, 0.5), rows=8)
    options = replace(PLAIN, inverse_temperature=None, minibatch=2, rounds=5)
    generations = await run(search_over(TOY, options, reward=reward))

    assert [len(generation.rows.positions) for generation in generations] == [8, 8, 8, 2, 8]
    assert all(generation.inverse_temperature == 1.0 for generation in generations)
    assert [len(generation.notes) for generation in generations] == [2, 1, 1, 0, 0]


# --- decision 14: minibatches -----------------------------------------------------------------

NOISY = RowReward(TOY.rewards, rows=12)
MINIBATCH = replace(PLAIN, minibatch=3)


async def test_decision_14_a_rounds_particles_see_the_same_rows_and_new_ones_each_round() -> None:
    generations = await run(search_over(TOY, MINIBATCH, reward=NOISY))
    rows = [generation.rows for generation in generations]

    for generation in generations:
        seen = {c.evaluation.rows for c in generation.candidates}
        assert seen == {generation.rows}
    assert len({position for row in rows[:3] for position in row.positions}) == 9
    assert rows[3] == RowSet("validation", tuple(range(12)))
    assert [generation.fully_scored for generation in generations] == [False] * 3 + [True]


async def test_decision_14_a_minibatch_score_is_shrunk_towards_the_parents_value() -> None:
    generations = await run(search_over(TOY, MINIBATCH, reward=NOISY))
    evaluations: list[Evaluation] = []
    for number, generation in enumerate(generations[:3]):
        evaluations += [r.evaluation for p in generation.particles for r in p.rollouts]
        variance = reward_variance(evaluations)
        means = [
            sum(r.evaluation.mean for r in particle.rollouts) / 2
            for particle in generation.particles
        ]
        for particle, mean in zip(generation.particles, means, strict=True):
            noise = sum(r.evaluation.noise() for r in particle.rollouts) / 4
            parent = (
                sum(means) / 6
                if number == 0
                else generations[number - 1].particles[particle.ancestor].value
            )
            assert particle.value == approx(shrink(mean, noise, parent, variance))
            assert particle.score == approx(3.0 * particle.value)


async def test_decision_14_the_last_rounds_score_is_the_full_reward_unshrunk() -> None:
    last = (await run(search_over(TOY, MINIBATCH, reward=NOISY)))[-1]
    for particle in last.particles:
        full = NOISY.full(particle.prefix.workflow_id)
        assert particle.score == approx(3.0 * full)
        assert particle.value == approx(full)


# --- what a search depends on -----------------------------------------------------------------


@pytest.mark.parametrize("refinement", ["inject", "archive"])
async def test_results_do_not_depend_on_the_order_of_completion(refinement: str) -> None:
    options = replace(
        MINIBATCH, refinements=2, refinement="inject" if refinement == "inject" else "archive"
    )
    refiner = GrammarRefiner(TOY.grammar, 0)
    plain = await run(search_over(TOY, options, reward=NOISY, refiner=refiner))
    for seed in range(5):
        order = random.Random(seed)
        shuffled = await run(
            search_over(
                TOY,
                options,
                prior=ShuffledPrior(GrammarPrior(TOY.grammar, 0), order),
                reward=ShuffledReward(NOISY, order),
                refiner=refiner,
            )
        )
        assert shuffled == plain


async def test_a_search_that_is_iterated_again_repeats_itself() -> None:
    options = replace(MINIBATCH, refinements=2)
    search = search_over(TOY, options, reward=NOISY, refiner=GrammarRefiner(TOY.grammar, 0))

    assert await run(search) == await run(search)


async def test_another_seed_is_another_search() -> None:
    assert await run(search_over(TOY, PLAIN, 1)) != await run(search_over(TOY, PLAIN, 2))


async def test_a_rounds_draws_are_all_under_way_at_once() -> None:
    """Each draw waits until all six of the round have begun: a sequential engine would hang."""
    prior = _Meeting(GrammarPrior(TOY.grammar, 0), asyncio.Barrier(6))
    async with asyncio.timeout(20):
        generations = await run(search_over(TOY, replace(PLAIN, rollouts=1), prior=prior))

    assert len(generations) == 4


class _Meeting(CountingPrior):
    def __init__(self, inner: GrammarPrior, barrier: asyncio.Barrier) -> None:
        super().__init__(inner)
        self.barrier = barrier

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        await self.barrier.wait()
        return await super().extend(prefix, key)


async def test_a_workflow_that_does_not_run_is_data_and_scores_zero() -> None:
    failures = {leaf.workflow.workflow_id: "NameError" for leaf in TOY.leaves}
    reward = TableReward({}, rows=4, failures=failures)
    generations = await run(search_over(TOY, replace(PLAIN, minibatch=2), reward=reward))

    assert len(generations) == 4
    for particle in generations[-1].particles:
        assert particle.score == 0
        assert particle.rollouts[0].evaluation.failure == "NameError"


async def test_one_particle_and_one_round_are_a_draw_from_the_prior() -> None:
    options = replace(PLAIN, particles=1, rounds=1)
    (generation,) = await run(search_over(TOY, options))
    (particle,) = generation.particles

    assert word_of(particle.prefix) in {word_of(leaf.workflow) for leaf in TOY.leaves}
    assert generation.effective_sample_size == approx(1.0)
