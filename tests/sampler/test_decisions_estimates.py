"""Decisions 13-16 where the paper is silent: β, minibatches, the archive and the final pick."""

import itertools
import math
import statistics
from collections.abc import Mapping
from dataclasses import replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import choose
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, Evaluation, Generation, RowSet, Workflow
from bayesflow_sampler.weights import effective_sample_size
from fakes.approx import approx
from fakes.search_ports import RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import Toy, make_toy, workflow_of

TOY = make_toy("abc", 4, seed=3)
AUTO = SearchOptions(
    particles=10, refinements=0, rounds=5, inverse_temperature=None, minibatch=None
)


def scaled(toy: Toy, spread: float) -> dict[str, float]:
    """Its rewards, closer to a half or further away from it."""
    return {name: 0.5 + spread * (reward - 0.5) for name, reward in toy.rewards.items()}


def rewards_of(generation: Generation) -> list[float]:
    return [c.evaluation.mean for p in generation.particles for c in p.rollouts]


# --- 13: beta -----------------------------------------------------------------------------------


async def test_decision_13_beta_leaves_half_the_first_rounds_sample_and_then_stays() -> None:
    reward = TableReward(scaled(TOY, 0.2))
    first, *later = await run(search_over(TOY, AUTO, reward=reward))
    beta = first.inverse_temperature

    assert 1 < beta < 50
    assert effective_sample_size([beta * r for r in rewards_of(first)]) == approx(5.0, abs=1e-6)
    assert [p.score for p in first.particles] == approx([beta * r for r in rewards_of(first)])
    assert {generation.inverse_temperature for generation in later} == {beta}


@pytest.mark.parametrize(("spread", "beta"), [(0.01, 50.0), (400.0, 1.0)])
async def test_decision_13_beta_is_clipped_to_1_and_50(spread: float, beta: float) -> None:
    reward = TableReward(scaled(TOY, spread))
    (first, *_) = await run(search_over(TOY, AUTO, reward=reward))

    assert first.inverse_temperature == beta
    assert effective_sample_size([beta * r for r in rewards_of(first)]) != approx(5.0, abs=0.1)


class Awakening(TableReward):
    """All are worth the same until the given round's scores are asked for the first time."""

    def __init__(self, wakes_after: int) -> None:
        super().__init__(scaled(TOY, 0.2), rows=6)
        self.wakes_after = wakes_after

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        evaluation = await super().score(workflow, rows)
        if len(self.asked) > self.wakes_after:
            return evaluation
        return replace(evaluation, scores=(0.5,) * len(rows.positions))


@pytest.mark.parametrize(
    ("flat_rounds", "full"),
    [
        (0, [True] + [False] * 3 + [True]),
        (2, [True] * 3 + [False, True]),
        (9, [True] * 3 + [False, True]),
    ],
)
async def test_decision_13_without_spread_it_is_tried_again_twice_on_all_rows(
    flat_rounds: int, full: list[bool]
) -> None:
    reward = Awakening(10 * flat_rounds)
    generations = await run(search_over(TOY, replace(AUTO, minibatch=2), reward=reward))
    betas = [generation.inverse_temperature for generation in generations]

    assert [generation.fully_scored for generation in generations] == full
    assert betas[:flat_rounds] == [1.0] * min(flat_rounds, 5)
    assert len(set(betas[flat_rounds:])) <= 1
    assert (betas[-1] > 1) == (flat_rounds < 3)


async def test_decision_13_only_clean_rollouts_fit_beta() -> None:
    """Prior draws are all alike; two edits that differ take the particles over."""
    edits = [workflow_of("x"), workflow_of("y")]
    rewards = dict.fromkeys(TOY.rewards, 0.5)
    reward = TableReward({**rewards, edits[0].workflow_id: 9.0, edits[1].workflow_id: 9.5})
    options = replace(AUTO, refinements=2, refinement="inject")
    _, second, *_ = generations = await run(
        search_over(TOY, options, reward=reward, refiner=ScriptedRefiner(edits))
    )

    assert {9.0, 9.5} == set(rewards_of(second))
    assert {generation.inverse_temperature for generation in generations} == {1.0}


async def test_decision_13_a_fitted_beta_is_labelled_and_a_given_one_is_too() -> None:
    reward = TableReward(scaled(TOY, 0.2))
    fitted = (await run(search_over(TOY, AUTO, reward=reward)))[0].decisions
    fixed = replace(AUTO, inverse_temperature=4.0)
    given = (await run(search_over(TOY, fixed, reward=reward)))[0].decisions

    assert [d.choice.startswith("beta = ") for d in (*fitted, *given)] == [True, True]
    assert "consistent, not unbiased" in fitted[0].guarantee
    assert given[0].choice == "beta = 4"
    assert "not unbiased" not in given[0].guarantee


async def test_decision_13_a_stop_that_depended_on_the_rewards_claims_no_unbiasedness() -> None:
    options = replace(AUTO, tolerance=1.0)
    (only,) = await run(search_over(TOY, options, reward=TableReward(TOY.rewards)))

    assert only.last
    assert "not claimed to be unbiased" in only.decisions[-1].guarantee


# --- 14: minibatches ----------------------------------------------------------------------------

NOISY = RowReward(TOY.rewards, rows=24)
MINIBATCH = replace(AUTO, rollouts=2, rounds=4, inverse_temperature=6.0, minibatch=8)


async def minibatches(options: SearchOptions = MINIBATCH) -> list[Generation]:
    return await run(search_over(TOY, options, 2, reward=NOISY))


async def test_decision_14_all_particles_of_a_round_see_the_same_rows_and_each_round_new_ones() -> (
    None
):
    *earlier, last = await minibatches()
    for generation in (*earlier, last):
        rows = {c.evaluation.rows for p in generation.particles for c in p.rollouts}
        assert rows == {generation.rows}
    hands = [set(generation.rows.positions) for generation in earlier]

    assert [len(hand) for hand in hands] == [8] * 3
    assert {position for hand in hands for position in hand} == set(range(24))
    assert last.rows.positions == tuple(range(24))


def variance_of(evaluations: list[Evaluation]) -> float:
    """s² by hand: the variance of the means, less what their own rows account for."""
    noise = statistics.fmean(one.noise() for one in evaluations)
    return max(statistics.variance(one.mean for one in evaluations) - noise, 1e-4)


async def test_decision_14_noise_does_not_select() -> None:
    """β·(λR̂ + (1−λ)·parent), λ = s²/(s² + v/n); the first round shrinks to the pool's mean."""
    so_far: list[Evaluation] = []
    carried: list[float] = []
    shares: list[float] = []
    for generation in (await minibatches())[:-1]:
        drawn = [[c.evaluation for c in p.rollouts] for p in generation.particles]
        so_far += itertools.chain.from_iterable(drawn)
        variance = variance_of(so_far)
        means = [statistics.fmean(one.mean for one in each) for each in drawn]
        values: list[float] = []
        for particle, each, mean in zip(generation.particles, drawn, means, strict=True):
            noise = sum(one.noise() for one in each) / len(each) ** 2
            share = variance / (variance + noise)
            towards = carried[particle.ancestor] if carried else statistics.fmean(means)
            values.append(share * mean + (1 - share) * towards)
            shares.append(share)
            assert particle.score == approx(6.0 * values[-1])
        carried = values

    assert 0.2 < statistics.fmean(shares) < 0.8


async def test_decision_14_where_rewards_differ_by_noise_alone_the_scores_are_all_but_flat() -> (
    None
):
    wide = make_toy("abcdefg", 3, seed=1)
    level = RowReward(dict.fromkeys(wide.rewards, 0.5), rows=400, seed=3)
    options = replace(MINIBATCH, particles=60, rollouts=1, minibatch=6)
    for generation in (await run(search_over(wide, options, reward=level)))[:-1]:
        means = rewards_of(generation)
        scores = [particle.score for particle in generation.particles]
        assert max(means) - min(means) > 0.3
        assert max(scores) - min(scores) < 0.4 * 6.0 * (max(means) - min(means))


async def test_decision_14_the_last_rounds_reward_is_the_full_one_unshrunk() -> None:
    last = (await minibatches())[-1]

    assert last.fully_scored
    for particle in last.particles:
        assert particle.score == approx(6.0 * NOISY.full(particle.prefix.workflow_id))


async def test_decision_14_a_workflow_enters_estimates_with_its_full_score_or_not_at_all() -> None:
    archive = Archive(24)
    generations = await minibatches()
    for generation in generations:
        archive.add(generation)
    last = generations[-1].particles
    partly = {n for n, e in archive.entries.items() if len(e.scores) < 24}
    posterior = archive.posterior(6.0)

    assert posterior is not None
    assert partly
    assert posterior.rounds == (4,)
    assert set(posterior.probability) == {particle.prefix.workflow_id for particle in last}
    weights = [math.exp(p.log_weight + 6.0 * NOISY.full(p.prefix.workflow_id)) / 10 for p in last]
    assert math.exp(posterior.log_evidence) == approx(sum(weights))


async def test_decision_14_a_round_counts_by_its_plan_and_not_because_of_its_rewards() -> None:
    """To pool whatever turns out to be fully scored would choose rounds by their rewards."""
    everything = RowSet("validation", tuple(range(24)))
    for beta, rounds in ((6.0, (4,)), (None, (1, 4))):
        archive = Archive(24)
        generations = await minibatches(replace(MINIBATCH, inverse_temperature=beta))
        for generation in generations:
            archive.add(generation)
            assert generation.counts == (generation.round in rounds)
        before = archive.posterior(6.0)
        for entry in list(archive.entries.values()):
            archive.add_evaluation(await NOISY.score(entry.workflow, everything))
        after = archive.posterior(6.0)
        assert before is not None
        assert before == after
        assert before.rounds == rounds


# --- 15: the archive ----------------------------------------------------------------------------

FULL = replace(AUTO, rollouts=3, inverse_temperature=3.0, refinements=1)


async def archived(*, pooled: bool = True) -> tuple[Archive, list[Generation]]:
    refiner = GrammarRefiner(TOY.grammar, 0)
    generations = await run(search_over(TOY, FULL, 1, refiner=refiner))
    archive = Archive(1, pool_rounds=pooled)
    for generation in generations:
        archive.add(generation)
    return archive, generations


def by_hand(generations: list[Generation], beta: float) -> dict[str, float]:
    """Σ exp(ℓ)·exp(βR)/(N·K) of each workflow over the rounds' rollouts, a mean over rounds."""
    total: dict[str, float] = {}
    for generation in generations:
        for particle in generation.particles:
            for rollout in particle.rollouts:
                name = rollout.workflow.workflow_id
                weight = math.exp(particle.log_weight + beta * TOY.rewards[name])
                share = weight / (10 * len(particle.rollouts) * len(generations))
                total[name] = total.get(name, 0.0) + share
    return total


@pytest.mark.parametrize("beta", [3.0, 0.5, 12.0])
async def test_decision_15_every_rounds_rollouts_weigh_exactly_at_any_beta_without_a_call(
    beta: float,
) -> None:
    archive, generations = await archived()
    posterior = archive.posterior(beta)
    expected = by_hand(generations, beta)
    evidence = sum(expected.values())

    assert posterior is not None
    assert posterior.rounds == (1, 2, 3, 4, 5)
    assert math.exp(posterior.log_evidence) == approx(evidence)
    assert posterior.probability == approx({n: w / evidence for n, w in expected.items()})


async def test_decision_15_where_the_prior_is_not_coherent_the_last_round_counts_alone() -> None:
    archive, generations = await archived(pooled=False)
    posterior = archive.posterior(3.0)
    expected = by_hand(generations[-1:], 3.0)
    evidence = sum(expected.values())

    assert posterior is not None
    assert posterior.rounds == (5,)
    assert math.exp(posterior.log_evidence) == approx(evidence)
    assert posterior.probability == approx({n: w / evidence for n, w in expected.items()})


# --- 16: the final answer -----------------------------------------------------------------------

WORDS = [f"{a}{b}" for a in "abcdef" for b in "uvw"]
NAMES = {word: workflow_of(word).workflow_id for word in WORDS}
# So near to each other that no row tells them apart for certain.
RISING = {word: 0.4 + place / 400 for place, word in enumerate(WORDS)}


class TwoSplits(TableReward):
    """Another reward on the selection rows than on those of validation."""

    def __init__(self, selection: Mapping[str, float], rows: int = 10) -> None:
        rewards = {NAMES[word]: reward for word, reward in RISING.items()}
        super().__init__(rewards, rows=rows, selection_rows=20)
        self.luck = {NAMES[word]: reward for word, reward in selection.items()}

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        evaluation = await super().score(workflow, rows)
        if rows.split == "selection":
            reward = self.luck[workflow.workflow_id]
            return replace(evaluation, scores=(reward,) * len(rows.positions))
        return evaluation

    def scored(self, split: str) -> set[str]:
        return {name for name, rows in self.asked if rows.split == split}


def seen(rewards: Mapping[str, float], rows: int = 4) -> Archive:
    """A search's workflows, every second one a refinement."""
    archive = Archive(10)
    for place, (word, reward) in enumerate(rewards.items()):
        positions = RowSet("validation", tuple(range(rows)))
        evaluation = Evaluation(NAMES[word], positions, (reward,) * rows)
        refined = place % 2 == 1
        archive.add_candidate(
            Candidate(
                workflow_of(word),
                evaluation,
                1,
                "refined" if refined else "prior",
                clean=not refined,
            )
        )
    return archive


async def test_decision_16_the_ten_best_of_all_are_completed_and_the_five_best_rescored() -> None:
    reward = TwoSplits(RISING)
    archive = seen(RISING)
    finalists = await choose(archive, reward)

    assert reward.scored("validation") == {NAMES[word] for word in WORDS[-10:]}
    assert reward.scored("selection") == {NAMES[word] for word in WORDS[-5:]}
    assert all(len(rows.positions) == reward.size(rows.split) for _, rows in reward.asked)
    assert {f.workflow.workflow_id for f in finalists} == reward.scored("selection")
    assert all(archive.full_reward(NAMES[word]) is not None for word in WORDS[-10:])
    assert reward.scored("test") == set()


async def test_decision_16_the_winner_is_the_best_by_its_pooled_score() -> None:
    """ "fu" loses on validation and wins over all rows; "fw" is the other way round."""
    reward = TwoSplits({**RISING, "fw": 0.2, "fu": 0.9})
    finalists = await choose(seen(RISING), reward)

    assert finalists[0].workflow == workflow_of("fu")
    assert finalists[-1].workflow == workflow_of("fw")
    for finalist in finalists:
        assert finalist.selection is not None
        rows = [*finalist.validation.scores, *finalist.selection.scores]
        assert finalist.pooled == approx(statistics.fmean(rows))


async def test_decision_16_few_rows_of_luck_do_not_reach_the_final() -> None:
    """Shrunk, not raw: five right of six say less than eighty of a hundred."""
    right = {**dict.fromkeys(WORDS[:3], 50), **dict.fromkeys(WORDS[3:13], 80), "fw": 5}
    archive = Archive(100)
    for word, count in right.items():
        rows = RowSet("validation", tuple(range(6 if word == "fw" else 100)))
        scores = tuple(float(row < count) for row in rows.positions)
        evaluation = Evaluation(NAMES[word], rows, scores)
        archive.add_candidate(Candidate(workflow_of(word), evaluation, 1, "prior"))
    reward = TwoSplits(dict.fromkeys(RISING, 0.8), rows=100)
    await choose(archive, reward)

    assert reward.scored("validation") == {NAMES[word] for word in WORDS[3:13]}
