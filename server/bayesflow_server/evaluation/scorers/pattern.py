"""A regular expression that finds the answer, and compares it where one is expected.

Answers are hostile and `re` has no time limit: a group that repeats may not itself hold a repeat or
an alternative (the exponential cases), and only the end of a long answer is searched.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pydantic import field_validator

from bayesflow_server.evaluation.scorers.text import (
    ScorerModel,
    answer_text,
    best_over_targets,
    fold,
    last_match,
)

__all__ = ["Regex"]

_SEARCHED = 1000
_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(|\)|\||[*+]|\{[0-9]*,?[0-9]*\}|.", re.DOTALL)


class Regex(ScorerModel):
    """1 if the last match in the answer is the expected text, else 0.

    The first group of `pattern` is compared (the whole match if it has none), up to case and white
    space. A row without an expected answer scores 1 wherever the pattern is found.
    """

    kind: Literal["regex"] = "regex"
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compile(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"the pattern is no regular expression ({error})") from None
        if _may_explode(pattern):
            raise ValueError(
                "the pattern repeats a group that holds a repeat or an alternative, which could "
                "run for ever; write it without"
            )
        return pattern

    def normalise(self, answer: object) -> str:
        """What the pattern finds, folded; empty if nothing."""
        found = self._find(answer_text(answer))
        return "" if found is None else fold(found)

    def score(self, answer: object, target: object) -> float:
        """1.0 or 0.0."""
        if answer is None:
            return 0.0
        found = self._find(answer_text(answer))
        if found is None:
            return 0.0
        if target is None:
            return 1.0
        return best_over_targets(found, target, lambda a, t: float(fold(a) == fold(t)))

    def _find(self, text: str) -> str | None:
        last = last_match(re.compile(self.pattern), text[-_SEARCHED:])
        if last is None:
            return None
        return (last.group(1) or "") if last.re.groups else last.group()


def _may_explode(pattern: str) -> bool:
    """Whether a group that holds a repeat or an alternative is itself repeated."""
    open_groups: list[bool] = []
    closed = False
    for token, repeats in _with_repeats(pattern):
        if token == "(":
            open_groups.append(False)
            continue
        if token == ")" and open_groups:
            closed = open_groups.pop()
            if closed and repeats:
                return True
        risky = repeats or token == "|" or (token == ")" and closed)
        if risky and open_groups:
            open_groups[-1] = True
    return False


def _with_repeats(pattern: str) -> Iterator[tuple[str, bool]]:
    """Each token, and whether an open-ended or counted repeat follows it."""
    tokens = _TOKEN.findall(pattern)
    for index, token in enumerate(tokens):
        after = tokens[index + 1] if index + 1 < len(tokens) else ""
        yield token, after in ("*", "+") or (after.startswith("{") and len(after) > 1)
