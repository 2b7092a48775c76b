"""The zygote: a fresh interpreter that forks one child for each job and never reads a job itself.

Started by ``process`` without site packages, with one descriptor, the control socket, and with no
environment but the seed of Python's hashes, which it forgets. It imports what children will need,
enters namespaces as far as it may, and then obeys:

    {"op": "spawn", "id": 7, "profile": "workflow", ...} and a descriptor   → fork
    {"op": "kill", "id": 7}                                                 → SIGKILL
    ← {"op": "hello", ...} once, {"op": "ended", "id": 7, "status": ...} for each child

It ends with its parent: by signal, or when the control socket closes; its children end with it.
"""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from bayesflow_sandbox.locked import child, world
from bayesflow_sandbox.locked.kernel import NAMESPACES, report
from bayesflow_sandbox.locked.lockdown import Allowance, Lockdown, lower_limit
from bayesflow_sandbox.locked.preload import preload

__all__ = ["main"]

_MAX_MESSAGE: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1
_UNPRIVILEGED: Final = 65534


def main(control: socket.socket, *, namespaces: bool) -> NoReturn:
    """Prepares, says hello, obeys until the control socket closes.

    Args:
        control: The zygote's end.
        namespaces: Whether to enter them; only tests say no.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _die_with_parent(libc)
    control = _lowered(control)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGPROF, signal.SIGXCPU, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.environ["TZ"] = "UTC"
    time.tzset()
    os.environ.clear()
    preload()
    world.install()
    kernel = report()
    lockdown = Lockdown(kernel)
    gc.collect()
    gc.freeze()
    base = _address_space()  # asked for here: behind the namespaces, /proc is another's
    entered = _enter_namespaces(libc) if namespaces else ()
    if "pid" in entered:
        _become_first_process(libc, control)
    os.dup2(1, 2)  # what went wrong until here went to the host; a child may write nowhere
    hello = {"op": "hello", "landlock": kernel.landlock, "namespaces": entered}
    control.send(json.dumps(hello).encode())
    _Zygote(control, lockdown, libc, base).obey()


@dataclass
class _Child:
    """A child that has not been reaped."""

    id: int
    deadline: float


class _Zygote:
    """Forks, kills and reaps. Invariant: ``_children`` are exactly those not reaped yet."""

    def __init__(
        self, control: socket.socket, lockdown: Lockdown, libc: ctypes.CDLL, address_space: int
    ) -> None:
        self._control = control
        self._lockdown = lockdown
        self._libc = libc
        self._address_space = address_space
        self._children: dict[int, _Child] = {}
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _ignore)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)

    def obey(self) -> NoReturn:
        """Serves until the host is gone."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._patience())}
            if self._wake in ready:
                with suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            self._reap()
            self._kill_late()
            if self._control.fileno() in ready:
                self._take_message()

    def _patience(self) -> int | None:
        """Milliseconds until the next child is late."""
        if not self._children:
            return None
        first = min(running.deadline for running in self._children.values())
        return max(0, int((first - world.REAL_MONOTONIC()) * 1000) + 1)

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            ended = self._children.pop(pid, None)
            if ended is not None:
                seconds = usage.ru_utime + usage.ru_stime
                self._say({"op": "ended", "id": ended.id, "status": status, "seconds": seconds})

    def _kill_late(self) -> None:
        now = world.REAL_MONOTONIC()
        for pid, running in self._children.items():
            if running.deadline <= now:
                os.kill(pid, signal.SIGKILL)
                running.deadline = now + 1.0

    def _take_message(self) -> None:
        data, descriptors, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE, 1)
        if not data:
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)
            os._exit(0)
        message: dict[str, Any] = json.loads(data)
        if message["op"] == "spawn":
            self._spawn(message, descriptors[0])
            os.close(descriptors[0])
            return
        for pid, running in self._children.items():
            if running.id == message["id"]:
                os.kill(pid, signal.SIGKILL)

    def _spawn(self, message: dict[str, Any], descriptor: int) -> None:
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError:  # too many processes, or no memory: this job ends, the others go on
            ended = {"op": "ended", "id": message["id"], "status": signal.SIGKILL, "seconds": 0.0}
            self._say(ended)
            return
        if pid:
            deadline = world.REAL_MONOTONIC() + message["wall_seconds"]
            self._children[pid] = _Child(message["id"], deadline)
            return
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _die_with_parent(self._libc, parent)
            allowance = Allowance(
                address_space=self._address_space + message["memory_bytes"],
                run_seconds=message["run_seconds"],
            )
            without = frozenset(message["without"])
            child.live(descriptor, message["profile"], self._lockdown, allowance, without)
        finally:
            os._exit(1)

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._control.send(json.dumps(message).encode())
        except OSError:  # the host is gone: the next read says so
            return


def _lowered(control: socket.socket) -> socket.socket:
    """Moves the control socket among the descriptors that a child closes, and allows no other.

    It comes by its number in the host, which may have opened thousands before.
    """
    low = control.dup()
    control.close()
    lower_limit(resource.RLIMIT_NOFILE, child.MAX_DESCRIPTORS)
    assert low.fileno() < child.MAX_DESCRIPTORS
    return low


def _ignore(number: int, frame: FrameType | None) -> None:
    """A handler, so that the signal wakes the poll."""


def _die_with_parent(libc: ctypes.CDLL, parent: int | None = None) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent is not None and os.getppid() != parent:  # it was gone before the signal was set
        os._exit(1)


def _address_space() -> int:
    """Bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _enter_namespaces(libc: ctypes.CDLL) -> tuple[str, ...]:
    """Enters what it may; inside the first it is nobody."""
    user, group = os.geteuid(), os.getegid()
    entered: list[str] = []
    for name, flag in NAMESPACES.items():
        if libc.unshare(flag) != 0:
            continue
        entered.append(name)
        if name == "user":
            with suppress(OSError):  # without a map it is nobody all the same
                Path("/proc/self/setgroups").write_text("deny")
                Path("/proc/self/uid_map").write_text(f"{_UNPRIVILEGED} {user} 1")
                Path("/proc/self/gid_map").write_text(f"{_UNPRIVILEGED} {group} 1")
    return tuple(entered)


def _become_first_process(libc: ctypes.CDLL, control: socket.socket) -> None:
    """Forks into the new process namespace; the caller stays outside and waits for its end."""
    outside = os.fork()
    if outside:
        control.close()
        os.waitpid(outside, 0)
        os._exit(0)
    _die_with_parent(libc)
