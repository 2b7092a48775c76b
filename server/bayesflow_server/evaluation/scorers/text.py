"""What a workflow returned, as text; and the foldings that scorers compare texts under.

Answers are whatever a workflow returned. None is no answer and scores 0; true and false read "True"
and "False"; a float without a fraction reads like the whole number; a list of one is its element;
other lists and objects are JSON with sorted keys; anything else is its `str`.
"""

import json
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from pydantic import BaseModel, ConfigDict

__all__ = [
    "ScorerModel",
    "answer_text",
    "best_over_targets",
    "fold",
    "fold_words",
    "last_boxed",
    "last_match",
    "target_text",
]


class ScorerModel(BaseModel):
    """What all scorers share: closed, immutable parameters."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def answer_text(answer: object) -> str:
    """The answer as text without outer white space; empty for None."""
    if isinstance(answer, str):
        return answer.strip()
    if answer is None:
        return ""
    if isinstance(answer, bool):
        return str(answer)
    if isinstance(answer, float) and answer.is_integer() and abs(answer) < 1e15:
        return str(int(answer))
    if isinstance(answer, list | tuple):
        items = cast(Sequence[object], answer)
        return answer_text(items[0]) if len(items) == 1 else _json(list(items))
    if isinstance(answer, Mapping):
        return _json(cast(object, answer))
    return str(answer).strip()


def _json(value: object) -> str:
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):  # mixed keys, or a list that holds itself
        return ""


def target_text(target: object) -> str | None:
    """The expected answer as text to show, equally good ones one below the other; None if none."""
    if isinstance(target, list | tuple):
        items = cast(Sequence[object], target)
        return "\n(or)\n".join(answer_text(item) for item in items if item is not None) or None
    return None if target is None else answer_text(target)


def best_over_targets(answer: object, target: object, score: Callable[[str, str], float]) -> float:
    """The best score over the accepted answers; 0 for no answer.

    A target that is a list holds equally good answers; only a list meets it as a whole.
    """
    if answer is None or target is None:
        return 0.0
    text = answer_text(answer)
    if not isinstance(target, list | tuple):
        return score(text, answer_text(target))
    accepted = [answer_text(item) for item in cast(Sequence[object], target)]
    if isinstance(answer, list | tuple):
        accepted.append(answer_text(cast(object, target)))
    return max((score(text, other) for other in accepted), default=0.0)


def fold(text: str) -> str:
    """Drops differences of case, compatibility characters and white space. Idempotent."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    # NFKC of a folded text can fold once more for a few Greek characters.
    folded = unicodedata.normalize("NFKC", folded).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


_NO_WORD = re.compile(r"[\W_]+")


def fold_words(text: str) -> str:
    """`fold`, and every run of punctuation becomes one space. Idempotent."""
    return fold(_NO_WORD.sub(" ", fold(text)))


def last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last of the matches from left to right, or None."""
    last = deque(pattern.finditer(text), maxlen=1)
    return last[0] if last else None


_BRACES = re.compile(r"\\[{}]|(\\boxed)?\{|\}")


def last_boxed(text: str) -> str | None:
    r"""The content of the complete ``\boxed{…}`` that opens last, or None, in linear time."""
    if "\\boxed{" not in text:
        return None
    last: tuple[int, int] | None = None
    opened: list[re.Match[str]] = []
    for brace in _BRACES.finditer(text):
        if brace.group().startswith("\\") and brace.group(1) is None:
            continue
        if brace.group() != "}":
            opened.append(brace)
        elif opened and (start := opened.pop()).group(1) is not None:
            last = max(last or (0, 0), (start.end(), brace.start()))
    return None if last is None else text[slice(*last)].strip()
