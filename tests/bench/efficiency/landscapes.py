"""Synthetic landscapes: words of five letters, a prior over them, and each word's true accuracy.

Accuracies have mean 0.5 and standard deviation 0.1 over the words, as those of real workflows do.

    smooth      the sum of one effect a letter and place, and a little of the word's own
    rugged      two fifths of the variance from such a sum, the rest the word's own
    deceptive   first two letters that promise more leave less to gain behind them

The prior is flat, or each prefix has a Dirichlet(1) law of its own. Everything is enumerable.
"""

import itertools
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesflow_sampler.grammar import Grammar, Production
from bayesflow_sampler.types import Workflow
from fakes.toys import letter, workflow_of

__all__ = ["DEPTH", "KINDS", "SYMBOLS", "Kind", "Landscape", "Words", "make_landscape", "words"]

Floats = NDArray[np.float64]
Kind = Literal["smooth", "rugged", "deceptive"]

KINDS: Final[tuple[Kind, ...]] = ("smooth", "rugged", "deceptive")
SYMBOLS: Final = "abcde"
DEPTH: Final = 5
_MEAN: Final = 0.5
_SPREAD: Final = 0.1
_EDGE: Final = 0.02
_EARLY: Final = 2
_OWN: Final = {"smooth": 0.05, "rugged": 0.6, "deceptive": 0.05}
_SHAPE: Final = (len(SYMBOLS),) * DEPTH


class Words(NamedTuple):
    """All words in lexical order, the same on every landscape.

    Attributes:
        workflows: The workflow that spells each.
        places: The place of each workflow id.
    """

    workflows: tuple[Workflow, ...]
    places: dict[str, int]


@dataclass(frozen=True)
class Landscape:
    """A prior and a truth over the words.

    Attributes:
        kind: How the truth was made.
        grammar: The prior, to draw from.
        prior: p(s) of each word.
        truth: The probability, of each word, to answer a row rightly.
    """

    kind: Kind
    grammar: Grammar
    prior: Floats
    truth: Floats


@cache
def words() -> Words:
    """Every word of five letters."""
    spelled = ("".join(letters) for letters in itertools.product(SYMBOLS, repeat=DEPTH))
    workflows = tuple(workflow_of(word) for word in spelled)
    return Words(workflows, {one.workflow_id: place for place, one in enumerate(workflows)})


def make_landscape(kind: Kind, seed: int, *, flat: bool) -> Landscape:
    """A random landscape of its kind.

    Args:
        kind: How rewards depend on letters.
        seed: Draws effects and prior.
        flat: Whether every word is as likely as any other.
    """
    draw = np.random.default_rng([seed, KINDS.index(kind)])
    laws = [_laws(draw, place, flat=flat) for place in range(DEPTH)]
    prior = np.ones(1)
    for law in laws:
        prior = (prior[:, None] * law).ravel()
    shape = _deceptive(draw) if kind == "deceptive" else _sum(draw, range(DEPTH))
    own = _OWN[kind]
    heights = np.sqrt(1 - own) * _standard(shape) + np.sqrt(own) * draw.normal(size=_SHAPE)
    truth = np.clip(_MEAN + _SPREAD * _standard(heights), _EDGE, 1 - _EDGE).ravel()
    return Landscape(kind, _grammar(laws), prior, truth)


def _laws(draw: np.random.Generator, place: int, *, flat: bool) -> Floats:
    """The law of the letter at a place, a row for each prefix."""
    size = (len(SYMBOLS) ** place, len(SYMBOLS))
    return np.full(size, 1 / len(SYMBOLS)) if flat else draw.dirichlet(np.ones(size[1]), size[0])


def _sum(draw: np.random.Generator, places: range) -> Floats:
    """The sum of one effect a letter and place, for every word."""
    total = np.zeros(_SHAPE)
    for place in places:
        along = [len(SYMBOLS) if axis == place else 1 for axis in range(DEPTH)]
        total = total + draw.normal(size=len(SYMBOLS)).reshape(along)
    return total


def _deceptive(draw: np.random.Generator) -> Floats:
    """What the first letters promise, and what the later ones add: little behind high promises."""
    promise = _standard(_sum(draw, range(_EARLY)))
    gain = _standard(_sum(draw, range(_EARLY, DEPTH)))
    return 0.6 * promise + np.where(promise > 0, 0.3, 1.6) * gain


def _standard(heights: Floats) -> Floats:
    standard: Floats = (heights - heights.mean()) / heights.std()
    return standard


def _grammar(laws: list[Floats]) -> Grammar:
    """The laws as a grammar whose states are the prefixes."""
    productions: dict[str, tuple[Production, ...]] = {}
    for place, law in enumerate(laws):
        steps = [letter(symbol, place) for symbol in SYMBOLS]
        prefixes = ("".join(letters) for letters in itertools.product(SYMBOLS, repeat=place))
        for prefix, shares in zip(prefixes, law.tolist(), strict=True):
            productions[f"^{prefix}"] = tuple(
                Production(step, share, None if place + 1 == DEPTH else f"^{prefix}{symbol}")
                for step, share, symbol in zip(steps, shares, SYMBOLS, strict=True)
            )
    return Grammar("landscape", "^", productions)
