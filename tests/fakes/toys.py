"""Enumerable toys: a small grammar whose posterior, evidence and paper limit are known exactly.

A toy's workflows are words over `symbols`, at most `depth` letters long; one letter is one step.
Every prefix has its own next-letter law and every complete word its own reward, so that nothing
about the prior or the reward is symmetric by accident.
"""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bayesflow_sampler.grammar import PREAMBLE, Grammar, Production
from bayesflow_sampler.types import Step, Workflow

__all__ = ["Leaf", "Toy", "letter", "make_toy", "word_of", "workflow_of"]

STOP = "."


class Leaf(NamedTuple):
    """A complete word with its prior probability and reward."""

    workflow: Workflow
    probability: float
    reward: float


@dataclass(frozen=True)
class Toy:
    """A grammar with the reward of each of its workflows."""

    grammar: Grammar
    leaves: tuple[Leaf, ...]

    @property
    def rewards(self) -> dict[str, float]:
        return {leaf.workflow.workflow_id: leaf.reward for leaf in self.leaves}

    def evidence(self, beta: float) -> float:
        """Z = Σ p(s) exp(β·R(s))."""
        return self.value((), beta)

    def value(self, steps: tuple[Step, ...], beta: float) -> float:
        """V(s_1:t) = E[exp(β·R) | s_1:t]: what an infinite number of rollouts would find."""
        inside = [leaf for leaf in self.leaves if leaf.workflow.steps[: len(steps)] == steps]
        mass = math.fsum(leaf.probability for leaf in inside)
        return math.fsum(leaf.probability * math.exp(beta * leaf.reward) for leaf in inside) / mass

    def posterior(self, beta: float) -> dict[str, float]:
        """q(s) ∝ p(s) exp(β·R(s))."""
        return _normalised(
            {
                leaf.workflow.workflow_id: leaf.probability * math.exp(beta * leaf.reward)
                for leaf in self.leaves
            }
        )

    def paper_limit(self, beta: float, rounds: int) -> dict[str, float]:
        """p(s) Π_t V(s_1:t): the limit of Algorithm 1 as printed (a short word's V stays)."""
        values: dict[tuple[Step, ...], float] = {}
        limit: dict[str, float] = {}
        for leaf in self.leaves:
            product = leaf.probability
            for t in range(1, rounds + 1):
                steps = leaf.workflow.steps[:t]
                if steps not in values:
                    values[steps] = self.value(steps, beta)
                product *= values[steps]
            limit[leaf.workflow.workflow_id] = product
        return _normalised(limit)


def letter(symbol: str, place: int) -> Step:
    """The step that writes one letter."""
    return Step(f"Write {symbol}", f"        letter_{place} = {symbol!r}\n")


def workflow_of(word: str) -> Workflow:
    """The workflow that spells a word, for tests that need no grammar."""
    return Workflow(PREAMBLE, tuple(letter(symbol, place) for place, symbol in enumerate(word)))


def word_of(workflow: Workflow) -> str:
    """The word a toy's workflow spells."""
    return "".join(step.title.removeprefix("Write ") for step in workflow.steps)


def make_toy(symbols: str, depth: int, seed: int, *, stop: bool = False) -> Toy:
    """A random toy.

    Args:
        symbols: The alphabet.
        depth: Letters in a word; the most, if words may stop early.
        seed: Draws the laws (flat Dirichlet, never below 1 %) and the rewards (uniform).
        stop: Whether a word may end after any letter.
    """
    draw = random.Random(seed)
    productions: dict[str, tuple[Production, ...]] = {}

    def grow(state: str) -> None:
        place = len(state) - 1
        ends = place + 1 == depth
        # A letter may carry on or, if words may stop early, end the word as a variant of itself.
        choices = [(letter(symbol, place), None if ends else state + symbol) for symbol in symbols]
        if stop and not ends:
            choices += [(letter(symbol + STOP, place), None) for symbol in symbols[:1]]
        weights = [draw.gammavariate(1.0, 1.0) + 0.02 for _ in choices]
        productions[state] = tuple(
            Production(step, weight / math.fsum(weights), following)
            for (step, following), weight in zip(choices, weights, strict=True)
        )
        for _, following in choices:
            if following is not None:
                grow(following)

    grow("^")
    grammar = Grammar("toy", "^", productions)
    leaves = tuple(
        Leaf(workflow, probability, draw.random()) for workflow, probability in grammar.enumerate()
    )
    return Toy(grammar, leaves)


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {name: weight / total for name, weight in weights.items()}
