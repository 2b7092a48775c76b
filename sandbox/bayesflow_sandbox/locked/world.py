"""A child's surroundings: a clock that stands, and randomness that is the seed's alone.

Results may not depend on when, or how often, something ran; the other engine does the same. The
zygote installs this once and its children inherit it. It is a convenience, not a defence.
"""

import datetime
import random
import time
from collections.abc import Callable
from typing import Final

__all__ = ["NOW", "REAL_MONOTONIC", "REAL_SLEEP", "install", "seed_random"]

NOW: Final = 1767225600.0  # 2026-01-01 00:00:00 UTC
REAL_MONOTONIC: Final[Callable[[], float]] = time.monotonic
REAL_SLEEP: Final[Callable[[float], None]] = time.sleep

_CLOCKS: Final = ("time", "monotonic", "perf_counter", "process_time", "thread_time")


class _Random(random.Random):
    """Seeds itself from the execution's seed where the library would ask the system."""

    source: random.Random | None = None

    def seed(  # type: ignore[override]
        self, a: int | float | str | bytes | bytearray | None = None, version: int = 2
    ) -> None:
        if a is None and self.source is not None:
            a = self.source.getrandbits(64)
        super().seed(a, version)


class _DatetimeKind(type):
    """Takes every datetime for one of its own."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _REAL_DATETIME)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _REAL_DATETIME)


_REAL_DATETIME: Final = datetime.datetime


class _Datetime(datetime.datetime, metaclass=_DatetimeKind):
    """``today`` asks ``time.time``, which stands; these two would ask the system."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(NOW, tz)

    @classmethod
    def utcnow(cls) -> "_Datetime":
        return cls.fromtimestamp(NOW, datetime.UTC).replace(tzinfo=None)


def install() -> None:
    """Replaces clocks and randomness in ``time``, ``datetime`` and ``random``."""
    for name in _CLOCKS:
        setattr(time, name, _now)
        setattr(time, f"{name}_ns", _now_ns)
    for kind in (_Datetime, _Random):
        kind.__module__ = kind.__base__.__module__ if kind.__base__ else ""
        kind.__qualname__ = kind.__name__ = kind.__name__.lower().lstrip("_")
    _Random.__qualname__ = _Random.__name__ = "Random"
    setattr(datetime, "datetime", _Datetime)  # noqa: B010 - a type checker forbids the plain form
    generator = _Random(0)
    _Random.source = random.Random(0)
    for name in dir(random):
        if isinstance(getattr(getattr(random, name), "__self__", None), random.Random):
            setattr(random, name, getattr(generator, name))
    setattr(random, "Random", _Random)  # noqa: B010


def seed_random(seed: int) -> None:
    """Seeds the module's generator and all that come after it."""
    _Random.source = _Random(seed ^ 0x5EED)
    random.seed(seed)


def _now() -> float:
    return NOW


def _now_ns() -> int:
    return int(NOW) * 10**9
