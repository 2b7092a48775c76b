"""Runs a random program once for every outcome of its choices, so that expectations are exact.

    for tape in every_tape():
        value = program(tape)          # asks tape.choose([p_0, p_1, …]) wherever it draws
        expectation += tape.probability * value

The program must draw through the tape alone and in the same order every time.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.resampling import Resampling, resample

__all__ = [
    "Tape",
    "enumerated_resample",
    "enumerated_shuffles",
    "every_tape",
    "offset_pieces",
    "stratum_pieces",
]


@dataclass
class Tape:
    """One way the choices can fall."""

    planned: list[int] = field(default_factory=list[int])
    taken: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    probability: float = 1.0

    def choose(self, probabilities: Sequence[float]) -> int:
        """The index this tape takes at this choice."""
        place = len(self.taken)
        index = self.planned[place] if place < len(self.planned) else 0
        self.taken.append((index, len(probabilities)))
        self.probability *= probabilities[index]
        return index


def every_tape() -> Iterator[Tape]:
    """Tapes in lexical order; the next one is planned from what the program asked of the last."""
    planned: list[int] | None = []
    while planned is not None:
        tape = Tape(planned)
        yield tape
        planned = _following(tape.taken)


def offset_pieces(weights: Sequence[float], count: int) -> list[tuple[float, float]]:
    """[begin, end) pieces of [0, 1) on which systematic resampling's answer is constant."""
    bounds = [count * bound for bound in itertools.accumulate(weights)]
    return _pieces(bound - math.floor(bound) for bound in bounds)


def stratum_pieces(weights: Sequence[float], count: int, stratum: int) -> list[tuple[float, float]]:
    """[begin, end) pieces of [0, 1) on which one stratum's ancestor is constant."""
    return _pieces(count * bound - stratum for bound in itertools.accumulate(weights))


def enumerated_resample(
    tape: Tape,
) -> Callable[[Sequence[float], int, Resampling, Callable[[int], float]], list[int]]:
    """The shipped `resample` with every outcome of its uniforms, each at its probability."""

    def resampled(
        weights: Sequence[float], count: int, scheme: Resampling, draw: Callable[[int], float]
    ) -> list[int]:
        uniforms = _UNIFORMS[scheme](tape, weights, count)
        return resample(weights, count, scheme, lambda index: uniforms[index])

    return resampled


def enumerated_shuffles(tape: Tape) -> Callable[..., float]:
    """Stands in for `uniform` where rollouts are recycled: every order of two of them.

    The path is (seed, "recycle", round, parent, k). The two keys of a parent come out ascending or
    descending, with probability ½ each; any other path is NaN: its uniforms are
    enumerated elsewhere.
    """
    falling: dict[tuple[object, ...], int] = {}

    def draw(_seed: int, purpose: str, *path: int) -> float:
        if purpose != "recycle":
            return math.nan
        *parent, k = path
        assert k < 2, "two rollouts have two orders; more are not enumerated here"
        if tuple(parent) not in falling:
            falling[tuple(parent)] = tape.choose([0.5, 0.5])
        return 0.25 + 0.5 * (k ^ falling[tuple(parent)])

    return draw


def _systematic(tape: Tape, weights: Sequence[float], count: int) -> list[float]:
    return [_inside(tape, offset_pieces(weights, count))]


def _stratified(tape: Tape, weights: Sequence[float], count: int) -> list[float]:
    return [_inside(tape, stratum_pieces(weights, count, stratum)) for stratum in range(count)]


def _multinomial(tape: Tape, weights: Sequence[float], count: int) -> list[float]:
    """Any quantile of an index will do: the middle of its share."""
    entries = [index for index, weight in enumerate(weights) if weight > 0]
    shares = [weights[index] for index in entries]
    chosen = [entries[tape.choose(shares)] for _ in range(count)]
    return [math.fsum(weights[:index]) + weights[index] / 2 for index in chosen]


def _residual(tape: Tape, weights: Sequence[float], count: int) -> list[float]:
    """The copies that are certain draw nothing; the rest is multinomial by what is left over."""
    # Just below a whole number is rounding, and the copy is certain.
    certain = [math.floor(count * weight + 1e-9) for weight in weights]
    left = [max(0.0, count * w - copies) for w, copies in zip(weights, certain, strict=True)]
    rest = count - sum(certain)
    shares = [share / math.fsum(left) for share in left] if rest else []
    return _multinomial(tape, shares, rest) + [math.nan] * (count - rest)


_UNIFORMS: dict[Resampling, Callable[[Tape, Sequence[float], int], list[float]]] = {
    "systematic": _systematic,
    "stratified": _stratified,
    "residual": _residual,
    "multinomial": _multinomial,
}


def _pieces(cuts: Iterable[float]) -> list[tuple[float, float]]:
    bounds = sorted({0.0, 1.0, *(cut for cut in cuts if 0 < cut < 1)})
    # Cuts that differ by rounding only are one cut.
    return [(begin, end) for begin, end in itertools.pairwise(bounds) if end - begin > 1e-13]


def _inside(tape: Tape, pieces: Sequence[tuple[float, float]]) -> float:
    begin, end = pieces[tape.choose([end - begin for begin, end in pieces])]
    return (begin + end) / 2


def _following(taken: Sequence[tuple[int, int]]) -> list[int] | None:
    for place in reversed(range(len(taken))):
        index, options = taken[place]
        if index + 1 < options:
            return [taken[j][0] for j in range(place)] + [index + 1]
    return None
