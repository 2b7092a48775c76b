"""The paper's theorems on toys that can be enumerated: what holds, and what does not as printed.

| theorem | as printed | with the correction |
|---|---|---|
| 1, Algorithm 1 tends to q | no: to p(s)·Π_t V(s_1:t) | yes |
| 1, E_q[R] ≥ E_p[R] | yes | yes |
| 2, mixture with q | no: with p(s)·Π_t V(s_1:t) | yes, and E over finite N too |
| 2, drift at most Σ ε_k | no: selection stretches distances | TV(π_T, q) ≤ 1 − α instead |
| 3, q maximises E[R] − KL | yes | yes |

Limits for N → ∞ are those of `fakes.limits`, which only does a round's arithmetic.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.selection import Weighting
from bayesflow_sampler.types import Generation, Step
from fakes.approx import approx
from fakes.exact_laws import Enumeration, Measure, target, toy_of
from fakes.limits import (
    Law,
    divergence,
    flow,
    mean_reward,
    normalised,
    prior_law,
    total_variation,
    weighed,
)
from fakes.search_ports import ScriptedRefiner
from fakes.toys import Toy, make_toy

WORDS = make_toy("abc", 4, seed=3)
STOPPING = make_toy("ab", 4, seed=5, stop=True)
SMALL = make_toy("ab", 2, seed=6)


def random_toys() -> list[Toy]:
    """Sixty: 2 to 4 steps, with and without short words."""
    return [
        make_toy("ab", 2 + seed % 3, seed=seed, stop=stop)
        for seed in range(30)
        for stop in (False, True)
    ]


def random_law(names: Sequence[str], draw: random.Random) -> dict[str, float]:
    """From nearly even to nearly certain."""
    shape = draw.choice((0.05, 0.3, 1.0, 10.0))
    return normalised({name: draw.gammavariate(shape, 1.0) + 1e-300 for name in names})


# --- Theorem 3 --------------------------------------------------------------------------------


def objective(law: Law, prior: Law, rewards: Mapping[str, float], beta: float = 1.0) -> float:
    """J(q) = β·E_q[R] − KL(q ‖ p); the paper has β = 1."""
    return beta * mean_reward(law, rewards) - divergence(law, prior)


@pytest.mark.parametrize("toy", [WORDS, STOPPING], ids=["81 words", "short words too"])
@pytest.mark.parametrize("beta", [1.0, 5.0])
def test_theorem_3_q_alone_maximises_reward_less_divergence(toy: Toy, beta: float) -> None:
    """Theorem 3 (Appendix A): J(q) := E_q[R] − KL(q ‖ p) has the unique maximiser p·exp(R)/Z.

    It holds. The proof finds where J is stationary; what makes that the one maximum is the identity
    J(q) = log Z − KL(q ‖ q*), which is checked here for 300 random laws.
    """
    draw = random.Random(0)
    best, log_evidence = toy.posterior(beta), math.log(toy.evidence(beta))
    prior, rewards = prior_law(toy), toy.rewards

    assert objective(best, prior, rewards, beta) == approx(log_evidence, abs=1e-12)
    for _ in range(300):
        law = random_law(list(best), draw)
        lost = divergence(law, best)
        assert objective(law, prior, rewards, beta) == approx(log_evidence - lost, abs=1e-12)
        assert lost > 1e-3


def test_theorem_3_in_numbers() -> None:
    """J at q* is log Z; less at the prior, at what Algorithm 1 tends to, at the best word alone."""
    best = max(WORDS.leaves, key=lambda leaf: leaf.reward)
    certain = {best.workflow.workflow_id: 1.0}
    laws = [WORDS.posterior(1), prior_law(WORDS), WORDS.paper_limit(1, 4), certain]

    found = [objective(law, prior_law(WORDS), WORDS.rewards) for law in laws]

    assert found == approx([0.49038091, 0.45411860, 0.43604526, -6.42814353], abs=1e-8)
    assert found[0] == approx(math.log(WORDS.evidence(1)), abs=1e-12)
    assert found[3] == approx(best.reward + math.log(best.probability), abs=1e-12)


# --- Theorem 1: the reward --------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0, 30.0])
def test_theorem_1_the_posterior_expects_more_reward_than_the_prior(beta: float) -> None:
    """Theorem 1, second half: E_q[R] ≥ E_p[R]. It holds, and strictly so unless R is constant.

    β·(E_q[R] − E_p[R]) = KL(q ‖ p) + KL(p ‖ q), which is 0 for q = p alone.
    """
    for toy in random_toys():
        prior, posterior = prior_law(toy), toy.posterior(beta)
        rewards = toy.rewards
        gain = beta * (mean_reward(posterior, rewards) - mean_reward(prior, rewards))
        both = divergence(posterior, prior) + divergence(prior, posterior)

        assert gain == approx(both, abs=1e-12)
        assert gain > 0


@pytest.mark.parametrize("beta", [0.1, 1.0, 5.0, 30.0])
def test_theorem_1_a_reward_that_is_constant_gains_nothing(beta: float) -> None:
    toy = toy_of({"aa": (0.3, 0.7), "ab": (0.2, 0.7), "b": (0.5, 0.7)})

    assert toy.posterior(beta) == approx(prior_law(toy), abs=1e-12)
    assert mean_reward(toy.posterior(beta), toy.rewards) == approx(0.7, abs=1e-12)


def test_theorem_1_the_expected_reward_rises_with_beta() -> None:
    """As its proof says; between two β the rise is (β' − β)·rise = KL both ways, to rounding."""
    betas = [0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    for toy in random_toys():
        laws, rewards = [toy.posterior(beta) for beta in betas], toy.rewards
        for (low, before), (high, after) in itertools.pairwise(zip(betas, laws, strict=True)):
            rise = mean_reward(after, rewards) - mean_reward(before, rewards)
            both = divergence(after, before) + divergence(before, after)
            assert (high - low) * rise == approx(both, abs=1e-12)
            assert rise > 0


@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0, 20.0])
def test_theorem_1_what_algorithm_1_tends_to_expects_more_than_the_prior_too(beta: float) -> None:
    """So the advice stands though the law is another: E_limit[R] ≥ (log Z)/β ≥ E_p[R].

    Proof, from the last step back: with W_t = E_p[Π_u>t V_u | s_1:t] ≥ V_t^(T−t) (Jensen) the
    limit has β·E[R | s_1:t] ≥ (log W_t)/(T−t), because a law tilted by X has E[log X] ≥ log E_p[X].
    """
    for number, toy in enumerate(random_toys()):
        limit = toy.paper_limit(beta, 2 + number // 2 % 3)
        least = math.log(toy.evidence(beta)) / beta

        assert mean_reward(limit, toy.rewards) >= least - 1e-12
        assert least >= mean_reward(prior_law(toy), toy.rewards) - 1e-12


# --- Theorem 1: the limit ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toy", "beta", "apart", "prior_apart"),
    [
        (WORDS, 1.0, 0.14041459, 0.12051902),
        (WORDS, 2.0, 0.25609390, 0.24385763),
        (make_toy("abc", 4, seed=6), 1.0, 0.23567092, 0.14474577),
        (STOPPING, 2.0, 0.45487983, 0.33795270),
    ],
)
def test_theorem_1_as_printed_fails_algorithm_1_does_not_tend_to_q(
    toy: Toy, beta: float, apart: float, prior_apart: float
) -> None:
    """Theorem 1: without refinement the N workflows of Algorithm 1 tend to q as N grows.

    They tend to p(s)·Π_t V(s_1:t): every round selects by the whole value of a prefix again. On
    these toys that lies farther from q than the prior itself does: total variation 0.140 against
    0.121 on 81 words at β = 1. Appendix C rests on unbiased weights. They are unbiased, but each
    has to be divided by the one that the particle was selected by before.
    """
    limit = normalised(weighed(flow(toy, beta, 4, "paper")))
    q = toy.posterior(beta)

    assert limit == approx(toy.paper_limit(beta, 4), abs=1e-12)
    assert total_variation(limit, q) == approx(apart, abs=1e-8)
    assert total_variation(prior_law(toy), q) == approx(prior_apart, abs=1e-8)
    assert apart > prior_apart


@pytest.mark.parametrize("toy", [WORDS, STOPPING], ids=["81 words", "short words too"])
@pytest.mark.parametrize("beta", [1.0, 2.0, 5.0])
def test_theorem_1_holds_with_the_correction(toy: Toy, beta: float) -> None:
    measure = weighed(flow(toy, beta, 4, "exact"))

    assert measure == approx(target(toy, beta), abs=1e-12, rel=1e-12)
    assert normalised(measure) == approx(toy.posterior(beta), abs=1e-12)


def test_theorem_1_with_one_step_there_is_nothing_to_correct() -> None:
    toy = make_toy("abcd", 1, seed=0)

    for weighting in ("exact", "paper"):
        law = normalised(weighed(flow(toy, 2.0, 1, weighting)))
        assert law == approx(toy.posterior(2.0), abs=1e-12)


# --- Theorem 2: the mixture -------------------------------------------------------------------


def refined(toy: Toy, share: float) -> list[dict[tuple[Step, ...], float]]:
    """In every round, the two best words as refined workflows: M = `share`·N of them."""
    best = sorted(toy.leaves, key=lambda leaf: -leaf.reward)[:2]
    return [{leaf.workflow.steps: share / 2 for leaf in best}] * 3


def mixture(cells_of: Weighting, toy: Toy, beta: float, share: float) -> tuple[float, Law, Law]:
    """α, and the laws of clean and of refined lineages."""
    cells = flow(toy, beta, 4, cells_of, refined(toy, share))
    clean, rest = weighed(cells, clean=True), weighed(cells, clean=False)
    mass = math.fsum(clean.values())
    return mass / (mass + math.fsum(rest.values())), normalised(clean), normalised(rest)


@pytest.mark.parametrize(
    ("toy", "share", "alpha", "apart"),
    [
        (WORDS, 0.2, 0.62438950, 0.25201248),
        (WORDS, 1.0, 0.24951208, 0.50353312),
        (STOPPING, 0.2, 0.47476855, 0.19250167),
        (STOPPING, 1.0, 0.15310542, 0.31039387),
    ],
)
def test_theorem_2_holds_with_the_correction_clean_lineages_are_q(
    toy: Toy, share: float, alpha: float, apart: float
) -> None:
    """Theorem 2: with refinement π_T = α·q + (1−α)·π_rest, where α is in (0, 1].

    With exact weighting α is the clean share of the weight, and distances obey what Theorem 2 wants
    its bound for: TV(π_T, q) = (1−α)·TV(π_rest, q) ≤ 1−α.
    """
    found, clean, rest = mixture("exact", toy, 2.0, share)
    q = toy.posterior(2.0)
    whole = {name: found * clean[name] + (1 - found) * rest.get(name, 0.0) for name in clean}

    assert found == approx(alpha, abs=1e-8)
    assert clean == approx(q, abs=1e-12)
    assert total_variation(whole, q) == approx((1 - found) * total_variation(rest, q), abs=1e-12)
    assert total_variation(whole, q) == approx(apart, abs=1e-8)


@pytest.mark.parametrize(("share", "alpha"), [(0.2, 0.36009634), (1.0, 0.03159732)])
def test_theorem_2_as_printed_fails_clean_lineages_are_the_wrong_law(
    share: float, alpha: float
) -> None:
    """In Algorithm 1 as printed the clean part is p(s)·Π_t V(s_1:t), as without refinement.

    That is a mixture too, but not with q: total variation 0.256 on 81 words at β = 2.
    """
    found, clean, _ = mixture("paper", WORDS, 2.0, share)
    q = WORDS.posterior(2.0)

    assert clean == approx(WORDS.paper_limit(2.0, 4), abs=1e-12)
    assert found == approx(alpha, abs=1e-8)
    assert total_variation(clean, q) == approx(0.25609390, abs=1e-8)


INJECT = SearchOptions(
    particles=2,
    refinements=1,
    rounds=2,
    inverse_temperature=2.0,
    minibatch=None,
    refinement="inject",
)


def lineages(generations: Sequence[Generation]) -> Measure:
    """What clean and refined lineages weigh in the last round, word by word."""
    total: dict[str, float] = {}
    particles = generations[-1].particles
    untouched = all(particle.clean for particle in particles)
    for particle in particles:
        word = particle.rollouts[0].workflow.workflow_id
        weight = math.exp(particle.log_weight + particle.score) / len(particles)
        kind = "clean" if particle.clean else "rest"
        for name in [f"{kind} {word}"] + [f"untouched {word}"] * untouched:
            total[name] = total.get(name, 0.0) + weight
    return total


async def enumerated(
    monkeypatch: pytest.MonkeyPatch, weighting: Weighting
) -> dict[str, dict[str, float]]:
    """The measures of two particles and one edit of the best word, over all randomness."""
    best = max(SMALL.leaves, key=lambda leaf: leaf.reward).workflow
    options = replace(INJECT, weighting=weighting)
    case = Enumeration(SMALL, options, refiner=lambda: ScriptedRefiner([best]))
    found = await case.expect(monkeypatch, lineages)
    parts: dict[str, dict[str, float]] = {"clean": {}, "rest": {}, "untouched": {}}
    for name, weight in found.items():
        kind, word = name.split()
        parts[kind][word] = weight
    return parts


async def test_theorem_2_the_mixture_is_exact_for_two_particles_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """E of the weighted population is Z·q + rest, so α = Z / (Z + rest): 0.63 here."""
    parts = await enumerated(monkeypatch, "exact")

    assert parts["clean"] == approx(target(SMALL, 2.0), abs=1e-12)
    evidence, rest = SMALL.evidence(2.0), math.fsum(parts["rest"].values())
    assert evidence / (evidence + rest) == approx(0.63068057, abs=1e-8)


async def test_theorem_2_its_proof_conditions_on_what_depends_on_the_rewards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Appendix D: given that refinement is never selected, the law is exactly q.

    Whether it is selected depends on the particles' scores, so among the runs without a refined
    particle the law is another, also with the correction. Over *all* runs the clean lineages are
    weighted for q; with the correction alone, of course.
    """
    exact, paper = [await enumerated(monkeypatch, one) for one in ("exact", "paper")]
    q = SMALL.posterior(2.0)

    def apart(measure: Law) -> float:
        return total_variation(normalised(measure), q)

    assert apart(exact["clean"]) == approx(0.0, abs=1e-12)
    assert apart(exact["untouched"]) == approx(0.02463709, abs=1e-8)
    assert apart(paper["untouched"]) == approx(0.08434178, abs=1e-8)
    assert apart(paper["clean"]) == approx(0.06087888, abs=1e-8)


# --- Theorem 2: the drift ---------------------------------------------------------------------


def selected(
    law: Law, toy: Toy, refiner: Law | None = None, share: float = 0.0
) -> dict[str, float]:
    """Complete workflows by Algorithm 1's line 6, β = 1: the pool, reweighted by exp(R).

    `share`·N refined workflows of law `refiner` are in the pool.
    """
    pool = {
        name: (law.get(name, 0.0) + share * (refiner or {}).get(name, 0.0))
        * math.exp(toy.rewards[name])
        for name in toy.rewards
    }
    return normalised(pool)


def test_theorem_2_as_printed_fails_selection_stretches_the_drift() -> None:
    """Theorem 2: TV(prefixes with, without refiner) ≤ Σ_k ε_k, and so TV(π_T, q) ≤ (T−1)·ε.

    The proof takes selection for post-processing, which cannot widen a distance. It reweights by
    exp(R), and can: up to e-fold in a round at β = 1. Here everything hangs on the first step; one
    refined workflow for every hundred particles comes in round 1, and in rounds 2 and 3 the refiner
    gives back what the pool holds (ε_2 = ε_3 = 0).
    """
    toy = toy_of({"axx": (0.01, 1.0), "byy": (0.99, 0.0)})
    good = {toy.leaves[0].workflow.workflow_id: 1.0}
    without = with_refiner = prior_law(toy)
    drift: list[float] = []
    perturbed: list[float] = []
    for number in (1, 2, 3):
        refiner, share = (good, 0.01) if number == 1 else (with_refiner, 0.5)
        before = selected(with_refiner, toy)
        with_refiner = selected(with_refiner, toy, refiner, share)
        without = selected(without, toy)
        perturbed.append(total_variation(before, with_refiner))
        drift.append(total_variation(without, with_refiner))

    assert perturbed == approx([0.02533250, 0.0, 0.0], abs=1e-8)
    assert drift == approx([0.02533250, 0.06043221, 0.11998049], abs=1e-8)
    assert drift[1] > sum(perturbed)
    assert drift[2] > 3 * max(perturbed)


def test_theorem_2_as_printed_fails_without_a_refiner_at_all() -> None:
    """With M = 0 every ε_k is 0 and π_T would be q: it is 0.140 away, on 81 words at β = 1."""
    limit = normalised(weighed(flow(WORDS, 1.0, 4, "paper")))

    assert total_variation(limit, WORDS.posterior(1.0)) == approx(0.14041459, abs=1e-8)
