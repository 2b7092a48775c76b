"""Hostile payloads, one TOML file a family in `tests/sandbox/payloads`.

    name      what it does                     why      how it works, for whoever reads a failure
    marker    what shows that it got out       off      the defences without which it does
    code      the body of `__call__`           module   what stands before the class; none if absent
    judged    run behind the code, in the same process, with its `answer`, its `error` likewise
    next      run as a job of its own behind it: must find nothing; `judged`, if that is absent
    policy    the rule that refuses it, or "kept"
    monty     how Monty ends it where no policy has looked: an error's type, a limit, or "returned"

Names in capitals are given: see `planted.Planted.names`.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

__all__ = ["FOLDER", "Defence", "Marker", "Payload", "families", "load_payloads"]

FOLDER: Final = Path(__file__).parents[1] / "sandbox" / "payloads"

# What shows that a payload got out.
Marker = Literal[
    "secret",  # a planted secret in the answer, the failure or a call
    "proof",  # PROOF in the answer: returned only behind a forbidden act that succeeded
    "listener",  # a planted listener was spoken to
    "change",  # the planted folder is not as it was
    "process",  # a process of the name COMM is there
    "victim",  # the planted process was hurt
    "parent",  # the process that starts jobs was hurt
    "crash",  # the job's process died: no harm to anybody else, if nothing else happened
    "overrun",  # it was still running when the wall clock struck
    "spill",  # `judged`, in the same process, returns PROOF
]

# What stops it. Steps of the lock and namespaces by their names there; beside them:
Defence = Literal[
    "seccomp",
    "landlock",
    "rlimits",
    "namespaces",
    "capabilities",
    "nproc",  # of rlimits: no further process; it does not hold for root
    "dumpable",  # of no_new_privs: the process's own files in /proc are root's
    "environment",  # jobs start with no variables
    "descriptors",  # jobs inherit no descriptors
    "timer",  # limits on run time, sleep and output
    "process",  # what it wants, or would harm, is in another process
]
_FIELDS: Final = {
    *("name", "why", "marker", "off", "code", "module", "judged", "next", "policy", "monty"),
}


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload; see the module's text."""

    family: str
    name: str
    why: str
    marker: Marker
    off: frozenset[Defence]
    code: str
    policy: str
    monty: str
    module: str = ""
    judged: str = ""
    next: str = ""

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def load_payloads() -> tuple[Payload, ...]:
    """Every payload, by family and in the files' order.

    Raises:
        ValueError: A file holds what it may not.
    """
    return tuple(made for path in sorted(FOLDER.glob("*.toml")) for made in _family(path))


def families() -> dict[str, int]:
    """Family → how many payloads it has."""
    found = load_payloads()
    return {made.family: sum(other.family == made.family for other in found) for made in found}


def _family(path: Path) -> list[Payload]:
    data = tomllib.loads(path.read_text("utf-8"))
    return [_payload(data["title"], entry) for entry in data["payload"]]


def _payload(family: str, entry: dict[str, Any]) -> Payload:
    unknown = set(entry) - _FIELDS
    off = frozenset(entry["off"])
    if unknown or entry["marker"] not in get_args(Marker) or not off <= set(get_args(Defence)):
        raise ValueError(f"{family}: {entry['name']}: {unknown or entry['marker']} {set(off)}")
    fields: dict[str, Any] = {**entry, "family": family, "off": off}
    return Payload(**fields)
