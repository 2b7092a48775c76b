"""Exact match: the answer is the expected text, up to case and white space."""

from typing import Literal

from bayesflow_server.evaluation.scorers.text import (
    ScorerModel,
    answer_text,
    best_over_targets,
    fold,
)

__all__ = ["Exact"]


class Exact(ScorerModel):
    """1 for the expected text, else 0; white space runs count as one space."""

    kind: Literal["exact"] = "exact"
    case_sensitive: bool = False

    def normalise(self, answer: object) -> str:
        """The text that is compared, and that votes are counted by."""
        text = answer_text(answer)
        return " ".join(text.split()) if self.case_sensitive else fold(text)

    def score(self, answer: object, target: object) -> float:
        """1.0 or 0.0."""
        return best_over_targets(
            answer, target, lambda a, t: float(self.normalise(a) == self.normalise(t))
        )
