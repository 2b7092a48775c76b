"""Rewards at the edge: NaN and +inf are refused, -inf is a weight of zero wherever it goes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.diagnostics import summarise
from bayesflow_sampler.errors import RewardError, WeightError
from bayesflow_sampler.final_pick import choose, shrunk_rewards
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.shrinkage import reward_variance, shrink
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Evaluation, Generation, RowSet, Workflow
from fakes.approx import approx
from fakes.search_ports import RowReward, ScriptedRefiner, TableReward
from fakes.searches import run, search_over
from fakes.toys import make_toy, workflow_of

INF, NAN = math.inf, math.nan
TOY = make_toy("ab", 3, seed=2)
LEAVES = sorted(TOY.leaves, key=lambda leaf: -leaf.probability)
IDS = [leaf.workflow.workflow_id for leaf in LEAVES]
FOREIGN = workflow_of("xyz")
OPTIONS = SearchOptions(
    particles=8, rollouts=2, refinements=2, rounds=3, inverse_temperature=2.0, minibatch=None
)
VARIANTS = [
    OPTIONS,
    replace(OPTIONS, minibatch=3),
    replace(OPTIONS, refinement="inject"),
    replace(OPTIONS, refinement="inject", minibatch=3, clean_floor=0.5),
    replace(OPTIONS, weighting="paper", refinement="inject", resampling="multinomial"),
    replace(OPTIONS, inverse_temperature=None),
    replace(OPTIONS, tempering=0.5),
    replace(OPTIONS, ess_threshold=0.5),
    replace(OPTIONS, recycle=True, minibatch=3),
    replace(OPTIONS, tolerance=0.01, minibatch=3),
    replace(OPTIONS, lookahead=False),
]


def named(options: SearchOptions) -> str:
    plain = [(name, getattr(OPTIONS, name)) for name in options.__dataclass_fields__]
    return " ".join(
        f"{name}={getattr(options, name)}"
        for name, value in plain
        if getattr(options, name) != value
    )


@dataclass
class HolyReward(RowReward):
    """Some workflows score -inf on every row."""

    lost: frozenset[str] = frozenset()

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        if workflow.workflow_id in self.lost:
            return Evaluation(workflow.workflow_id, rows, (-INF,) * len(rows.positions))
        return await super().score(workflow, rows)


def holy(lost: int) -> HolyReward:
    return HolyReward(TOY.rewards, rows=6, lost=frozenset(IDS[:lost]))


def search(options: SearchOptions, reward: RowReward | TableReward) -> Search:
    return search_over(TOY, options, reward=reward, refiner=GrammarRefiner(TOY.grammar, 0))


# --- NaN and +inf -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("options", VARIANTS, ids=named)
async def test_a_reward_that_makes_no_weight_is_refused_by_name(
    options: SearchOptions, bad: float
) -> None:
    reward = TableReward(dict.fromkeys(TOY.rewards, bad), rows=6)
    with pytest.raises(ExceptionGroup) as ended:
        await run(search(options, reward))

    assert refused(ended.value) <= {
        f"The reward of workflow {name} is {bad}; a reward must be a finite number, or -inf for a "
        "weight of zero. Mend the scorer."
        for name in TOY.rewards
    }


def refused(group: BaseExceptionGroup[BaseException]) -> set[str]:
    """What the errors say, all of them RewardErrors, at least one."""
    said: set[str] = set()
    for error in group.exceptions:
        assert isinstance(error, RewardError)
        said.add(str(error))
    assert said
    return said


@dataclass
class OneBadRow(RowReward):
    """One workflow has one row that no mean can be made of; other rows may hide it."""

    bad: Mapping[str, tuple[float, ...]] = field(default_factory=dict[str, tuple[float, ...]])

    def size(self, split: str) -> int:
        return self.rows if split in ("validation", "selection") else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        found = self.bad.get(workflow.workflow_id)
        if found is not None:
            return Evaluation(workflow.workflow_id, rows, found[: len(rows.positions)])
        return await super().score(workflow, rows)


@pytest.mark.parametrize("scores", [(0.0, NAN), (-INF, INF), (INF, -INF), (-INF, NAN), (1.0, INF)])
async def test_one_bad_row_of_an_edit_is_refused(scores: tuple[float, ...]) -> None:
    reward = OneBadRow(TOY.rewards, rows=2, bad={FOREIGN.workflow_id: scores})
    made = search_over(TOY, OPTIONS, reward=reward, refiner=ScriptedRefiner([FOREIGN]))
    with pytest.raises(ExceptionGroup) as ended:
        await run(made)

    (said,) = refused(ended.value)
    assert FOREIGN.workflow_id in said


async def test_a_bad_row_of_the_selection_split_is_refused_in_the_final_pick() -> None:
    archive = Archive(6)
    for generation in await run(search(OPTIONS, RowReward(TOY.rewards, rows=6))):
        archive.add(generation)
    best = max(shrunk_rewards(archive).items(), key=lambda item: item[1])[0]
    bad = OneBadRow(TOY.rewards, rows=6, bad={best: (1.0, 1.0, 1.0, NAN, 1.0, 1.0)})
    with pytest.raises(ExceptionGroup) as ended:
        await choose(archive, bad)

    (said,) = refused(ended.value)
    assert best in said


# --- every reward -inf ------------------------------------------------------------------------


@pytest.mark.parametrize("options", VARIANTS, ids=named)
async def test_where_every_reward_is_minus_infinity_the_search_says_so(
    options: SearchOptions,
) -> None:
    reward = TableReward(dict.fromkeys(TOY.rewards, -INF), rows=6)
    with pytest.raises(ExceptionGroup) as ended:
        await run(search(options, reward))

    only = ended.value.exceptions
    assert [type(error) for error in only] == [WeightError]
    assert str(only[0]) == (
        "No particle of round 1 has a weight above zero: every reward is -inf, so there is "
        "nothing to select from. Give rewards that are finite for some workflow."
    )


# --- some rewards -inf ------------------------------------------------------------------------


def rollouts_of(generation: Generation) -> list[tuple[str, float]]:
    return [
        (rollout.workflow.workflow_id, rollout.evaluation.mean)
        for particle in generation.particles
        for rollout in particle.rollouts
    ]


@pytest.mark.parametrize("options", VARIANTS, ids=named)
@pytest.mark.parametrize("lost", [2, 4])
async def test_a_search_goes_on_with_what_has_a_weight(options: SearchOptions, lost: int) -> None:
    """Whatever becomes of a reward of -inf on its way, no NaN comes of it."""
    generations = await run(search(options, holy(lost)))
    seen = [pair for generation in generations for pair in rollouts_of(generation)]
    assert any(mean == -INF for _, mean in seen)

    for generation in generations:
        for entry in (*generation.particles, *generation.injected):
            assert not math.isnan(entry.score)
            assert not math.isnan(entry.value)
            assert math.isfinite(entry.log_weight)
            alive = any(rollout.evaluation.mean > -INF for rollout in entry.rollouts)
            assert math.isfinite(entry.score) == math.isfinite(entry.value) == alive
        assert 1 <= generation.effective_sample_size <= 8 + 1e-9


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, minibatch=3)], ids=named)
async def test_a_whole_workflow_without_a_weight_has_no_children(options: SearchOptions) -> None:
    toy = make_toy("ab", 3, seed=5, stop=True)
    early = frozenset(leaf.workflow.workflow_id for leaf in toy.leaves if len(leaf.workflow) == 1)
    reward = HolyReward(toy.rewards, rows=6, lost=early)
    options = replace(options, particles=40, refinements=0)
    generations = await run(search_over(toy, options, reward=reward))
    whole = [
        index
        for index, particle in enumerate(generations[0].particles)
        if particle.terminal and particle.rollouts[0].workflow.workflow_id in early
    ]

    assert whole
    assert not set(whole) & set(generations[0].ancestors)


async def test_a_rollout_of_weight_zero_counts_as_zero_in_the_score_and_not_in_the_value() -> None:
    mixed = 0
    for generation in await run(search(OPTIONS, holy(4))):
        for particle in generation.particles:
            finite = [
                rollout.evaluation.mean
                for rollout in particle.rollouts
                if rollout.evaluation.mean > -INF
            ]
            if not finite:
                continue
            mixed += len(finite) < len(particle.rollouts)
            share = sum(math.exp(2 * mean) for mean in finite) / len(particle.rollouts)
            assert particle.score == approx(math.log(share))
            assert particle.value == approx(sum(finite) / len(finite))
    assert mixed


async def test_on_a_minibatch_too_the_score_shrinks_the_finite_and_counts_the_rest_as_zero() -> (
    None
):
    options = replace(OPTIONS, minibatch=3, refinements=0)
    first = (await run(search(options, holy(4))))[0]
    evaluations = [r.evaluation for p in first.particles for r in p.rollouts]
    variance = reward_variance(evaluations)
    finite = [
        [r.evaluation for r in particle.rollouts if r.evaluation.mean > -INF]
        for particle in first.particles
    ]
    means = [sum(e.mean for e in some) / len(some) for some in finite if some]
    centre = sum(means) / len(means)
    mixed = 0
    for particle, some in zip(first.particles, finite, strict=True):
        if not some:
            assert particle.score == particle.value == -INF
            continue
        mixed += len(some) < 2
        mean = sum(e.mean for e in some) / len(some)
        noise = sum(e.noise() for e in some) / len(some) ** 2
        assert particle.value == approx(shrink(mean, noise, centre, variance))
        assert particle.score == approx(2 * particle.value + math.log(len(some) / 2))
    assert mixed


async def test_beta_is_fitted_to_the_finite_rewards() -> None:
    options = replace(OPTIONS, inverse_temperature=None, rollouts=1, particles=16, refinements=0)
    first = (await run(search(options, holy(3))))[0]
    finite = [mean for _, mean in rollouts_of(first) if mean > -INF]
    size = sum(math.exp(first.inverse_temperature * mean) for mean in finite) ** 2 / sum(
        math.exp(2 * first.inverse_temperature * mean) for mean in finite
    )

    assert len(finite) < 16
    assert size == approx(len(finite) / 2, abs=0.01)


async def test_finite_rewards_that_are_equal_leave_beta_open_whatever_is_lost() -> None:
    rewards = {name: -INF if name in IDS[:3] else 0.5 for name in IDS}
    options = replace(OPTIONS, inverse_temperature=None, refinements=0, rounds=4)
    generations = await run(search(options, TableReward(rewards, rows=6)))

    assert "beta stays 1" in generations[0].notes[0]
    assert {generation.inverse_temperature for generation in generations} == {1.0}


async def test_the_archive_gives_it_no_probability() -> None:
    archive = Archive(6)
    generations = await run(search(OPTIONS, holy(4)))
    for generation in generations:
        archive.add(generation)
    posterior = archive.posterior(2.0)

    assert posterior is not None
    assert math.isfinite(posterior.log_evidence)
    assert {name for name, share in posterior.probability.items() if share == 0} <= set(IDS[:4])
    assert all(posterior.probability.get(name, 0.0) == 0 for name in IDS[:4])
    assert math.fsum(posterior.probability.values()) == approx(1.0)


async def test_a_summary_shows_it() -> None:
    summaries = [summarise(generation) for generation in await run(search(OPTIONS, holy(4)))]

    assert summaries[0].minimum == summaries[0].mean == -INF
    assert all(summary.maximum > 0 for summary in summaries)


@pytest.mark.parametrize("lost", [2, 4])
async def test_the_final_pick_is_the_best_of_the_rest(lost: int) -> None:
    """One reward of -inf once pulled every other down with it, and the pick was by name."""
    reward = holy(lost)
    archive = Archive(6)
    for generation in await run(search(OPTIONS, reward)):
        archive.add(generation)
    shrunk = shrunk_rewards(archive)
    finalists = await choose(archive, reward)
    finite = {name: reward.full(name) for name in archive.entries if name not in reward.lost}

    assert {name for name, value in shrunk.items() if value == -INF} <= reward.lost
    assert not any(math.isnan(value) for value in shrunk.values())
    assert reward.full(finalists[0].workflow.workflow_id) == max(finite.values())
    assert not {finalist.workflow.workflow_id for finalist in finalists} & reward.lost


# --- no spread at all -------------------------------------------------------------------------


@pytest.mark.parametrize("options", VARIANTS, ids=named)
@pytest.mark.parametrize("level", [0.0, 0.5, 1.0, -3.0])
async def test_equal_rewards_select_nothing(options: SearchOptions, level: float) -> None:
    reward = TableReward(dict.fromkeys(TOY.rewards, level), rows=200)
    generations = await run(search(options, reward))

    for generation in generations:
        assert len({round(particle.score, 9) for particle in generation.particles}) == 1
        if options.refinement == "archive":
            assert generation.effective_sample_size == approx(8.0)
            assert all(abs(p.log_weight) < 1e-9 for p in generation.particles)
    if options.refinement == "archive":
        archive = Archive(200)
        for generation in generations:
            archive.add(generation)
        posterior = archive.posterior(2.0)
        assert posterior is not None
        assert posterior.log_evidence == approx(2.0 * level, abs=1e-9)
