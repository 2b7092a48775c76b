"""From what the caller asked for to a scorer that fits the expected answers.

``"auto"`` guesses from the expected answers and says why; a `Label` scorer without labels gets
those that occur. `check_expected_answers` then holds the scorer against the rows that will be
scored: each expected answer must score 1 against itself, or what the scorer asks for must be there.
`task.py` calls both.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.example import Row, Target
from bayesflow_server.evaluation.scorers.json_fields import is_object
from bayesflow_server.evaluation.scorers.label import Label
from bayesflow_server.evaluation.scorers.math import Math
from bayesflow_server.evaluation.scorers.pass_at_1 import PassAt1
from bayesflow_server.evaluation.scorers.pattern import Regex
from bayesflow_server.evaluation.scorers.text import answer_text, fold_words
from bayesflow_server.evaluation.scorers.union import ComputedScorer, Scorer, parse_scorer
from bayesflow_server.excerpt import quoted

__all__ = ["ResolvedScorer", "check_expected_answers", "resolve_scorer"]

_NUMBER = re.compile(r"[-+]?[$€£¥₹]?\s?[0-9][0-9,]*(?:\.[0-9]+)?\s?%?|[-+]?\.[0-9]+")
_GSM8K = re.compile(r".*####\s*[-+]?[$]?[0-9][0-9,.]*\s*", re.DOTALL)
_LETTER = re.compile(r"\(?[A-J]\)?\.?")
_LATEX = re.compile(
    r"\\(?:[dt]?frac|sqrt|pi|infty|cdot|times|pm|text|left|boxed|circ)\b|[\w)}]\^[\w({\\]"
)
_YES_NO = frozenset({"yes", "no", "true", "false"})
_MOST_LABELS = 20
_ROWS_PER_LABEL = 3
_LONGEST_LABEL = 40
_FEWEST_LATEX = 0.05
_FREE_TEXT_WORDS = 3


@dataclass(frozen=True, slots=True)
class ResolvedScorer:
    """A scorer, and one sentence if it was guessed."""

    scorer: Scorer
    guess: str | None


class _Guess(NamedTuple):
    kind: str
    because: str


def resolve_scorer(
    spec: Scorer | str | Mapping[str, JsonValue], rows: Sequence[Row]
) -> ResolvedScorer:
    """Finds the scorer for these rows.

    Raises:
        InputError: The scorer is none, or cannot be guessed.
    """
    targets = [item for row in rows for item in _accepted(row.target)]
    guess = None
    if spec == "auto":
        if not targets:
            raise InputError(
                "The scorer cannot be guessed, because no row has an expected answer: name the "
                "field that holds it in `fields` as 'target', or name a scorer that needs none "
                "(judge, python, file, regex or pass_at_1)."
            )
        found = _guess(targets)
        guess = f"The scorer '{found.kind}' was taken because {found.because}."
        spec = found.kind
    scorer = parse_scorer(spec)
    if isinstance(scorer, Label) and scorer.labels is None:
        labels = sorted({answer_text(target) for target in targets})
        scorer = parse_scorer({"kind": "label", "labels": list(labels)})
    return ResolvedScorer(scorer, guess)


def check_expected_answers(scorer: Scorer, rows: Iterable[Row]) -> None:
    """Makes sure that every row has what the scorer needs, and that it can read it.

    Raises:
        InputError: A row lacks the expected answer or the hidden tests that the scorer needs, or
            has an answer that does not score 1 against itself; or mathematics cannot be compared
            here.
    """
    if isinstance(scorer, PassAt1):
        _check_tests(scorer, rows)
    elif isinstance(scorer, Math):
        _check_math(rows)
    elif isinstance(scorer, ComputedScorer):
        _check_gold(scorer, list(rows))


def _check_tests(scorer: PassAt1, rows: Iterable[Row]) -> None:
    needed = {"hidden tests": scorer.tests, "name of the function": scorer.entry_point}
    for row in rows:
        for what, field in needed.items():
            if not _says_something(row.meta.get(field)):
                raise InputError(
                    f"The row {quoted(row.id)} has no text in the field {quoted(field)}, where the "
                    "scorer "
                    f"'{scorer.kind}' looks for the {what}: add it, or name the right field in the "
                    "scorer."
                )


def _says_something(value: JsonValue) -> bool:
    """Whether it is a text, or a list of texts, that is not empty."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, str) and item.strip() for item in value)
    return isinstance(value, str) and bool(value.strip())


def _check_math(rows: Iterable[Row]) -> None:
    # Here, as `math_verifier` imports the scorers.
    from bayesflow_server.evaluation.math_verifier import math_ready

    if (problem := math_ready()) is not None:
        raise InputError(problem)
    for row in rows:
        if not any(answer_text(item) for item in _accepted(row.target)):
            raise _missing(row, "math")


def _check_gold(scorer: ComputedScorer, rows: Sequence[Row]) -> None:
    if isinstance(scorer, Regex) and all(row.target is None for row in rows):
        return
    for row in rows:
        accepted = _accepted(row.target)
        if not accepted:
            raise _missing(row, scorer.kind)
        if not isinstance(scorer, Regex) and scorer.score(accepted[0], row.target) < 1:
            raise InputError(
                f"The scorer '{scorer.kind}' cannot read the expected answer "
                f"{quoted(answer_text(accepted[0]))} of the row {quoted(row.id)}: correct it, or "
                "use "
                "another scorer."
            )


def _missing(row: Row, kind: str) -> InputError:
    return InputError(
        f"The row {quoted(row.id)} has no expected answer, which the scorer {quoted(kind)} needs: "
        "add it as "
        "'target', or remove the row."
    )


def _accepted(target: Target) -> list[Target]:
    """The equally good answers that a target stands for."""
    if target is None:
        return []
    return [item for item in target if item is not None] if isinstance(target, list) else [target]


def _guess(targets: Sequence[Target]) -> _Guess:
    """The first rule that all expected answers obey."""
    texts = [answer_text(target) for target in targets]
    if all(map(is_object, texts)):
        return _Guess("json", "expected answers are JSON objects")
    if any(isinstance(target, dict) for target in targets):
        return _Guess("exact", "some expected answers are objects")
    for kind, pattern, because in _FORMS:
        if all(map(pattern.fullmatch, texts)):
            return _Guess(kind, because)
    if (formulas := _formulas(texts)) > 0:
        return _Guess("math", f"{formulas} expected answers hold LaTeX")
    labels = set(texts)
    if _are_labels(labels, len(texts)):
        return _Guess("label", f"the expected answers are {len(labels)} short texts that recur")
    if _words(texts) > _FREE_TEXT_WORDS:
        return _Guess("f1", "the expected answers are free text")
    return _Guess("exact", "the expected answers are short texts")


_FORMS = (
    ("numeric", _NUMBER, "all expected answers are numbers"),
    ("numeric", _GSM8K, "all expected answers end in a number after ####"),
    ("choice", _LETTER, "all expected answers are letters from A to J"),
)


def _formulas(texts: Sequence[str]) -> int:
    """How many texts hold LaTeX; 0 where they are few or the others are free text."""
    others = [text for text in texts if _LATEX.search(text) is None]
    formulas = len(texts) - len(others)
    if formulas < _FEWEST_LATEX * len(texts) or (others and _words(others) > _FREE_TEXT_WORDS):
        return 0
    return formulas


def _words(texts: Sequence[str]) -> float:
    return sum(len(text.split()) for text in texts) / len(texts)


def _are_labels(labels: set[str], rows: int) -> bool:
    if len(labels) > _MOST_LABELS:
        return False
    folded = {fold_words(label) for label in labels}
    if "" in folded or len(folded) < len(labels) or max(map(len, labels)) > _LONGEST_LABEL:
        return False
    recur = len(labels) <= rows / _ROWS_PER_LABEL
    return len(labels) > 1 and (recur or folded <= _YES_NO)
