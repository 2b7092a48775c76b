"""What a locked child can do, asked from inside without the policy: nothing but compute."""

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from bayesflow_sandbox.door import Door
from bayesflow_sandbox.errors import SandboxUnavailableError
from bayesflow_sandbox.host import workflow_functions
from bayesflow_sandbox.limits import Limits
from bayesflow_sandbox.locked import process
from bayesflow_sandbox.locked.engine import LockedEngine
from bayesflow_sandbox.outcome import Outcome
from bayesflow_sandbox.program import compile_program
from sandbox.workflows import EchoHost, needs_lock, workflow

pytestmark = needs_lock

LIMITS = Limits(run_seconds=2, wall_seconds=20)
IMPORTS = "import ctypes, os, resource, select, signal, socket, subprocess, sys, threading\n"

REFUSED = {
    "read a file": "open('/etc/hostname')",
    "read the null device": "open('/dev/null')",
    "write a file": "open('/tmp/locked', 'w')",
    "list a folder": "os.listdir('/')",
    "stat a path": "os.stat('/')",
    "look for a path": "os.readlink('/proc/self/exe')",
    "read its own environment": "open('/proc/self/environ')",
    "read another's memory": "open('/proc/1/mem', 'rb')",
    "make a folder": "os.mkdir('/tmp/locked')",
    "remove a file": "os.unlink('/tmp/locked')",
    "go elsewhere": "os.chdir('/tmp')",
    "change its root": "os.chroot('/tmp')",
    "make a TCP socket": "socket.socket()",
    "make a UDP socket": "socket.socket(type=socket.SOCK_DGRAM)",
    "make a UNIX socket": "socket.socket(socket.AF_UNIX)",
    "make a netlink socket": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "make a pair of sockets": "socket.socketpair()",
    "make a pipe": "os.pipe()",
    "make a file in memory": "os.memfd_create('x')",
    "make an event": "select.epoll()",
    "copy a descriptor": "os.dup(3)",
    "send a descriptor": "socket.socket(fileno=3)",
    "fork": "os.fork()",
    "run a program": "subprocess.run(['true'])",
    "become a program": "os.execv('/bin/true', ['true'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "signal everyone": "os.kill(-1, 0)",
    "signal itself": "os.kill(os.getpid(), signal.SIGSTOP)",
    "leave its session": "os.setsid()",
    "ignore its timer": "signal.signal(signal.SIGPROF, signal.SIG_IGN)",
    "block its timer": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])",
    "stop its timer": "signal.setitimer(signal.ITIMER_PROF, 0)",
    "raise its limits": "resource.setrlimit(resource.RLIMIT_CPU, (99, 99))",
    "change its user": "os.setuid(0)",
    "change its priority": "os.nice(-5)",
    "see the machine's load": "os.sched_setaffinity(0, [0])",
}


@pytest.fixture
async def engine() -> AsyncIterator[LockedEngine]:
    engine = LockedEngine(workers=2)
    yield engine
    await engine.aclose()


async def run(engine: LockedEngine, body: str, limits: Limits = LIMITS) -> Outcome:
    host = EchoHost()
    door = Door(workflow_functions(host), host.get_usage_summary, limits.host_calls)
    program = compile_program(workflow(body, IMPORTS))
    return await engine.run(program, ["six"], door, limits, seed=0)


@pytest.mark.parametrize("what", sorted(REFUSED))
async def test_a_child_may_not(what: str, engine: LockedEngine) -> None:
    body = f"""
    try:
        {REFUSED[what]}
    except OSError as error:
        return error.errno
    except ValueError as error:
        return str(error)
    return "done"
    """
    assert (await run(engine, body)).value in (1, 13, "not allowed to raise maximum limit")


async def test_a_child_can_start_no_thread(engine: LockedEngine) -> None:
    outcome = await run(engine, "threading.Thread(target=print).start()")
    assert outcome.failure is not None
    assert outcome.failure.message == "can't start new thread"


async def test_a_child_cannot_make_memory_executable(engine: LockedEngine) -> None:
    body = """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    size, nowhere = ctypes.c_size_t(4096), ctypes.c_void_p(0)
    code = libc.mmap(nowhere, size, 1 | 4, 0x22, -1, ctypes.c_long(0))
    data = libc.mmap(nowhere, size, 1 | 2, 0x22, -1, ctypes.c_long(0))
    changed = libc.mprotect(ctypes.c_void_p(data), size, 1 | 4)
    return [code == 2 ** 64 - 1, data != 2 ** 64 - 1, changed, ctypes.get_errno()]
    """
    assert (await run(engine, body)).value == [True, True, -1, 1]


@pytest.mark.parametrize("number", [101, 310, 317, 435, 425, 321, 250])
async def test_a_child_makes_no_call_by_number(number: int, engine: LockedEngine) -> None:
    body = f"""
    libc = ctypes.CDLL(None, use_errno=True)
    return [libc.syscall({number}, 0, 0, 0, 0, 0), ctypes.get_errno()]
    """
    assert (await run(engine, body)).value == [-1, 1]


OPEN_ONES = """
open_ones = []
for number in range(2048):
    try:
        os.read(number, 0)
    except OSError:
        try:
            os.write(number, b"")
        except OSError:
            continue
    open_ones.append(number)
return open_ones
"""


async def test_a_child_has_its_channel_and_nothing_else(engine: LockedEngine) -> None:
    # 0 to 2 are the null device, 3 the channel.
    assert (await run(engine, OPEN_ONES)).value == [0, 1, 2, 3]


async def test_a_host_with_many_open_files_lends_none_of_them(engine: LockedEngine) -> None:
    """The control socket's number is above all that a child would think of closing."""
    with ExitStack() as stack:
        ends = [stack.enter_context(end) for _ in range(200) for end in socket.socketpair()]
        for end in ends:
            end.set_inheritable(True)
        assert (await run(engine, OPEN_ONES)).value == [0, 1, 2, 3]


async def test_a_child_has_no_environment_and_no_arguments(
    monkeypatch: pytest.MonkeyPatch, engine: LockedEngine
) -> None:
    monkeypatch.setenv("API_KEY", "expected-answer-4711")
    body = """
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    kept = [name for name in ("API_KEY", "HOME", "PATH") if libc.getenv(name.encode())]
    return [dict(os.environ), kept, sys.argv[1:], [p for p in sys.path if "sandbox" in p]]
    """
    assert (await run(engine, body)).value == [{}, [], [], []]


async def test_a_child_is_nobody_and_cannot_be_traced(engine: LockedEngine) -> None:
    outcome = await run(engine, "return ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)")
    assert outcome.value == -1  # not even its own state is told


async def test_what_a_child_changes_is_gone_with_it(engine: LockedEngine) -> None:
    body = """
    import builtins, json, random
    builtins.sorted = json.dumps = random.random = None
    sys.modules["math"] = None
    return 1
    """
    assert (await run(engine, body)).value == 1
    body = "import json, math, random\nreturn [sorted(json.dumps([1])), random.random() < math.pi]"
    assert (await run(engine, body)).value == [["1", "[", "]"], True]


@pytest.mark.parametrize("alone", ["seccomp", "landlock"])
async def test_either_wall_stands_without_the_other(alone: str) -> None:
    engine = LockedEngine(workers=1, without=frozenset({"seccomp", "landlock"}) - {alone})
    try:
        for body in ("open('/etc/hostname')", "open('/tmp/locked', 'w')", "os.listdir('/')"):
            outcome = await run(engine, body)
            assert outcome.failure is not None
            assert outcome.failure.type == "PermissionError"
    finally:
        await engine.aclose()


async def test_the_walls_are_what_stops_a_payload() -> None:
    """The negative control: without both walls the same code reads a file."""
    engine = LockedEngine(workers=1, without=frozenset({"seccomp", "landlock"}))
    try:
        outcome = await run(engine, "return len(os.listdir('/')) > 0")
        assert outcome.value is True
    finally:
        await engine.aclose()


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ("lockdown._FILE_RIGHTS[1] = 1 << 63", "landlock"),
        ("lockdown._MODE_FILTER = 9", "seccomp"),
        ("lockdown._CAPABILITY_VERSION = 1", "capabilities"),
        ("lockdown._PR_SET_NO_NEW_PRIVS = 9999", "no_new_privs"),
        ("lockdown.resource.RLIMIT_AS = 9999", "rlimits"),
    ],
)
async def test_a_step_that_fails_stops_the_child_before_its_job(
    fault: str, step: str, monkeypatch: pytest.MonkeyPatch, engine: LockedEngine
) -> None:
    broken = f"from bayesflow_sandbox.locked import lockdown; {fault}; main("
    monkeypatch.setattr(process, "BOOT", process.BOOT.replace("main(", broken))
    with pytest.raises(SandboxUnavailableError, match=f"cannot be locked in: {step}"):
        await run(engine, "return 1")


async def test_cpu_time_ends_by_a_signal_that_nothing_catches(engine: LockedEngine) -> None:
    async with engine.open("workflow", Limits(run_seconds=0.05)) as child:
        child.channel.close()  # it waits for a job, finds the host gone, and ends
        assert (await child.death()).exit_status == 0
    body = "import itertools\nfor _ in itertools.repeat(None):\n    pass"
    outcome = await run(engine, body, Limits(run_seconds=0.05))
    assert outcome.failure is not None
    assert outcome.failure.limit == "run_seconds"
