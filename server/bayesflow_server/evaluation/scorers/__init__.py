"""Scorers: an answer and what was expected in, a number in [0, 1] out; one file a scorer.

A new scorer is a `ScorerModel` with a `kind` of its own, `normalise` and `score`; it joins `Scorer`
in `union.py`. `Judge` alone is not computed here: a model is asked (`evaluation.judging`).
"""

from bayesflow_server.evaluation.scorers.choice import Choice
from bayesflow_server.evaluation.scorers.exact import Exact
from bayesflow_server.evaluation.scorers.judge import Judge
from bayesflow_server.evaluation.scorers.label import Label
from bayesflow_server.evaluation.scorers.numeric import Numeric
from bayesflow_server.evaluation.scorers.pattern import Regex
from bayesflow_server.evaluation.scorers.resolve import (
    ResolvedScorer,
    check_expected_answers,
    resolve_scorer,
)
from bayesflow_server.evaluation.scorers.text import answer_text, target_text
from bayesflow_server.evaluation.scorers.token_f1 import TokenF1
from bayesflow_server.evaluation.scorers.union import (
    SCORER_KINDS,
    ComputedScorer,
    Scorer,
    parse_scorer,
)

__all__ = [
    "SCORER_KINDS",
    "Choice",
    "ComputedScorer",
    "Exact",
    "Judge",
    "Label",
    "Numeric",
    "Regex",
    "ResolvedScorer",
    "Scorer",
    "TokenF1",
    "answer_text",
    "check_expected_answers",
    "parse_scorer",
    "resolve_scorer",
    "target_text",
]
