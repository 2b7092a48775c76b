"""Counter-based random numbers: `uniform(seed, *path)` depends on its arguments and nothing else.

So a run's result does not depend on the order in which its calls complete, on what else runs, or on
the version of a library; and a resumed run draws what the interrupted one drew.
"""

import hashlib
import json

__all__ = ["permutation", "uniform", "unit_interval"]


def uniform(seed: int, *path: str | int) -> float:
    """A number in [0, 1) with 53 random bits, from blake2b of the seed and the path."""
    text = json.dumps([seed, *path], separators=(",", ":"))
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return unit_interval(digest)


def unit_interval(digest: bytes) -> float:
    """The first 53 bits of 8 bytes as a number in [0, 1); adding a half bit would round to 1."""
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def permutation(count: int, seed: int, *path: str | int) -> list[int]:
    """A uniform random order of range(count)."""
    return sorted(range(count), key=lambda index: uniform(seed, *path, index))
