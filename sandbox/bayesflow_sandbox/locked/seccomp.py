"""The system-call filter: an allow-list as a classic BPF program, for x86_64 and aarch64.

    other architecture, x32 table            → kill the process
    mmap, mprotect asking for PROT_EXEC      → EPERM
    a call of the table                      → allowed
    everything else                          → EPERM

Pure: ``build`` returns instructions, ``lockdown`` hands them to the kernel. See seccomp(2) and
linux/bpf_common.h; the offsets are those of ``struct seccomp_data`` on little-endian machines.
"""

import struct
from typing import Final, NamedTuple

__all__ = ["ARCHITECTURES", "CALLS", "Instruction", "Numbers", "assemble", "build"]


class Instruction(NamedTuple):
    """One ``struct sock_filter``."""

    code: int
    if_true: int
    if_false: int
    operand: int


class Numbers(NamedTuple):
    """A call's number on each architecture; None where it does not exist."""

    x86_64: int | None
    aarch64: int | None


# What Python needs to compute, to wait, and to read and write descriptors that it already has.
# No call here makes a descriptor, a process or a mapping of code, sends a signal, or takes a path.
# Without rt_sigaction and rt_sigprocmask no code can outlive its CPU timer's signal.
CALLS: Final[dict[str, Numbers]] = {
    "read": Numbers(0, 63),
    "write": Numbers(1, 64),
    "close": Numbers(3, 57),
    "poll": Numbers(7, None),
    "ppoll": Numbers(271, 73),
    "mmap": Numbers(9, 222),
    "mprotect": Numbers(10, 226),
    "munmap": Numbers(11, 215),
    "mremap": Numbers(25, 216),
    "madvise": Numbers(28, 233),
    "brk": Numbers(12, 214),
    "futex": Numbers(202, 98),
    "getpid": Numbers(39, 172),
    "clock_gettime": Numbers(228, 113),
    "clock_nanosleep": Numbers(230, 115),
    "gettimeofday": Numbers(96, 169),
    "restart_syscall": Numbers(219, 128),
    "exit": Numbers(60, 93),
    "exit_group": Numbers(231, 94),
}
_NO_EXECUTABLE: Final = ("mmap", "mprotect")

# AUDIT_ARCH_* of linux/audit.h.
ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUALS, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _THIRD_ARGUMENT = 0, 4, 32
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000  # refuse: SECCOMP_RET_ERRNO | EPERM
_X32: Final = 0x40000000
_PROT_EXEC: Final = 4


def build(machine: str) -> tuple[Instruction, ...]:
    """Returns the filter for a machine, a key of ``ARCHITECTURES``.

    Raises:
        KeyError: There is no table for this machine.
    """
    program = [
        Instruction(_LOAD, 0, 0, _ARCHITECTURE),
        Instruction(_EQUALS, 1, 0, ARCHITECTURES[machine]),
        Instruction(_RETURN, 0, 0, _KILL),
        Instruction(_LOAD, 0, 0, _NUMBER),
        Instruction(_AT_LEAST, 0, 1, _X32),
        Instruction(_RETURN, 0, 0, _KILL),
    ]
    for name, numbers in CALLS.items():
        number = numbers.x86_64 if machine == "x86_64" else numbers.aarch64
        if number is None:
            continue
        program += _no_executable(number) if name in _NO_EXECUTABLE else _allowed(number)
    program.append(Instruction(_RETURN, 0, 0, _REFUSE))
    return tuple(program)


def assemble(program: tuple[Instruction, ...]) -> bytes:
    """Returns the program as the kernel reads it."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


def _allowed(number: int) -> list[Instruction]:
    return [Instruction(_EQUALS, 0, 1, number), Instruction(_RETURN, 0, 0, _ALLOW)]


def _no_executable(number: int) -> list[Instruction]:
    return [
        Instruction(_EQUALS, 0, 4, number),
        Instruction(_LOAD, 0, 0, _THIRD_ARGUMENT),
        Instruction(_ANY_BIT, 0, 1, _PROT_EXEC),
        Instruction(_RETURN, 0, 0, _REFUSE),
        Instruction(_RETURN, 0, 0, _ALLOW),
    ]
