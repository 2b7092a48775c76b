"""The filter, run by a small interpreter of classic BPF: each machine's is tested on all."""

import re
import struct
from pathlib import Path
from typing import NamedTuple

import pytest

from bayesflow_sandbox.locked.seccomp import ARCHITECTURES, CALLS, Instruction, assemble, build

KILL, REFUSE, ALLOW = 0x80000000, 0x00050001, 0x7FFF0000
each_machine = pytest.mark.parametrize("machine", sorted(ARCHITECTURES))

# Calls that lead out: each architecture's number, of the kernel's own tables.
DANGEROUS: dict[str, tuple[int | None, int | None]] = {
    "open": (2, None),
    "openat": (257, 56),
    "openat2": (437, 437),
    "open_by_handle_at": (304, 265),
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "clone": (56, 220),
    "clone3": (435, 435),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ioctl": (16, 29),
    "fcntl": (72, 25),
    "dup": (32, 23),
    "memfd_create": (319, 279),
    "pkey_mprotect": (329, 288),
    "remap_file_pages": (216, 234),
    "shmat": (30, 196),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "setitimer": (38, 103),
    "timer_create": (222, 107),
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
    "prctl": (157, 167),
    "arch_prctl": (158, None),
    "seccomp": (317, 277),
    "personality": (135, 92),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "perf_event_open": (298, 241),
    "setuid": (105, 146),
    "capset": (126, 91),
    "unlinkat": (263, 35),
    "renameat2": (316, 276),
    "ftruncate": (77, 46),
    "sendfile": (40, 71),
    "splice": (275, 76),
    "reboot": (169, 142),
}


class Call(NamedTuple):
    """What a filter sees: ``struct seccomp_data``."""

    architecture: int
    number: int
    arguments: tuple[int, ...] = (0,) * 6


def verdict(program: tuple[Instruction, ...], call: Call) -> int:
    data = struct.pack("<IIQ6Q", call.number, call.architecture, 0, *call.arguments)
    accumulator = at = 0
    while True:
        code, if_true, if_false, operand = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, operand)[0]
            case 0x15:
                at += if_true if accumulator == operand else if_false
            case 0x35:
                at += if_true if accumulator >= operand else if_false
            case 0x45:
                at += if_true if accumulator & operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"instruction {code:#x}")


def number_of(name: str, machine: str) -> int | None:
    table = {name: tuple(numbers) for name, numbers in CALLS.items()} | DANGEROUS
    return table[name][0 if machine == "x86_64" else 1]


@each_machine
def test_only_what_the_table_names_is_allowed(machine: str) -> None:
    program, architecture = build(machine), ARCHITECTURES[machine]
    numbers = {number_of(name, machine) for name in CALLS}
    for number in range(1024):
        expected = ALLOW if number in numbers else REFUSE
        assert verdict(program, Call(architecture, number)) == expected


@each_machine
@pytest.mark.parametrize("name", sorted(DANGEROUS))
def test_a_call_that_leads_out_is_refused(machine: str, name: str) -> None:
    number = number_of(name, machine)
    if number is not None:
        assert verdict(build(machine), Call(ARCHITECTURES[machine], number)) == REFUSE


@each_machine
@pytest.mark.parametrize("name", ["mmap", "mprotect"])
def test_memory_may_be_mapped_but_never_executed(machine: str, name: str) -> None:
    program, number = build(machine), number_of(name, machine)
    assert number is not None
    for protection in range(8):
        arguments = (0, 4096, protection, 0, 0, 0)
        call = Call(ARCHITECTURES[machine], number, arguments)
        assert verdict(program, call) == (REFUSE if protection & 4 else ALLOW)
    # High bits do not hide the one that counts.
    call = Call(ARCHITECTURES[machine], number, (0, 4096, 0xFFFFFFFF00000004, 0, 0, 0))
    assert verdict(program, call) == REFUSE


@each_machine
def test_a_call_of_another_architecture_kills(machine: str) -> None:
    i386, other = 0x40000003, next(v for k, v in ARCHITECTURES.items() if k != machine)
    for architecture in (i386, other, 0, 0xFFFFFFFF):
        for number in (0, 1, 60, 63, 222):
            assert verdict(build(machine), Call(architecture, number)) == KILL


@each_machine
@pytest.mark.parametrize("number", [0x40000000, 0x40000001, 0x4000003B, 0xFFFFFFFF])
def test_a_call_of_the_x32_table_kills(machine: str, number: int) -> None:
    assert verdict(build(machine), Call(ARCHITECTURES[machine], number)) == KILL


@each_machine
def test_every_path_ends_and_every_jump_stays_within(machine: str) -> None:
    program = build(machine)
    assert program[-1].code == 0x06
    for at, instruction in enumerate(program):
        assert at + 1 + max(instruction.if_true, instruction.if_false) < len(program) + (
            instruction.code == 0x06
        )


@each_machine
def test_the_assembled_program_is_eight_bytes_an_instruction(machine: str) -> None:
    program = build(machine)
    code = assemble(program)
    assert [struct.unpack_from("HBBI", code, 8 * i) for i in range(len(program))] == list(program)


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(KeyError):
        build("riscv64")


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_the_numbers_are_those_of_the_kernel_s_headers(machine: str, header: str) -> None:
    if not Path(header).is_file():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    numbers = {name: int(number) for name, number in found}
    for name in [*CALLS, *DANGEROUS]:
        number = number_of(name, machine)
        if number is not None and name in numbers:
            assert number == numbers[name], name
