"""The shipped engine, run once for every outcome of all its randomness.

With N=2 particles, T=2 rounds and two symbols every draw of the prior and every outcome of the
resampling is enumerated, so that expectations are exact: E[Ẑ·q̂(s)] = p(s)·exp(β·R(s)) to rounding
for exact weighting, whatever steers the selection, and visibly not so for the biased variants.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler import selection
from bayesflow_sampler.archive import Archive
from bayesflow_sampler.grammar import PREAMBLE, Grammar
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Reward
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.types import DrawKey, Generation, Workflow
from fakes.approx import approx
from fakes.enumeration import Tape, enumerated_resample, every_tape
from fakes.search_ports import RowReward, ScriptedRefiner
from fakes.searches import run, search_over
from fakes.toys import Toy, make_toy

BETA = 2.0
TOY = make_toy("ab", 2, seed=6)
STOPPING = make_toy("ab", 2, seed=10, stop=True)
EXACT = SearchOptions(
    particles=2, refinements=0, rounds=2, inverse_temperature=BETA, minibatch=None
)

Measure = Mapping[str, float]


@dataclass(frozen=True)
class TapePrior:
    """The grammar, with every choice read from a tape."""

    grammar: Grammar
    tape: Tape
    coherent: bool = True

    @property
    def root(self) -> Workflow:
        return Workflow(PREAMBLE, ())

    async def extend(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return self._finish(prefix)

    async def complete(self, prefix: Workflow, key: DrawKey) -> Workflow:
        return self._finish(prefix)

    def _finish(self, prefix: Workflow) -> Workflow:
        steps, state = prefix.steps, self.grammar.state_after(prefix.steps)
        while state is not None:
            choices = self.grammar.productions[state]
            choice = choices[self.tape.choose([choice.probability for choice in choices])]
            steps, state = (*steps, choice.step), choice.next
        return Workflow(PREAMBLE, steps)


async def expected(
    monkeypatch: pytest.MonkeyPatch,
    toy: Toy,
    options: SearchOptions,
    measure: Callable[[Sequence[Generation]], Measure],
    *,
    reward: Reward | None = None,
    edits: Sequence[Workflow] = (),
) -> Measure:
    """E of a measure on workflows over all randomness of the engine."""
    total: dict[str, float] = {}
    mass = 0.0
    for tape in every_tape():
        monkeypatch.setattr(selection, "resample", enumerated_resample(tape))
        search = search_over(
            toy,
            options,
            prior=TapePrior(toy.grammar, tape),
            reward=reward,
            refiner=ScriptedRefiner(edits),
        )
        for name, weight in measure(await run(search)).items():
            total[name] = total.get(name, 0.0) + tape.probability * weight
        mass += tape.probability
    assert mass == approx(1.0, abs=1e-12)
    return total


def shipped(
    *, rows: int = 1, pool_rounds: bool = False
) -> Callable[[Sequence[Generation]], Measure]:
    """Ẑ·q̂ as the shipped archive reports them; no posterior counts as zero."""

    def measure(generations: Sequence[Generation]) -> Measure:
        archive = Archive(rows, pool_rounds=pool_rounds)
        for generation in generations:
            archive.add(generation)
        posterior = archive.posterior(BETA)
        if posterior is None:
            return {}
        evidence = math.exp(posterior.log_evidence)
        return {name: evidence * share for name, share in posterior.probability.items()}

    return measure


def all_lineages(generations: Sequence[Generation]) -> Measure:
    """The last round with refined lineages counted as if they were clean."""
    last = generations[-1]
    total: dict[str, float] = {}
    for particle in last.particles:
        (rollout,) = particle.rollouts
        weight = math.exp(particle.log_weight + BETA * rollout.evaluation.mean)
        name = rollout.workflow.workflow_id
        total[name] = total.get(name, 0.0) + weight / len(last.particles)
    return total


def target(toy: Toy, rewards: Mapping[str, float] | None = None) -> Measure:
    """p(s)·exp(β·R(s)), whose sum is Z."""
    rewards = rewards or toy.rewards
    return {
        leaf.workflow.workflow_id: leaf.probability
        * math.exp(BETA * rewards[leaf.workflow.workflow_id])
        for leaf in toy.leaves
    }


@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "words that stop early"])
@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
@pytest.mark.parametrize("rollouts", [1, 2])
async def test_exact_weighting_is_properly_weighted_to_rounding(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, resampling: Resampling, rollouts: int
) -> None:
    options = replace(EXACT, resampling=resampling, rollouts=rollouts)

    assert await expected(monkeypatch, toy, options, shipped()) == approx(target(toy), abs=1e-12)


@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "words that stop early"])
async def test_pooled_rounds_are_properly_weighted_too(
    monkeypatch: pytest.MonkeyPatch, toy: Toy
) -> None:
    options = replace(EXACT, rollouts=1 if toy is STOPPING else 2)
    pooled = await expected(monkeypatch, toy, options, shipped(pool_rounds=True))

    assert pooled == approx(target(toy), abs=1e-12)


@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "words that stop early"])
async def test_paper_weighting_is_not(monkeypatch: pytest.MonkeyPatch, toy: Toy) -> None:
    """The negative control: Algorithm 1 as printed overrates Z."""
    options = replace(EXACT, weighting="paper")
    found = await expected(monkeypatch, toy, options, shipped())

    assert sum(found.values()) > 1.01 * toy.evidence(BETA)


async def test_minibatch_scores_steer_without_moving_any_expectation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows disagree, the first round sees two of five and shrinks them; the last sees all."""
    reward = RowReward(TOY.rewards, rows=5, seed=1)
    options = replace(EXACT, minibatch=2, rollouts=2)
    found = await expected(monkeypatch, TOY, options, shipped(rows=5), reward=reward)
    full = {name: reward.full(name) for name in TOY.rewards}

    assert found == approx(target(TOY, full), abs=1e-12)


@pytest.mark.parametrize("edited", ["full", "short"])
@pytest.mark.parametrize("pool_rounds", [False, True])
async def test_clean_lineages_divided_by_n_are_properly_weighted_under_injection(
    monkeypatch: pytest.MonkeyPatch, edited: str, pool_rounds: bool
) -> None:
    """Also where no clean lineage survives: that round counts as an estimate of zero."""
    lengths = {"full": 2, "short": 1}
    edits = [leaf.workflow for leaf in STOPPING.leaves if len(leaf.workflow) == lengths[edited]][:2]
    options = replace(EXACT, refinement="inject", refinements=2)
    found = await expected(
        monkeypatch, STOPPING, options, shipped(pool_rounds=pool_rounds), edits=edits
    )

    assert found == approx(target(STOPPING), abs=1e-12)


async def test_all_lineages_together_overrate_z_under_injection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The negative control."""
    best = max(TOY.leaves, key=lambda leaf: leaf.reward).workflow
    options = replace(EXACT, refinement="inject", refinements=2)
    found = await expected(monkeypatch, TOY, options, all_lineages, edits=[best, best])

    assert sum(found.values()) > 1.3 * TOY.evidence(BETA)
