"""Which plots there are; imported where nothing heavy may be."""

from typing import Literal

__all__ = ["PlotKind"]

PlotKind = Literal["rewards", "genealogy", "posterior", "accuracy_cost"]
