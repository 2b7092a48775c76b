"""What one execution may use up. Checked once, here; the engines trust it."""

from dataclasses import dataclass, fields
from typing import Final, Literal, NamedTuple

from bayesflow_sandbox.errors import LimitsError

__all__ = ["LimitName", "Limits"]

LimitName = Literal[
    "run_seconds",
    "memory_bytes",
    "host_calls",
    "sleep_seconds",
    "output_bytes",
    "return_bytes",
    "wall_seconds",
]


class _Range(NamedTuple):
    low: float
    high: float


_MIB: Final = 1 << 20
_RANGES: Final[dict[str, _Range]] = {
    "run_seconds": _Range(0.01, 600),
    "memory_bytes": _Range(4 * _MIB, 1024 * _MIB),
    "host_calls": _Range(0, 10_000),
    "sleep_seconds": _Range(0, 60),
    "output_bytes": _Range(0, _MIB),
    "return_bytes": _Range(64, 16 * _MIB),
    "wall_seconds": _Range(0.01, 86_400),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one execution.

    Attributes:
        run_seconds: Seconds of interpreted code, host calls and sleeps not counted; 0.01 to 600.
        memory_bytes: Heap of the interpreter; 4 MiB to 1 GiB. Bounds as well how long a hostile
            value keeps the host busy reading it (0.15 s at 32 MiB).
        host_calls: Calls through the door (``call_llm``); 0 to 10,000.
        sleep_seconds: Sum of all sleeps; 0 to 60.
        output_bytes: Text printed, which is thrown away; 0 to 1 MiB.
        return_bytes: Size of the returned value, as JSON about; 64 bytes to 16 MiB.
        wall_seconds: Seconds from the first instruction to the outcome, host calls included, the
            wait for a free worker not; 0.01 to 86,400.

    Raises:
        LimitsError: A value is outside its range.
    """

    run_seconds: float = 5.0
    memory_bytes: int = 32 * _MIB
    host_calls: int = 200
    sleep_seconds: float = 1.0
    output_bytes: int = 64 * 1024
    return_bytes: int = _MIB
    wall_seconds: float = 300.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _RANGES[field.name]
            if not low <= value <= high:  # NaN fails both comparisons
                raise LimitsError(field.name, value, low, high)
