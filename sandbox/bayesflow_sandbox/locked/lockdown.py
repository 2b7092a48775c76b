"""Confines the calling process for good: what a child does before it reads its job.

In this order, and a step that fails ends the child: rlimits, no-new-privileges, not dumpable, no
capabilities, Landlock without a single rule, a timer on its CPU time, the system-call filter. Each
alone stops most of what a payload can try; tests switch them off one by one to see that.

Needs Linux and one thread. Called by ``child``; ``kernel`` says beforehand whether it can work.
"""

import ctypes
import math
import os
import resource
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bayesflow_sandbox.locked.kernel import KernelReport
from bayesflow_sandbox.locked.seccomp import assemble, build

__all__ = ["DEFENCES", "Allowance", "Lockdown", "LockdownError", "lower_limit"]

# What a test may leave out. Namespaces are the zygote's.
DEFENCES: Final = frozenset({"rlimits", "no_new_privs", "capabilities", "landlock", "seccomp"})

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 4, 22, 38
_MODE_FILTER: Final = 2
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_CAPABILITY_VERSION: Final = 0x20080522
_STACK_BYTES: Final = 8 << 20
_DESCRIPTORS: Final = 16

# Landlock's rights by the ABI that brought them: on files, on TCP ports, on other domains.
_FILE_RIGHTS: Final = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_NET_RIGHTS: Final = {4: 0b11}
_SCOPES: Final = {6: 0b11}


class LockdownError(Exception):
    """A step failed; the message names it and the kernel's reason."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the process may use.

    Attributes:
        address_space: Bytes of address space, those that it has included.
        run_seconds: Seconds of CPU time.
    """

    address_space: int
    run_seconds: float


class _FilterProgram(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


class Lockdown:
    """Prepared once in the zygote, so that a child only makes the calls.

    Args:
        kernel: What the machine gives; nothing of it is missing.
    """

    def __init__(self, kernel: KernelReport) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        program = build(kernel.machine)
        code = assemble(program)
        self._code = ctypes.create_string_buffer(code, len(code))
        self._filter = _FilterProgram(len(program), ctypes.addressof(self._code))
        self._ruleset = _ruleset(kernel.landlock)
        self._capabilities = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION, 0))
        self._none = ctypes.create_string_buffer(24)

    def enter(self, allowance: Allowance, without: frozenset[str] = frozenset()) -> None:
        """Confines this process. There is no way back.

        Args:
            allowance: What it may use.
            without: Steps left out, of ``DEFENCES``: only tests do so, to see what each is for.

        Raises:
            LockdownError: A step failed; the process is confined in part and must end.
        """
        steps: dict[str, Callable[[], None]] = {
            "rlimits": lambda: _set_rlimits(allowance),
            "no_new_privs": self._no_new_privileges,
            "capabilities": self._drop_capabilities,
            "landlock": self._deny_files,
            "seccomp": self._filter_calls,
        }
        for name, step in steps.items():
            if name == "seccomp":
                # SIGPROF ends the process: nothing in it can block or handle a signal any more.
                signal.setitimer(signal.ITIMER_PROF, allowance.run_seconds)
            if name in without:
                continue
            try:
                step()
            except (OSError, ValueError) as error:
                raise LockdownError(f"{name}: {error}") from error

    def _no_new_privileges(self) -> None:
        self._checked(self._libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        self._checked(self._libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))

    def _drop_capabilities(self) -> None:
        self._checked(self._libc.capset(self._capabilities, self._none))

    def _deny_files(self) -> None:
        size = ctypes.c_size_t(len(self._ruleset))
        ruleset = self._libc.syscall(_LANDLOCK_CREATE, self._ruleset, size, ctypes.c_uint32(0))
        self._checked(min(0, ruleset))
        self._checked(
            self._libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0))
        )
        os.close(ruleset)

    def _filter_calls(self) -> None:
        pointer = ctypes.byref(self._filter)
        self._checked(self._libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, pointer, 0, 0))

    def _checked(self, result: int) -> None:
        if result != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


def _ruleset(abi: int) -> bytes:
    """``struct landlock_ruleset_attr``: handles every right that the ABI knows, so denies all."""
    rights = [
        sum(bits for since, bits in table.items() if since <= abi)
        for table in (_FILE_RIGHTS, _NET_RIGHTS, _SCOPES)
    ]
    fields = 1 if abi < 4 else 2 if abi < 6 else 3
    return struct.pack(f"{fields}Q", *rights[:fields])


def _set_rlimits(allowance: Allowance) -> None:
    seconds = math.ceil(allowance.run_seconds) + 1
    for limit, value in (
        (resource.RLIMIT_AS, allowance.address_space),
        (resource.RLIMIT_CPU, seconds),  # behind the timer, should that fail
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_STACK, _STACK_BYTES),
    ):
        lower_limit(limit, value)


def lower_limit(limit: int, value: int) -> None:
    """Sets a limit of ``resource`` for good, to no more than it allows now.

    Raises:
        ValueError: There is no such limit.
        OSError: The kernel refuses.
    """
    hard = resource.getrlimit(limit)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (most, most))
