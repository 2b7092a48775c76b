"""The NumPy twin of the tests is the shipped sampler: the same uniforms in, the same draws out.

What the twin shows for large populations is therefore true of the shipped functions. Ancestors must
be the same to the last; log-weights to 1e-12, for NumPy's logarithm may differ in the last bit.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from bayesflow_sampler import selection
from bayesflow_sampler.archive import Archive
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.resampling import Resampling
from bayesflow_sampler.selection import Weighting
from fakes import twin
from fakes.approx import approx
from fakes.searches import run, search_over
from fakes.toys import Toy, make_toy
from fakes.twin import Draws, Floats, random_draws, search, tree_of

SCHEMES: list[Resampling] = ["systematic", "stratified", "residual", "multinomial"]
BELOW_ONE = math.nextafter(1.0, 0.0)
WIDE = make_toy("abc", 3, seed=3)
STOPPING = make_toy("ab", 3, seed=2, stop=True)
SMALL = SearchOptions(particles=8, refinements=0, rounds=3, inverse_temperature=2.0, minibatch=None)


class Pool(NamedTuple):
    """What one selection is given."""

    log_weights: list[float]
    scores: list[float]
    children: int
    uniforms: list[float]


def pools(number: int, seed: int, *, square: bool = False) -> Iterator[Pool]:
    """Random pools of 1 to 40 entries; `square` ones have as many children as entries.

    Values are spread, or tied, or so far apart that some weights round to zero; some are -inf. The
    uniforms are random, or all at an end of [0, 1), where they fall on boundaries.
    """
    draw = random.Random(seed)
    for index in range(number):
        entries = 1 if index % 10 == 0 else draw.randint(2, 40)
        children = entries if square else draw.randint(1, 40)
        spread = draw.choice([0.05, 1.0, 300.0])
        ties = draw.choice([[], [0.0], [-1.0, 0.0, 0.5]])

        def value(ties: Sequence[float] = ties, spread: float = spread) -> float:
            return draw.choice(ties) if ties else draw.gauss(0, spread)

        scores = [value() if draw.random() < 0.8 else -math.inf for _ in range(entries)]
        log_weights = [value() for _ in range(entries)]
        scores[draw.randrange(entries)] = 0.25  # one entry at least can be drawn
        ends = draw.choice([None, None, 0.0, BELOW_ONE])
        uniforms = [draw.random() if ends is None else ends for _ in range(children)]
        yield Pool(log_weights, scores, children, uniforms)


def shipped_and_twin(
    pool: Pool,
    weighting: Weighting = "exact",
    resampling: Resampling = "systematic",
    ess_threshold: float | None = None,
    tempering: float | None = None,
) -> tuple[selection.Selection, twin.TwinSelection]:
    shipped = selection.select(
        pool.log_weights,
        pool.scores,
        pool.children,
        lambda index: pool.uniforms[index],
        weighting=weighting,
        resampling=resampling,
        ess_threshold=ess_threshold,
        tempering=tempering,
    )
    arrays = twin.select(
        np.array(pool.log_weights),
        np.array(pool.scores),
        pool.children,
        np.array(pool.uniforms),
        weighting=weighting,
        resampling=resampling,
        ess_threshold=ess_threshold,
        tempering=tempering,
    )
    return shipped, arrays


def assert_equal(shipped: selection.Selection, arrays: twin.TwinSelection) -> None:
    assert arrays.ancestors.tolist() == list(shipped.ancestors)
    assert arrays.log_weights.tolist() == approx(shipped.log_weights, rel=1e-12, abs=1e-12)
    assert arrays.resampled == shipped.resampled
    assert arrays.temper == shipped.temper


# --- one selection ----------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("weighting", ["exact", "paper"])
def test_the_same_uniforms_select_the_same_children(
    weighting: Weighting, scheme: Resampling
) -> None:
    for pool in pools(400, seed=1):
        assert_equal(*shipped_and_twin(pool, weighting, scheme))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_effective_sample_size_sets_off_the_same_selection(scheme: Resampling) -> None:
    left_alone = 0
    for pool in pools(400, seed=2, square=True):
        shipped, arrays = shipped_and_twin(pool, resampling=scheme, ess_threshold=0.5)
        assert_equal(shipped, arrays)
        left_alone += not shipped.resampled

    assert 40 < left_alone < 360  # both branches were seen


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_same_exponent_tempers_the_same_selection(scheme: Resampling) -> None:
    tempers: list[float] = []
    for pool in pools(150, seed=3):
        shipped, arrays = shipped_and_twin(pool, resampling=scheme, tempering=0.6)
        assert_equal(shipped, arrays)
        tempers.append(shipped.temper)

    # Idle, at work, and out of reach of the target.
    assert {0.0, 1.0} < set(tempers)


def test_the_trigger_looks_at_the_tempered_scores_in_both() -> None:
    tempered_and_left_alone = 0
    for pool in pools(150, seed=4, square=True):
        shipped, arrays = shipped_and_twin(pool, ess_threshold=0.5, tempering=0.6)
        assert_equal(shipped, arrays)
        tempered_and_left_alone += shipped.temper < 1 and not shipped.resampled

    assert tempered_and_left_alone > 20


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entries_of_equal_weight_are_divided_alike(scheme: Resampling) -> None:
    """Where every quantile lies next to a boundary, one rounding in another order would show."""
    for entries in (*range(1, 40), 1000):
        for score in (0.1, 1.5):
            for end in (0.0, 0.5, BELOW_ONE):
                pool = Pool([0.0] * entries, [score] * entries, entries, [end] * entries)
                assert_equal(*shipped_and_twin(pool, resampling=scheme))


def test_a_twin_that_pays_nothing_or_draws_otherwise_is_told_apart() -> None:
    """The negative control: each near miss differs from the shipped draw in most random pools."""
    unpaid, other_scheme, other_side = 0, 0, 0
    for pool in pools(200, seed=5):
        shipped, _ = shipped_and_twin(pool)
        _, free = shipped_and_twin(pool, weighting="paper")
        _, multinomial = shipped_and_twin(pool, resampling="multinomial")
        _, mirrored = shipped_and_twin(
            pool._replace(uniforms=[min(1 - each, BELOW_ONE) for each in pool.uniforms])
        )
        unpaid += free.log_weights.tolist() != approx(shipped.log_weights, abs=1e-12)
        other_scheme += multinomial.ancestors.tolist() != list(shipped.ancestors)
        other_side += mirrored.ancestors.tolist() != list(shipped.ancestors)

    assert min(unpaid, other_scheme, other_side) > 60


# --- a whole search ---------------------------------------------------------------------------


def shipped_draws(count: int, seed: int) -> Draws:
    """The uniforms that the shipped search and the grammar prior take under this seed."""

    def draws(kind: str, number: int, rollout: int, place: int) -> Floats:
        if kind == "select":
            return np.array([uniform(seed, kind, number, j) for j in range(count)])
        path = ((kind, number, i, rollout, place) for i in range(count))
        return np.array([uniform(seed, *each) for each in path])

    return draws


async def assert_same_search(toy: Toy, options: SearchOptions, seed: int) -> None:
    tree = tree_of(toy)
    generations = await run(search_over(toy, options, seed))
    populations = search(tree, options, 8, shipped_draws(8, seed))
    archive = Archive(1, pool_rounds=False)

    for shipped, arrays in zip(generations, populations, strict=True):
        archive.add(shipped)
        particles = shipped.particles
        assert [tree.names[code] for code in arrays.prefixes.tolist()] == [
            particle.prefix.workflow_id for particle in particles
        ]
        assert arrays.log_weights.tolist() == approx([p.log_weight for p in particles], abs=1e-12)
        assert arrays.scores.tolist() == approx([p.score for p in particles], abs=1e-12)
        chosen = () if arrays.selection is None else arrays.selection.ancestors.tolist()
        assert list(shipped.ancestors) == list(chosen)

    posterior = archive.posterior(2.0)
    assert posterior is not None
    law = twin.final_law(tree, populations[-1])
    drawn = {name: share for name, share in law.items() if share > 0}
    assert drawn == approx(posterior.probability, abs=1e-12)


@pytest.mark.parametrize("toy", [WIDE, STOPPING], ids=["27 words", "words that stop early"])
@pytest.mark.parametrize("rollouts", [1, 2])
@pytest.mark.parametrize("weighting", ["exact", "paper"])
async def test_the_same_random_numbers_make_the_same_search(
    toy: Toy, rollouts: int, weighting: Weighting
) -> None:
    options = replace(SMALL, rollouts=rollouts, weighting=weighting)
    for seed in range(5):
        await assert_same_search(toy, options, seed)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_scheme_makes_the_same_search(scheme: Resampling) -> None:
    for seed in range(3):
        await assert_same_search(STOPPING, replace(SMALL, resampling=scheme), seed)


@pytest.mark.parametrize(("ess_threshold", "tempering"), [(0.8, None), (None, 0.9), (0.95, 0.9)])
async def test_the_trigger_and_tempering_make_the_same_search(
    ess_threshold: float | None, tempering: float | None
) -> None:
    options = replace(SMALL, ess_threshold=ess_threshold, tempering=tempering)
    for seed in range(5):
        await assert_same_search(STOPPING, options, seed)


# --- its own parts ----------------------------------------------------------------------------


def test_the_tree_has_the_words_of_the_toy_with_their_rewards() -> None:
    for toy in (WIDE, STOPPING):
        tree = tree_of(toy)
        whole = {tree.names[code]: tree.rewards[code] for code in np.flatnonzero(tree.complete)}
        assert whole == toy.rewards


def test_words_are_drawn_by_the_law_of_the_toy() -> None:
    """40,000 draws of 11 words: less than 1 in 10⁹ seeds takes a sound law as far as .025."""
    tree = tree_of(STOPPING)
    draws = random_draws(40_000, seed=0)
    words = tree.finish(np.zeros(40_000, np.int64), lambda place: draws("extend", 1, 0, place))
    codes: list[int] = words.tolist()
    found = Counter(tree.names[code] for code in codes)

    def distance(law: Mapping[str, float]) -> float:
        return 0.5 * math.fsum(abs(found[name] / 40_000 - share) for name, share in law.items())

    law = {leaf.workflow.workflow_id: leaf.probability for leaf in STOPPING.leaves}
    assert found.keys() <= law.keys()
    assert distance(law) < 0.025
    # The control: words that are all as probable.
    assert distance(dict.fromkeys(STOPPING.rewards, 1 / len(STOPPING.leaves))) > 0.1
