"""`pytest.approx` with types, which strict checking misses in pytest's own."""

from collections.abc import Mapping, Sequence

import pytest

__all__ = ["approx"]


def approx(
    expected: float | Sequence[float] | Mapping[str, float],
    *,
    rel: float | None = None,
    abs: float | None = None,
) -> object:
    """Equal to whatever lies within the tolerance (1e-6 relative unless told otherwise)."""
    return pytest.approx(expected, rel=rel, abs=abs)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
