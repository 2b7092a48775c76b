"""A bench's line: the goal, the figure, and whether it was met. Benches assert nothing."""

import sys
from dataclasses import dataclass

__all__ = ["Figure", "say", "table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    Attributes:
        what: What was measured, on what.
        goal: The goal in words, or "none".
        figure: The figure in words.
        met: Whether it meets the goal; None where there is none.
    """

    what: str
    goal: str
    figure: str
    met: bool | None


def table(figures: list[Figure]) -> str:
    """The figures as aligned lines."""
    widths = [
        max(len(getattr(figure, name)) for figure in figures) for name in ("what", "goal", "figure")
    ]
    lines: list[str] = []
    for figure in figures:
        verdict = {True: "met", False: "MISSED", None: "-"}[figure.met]
        cells = (figure.what, figure.goal, figure.figure)
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, verdict]))
    return "\n".join(lines)


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
