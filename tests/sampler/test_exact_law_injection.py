"""Refined workflows among the particles, enumerated: clean lineages estimate Z exactly, all do not.

By how much all lineages together overrate Z is known in closed form. A refined workflow ŝ enters
the pool of round t with weight 1, as if the prior had drawn its first t steps, and stays properly
weighted for what the prior makes of them: E Ẑ(all) = Z + (M/N)·Σ_t<T mean of V(ŝ_1:t).
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import pytest

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.types import Candidate, DrawKey, Generation, Workflow
from fakes.approx import approx
from fakes.exact_laws import Enumeration, Handed, Measure, shipped, target
from fakes.search_ports import RowReward, ScriptedRefiner
from fakes.toys import Toy, make_toy

BETA = 2.0
TOY = make_toy("ab", 2, seed=6)
STOPPING = make_toy("ab", 2, seed=10, stop=True)
INJECT = SearchOptions(
    particles=2,
    refinements=2,
    rounds=2,
    inverse_temperature=BETA,
    minibatch=None,
    refinement="inject",
)
ARCHIVE = replace(INJECT, refinement="archive")
SCHEMES = pytest.mark.parametrize(
    "resampling", ["systematic", "stratified", "residual", "multinomial"]
)


def edits_of(toy: Toy, length: int) -> list[Workflow]:
    """The first two words of that length."""
    return [leaf.workflow for leaf in toy.leaves if len(leaf.workflow) == length][:2]


def best_of(toy: Toy) -> Workflow:
    return max(toy.leaves, key=lambda leaf: leaf.reward).workflow


@dataclass(frozen=True)
class BestOfPool:
    """Hands out the best workflow of the pool it is shown: as dependent on the scores as can be."""

    async def refine(self, pool: Sequence[Candidate], seen: Collection[str], key: DrawKey) -> Edit:
        best = max(pool, key=lambda candidate: candidate.evaluation.mean).workflow
        return Edit(best, best.workflow_id)


def all_lineages(generations: Sequence[Generation]) -> Measure:
    """The last round with refined lineages counted as if they were clean."""
    total: dict[str, float] = {}
    particles = generations[-1].particles
    for particle in particles:
        name = particle.rollouts[0].workflow.workflow_id
        weight = math.exp(particle.log_weight + particle.score)
        total[name] = total.get(name, 0.0) + weight / len(particles)
    return total


# --- clean lineages ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("pool_rounds", [False, True])
async def test_clean_lineages_divided_by_n_are_properly_weighted(
    monkeypatch: pytest.MonkeyPatch, length: int, pool_rounds: bool
) -> None:
    """Also where no clean lineage survives: that round counts as an estimate of zero."""
    extinct: set[bool] = set()
    edits = edits_of(STOPPING, length)
    case = Enumeration(STOPPING, INJECT, refiner=lambda: ScriptedRefiner(edits))

    def measure(generations: Sequence[Generation]) -> Measure:
        extinct.add(not any(particle.clean for particle in generations[-1].particles))
        return shipped(BETA, pool_rounds=pool_rounds)(generations)

    found = await case.expect(monkeypatch, measure)

    assert extinct == {True, False}
    assert found == approx(target(STOPPING, BETA), abs=1e-12)


@SCHEMES
async def test_a_refiner_that_goes_by_the_scores_bends_nothing(
    monkeypatch: pytest.MonkeyPatch, resampling: Resampling
) -> None:
    options = replace(INJECT, refinements=1, resampling=resampling)
    case = Enumeration(TOY, options, refiner=BestOfPool)

    found = await case.expect(monkeypatch, shipped(BETA, pool_rounds=True))

    assert found == approx(target(TOY, BETA), abs=1e-12)


@pytest.mark.parametrize("toy", [TOY, STOPPING], ids=["full words", "short words too"])
@pytest.mark.parametrize("floor", [0.3, 0.6])
async def test_holding_refined_lineages_back_moves_no_expectation(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, floor: float
) -> None:
    """At 0.3 some outcomes hold them back and others need not; at 0.6 all of them do."""
    held: set[bool] = set()
    best = best_of(toy)
    options = replace(INJECT, refinements=3, clean_floor=floor)
    case = Enumeration(toy, options, refiner=lambda: ScriptedRefiner([best]))

    def measure(generations: Sequence[Generation]) -> Measure:
        held.add(any("refined lineages get" in one.choice for one in generations[0].decisions))
        return shipped(BETA)(generations)

    found = await case.expect(monkeypatch, measure)

    assert held == ({True, False} if floor == 0.3 else {True})
    assert found == approx(target(toy, BETA), abs=1e-12)


async def test_the_floor_raises_the_share_of_clean_lineages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Expected clean particles of N=2, beside M=3 edits; from the floor on, exactly N·floor."""
    best = best_of(TOY)

    def clean(generations: Sequence[Generation]) -> Measure:
        return {"clean": sum(particle.clean for particle in generations[-1].particles)}

    shares: list[float] = []
    for floor in (0.0, 0.3, 0.6):
        options = replace(INJECT, refinements=3, clean_floor=floor)
        case = Enumeration(TOY, options, refiner=lambda: ScriptedRefiner([best]))
        shares.append((await case.expect(monkeypatch, clean))["clean"])

    assert shares == approx([0.71542539, 0.72280034, 1.2], abs=1e-8)


async def test_refined_workflows_that_a_minibatch_scores_bend_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = best_of(TOY)
    reward = RowReward(TOY.rewards, rows=5, seed=7)
    options = replace(INJECT, minibatch=2, clean_floor=0.3)
    case = Enumeration(TOY, options, reward, lambda: ScriptedRefiner([best]))

    found = await case.expect(monkeypatch, shipped(BETA, rows=5))

    full = {name: reward.full(name) for name in TOY.rewards}
    assert found == approx(target(TOY, BETA, full), abs=1e-12)


# --- all lineages -----------------------------------------------------------------------------


def closed_form(toy: Toy, options: SearchOptions, edits: Sequence[Workflow]) -> dict[str, float]:
    """Z·q plus what the edits bring: (1/N)·exp(β·R) of what the prior makes of their beginnings."""
    measure = target(toy, BETA)
    for number in range(1, options.rounds):
        for edit in edits:
            inside = {
                leaf.workflow.workflow_id: leaf.probability
                for leaf in toy.leaves
                if leaf.workflow.prefix(number) == edit.prefix(number)
            }
            mass = math.fsum(inside.values())
            for name, share in inside.items():
                weight = share / mass * math.exp(BETA * toy.rewards[name])
                measure[name] += weight / options.particles
    return measure


@pytest.mark.parametrize(
    ("toy", "refinements", "ratio"),
    [
        (TOY, 1, 1.58558872),
        (TOY, 2, 2.17117744),
        (STOPPING, 1, 1.84353752),
        (STOPPING, 2, 2.68707504),
    ],
)
async def test_all_lineages_overrate_z_by_what_the_refined_bring(
    monkeypatch: pytest.MonkeyPatch, toy: Toy, refinements: int, ratio: float
) -> None:
    """The negative control: with M = N = 2 edits of the best word Ẑ is twice Z and more."""
    edits = [best_of(toy)] * refinements
    options = replace(INJECT, refinements=refinements)
    case = Enumeration(toy, options, refiner=lambda: ScriptedRefiner(edits))

    found = await case.expect(monkeypatch, all_lineages)

    assert found == approx(closed_form(toy, options, edits), abs=1e-12)
    assert math.fsum(found.values()) / toy.evidence(BETA) == approx(ratio, abs=1e-8)


async def test_a_refined_workflow_does_not_give_its_own_end_away_as_a_rollout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its children go on as the prior does, so the closed form holds with recycling too."""
    edits = [best_of(TOY)]
    options = replace(INJECT, refinements=1, rollouts=2, recycle=True)
    case = Enumeration(TOY, options, refiner=lambda: ScriptedRefiner(edits))

    found = await case.expect(monkeypatch, all_lineages)

    assert found == approx(closed_form(TOY, options, edits), abs=1e-12)


# --- workflows from outside -------------------------------------------------------------------


@pytest.mark.parametrize("options", [ARCHIVE, INJECT], ids=["archived", "injected"])
@pytest.mark.parametrize("coherent", [True, False])
async def test_what_is_handed_in_or_there_from_the_start_bends_nothing(
    monkeypatch: pytest.MonkeyPatch, options: SearchOptions, coherent: bool
) -> None:
    """It competes as a refinement. Under a prior that is not coherent it may be selected too."""
    outside: set[str] = set()
    injected: set[int] = set()
    words = {leaf.workflow.workflow_id: leaf.workflow for leaf in STOPPING.leaves}
    first, second, *_ = sorted(words, key=lambda name: -STOPPING.rewards[name])
    case = Enumeration(
        STOPPING,
        replace(options, refinements=0),
        suggestions=Handed({1: [words[second]], 2: [words[first]]}),
        warm=[words[first]],
        coherent=coherent,
    )

    def measure(generations: Sequence[Generation]) -> Measure:
        outside.update(one.origin for g in generations for one in g.refinements)
        injected.add(len(generations[0].injected))
        return shipped(BETA)(generations)

    found = await case.expect(monkeypatch, measure)

    assert outside == {"warm", "submitted"}
    taken = options is INJECT and not coherent
    assert max(injected) == (2 if taken else 0)
    assert found == approx(target(STOPPING, BETA), abs=1e-12)


@pytest.mark.parametrize("pool_rounds", [False, True])
async def test_a_warm_workflow_that_the_prior_draws_too_counts_as_the_draw_alone(
    monkeypatch: pytest.MonkeyPatch, pool_rounds: bool
) -> None:
    """One entry of the archive, and the whole measure is that of a search without it."""
    warm = [leaf.workflow for leaf in STOPPING.leaves]
    case = Enumeration(STOPPING, replace(ARCHIVE, refinements=0), warm=warm)

    def measure(generations: Sequence[Generation]) -> Measure:
        archive = Archive(1)
        for generation in generations:
            archive.add(generation)
        assert len(archive.entries) == len(warm)
        return shipped(BETA, pool_rounds=pool_rounds)(generations)

    found = await case.expect(monkeypatch, measure)

    assert found == approx(target(STOPPING, BETA), abs=1e-12)
