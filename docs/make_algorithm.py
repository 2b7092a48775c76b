"""Writes the numbers and the plot of docs/algorithm.md; `make docs` calls it.

The numbers are of the toy in algorithm_toy: most are enumerated, the convergence is simulated with
the shipped selection. With `--check` it writes nothing, and its exit code is 1 if an enumerated
number of the page is stale.
"""

# matplotlib annotates its methods in part only.
# pyright: reportUnknownMemberType=false

import math
import statistics
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from algorithm_toy import (
    NEXT_A,
    REWARDS,
    STEPS,
    VARIANTS,
    WORDS,
    completions,
    mean_at_fitted_beta,
    mean_estimate,
    mean_reward,
    objective,
    posterior,
    printed_limit,
    prior,
    total_variation,
    value,
)

from bayesflow_sampler.selection import Weighting, select
from bayesflow_sampler.weights import normalise

PAGE: Final = Path(__file__).with_name("algorithm.md")
PLOT: Final = Path(__file__).with_name("algorithm.png")

# --- convergence, by simulation ---------------------------------------------------------------

SIZES: Final = (10, 32, 100, 316, 1000, 3162, 10_000, 31_623, 100_000)
_SEEDS: Final = (40, 400)  # at least and at most
_PARTICLES_A_SIZE: Final = 400_000


def distances() -> dict[str, list[float]]:
    """Mean total variation to q at β = 1 for each of SIZES; K = 1, systematic resampling."""
    # Imported here: numpy belongs to the development tools, and --check needs none.
    import numpy as np
    from numpy.typing import NDArray

    target = np.array(list(posterior(1.0).values()))
    rewards = np.array(list(REWARDS.values()))
    laws = {prefix: np.zeros(len(WORDS)) for prefix in ("", *NEXT_A)}
    for prefix, law in laws.items():
        for probability, word in completions(prefix):
            law[WORDS.index(word)] = probability
    # For each round, a cumulative row a word: the law of the words that share its first t letters.
    tables = [np.array([np.cumsum(laws[word[:t]])[:-1] for word in WORDS]) for t in range(STEPS)]

    def run(weighting: Weighting, count: int, seed: int) -> float:
        random = np.random.default_rng([seed, count])
        words: NDArray[np.int64] = np.zeros(count, np.int64)
        log_weights = np.zeros(count)
        for number in range(1, STEPS + 1):
            # The word that a particle holds stands for its prefix.
            passed = tables[number - 1][words] <= random.random((count, 1))
            words = passed.sum(axis=1)
            if number == STEPS:
                break
            uniforms = [float(random.random())]
            chosen = select(
                log_weights.tolist(),
                rewards[words].tolist(),
                count,
                uniforms.__getitem__,
                weighting=weighting,
            )
            words, log_weights = words[list(chosen.ancestors)], np.array(chosen.log_weights)
        weights = np.exp(log_weights + rewards[words])
        found = np.bincount(words, weights, len(WORDS)) / weights.sum()
        return float(np.abs(found - target).sum() / 2)

    def independent(count: int, seed: int) -> float:
        found = np.random.default_rng([seed, count]).multinomial(count, target) / count
        return float(np.abs(found - target).sum() / 2)

    curves: dict[str, list[float]] = {
        "independent draws from q": [],
        "exact weighting": [],
        "paper weighting": [],
    }
    for count in SIZES:
        seeds = range(max(_SEEDS[0], min(_SEEDS[1], _PARTICLES_A_SIZE // count)))
        means = (
            statistics.fmean(independent(count, seed) for seed in seeds),
            statistics.fmean(run("exact", count, seed) for seed in seeds),
            statistics.fmean(run("paper", count, seed) for seed in seeds),
        )
        for curve, mean in zip(curves.values(), means, strict=True):
            curve.append(mean)
    return curves


def draw(curves: Mapping[str, Sequence[float]]) -> None:
    """Writes the plot: the three laws side by side, and the distance to q against N."""
    # Imported here: matplotlib belongs to an extra and takes most of a second.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    start, target, limit = prior(), posterior(1.0), printed_limit(1.0)
    bars = (
        ("prior p", "#bbbbbb", start),
        ("target q", "#4c72b0", target),
        ("limit of Algorithm 1 as printed", "#c44e52", limit),
    )
    for shift, (label, colour, law) in zip((-0.27, 0.0, 0.27), bars, strict=True):
        places = [index + shift for index in range(len(WORDS))]
        left.bar(places, list(law.values()), 0.27, label=label, color=colour)
    names = [f"{word}\n{REWARDS[word]:g}" for word in WORDS]
    left.set_xticks(range(len(WORDS)), names)
    left.set_xlabel("word and its reward")
    left.set_ylabel("probability")
    left.legend(fontsize=8)
    looks = ((":", "#000000"), ("o-", "#4c72b0"), ("s-", "#c44e52"))
    for (name, curve), (style, colour) in zip(curves.items(), looks, strict=True):
        right.loglog(SIZES, curve, style, color=colour, label=name, markersize=4)
    for law, label, colour in (
        (limit, "the printed limit", "#c44e52"),
        (start, "the prior", "#888888"),
    ):
        distance = total_variation(law, target)
        right.axhline(distance, color=colour, linestyle="--", linewidth=0.8, label=label)
    right.set_xlabel("particles N")
    right.set_ylabel("total variation to q")
    right.grid(alpha=0.3)
    right.legend(fontsize=8)
    figure.savefig(PLOT, metadata={"Software": None})


# --- the page ---------------------------------------------------------------------------------


def blocks() -> dict[str, str]:
    """The enumerated parts of the page by name."""
    return {
        "words": _words(),
        "limits": _limits(),
        "selection": _selection(),
        "evidence": _evidence(),
        "fitted": _fitted(),
        "theorems": _theorems(),
    }


def replaced(page: str, parts: Mapping[str, str]) -> str:
    """The page with the text between each part's markers made anew.

    Raises:
        ValueError: The page does not have the markers.
    """
    for name, text in parts.items():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        head, found, rest = page.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"algorithm.md has no markers for the part {name!r}")
        page = f"{head}{begin}{text}\n{end}{tail}"
    return page


def _words() -> str:
    start, target, limit = prior(), posterior(1.0), printed_limit(1.0)
    rows = [
        f"| {word} | {start[word]:.2f} | {REWARDS[word]:.1f} | {value(word[:1], 1.0):.3f} | "
        f"{value(word[:2], 1.0):.3f} | {value(word, 1.0):.3f} | {target[word]:.3f} | "
        f"{limit[word]:.3f} |"
        for word in WORDS
    ]
    head = ["| word s | p | R | V₁ | V₂ | V₃ = exp R | target q | printed limit |"]
    return "\n".join([*head, "|---|" + "---|" * 7, *rows])


def _limits() -> str:
    rows = ["| β | Z | total variation, p to q | total variation, printed limit to q |"]
    rows.append("|---|" + "---|" * 3)
    for beta in (1.0, 2.0, 5.0):
        target = posterior(beta)
        rows.append(
            f"| {beta:g} | {value('', beta):.4f} | {total_variation(prior(), target):.3f} | "
            f"{total_variation(printed_limit(beta), target):.3f} |"
        )
    return "\n".join(rows)


def _selection() -> str:
    words = ("AAA", "BAB")
    scores = [REWARDS[word] for word in words]
    shares = normalise(scores)
    selected = select([0.0, 0.0], scores, len(words), lambda _: 0.5)
    weights = [math.exp(selected.log_weights[selected.ancestors.index(i)]) for i in (0, 1)]
    return _wrapped(
        f"An example at N = 2: the first letters A and B, with rollouts {words[0]} (R = "
        f"{scores[0]}) and {words[1]} (R = {scores[1]}), are selected with π = {shares[0]:.3f} "
        f"and {shares[1]:.3f}. On average A has {2 * shares[0]:.3f} children of weight "
        f"{weights[0]:.3f} and B {2 * shares[1]:.3f} of weight {weights[1]:.3f}: each prefix keeps "
        "a mean weight of 1, and what has changed is where the next calls are spent."
    )


def _evidence() -> str:
    rows = ["| sampler, N = 2 | mean of Ẑ / Z |", "|---|---|"]
    rows += [f"| {name} | {mean_estimate(variant):.6f} |" for name, variant in VARIANTS.items()]
    return "\n".join(rows)


def _fitted() -> str:
    means = {count: mean_at_fitted_beta(count) for count in (3, 6, 10)}
    listed = ", ".join(f"{mean:.3f} at N = {count}" for count, mean in means.items())
    return _wrapped(
        "For the toy, the mean of Ẑ(β)/Z(β) over N prior draws, with β fitted to those same draws, "
        f"is {listed}."
    )


def _theorems() -> str:
    start, target, limit = prior(), posterior(1.0), printed_limit(1.0)
    ratio = value("A", 1.0) / value("B", 1.0)
    after = [share * ratio / (share * ratio + 1 - share) for share in (0.1, 0.2)]
    return _wrapped(
        f"On the toy E[R] is {mean_reward(start):.3f} under p and {mean_reward(target):.3f} under "
        f"q; the printed limit has {mean_reward(limit):.3f}. The objective of Theorem 3 is "
        f"{objective(target):.4f} = log Z at q, {objective(start):.4f} at p and "
        f"{objective(limit):.4f} at the printed limit. Two laws of the first letter with 0.1 and "
        f"0.2 on A differ by 0.1; reweighted by V₁ they differ by {after[1] - after[0]:.3f}."
    )


def _convergence(curves: Mapping[str, Sequence[float]]) -> str:
    ends = ", ".join(f"{curve[-1]:.4f} for {name}" for name, curve in curves.items())
    limit = total_variation(printed_limit(1.0), posterior(1.0))
    return _wrapped(
        f"At N = {SIZES[-1]:,} the mean distance over {_SEEDS[0]} runs is {ends}; the printed "
        f"limit stands at {limit:.4f}."
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 108, break_on_hyphens=False)


def main() -> int:
    """Writes or checks the page."""
    page = PAGE.read_text(encoding="utf-8")
    if "--check" in sys.argv:
        return 0 if replaced(page, blocks()) == page else 1
    curves = distances()
    PAGE.write_text(
        replaced(page, {**blocks(), "convergence": _convergence(curves)}), encoding="utf-8"
    )
    draw(curves)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
