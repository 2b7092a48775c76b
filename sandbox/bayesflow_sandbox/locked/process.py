"""The host's hold on the zygote: starts it, has it fork and kill, hears how children ended.

Called by ``engine``. One zygote serves many children; when it dies, they die, and every child that
was under way is told to have been killed.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import IO, Any, Final

from bayesflow_sandbox.errors import SandboxUnavailableError

__all__ = ["BOOT", "Child", "Death", "Spawn", "ZygoteProcess"]

_START_SECONDS: Final = 30.0
_MAX_MESSAGE: Final = 1 << 16
_SEND_POLLS: Final = 10_000  # one a millisecond
_ROOT: Final = Path(__file__).parents[2]

# Isolated as by -I, but for one variable: with a random one, the order of a set of texts, and so an
# answer chosen by it, would change from one start of the server to the next.
_OPTIONS: Final = ("-s", "-S", "-P", "-B")
_ENVIRONMENT: Final = {"PYTHONHASHSEED": "0"}
BOOT: Final = (
    "import socket, sys; root, fd, spaces = sys.argv[1:]; sys.argv[1:] = [];"
    "sys.path.insert(0, root);"
    "from bayesflow_sandbox.locked.zygote import main;"
    "sys.path.remove(root);"
    "main(socket.socket(fileno=int(fd)), namespaces=spaces == '1')"
)


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Attributes:
        status: As wait(2) gives it.
        seconds: CPU time it used.
    """

    status: int
    seconds: float

    @property
    def signal(self) -> int | None:
        """The signal that ended it, or None."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    @property
    def exit_status(self) -> int | None:
        """What it exited with, or None."""
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None


@dataclass(frozen=True, slots=True)
class Spawn:
    """What a child is to be.

    Attributes:
        profile: A key of ``child.PROFILES``.
        run_seconds: CPU time.
        memory_bytes: Address space beyond the zygote's own.
        wall_seconds: When the zygote kills it.
        without: Defences that a test switches off.
    """

    profile: str
    run_seconds: float
    memory_bytes: int
    wall_seconds: float
    without: tuple[str, ...] = ()


class ZygoteProcess:
    """One running zygote. Belongs to the event loop that started it.

    Attributes:
        landlock: The ABI that it found.
        namespaces: Those that it entered.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", control: socket.socket, hello: dict[str, Any]
    ) -> None:
        self.landlock: int = hello["landlock"]
        self.namespaces: tuple[str, ...] = tuple(hello["namespaces"])
        self._process = process
        self._control = control
        self._deaths: dict[int, asyncio.Future[Death]] = {}
        self._spawned = 0
        self._alive = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(control, self._hear)

    @property
    def alive(self) -> bool:
        """Whether it still answers."""
        return self._alive

    @property
    def pid(self) -> int:
        """The process id, of this host's."""
        return self._process.pid

    @classmethod
    async def start(cls, *, namespaces: bool = True) -> "ZygoteProcess":
        """Starts a zygote and waits for its hello.

        Raises:
            SandboxUnavailableError: It does not start; the message quotes its last words.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with tempfile.TemporaryFile() as errors:
            try:
                process = _popen(theirs.fileno(), namespaces, errors)
            except OSError as error:
                ours.close()
                raise SandboxUnavailableError(
                    f"{sys.executable} does not start: {error}"
                ) from error
            finally:
                theirs.close()
            try:
                async with asyncio.timeout(_START_SECONDS):
                    data = await asyncio.get_running_loop().sock_recv(ours, _MAX_MESSAGE)
                if data:
                    return cls(process, ours, json.loads(data))
            except TimeoutError:
                pass
            except BaseException:
                _end(process, ours)
                raise
            _end(process, ours)
            errors.seek(0)
            said = errors.read()[-500:].decode("utf-8", "replace").strip().split("\n")[-1]
        raise SandboxUnavailableError(f"the locked engine's zygote does not start: {said}")

    async def spawn(self, spawn: Spawn, end: socket.socket) -> "Child":
        """Has a child forked that owns one end of a channel; this closes the host's copy."""
        self._spawned += 1
        number = self._spawned
        death: asyncio.Future[Death] = self._loop.create_future()
        self._deaths[number] = death
        message = {
            "op": "spawn",
            "id": number,
            "profile": spawn.profile,
            "run_seconds": spawn.run_seconds,
            "memory_bytes": spawn.memory_bytes,
            "wall_seconds": spawn.wall_seconds,
            "without": spawn.without,
        }
        try:
            await self._say(
                lambda: socket.send_fds(self._control, [_json(message)], [end.fileno()])
            )
        finally:
            end.close()
        if not self._alive and not death.done():  # it had died before this child was registered
            death.set_result(Death(SIGKILL, 0.0))
        return Child(death, lambda: self._kill(number))

    def close(self) -> None:
        """Ends the zygote and with it every child."""
        if self._alive:
            self._lost()
        _end(self._process, self._control)

    async def _say(self, send: Callable[[], int]) -> None:
        for _ in range(_SEND_POLLS):
            if not self._alive:
                return
            try:
                send()
            except BlockingIOError:  # its queue is full: it is forking as fast as it can
                await asyncio.sleep(0.001)
            except OSError:
                self._lost()
            else:
                return

    def _kill(self, number: int) -> None:
        if not self._alive or number not in self._deaths:
            return
        try:
            self._control.send(_json({"op": "kill", "id": number}))
        except BlockingIOError:  # the deadline, or the closed channel, ends it
            return
        except OSError:
            self._lost()

    def _hear(self) -> None:
        try:
            data = self._control.recv(_MAX_MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        message: dict[str, Any] = json.loads(data)
        death = self._deaths.pop(message["id"], None)
        if death is not None and not death.done():
            death.set_result(Death(message["status"], message["seconds"]))

    def _lost(self) -> None:
        self._alive = False
        self._loop.remove_reader(self._control)
        for death in self._deaths.values():
            if not death.done():
                death.set_result(Death(SIGKILL, 0.0))
        self._deaths.clear()


@dataclass(frozen=True, slots=True)
class Child:
    """A child of the zygote.

    Attributes:
        death: Done when it has ended.
        kill: Has it killed.
    """

    death: "asyncio.Future[Death]"
    kill: Callable[[], None]


def _popen(control: int, namespaces: bool, errors: IO[bytes]) -> "subprocess.Popen[bytes]":
    arguments = (str(_ROOT), str(control), "1" if namespaces else "0")
    return subprocess.Popen(
        (sys.executable, *_OPTIONS, "-c", BOOT, *arguments),
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=(control,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[bytes]", control: socket.socket) -> None:
    control.close()
    process.kill()
    process.wait()


def _json(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()
