"""Accuracy over a closed set of labels, read out of a longer answer."""

from typing import Literal

from pydantic import field_validator

from bayesflow_server.evaluation.scorers.text import (
    ScorerModel,
    answer_text,
    best_over_targets,
    fold_words,
)
from bayesflow_server.excerpt import quoted

__all__ = ["Label"]


class Label(ScorerModel):
    """1 if the answer names the expected label and no other, else 0.

    Case and punctuation do not count. Where one label contains another ("very good", "good") the
    longer one is read. Without `labels` the whole answer must be the label; a task fills them in
    from its expected answers.
    """

    kind: Literal["label"] = "label"
    labels: tuple[str, ...] | None = None

    @field_validator("labels")
    @classmethod
    def _tell_labels_apart(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        seen: dict[str, str] = {}
        for label in labels or ():
            other = seen.setdefault(fold_words(label), label)
            if not fold_words(label):
                raise ValueError(f"the label {quoted(label)} has no letter or digit; use 'exact'")
            if other != label:
                raise ValueError(
                    f"the labels {quoted(other)} and {quoted(label)} differ in case or punctuation "
                    "only; "
                    "use 'exact'"
                )
        return labels

    def normalise(self, answer: object) -> str:
        """The one label that the answer names, folded; empty if it names none or several."""
        folded = fold_words(answer_text(answer))
        if self.labels is None:
            return folded
        named = self._named(folded)
        return named.pop() if len(named) == 1 else ""

    def score(self, answer: object, target: object) -> float:
        """1.0 or 0.0."""

        def same(text: str, expected: str) -> float:
            named = self.normalise(text)
            return float(named != "" and named == fold_words(expected))

        return best_over_targets(answer, target, same)

    def _named(self, folded: str) -> set[str]:
        named: set[str] = set()
        rest = f" {folded} "
        for label in sorted(map(fold_words, self.labels or ()), key=len, reverse=True):
            # The bar parts what is left, so that no label is read across a removed one.
            without = rest.replace(f" {label} ", " | ")
            if without != rest:
                named.add(label)
            rest = without
        return named
