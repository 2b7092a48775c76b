"""What this machine's kernel offers for confinement; read by the engine, the zygote and `doctor`.

Cheap and harmless: two system calls that ask. Importable on every platform.
"""

import ctypes
import errno
import platform
import sys
from dataclasses import dataclass
from typing import Final

from bayesflow_sandbox.locked.seccomp import ARCHITECTURES

__all__ = ["NAMESPACES", "KernelReport", "missing", "report"]

# unshare(2)'s flags, in the order in which they are entered: the first gives the right to the rest.
NAMESPACES: Final = {
    "user": 0x10000000,
    "net": 0x40000000,
    "ipc": 0x08000000,
    "uts": 0x04000000,
    "pid": 0x20000000,
}
_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What a machine gives.

    Attributes:
        system: ``Linux``, ``Darwin``, ``Windows``.
        machine: ``x86_64``, ``aarch64``, ...
        seccomp: Whether system calls can be filtered.
        landlock: Landlock's ABI, from 1; 0 if there is none.
        namespaces: Those entered, of ``NAMESPACES``; None if nobody has tried yet.
    """

    system: str
    machine: str
    seccomp: bool
    landlock: int
    namespaces: tuple[str, ...] | None = None

    def describe(self) -> str:
        """Returns one line: what the locked engine has here, or what it lacks."""
        why = self.missing()
        if why is not None:
            return why
        spaces = ", ".join(self.namespaces or ()) or "none"
        return f"seccomp on {self.machine}, Landlock ABI {self.landlock}, namespaces: {spaces}"

    def missing(self) -> str | None:
        """Returns what the locked engine lacks here and what to do, or None if it can run."""
        if self.system != "Linux":
            return f"the locked engine needs Linux; this is {self.system}"
        if self.machine not in ARCHITECTURES:
            known = " and ".join(ARCHITECTURES)
            return f"the locked engine knows the system calls of {known}, not of {self.machine}"
        if not self.seccomp:
            return (
                "the kernel offers no seccomp filters: it needs CONFIG_SECCOMP_FILTER, and a "
                "container must not forbid prctl"
            )
        if self.landlock < 1:
            return (
                "the kernel offers no Landlock: it needs Linux 5.13 or newer with `landlock` among "
                "the security modules (boot with lsm=landlock,...), and a container must not "
                "forbid landlock_create_ruleset"
            )
        return None


def missing() -> str | None:
    """Returns why the locked engine cannot run on this machine, or None if it can."""
    return report().missing()


def report() -> KernelReport:
    """Asks this machine; namespaces are left to who enters them."""
    system, machine = platform.system(), platform.machine()
    if sys.maxsize < 2**32:  # a 32-bit Python makes other calls than its kernel's machine
        machine = f"a 32-bit Python on {machine}"
    if sys.platform != "linux":
        return KernelReport(system, machine, seccomp=False, landlock=0)
    libc = ctypes.CDLL(None, use_errno=True)
    # Without a filter the call fails in any case: by EFAULT if filters exist, else by EINVAL.
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None, 0, 0)
    seccomp = ctypes.get_errno() == errno.EFAULT
    version = libc.syscall(
        _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION)
    )
    return KernelReport(system, machine, seccomp, max(0, int(version)))
