"""Token F1 as SQuAD and HotpotQA define it (Rajpurkar et al. 2016; Yang et al. 2018)."""

import re
import string
from collections import Counter
from typing import Literal

from bayesflow_server.evaluation.scorers.text import ScorerModel, answer_text, best_over_targets

__all__ = ["TokenF1"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
# HotpotQA: these are right or wrong as a whole.
_WHOLE = frozenset({"yes", "no", "noanswer"})


class TokenF1(ScorerModel):
    """The harmonic mean of token precision and recall, in [0, 1]."""

    kind: Literal["f1"] = "f1"

    def normalise(self, answer: object) -> str:
        """Small letters without ASCII punctuation and articles, single spaces."""
        text = answer_text(answer).lower().translate(_PUNCTUATION)
        return " ".join(_ARTICLE.sub(" ", text).split())

    def score(self, answer: object, target: object) -> float:
        """The F1 of the best of the accepted answers."""
        return best_over_targets(
            answer, target, lambda a, t: _token_f1(self.normalise(a), self.normalise(t))
        )


def _token_f1(answer: str, expected: str) -> float:
    if answer == expected:
        return 1.0
    if answer in _WHOLE or expected in _WHOLE:
        return 0.0
    found, right = answer.split(), expected.split()
    shared = (Counter(found) & Counter(right)).total()
    return 2 * shared / (len(found) + len(right)) if shared else 0.0
