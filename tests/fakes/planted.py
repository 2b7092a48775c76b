"""What a hostile payload is after, planted so that its taking shows.

secrets      in the host's environment, its memory and an open file; in a file; in a sibling
             process; each apart from the others, all beginning with `SECRET_MARK`
listeners    TCP, UDP, a socket with a path, one with an abstract name
a folder     of which names, contents and modes are known
a sibling    process that must stay alive, unstopped and unlimited
"""

import contextlib
import ctypes
import os
import resource
import secrets
import select
import socket
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

__all__ = ["ENV_NAME", "OUTPUT", "SECRET_MARK", "Planted", "Sibling", "planted"]

SECRET_MARK: Final = "planted-secret-"
ENV_NAME: Final = "BAYESFLOW_PLANTED_PROXY"
OUTPUT: Final = 8192
_SIBLING: Final = """
import ctypes, os, sys
held = ctypes.create_string_buffer(os.environ["HELD"].encode())
print(ctypes.addressof(held), flush=True)
sys.stdin.read()
"""


class Sibling:
    """A process like any other on the machine, with a secret in its memory and environment."""

    def __init__(self) -> None:
        self.secret = SECRET_MARK + secrets.token_hex(16)
        self._process = subprocess.Popen(
            (sys.executable, "-I", "-S", "-c", _SIBLING),
            env={"HELD": self.secret},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self.address = int(self._process.stdout.readline())
        self.pid = self._process.pid
        self._born = self._state()

    def hurt(self, patience: float = 0) -> bool:
        """Whether anything was done to it; a kill may take a moment, `patience` seconds at most."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        return self._state() != self._born

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _state(self) -> tuple[object, ...]:
        if self._process.poll() is not None:
            return (self._process.returncode,)
        return (
            _state(self.pid) in "Tt",
            resource.prlimit(self.pid, resource.RLIMIT_CPU),
            resource.prlimit(self.pid, resource.RLIMIT_NOFILE),
        )


@dataclass
class Planted:
    """Everything planted. `ground` and the listeners are read anew at every question."""

    ground: Path
    secret_file: Path
    held_file: IO[str]
    sibling: Sibling
    proof: str
    comm: str
    environment: str
    memory: "ctypes.Array[ctypes.c_char]"
    listeners: dict[str, socket.socket]
    abstract: str
    _before: tuple[object, ...] = ()

    def names(self, memory_bytes: int) -> dict[str, object]:
        """What payloads may refer to: as much as somebody knows who has read all our source."""
        return {
            "PROOF": self.proof,
            "COMM": self.comm,
            "ENV_NAME": ENV_NAME,
            "SECRET_MARK": SECRET_MARK,
            "SECRET_LENGTH": len(self.environment),
            "SECRET_FILE": str(self.secret_file),
            "GROUND": str(self.ground),
            "HOST_PID": os.getpid(),
            "HOST_ADDRESS": ctypes.addressof(self.memory),
            "HOST_FD": self.held_file.fileno(),
            "SIBLING_PID": self.sibling.pid,
            "SIBLING_ADDRESS": self.sibling.address,
            "TCP_PORT": self.listeners["tcp"].getsockname()[1],
            "UDP_PORT": self.listeners["udp"].getsockname()[1],
            "SOCKET_PATH": self.listeners["path"].getsockname(),
            "ABSTRACT": self.abstract,
            "MEMORY": memory_bytes,
            "OUTPUT": OUTPUT,
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        return (
            self.environment,
            self.memory.value.decode(),
            self.sibling.secret,
            self.secret_file.read_text(),
            Path(f"/proc/self/fd/{self.held_file.fileno()}").read_text(),
        )

    def rest(self) -> None:
        """Plants anew what the last payload may have taken."""
        self.heard()
        for path in sorted(self.ground.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        (self.ground / "keep.txt").write_text("kept")
        (self.ground / "keep.txt").chmod(0o600)
        self.held_file.seek(0)
        if self.sibling.hurt():
            self.sibling.end()
            self.sibling = Sibling()
        self._before = self._seen()

    def changed(self) -> bool:
        """Whether the folder is another than at the last rest."""
        return self._seen() != self._before

    def heard(self) -> set[str]:
        """The listeners that were spoken to since the last question."""
        spoken: set[str] = set()
        while ready := select.select(tuple(self.listeners.values()), (), (), 0)[0]:
            for name, listener in self.listeners.items():
                if listener in ready:
                    spoken.add(name)
                    if listener.type == socket.SOCK_DGRAM:
                        listener.recv(100)
                    else:
                        listener.accept()[0].close()
        return spoken

    def processes(self) -> list[int]:
        """Processes that carry the name, as their own or among their arguments."""
        found: list[int] = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                told = (path / "comm").read_text() + (path / "cmdline").read_text()
                if self.comm in told and _state(int(path.name)) != "Z":
                    found.append(int(path.name))
        return found

    def _seen(self) -> tuple[object, ...]:
        return tuple(
            (str(path), path.lstat().st_mode, path.lstat().st_size, path.lstat().st_nlink)
            for path in sorted((self.secret_file, *self.ground.rglob("*")))
        )


def _state(process: int) -> str:
    """R, S, T, Z, ... as proc(5) has them."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]


@contextlib.contextmanager
def planted(folder: Path) -> Generator[Planted, None, None]:
    """Plants in an empty folder; uproots at the end."""
    ground = folder / "ground"
    ground.mkdir()
    held = (folder / "held.txt").open("w+")
    held.write(SECRET_MARK + secrets.token_hex(16))
    held.flush()
    (folder / "held.txt").unlink()  # reached by its descriptor alone
    secret_file = folder / "secret.txt"
    secret_file.write_text(SECRET_MARK + secrets.token_hex(16))
    abstract = "planted-" + secrets.token_hex(8)
    with contextlib.ExitStack() as stack:
        stack.enter_context(held)
        listeners = {
            name: stack.enter_context(socket.socket(family, kind))
            for name, family, kind in (
                ("tcp", socket.AF_INET, socket.SOCK_STREAM),
                ("udp", socket.AF_INET, socket.SOCK_DGRAM),
                ("path", socket.AF_UNIX, socket.SOCK_STREAM),
                ("abstract", socket.AF_UNIX, socket.SOCK_STREAM),
            )
        }
        listeners["tcp"].bind(("127.0.0.1", 0))
        listeners["udp"].bind(("127.0.0.1", 0))
        listeners["path"].bind(str(folder / "socket"))
        listeners["abstract"].bind("\0" + abstract)
        for listener in listeners.values():
            if listener.type == socket.SOCK_STREAM:
                listener.listen()
        environment = SECRET_MARK + secrets.token_hex(16)
        before = os.environ.get(ENV_NAME)
        os.environ[ENV_NAME] = environment
        made = Planted(
            ground=ground,
            secret_file=secret_file,
            held_file=held,
            sibling=Sibling(),
            proof="proof-" + secrets.token_hex(8),
            comm="got" + secrets.token_hex(4),
            environment=environment,
            memory=ctypes.create_string_buffer((SECRET_MARK + secrets.token_hex(16)).encode()),
            listeners=listeners,
            abstract=abstract,
        )
        try:
            made.rest()
            yield made
        finally:
            made.sibling.end()
            if before is None:
                del os.environ[ENV_NAME]
            else:
                os.environ[ENV_NAME] = before
