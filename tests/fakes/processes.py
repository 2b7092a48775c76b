"""Processes as Linux shows them in /proc: who descends from whom, and who was left behind."""

import select
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fakes.server_process import is_running

__all__ = ["Process", "gone", "orphans_since", "processes_below", "until_true"]

_PATIENCE: Final = 20.0
# What our own processes have in their command line, wherever they are started from.
_OURS: Final = ("bayesflow", "math_worker", "local_worker")


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        parent: The id of its parent.
        began: When it was started, in ticks since the machine was.
        command: Its command line.
    """

    pid: int
    parent: int
    began: int
    command: str


def _all() -> list[Process]:
    found: list[Process] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has just ended
                continue
            found.append(Process(int(folder.name), int(fields[1]), int(fields[19]), command))
    return found


def processes_below(pid: int) -> list[Process]:
    """The descendants of a process, whatever their session."""
    everyone = _all()
    below, found = {pid}, list[Process]()
    while True:
        more = [one for one in everyone if one.parent in below and one.pid not in below]
        if not more:
            return found
        found += more
        below |= {one.pid for one in more}


def orphans_since(began: int) -> list[Process]:
    """Processes of ours that the first process has adopted since then."""
    return [
        one
        for one in _all()
        if one.parent == 1 and one.began >= began and any(name in one.command for name in _OURS)
    ]


def gone(processes: Iterable[Process]) -> bool:
    """Whether they all end within a few seconds."""
    left = [one.pid for one in processes]
    return until_true(lambda: not any(map(is_running, left)))


def until_true(holds: Callable[[], bool]) -> bool:
    """Whether the condition comes to hold within a few seconds."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.02)
    return True
