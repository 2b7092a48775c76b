"""Runs a random program once for every outcome of its choices, so that expectations are exact.

    for tape in every_tape():
        value = program(tape)          # asks tape.choose([p_0, p_1, …]) wherever it draws
        expectation += tape.probability * value

The program must draw through the tape alone and in the same order every time.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bayesflow_sampler.resampling import Resampling, resample

__all__ = ["Tape", "enumerated_resample", "every_tape", "offset_pieces"]


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
    cuts = {0.0, 1.0}
    cumulative = 0.0
    for weight in weights:
        cumulative += weight
        cuts.add(count * cumulative - math.floor(count * cumulative))
    # Cuts that differ by rounding only are one cut.
    pieces = itertools.pairwise(sorted(cuts))
    return [(begin, end) for begin, end in pieces if end - begin > 1e-13]


def enumerated_resample(
    tape: Tape,
) -> Callable[[Sequence[float], int, Resampling, Callable[[int], float]], list[int]]:
    """The shipped `resample` with every outcome of its uniforms, each at its probability."""

    def resampled(
        weights: Sequence[float], count: int, scheme: Resampling, draw: Callable[[int], float]
    ) -> list[int]:
        if scheme == "systematic":
            pieces = offset_pieces(weights, count)
            begin, end = pieces[tape.choose([end - begin for begin, end in pieces])]
            return resample(weights, count, scheme, lambda _: (begin + end) / 2)
        chosen = [tape.choose(weights) for _ in range(count)]
        return resample(
            weights, count, scheme, lambda j: sum(weights[: chosen[j]]) + weights[chosen[j]] / 2
        )

    return resampled


def _following(taken: Sequence[tuple[int, int]]) -> list[int] | None:
    for place in reversed(range(len(taken))):
        index, options = taken[place]
        if index + 1 < options:
            return [taken[j][0] for j in range(place)] + [index + 1]
    return None
