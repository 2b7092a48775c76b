"""The selection and the search over arrays: a NumPy twin of the shipped sampler, for N up to 1e5.

A prefix of a toy is a number, a population an array of them. A selection does the shipped
arithmetic on the same numbers, so that the same uniforms give the same ancestors even where a
quantile falls on the boundary of two; `test_twin.py` holds the twin to that, draw for draw. It
knows one island, no refinements and no recycling, and leaves refusals to the shipped functions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Weighting
from bayesflow_sampler.types import Step, Workflow
from fakes.toys import Toy

__all__ = [
    "Codes",
    "Draws",
    "Floats",
    "Population",
    "Tree",
    "TwinSelection",
    "final_law",
    "random_draws",
    "resample",
    "search",
    "select",
    "tree_of",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

_BISECTIONS = 50


# --- selection --------------------------------------------------------------------------------


class TwinSelection(NamedTuple):
    """What `selection.Selection` holds, as arrays."""

    ancestors: Codes
    log_weights: Floats
    resampled: bool
    temper: float


def select(
    log_weights: Floats,
    scores: Floats,
    count: int,
    uniforms: Floats,
    *,
    weighting: Weighting = "exact",
    resampling: Resampling = "systematic",
    ess_threshold: float | None = None,
    tempering: float | None = None,
) -> TwinSelection:
    """The twin of `selection.select`; `uniforms[j]` is what `draw(j)` gives there."""
    carried = log_weights if weighting == "exact" else np.zeros_like(log_weights)
    tau = 1.0
    if tempering is not None:
        tau = _temper(carried, scores, max(1.0, tempering * len(scores)))
    shares = _normalise(carried + _scaled(scores, tau))
    if ess_threshold is not None and _size(shares) >= ess_threshold * count:
        return TwinSelection(np.arange(count), log_weights, False, tau)
    ancestors = resample(shares, count, resampling, uniforms)
    if weighting == "paper":
        return TwinSelection(ancestors, np.zeros(count), True, tau)
    paid = np.log(count * shares[ancestors])
    return TwinSelection(ancestors, log_weights[ancestors] - paid, True, tau)


def resample(shares: Floats, count: int, scheme: Resampling, uniforms: Floats) -> Codes:
    """The twin of `resampling.resample`."""
    strata = np.arange(count)
    if scheme == "systematic":
        return _inverse(shares, (strata + uniforms[0]) / count)
    if scheme == "stratified":
        return _inverse(shares, (strata + uniforms[:count]) / count)
    if scheme == "multinomial":
        return _inverse(shares, np.sort(uniforms[:count]))
    copies = np.floor(count * shares + 1e-9)
    certain = np.repeat(np.arange(len(shares)), copies.astype(np.int64))
    rest = count - len(certain)
    if rest <= 0:
        return certain
    left = np.maximum(0.0, count * shares - copies)
    drawn = _inverse(left / math.fsum(left.tolist()), np.sort(uniforms[:rest]))
    return np.sort(np.concatenate([certain, drawn]))


def _inverse(shares: Floats, quantiles: Floats) -> Codes:
    # `cumsum` adds one by one, as the shipped loop does; `sum` would add in pairs.
    ancestors = np.searchsorted(np.cumsum(shares), quantiles, side="right")
    last: Codes = np.flatnonzero(shares)[-1:]
    return np.minimum(ancestors, last, dtype=np.int64)


def _normalise(log_weights: Floats) -> Floats:
    largest = float(log_weights.max())
    total = largest + math.log(math.fsum(_exp(log_weights - largest).tolist()))
    return _exp(log_weights - total)


def _exp(values: Floats) -> Floats:
    # The C library's, an element at a time: NumPy's own may differ in the last bit.
    return np.fromiter(map(math.exp, values.tolist()), np.float64, len(values))


def _size(shares: Floats) -> float:
    return 1.0 / math.fsum((shares * shares).tolist())


def _scaled(scores: Floats, tau: float) -> Floats:
    scaled = np.full_like(scores, -np.inf)
    return np.multiply(scores, tau, out=scaled, where=scores > -np.inf)


def _temper(log_weights: Floats, scores: Floats, target: float) -> float:
    def holds(tau: float) -> bool:
        return _size(_normalise(log_weights + _scaled(scores, tau))) >= target

    if holds(1.0):
        return 1.0
    low, high = 0.0, 1.0
    if not holds(low):
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


# --- the toy as arrays ------------------------------------------------------------------------


@dataclass(frozen=True)
class Tree:
    """Every prefix of a toy as a number: the empty one is 0, and children follow their parents.

    Attributes:
        cumulative: Cumulative probabilities of a prefix's next letters, (prefixes, letters); inf
            from the last letter on, which takes what rounding leaves.
        following: The prefix that each letter leads to, (prefixes, letters).
        lengths: Letters in each prefix.
        cuts: `cuts[s, t]` is s without what stands behind its t-th letter, (prefixes, T + 1).
        complete: Whether a prefix is a whole word.
        rewards: The reward of each whole word, NaN elsewhere.
        names: The workflow id of each prefix.
    """

    cumulative: Floats
    following: Codes
    lengths: Codes
    cuts: Codes
    complete: NDArray[np.bool_]
    rewards: Floats
    names: tuple[str, ...]

    def finish(self, prefixes: Codes, uniforms: Callable[[int], Floats]) -> Codes:
        """Whole words that begin with the prefixes; `uniforms(n)` draws the letters at place n."""
        words = prefixes
        for place in range(int(self.lengths[prefixes].min()), self.cuts.shape[1] - 1):
            growing = (self.lengths[words] == place) & ~self.complete[words]
            if growing.any():
                parents = words[growing]
                passed = self.cumulative[parents] <= uniforms(place)[growing, None]
                words = words.copy()
                words[growing] = self.following[parents, passed.sum(axis=1)]
        return words


def tree_of(toy: Toy) -> Tree:
    """The toy's grammar and rewards, with the shipped order of productions and of additions."""
    grammar = toy.grammar
    found: list[tuple[tuple[Step, ...], str | None, int]] = [((), grammar.start, 0)]
    letters = max(len(choices) for choices in grammar.productions.values())
    cumulative: list[list[float]] = []
    following: list[list[int]] = []
    for code, (steps, state, _) in enumerate(found):  # grows while it is read
        choices = () if state is None else grammar.productions[state]
        sums = np.cumsum([choice.probability for choice in choices])[:-1].tolist()
        cumulative.append(sums + [math.inf] * (letters - len(sums)))
        following.append([len(found) + place for place in range(letters)])
        found += [((*steps, choice.step), choice.next, code) for choice in choices]
    depth = max(len(steps) for steps, _, _ in found)
    cuts = np.zeros((len(found), depth + 1), np.int64)
    for code, (steps, _, parent) in enumerate(found):
        cuts[code] = cuts[parent]
        cuts[code, len(steps) :] = code
    names = tuple(Workflow(PREAMBLE, steps).workflow_id for steps, _, _ in found)
    complete = np.array([state is None for _, state, _ in found])
    rewards = [
        toy.rewards[name] if whole else math.nan
        for name, whole in zip(names, complete.tolist(), strict=True)
    ]
    return Tree(
        cumulative=np.array(cumulative),
        following=np.array(following),
        lengths=np.array([len(steps) for steps, _, _ in found]),
        cuts=cuts,
        complete=complete,
        rewards=np.array(rewards),
        names=names,
    )


# --- the search -------------------------------------------------------------------------------


class Draws(Protocol):
    """The uniforms of a search: N at once, for the N particles (or children) of a round."""

    def __call__(self, kind: str, number: int, rollout: int, place: int) -> Floats:
        """For `extend`, `complete` (rollout k, letter at `place`) or `select` (0, 0) in round t."""
        ...


def random_draws(count: int, seed: int) -> Draws:
    """Uniforms from a generator, which is asked in the order of the search."""
    generator = np.random.default_rng([count, seed])

    def draws(kind: str, number: int, rollout: int, place: int) -> Floats:
        return generator.random(count)

    return draws


@dataclass(frozen=True)
class Population:
    """One round's particles before selection, and what the selection made of them.

    Attributes:
        prefixes: s_{1:t} of each particle.
        log_weights: ℓ of each particle.
        scores: g of each particle.
        selection: The children; None in the last round.
    """

    prefixes: Codes
    log_weights: Floats
    scores: Floats
    selection: TwinSelection | None


def search(tree: Tree, options: SearchOptions, particles: int, draws: Draws) -> list[Population]:
    """The rounds of `smc.Search` without refinements, at a β that is fixed beforehand.

    N is `particles` and may be more than the options allow; the options' own number is not read.
    """
    beta = options.inverse_temperature
    assert beta is not None
    prefixes = np.zeros(particles, np.int64)
    log_weights = np.zeros(particles)
    populations: list[Population] = []
    for number in range(1, options.rounds + 1):
        prefixes, scores = _grow(tree, options, prefixes, number, draws, beta)
        chosen = None
        if number < options.rounds:
            chosen = select(
                log_weights,
                scores,
                particles,
                draws("select", number, 0, 0),
                weighting=options.weighting,
                resampling=options.resampling,
                ess_threshold=options.ess_threshold,
                tempering=options.tempering,
            )
        populations.append(Population(prefixes, log_weights, scores, chosen))
        if chosen is not None:
            prefixes, log_weights = prefixes[chosen.ancestors], chosen.log_weights
    return populations


def final_law(tree: Tree, population: Population) -> dict[str, float]:
    """The share of each whole word in the last population, by workflow id."""
    weights = _normalise(population.log_weights + population.scores)
    shares = np.bincount(population.prefixes, weights, minlength=len(tree.names)).tolist()
    return {tree.names[code]: shares[code] for code in np.flatnonzero(tree.complete)}


def _grow(
    tree: Tree, options: SearchOptions, prefixes: Codes, number: int, draws: Draws, beta: float
) -> tuple[Codes, Floats]:
    """Lines 1-2 of Algorithm 1: one more letter, K rollouts, and their score."""

    def uniforms(kind: str, rollout: int) -> Callable[[int], Floats]:
        return lambda place: draws(kind, number, rollout, place)

    words = tree.finish(prefixes, uniforms("extend", 0))
    if number == options.rounds:
        return words, beta * tree.rewards[words]
    grown = tree.cuts[words, number]
    rollouts = [words]
    rollouts += [tree.finish(grown, uniforms("complete", k)) for k in range(1, options.rollouts)]
    gains = beta * tree.rewards[np.stack(rollouts)]
    largest = gains.max(axis=0)
    return grown, largest + np.log(np.exp(gains - largest).mean(axis=0))
