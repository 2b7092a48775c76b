"""Builds what a run's search is made of from its pinned specification and rows."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from bayesflow_sampler.errors import GrammarError, SourceError
from bayesflow_sampler.grammar import Grammar, GrammarPrior
from bayesflow_sampler.grammar_file import general_grammar, load_grammar
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Workflow
from bayesflow_sandbox.policy import check_workflow
from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Row
from bayesflow_server.runs.spec import RunSpec

__all__ = ["Operators", "admit_workflow", "build_grammar", "build_operators"]

_DEMONSTRATIONS: Final = 4
_LONGEST_DEMONSTRATION: Final = 2_000


class Operators(NamedTuple):
    """What writes workflows: the prior p and the refiner G."""

    prior: GrammarPrior
    refiner: GrammarRefiner


def build_operators(spec: RunSpec, shown: Sequence[Row]) -> Operators:
    """The prior and the refiner of a run.

    Args:
        spec: The pinned specification.
        shown: Rows that may be shown in prompts: demonstrations, or else validation rows.
    """
    grammar = build_grammar(spec.grammar, spec.instructions, spec.answer_format, shown)
    return Operators(GrammarPrior(grammar, spec.seed), GrammarRefiner(grammar, spec.seed))


def build_grammar(
    text: str | None, instructions: str, answer_format: str | None, shown: Sequence[Row]
) -> Grammar:
    """The grammar with the task written into it; the built-in one if `text` is None.

    Raises:
        InputError: The grammar cannot serve as a prior.
    """
    fitting = [row for row in shown if len(row.problem) <= _LONGEST_DEMONSTRATION]
    slots: dict[str, object] = {
        "instructions": instructions,
        "answer_format": answer_format or "",
        "demonstrations": [
            [row.problem, _answer(row)] for row in fitting if row.target is not None
        ][:_DEMONSTRATIONS],
    }
    try:
        return general_grammar(slots) if text is None else load_grammar(text, slots)
    except GrammarError as error:
        raise InputError(f"The grammar cannot be used: {error}") from None


def admit_workflow(source: str) -> Workflow:
    """A workflow from outside, split into steps and checked against the static policy.

    Raises:
        InputError: It is not Python, not a workflow, has no steps, or breaks the policy.
    """
    try:
        workflow = parse_workflow(source)
    except SourceError as error:
        place = f" (line {error.line})" if error.line else ""
        raise InputError(f"The workflow cannot be used: {error}{place}") from None
    refusal = check_workflow(source)
    if refusal is not None:
        raise InputError(f"The workflow cannot be used: {refusal}")
    return workflow


def _answer(row: Row) -> str:
    target = row.target[0] if isinstance(row.target, list) and row.target else row.target
    return str(target)
