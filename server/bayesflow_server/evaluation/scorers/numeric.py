r"""Numbers by the GSM8K rule: the last number in the answer counts.

Thousands separators, currency signs and LaTeX spacing are dropped; where the answer has a
``\boxed{…}`` its content is read instead, fractions included.
"""

import re
from decimal import Decimal, localcontext
from typing import Literal

from pydantic import Field

from bayesflow_server.evaluation.scorers.text import (
    ScorerModel,
    answer_text,
    best_over_targets,
    last_boxed,
    last_match,
)

__all__ = ["Numeric", "last_number"]

_LATEX_NOISE = re.compile(r"\\[,!;:]|\{,\}")
_SIGNED_CURRENCY = re.compile(r"([-+])\s?\\?[$€£¥₹](?=\s?[0-9.])")
_CURRENCY = re.compile(r"\\?[$€£¥₹]")
_THOUSANDS = re.compile(r"(?<=[0-9]),(?=[0-9]{3}(?![0-9]))")
# A minus is a sign only where nothing that could be subtracted from stands before it.
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])[-+])?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2}(?![0-9]))?"
)
_FRACTION = re.compile(r"(-?)\\?[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}|(-?)([0-9]+)\s?/\s?([0-9]+)")
_LONGEST_NUMBER = 400
_DIGITS = 40


class Numeric(ScorerModel):
    """1 if the last number of the answer is the expected one, else 0."""

    kind: Literal["numeric"] = "numeric"
    tolerance: float = Field(default=1e-6, ge=0, description="Largest absolute difference.")

    def normalise(self, answer: object) -> str:
        """The last number as plain decimal digits; empty if there is none."""
        number = last_number(answer_text(answer))
        return "" if number is None else _plain(number)

    def score(self, answer: object, target: object) -> float:
        """1.0 or 0.0."""

        def close(text: str, expected: str) -> float:
            found, right = last_number(text), last_number(expected)
            if found is None or right is None:
                return 0.0
            if found == right:
                return 1.0
            with localcontext(prec=_DIGITS):
                return float(abs(found - right) <= Decimal(self.tolerance))

        return best_over_targets(answer, target, close)


def last_number(text: str) -> Decimal | None:
    """The last number in a text, to 40 digits, or None. A text that *is* a fraction counts."""
    boxed = last_boxed(text)
    text = (text if boxed is None else boxed).replace("\N{MINUS SIGN}", "-")
    if (fraction := _FRACTION.fullmatch(text.strip(" $."))) is not None:
        return _quotient(fraction)
    text = _SIGNED_CURRENCY.sub(r" \1", _LATEX_NOISE.sub("", text))
    text = _THOUSANDS.sub("", _CURRENCY.sub(" ", text))
    last = last_match(_NUMBER, text)
    if last is None or len(last.group()) > _LONGEST_NUMBER:
        return None
    with localcontext(prec=_DIGITS):
        return +Decimal(last.group())


def _quotient(fraction: re.Match[str]) -> Decimal | None:
    sign, above, below = (
        fraction.group(1, 2, 3) if fraction.group(2) is not None else fraction.group(4, 5, 6)
    )
    if len(above) + len(below) > _LONGEST_NUMBER or int(below) == 0:
        return None
    with localcontext(prec=_DIGITS):
        value = Decimal(above) / Decimal(below)
        return -value if sign else value


def _plain(number: Decimal) -> str:
    with localcontext(prec=_DIGITS):
        text = format(number.normalize(), "f")
    return "0" if text == "-0" else text
