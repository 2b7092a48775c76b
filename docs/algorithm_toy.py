"""The toy of docs/algorithm.md: its laws, and the mean of the sampler's estimates, by enumeration.

Words of three letters, A or B, small enough that the posterior, the limit of Algorithm 1 as printed
and the mean of every estimate are sums that can be carried out. What is summed is what the shipped
selection, recycling and holding back do. Called by make_algorithm.
"""

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

from bayesflow_sampler.controller import held_back
from bayesflow_sampler.recycling import recycled
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Selection, Weighting, select
from bayesflow_sampler.tempering import fit_inverse_temperature
from bayesflow_sampler.weights import log_mean_exp, normalise

__all__ = [
    "NEXT_A",
    "REWARDS",
    "STEPS",
    "VARIANTS",
    "WORDS",
    "Law",
    "Variant",
    "completions",
    "mean_at_fitted_beta",
    "mean_estimate",
    "mean_reward",
    "objective",
    "posterior",
    "printed_limit",
    "prior",
    "total_variation",
    "value",
]

Law = Mapping[str, float]

# --- the toy ----------------------------------------------------------------------------------

STEPS: Final = 3
WORDS: Final = tuple("".join(letters) for letters in itertools.product("AB", repeat=STEPS))
REWARDS: Final = dict(zip(WORDS, (0.9, 0.8, 0.8, 0.7, 0.2, 0.1, 0.1, 1.0), strict=True))
# The probability that A comes next.
NEXT_A: Final = {"": 0.5, "A": 0.6, "B": 0.8, "AA": 0.5, "AB": 0.5, "BA": 0.5, "BB": 0.5}


@cache
def completions(prefix: str) -> tuple[tuple[float, str], ...]:
    """Every word that begins with the prefix, with p(word | prefix)."""
    if len(prefix) == STEPS:
        return ((1.0, prefix),)
    share = {"A": NEXT_A[prefix], "B": 1 - NEXT_A[prefix]}
    return tuple(
        (share[letter] * probability, word)
        for letter in "AB"
        for probability, word in completions(prefix + letter)
    )


@cache
def value(prefix: str, beta: float) -> float:
    """V(prefix) = E[exp(β·R) | prefix]; of the empty prefix it is Z, of a word exp(β·R)."""
    return math.fsum(p * math.exp(beta * REWARDS[word]) for p, word in completions(prefix))


def prior() -> Law:
    """The law p."""
    return {word: probability for probability, word in completions("")}


def posterior(beta: float) -> Law:
    """The target q."""
    return _law({word: p * value(word, beta) for word, p in prior().items()})


def printed_limit(beta: float) -> Law:
    """p(s)·Π_t V_t(s_1:t): where Algorithm 1 as printed converges to."""
    return _law(
        {
            word: p * math.prod(value(word[:t], beta) for t in range(1, STEPS + 1))
            for word, p in prior().items()
        }
    )


def total_variation(one: Law, other: Law) -> float:
    """Half the sum of absolute differences."""
    return math.fsum(abs(one[word] - other[word]) for word in WORDS) / 2


def mean_reward(law: Law) -> float:
    """E[R] under a law."""
    return math.fsum(law[word] * REWARDS[word] for word in WORDS)


def objective(law: Law) -> float:
    """E[R] − KL(law ‖ p), which Theorem 3 says q maximises at β = 1."""
    start = prior()
    return mean_reward(law) - math.fsum(law[w] * math.log(law[w] / start[w]) for w in WORDS)


def _law(weights: Law) -> Law:
    total = math.fsum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


# --- the mean of an estimate, by enumeration --------------------------------------------------

PARTICLES: Final = 2
# The ESS that a fitted β leaves of two particles. N/2, as in a run, would mean β = 50 here.
FITTED_SIZE: Final = 1.8


@dataclass(frozen=True)
class Variant:
    """One way to run the sampler on the toy, and to estimate Z from its last round.

    Attributes:
        weighting: As in the options; so are the next three.
        resampling: How ancestors are drawn.
        ess_threshold: ESS trigger.
        tempering: ESS share that a selection may leave.
        noise: A coin adds this to a score's reward, or takes it away: rows that are too few.
        fitted: β is fitted to round 1 and steers from then on; Z is still that of β = 1.
        inject: In each round the best neighbour of the best word joins the selection pool.
        clean_floor: As in the options.
        everyone: The estimate counts refined lineages too.
        recycling: How children take over their parent's two rollouts, if they do.
    """

    weighting: Weighting = "exact"
    resampling: Resampling = "systematic"
    ess_threshold: float | None = None
    tempering: float | None = None
    noise: float = 0.0
    fitted: bool = False
    inject: bool = False
    clean_floor: float = 0.0
    everyone: bool = False
    recycling: Literal["none", "permutation", "first copy", "fixed order"] = "none"


class Child(NamedTuple):
    """A prefix that waits for its next letter."""

    prefix: str = ""
    log_weight: float = 0.0
    clean: bool = True
    rollout: str | None = None


class Entry(NamedTuple):
    """An entry of the selection pool."""

    prefix: str
    log_weight: float
    score: float
    clean: bool
    rollouts: tuple[str, ...] = ()


def mean_estimate(variant: Variant) -> float:
    """E[Ẑ] / Z at β = 1 with two particles, over everything that chance can do."""
    return _mean_estimate(variant, 1, (Child(),) * PARTICLES, 1.0) / value("", 1.0)


@cache
def _mean_estimate(
    variant: Variant, number: int, children: tuple[Child, ...], beta: float
) -> float:
    """The mean of the last round's Ẑ, given the children that enter round t."""
    terms: list[float] = []
    for grown in itertools.product(*(list(_grown(variant, number, one)) for one in children)):
        chance = math.prod(probability for probability, _ in grown)
        rollouts = [words for _, words in grown]
        if number == STEPS:
            terms.append(chance * _estimate(variant, children, [words[0] for words in rollouts]))
            continue
        steered = _inverse_temperature(variant, number, rollouts, beta)
        for noise in itertools.product(_coin(variant.noise), repeat=PARTICLES):
            pool = _pool(variant, number, children, rollouts, noise, steered)
            terms += [
                chance
                / len(_coin(variant.noise)) ** PARTICLES
                * probability
                * _mean_estimate(variant, number + 1, following, steered)
                for probability, following in _selections(variant, pool)
            ]
    return math.fsum(terms)


def _grown(variant: Variant, number: int, child: Child) -> Iterator[tuple[float, tuple[str, ...]]]:
    """A child's rollouts in round t, with their probability: the first brings the letter."""
    firsts = completions(child.prefix) if child.rollout is None else ((1.0, child.rollout),)
    for probability, first in firsts:
        if variant.recycling == "none" or number == STEPS:
            yield probability, (first,)
        else:
            for further, second in completions(first[:number]):
                yield probability * further, (first, second)


def _estimate(variant: Variant, children: Sequence[Child], words: Sequence[str]) -> float:
    """The last round's Ẑ: clean lineages only, divided by N."""
    return math.fsum(
        math.exp(child.log_weight + REWARDS[word]) / PARTICLES
        for child, word in zip(children, words, strict=True)
        if child.clean or variant.everyone
    )


def _inverse_temperature(
    variant: Variant, number: int, rollouts: Sequence[Sequence[str]], beta: float
) -> float:
    if not variant.fitted or number > 1:
        return beta
    rewards = [REWARDS[words[0]] for words in rollouts]
    return fit_inverse_temperature(rewards, FITTED_SIZE) or beta


def _coin(noise: float) -> tuple[float, ...]:
    return (noise, -noise) if noise else (0.0,)


def _pool(
    variant: Variant,
    number: int,
    children: Sequence[Child],
    rollouts: Sequence[tuple[str, ...]],
    noise: Sequence[float],
    beta: float,
) -> list[Entry]:
    """Round t's particles, and the refined word where there is one."""
    pool = [
        Entry(
            words[0][:number],
            child.log_weight,
            log_mean_exp([beta * (REWARDS[word] + error) for word in words]),
            child.clean,
            words,
        )
        for child, words, error in zip(children, rollouts, noise, strict=True)
    ]
    if variant.inject:
        best = max((word for words in rollouts for word in words), key=REWARDS.__getitem__)
        edit = max(_neighbours(best), key=REWARDS.__getitem__)
        pool.append(Entry(edit[:number], 0.0, beta * REWARDS[edit], clean=False))
    if variant.clean_floor:
        held, _ = held_back(
            [one.log_weight for one in pool],
            [one.score for one in pool],
            [one.clean for one in pool],
            variant.clean_floor,
        )
        pool = [one._replace(score=score) for one, score in zip(pool, held, strict=True)]
    return pool


def _neighbours(word: str) -> list[str]:
    return [other for other in WORDS if sum(map(str.__ne__, word, other)) == 1]


def _selections(
    variant: Variant, pool: Sequence[Entry]
) -> Iterator[tuple[float, tuple[Child, ...]]]:
    """Every outcome of the shipped selection, with its probability."""

    def selected(uniforms: Sequence[float]) -> Selection:
        return select(
            [one.log_weight for one in pool],
            [one.score for one in pool],
            PARTICLES,
            uniforms.__getitem__,
            weighting=variant.weighting,
            resampling=variant.resampling,
            ess_threshold=variant.ess_threshold,
            tempering=variant.tempering,
        )

    probe = selected([0.5] * PARTICLES)
    paper = variant.weighting == "paper"
    shares = normalise([(0.0 if paper else e.log_weight) + probe.temper * e.score for e in pool])
    pieces = _pieces(shares, variant.resampling) if probe.resampled else [[(0.0, 1.0)]]
    for cell in itertools.product(*pieces):
        chance = math.prod(end - begin for begin, end in cell)
        outcome = selected([(begin + end) / 2 for begin, end in cell])
        for probability, taken in _handed_on(variant, pool, outcome.ancestors):
            children = [
                Child(pool[parent].prefix, log_weight, pool[parent].clean, rollout)
                for parent, log_weight, rollout in zip(
                    outcome.ancestors, outcome.log_weights, taken, strict=True
                )
            ]
            yield chance * probability, tuple(children)


def _pieces(shares: Sequence[float], scheme: Resampling) -> list[list[tuple[float, float]]]:
    """For each uniform of a selection, the pieces of [0, 1) within which nothing changes."""
    sums = list(itertools.accumulate(shares))
    if scheme == "residual":
        left = [PARTICLES * share - math.floor(PARTICLES * share) for share in shares]
        sums = [cut / (math.fsum(left) or 1.0) for cut in itertools.accumulate(left)]
    if scheme in ("systematic", "stratified"):
        sums = [PARTICLES * cut % 1.0 for cut in sums]
    cuts = sorted({0.0, *(min(cut, 1.0) for cut in sums), 1.0})
    # Cuts that differ by rounding alone are one cut.
    pieces = [(begin, end) for begin, end in itertools.pairwise(cuts) if end - begin > 1e-13]
    return [pieces] * (1 if scheme == "systematic" else PARTICLES)


def _handed_on(
    variant: Variant, pool: Sequence[Entry], ancestors: Sequence[int]
) -> Iterator[tuple[float, list[str | None]]]:
    """Which rollout of its parent each child goes on with, in every way that can fall."""
    if variant.recycling == "permutation":
        # Two rollouts have two orders, each as likely as the other.
        for turned in itertools.product((False, True), repeat=len(pool)):
            taken = recycled(
                ancestors,
                [len(one.rollouts) for one in pool],
                _order(turned),
            )
            yield (
                0.5 ** len(pool),
                [
                    None if k is None else pool[i].rollouts[k]
                    for i, k in zip(ancestors, taken, strict=True)
                ],
            )
        return
    copies = [list(ancestors[:place]).count(parent) for place, parent in enumerate(ancestors)]
    limit = {"none": 0, "first copy": 1, "fixed order": PARTICLES}[variant.recycling]
    yield (
        1.0,
        [
            pool[parent].rollouts[copy % 2] if copy < limit else None
            for parent, copy in zip(ancestors, copies, strict=True)
        ],
    )


def _order(turned: Sequence[bool]) -> Callable[[int, int], float]:
    """Draws that leave an entry's two rollouts in their order, or turn it."""

    def key(parent: int, rollout: int) -> float:
        return float(rollout != turned[parent])

    return key


VARIANTS: Final[Mapping[str, Variant]] = {
    "`systematic`": Variant(),
    "`stratified`": Variant(resampling="stratified"),
    "`residual`": Variant(resampling="residual"),
    "`multinomial`": Variant(resampling="multinomial"),
    "`ess_threshold` = 0.97": Variant(ess_threshold=0.97),
    "`tempering` = 0.98": Variant(tempering=0.98),
    "scores with a coin's ±0.3 added to R (rounds 1 and 2)": Variant(noise=0.3),
    "β fitted to round 1 for the scores, Ẑ at β = 1": Variant(fitted=True),
    "`inject`, M = 1: clean lineages": Variant(inject=True),
    "the same with `clean_floor` = 0.9": Variant(inject=True, clean_floor=0.9),
    "`recycle`, K = 2: one random permutation": Variant(recycling="permutation"),
    "*control*: `inject`, all lineages": Variant(inject=True, everyone=True),
    "*control*: recycling, first copy only": Variant(recycling="first copy"),
    "*control*: recycling in a fixed order": Variant(recycling="fixed order"),
    "*control*: `weighting` = `paper`": Variant(weighting="paper"),
}


def mean_at_fitted_beta(count: int) -> float:
    """E[Ẑ(β) / Z(β)] of N prior draws, β being fitted to those very draws."""
    chances = {
        reward: math.fsum(p for word, p in prior().items() if REWARDS[word] == reward)
        for reward in set(REWARDS.values())
    }
    total = 0.0
    for rewards in itertools.combinations_with_replacement(sorted(chances), count):
        chance = float(math.factorial(count))
        for reward, copies in Counter(rewards).items():
            chance *= chances[reward] ** copies / math.factorial(copies)
        beta = fit_inverse_temperature(rewards, count / 2) or 1.0
        estimate = statistics.fmean(math.exp(beta * reward) for reward in rewards)
        total += chance * estimate / value("", beta)
    return total
