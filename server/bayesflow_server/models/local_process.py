"""A running local model: the child process of `local_worker.py`, asked one question at a time.

`local.py` starts one when it is needed and replaces it when it fails.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ValidationError

from bayesflow_server.errors import ModelUnavailableError, ProviderError

__all__ = ["LocalProcess", "WorkerAnswer", "WorkerQuestion", "WorkerSettings"]

_WORKER = Path(__file__).with_name("local_worker.py")
_REPLY_LIMIT_BYTES = 1 << 24

# Enough to find libraries and a temporary folder, and no provider's key among it.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "TMP", "SYSTEMROOT")
_PASSED_ON_LOADER = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")


class WorkerSettings(BaseModel, frozen=True):
    """How the model is loaded.

    Attributes:
        n_ctx: The context window, in tokens.
        n_batch: Tokens computed together, below 64 (see the invariant in `local_worker.py`).
        threads: CPU threads that generate; their number can change an answer's last bits.
        prompt_threads: CPU threads that read a prompt; their number changes nothing.
        cache_mib: The most memory for prompts that may come again, in MiB.
    """

    n_ctx: int
    n_batch: int
    threads: int
    prompt_threads: int
    cache_mib: int


class WorkerQuestion(BaseModel, frozen=True):
    """One request, as the worker takes it."""

    id: int
    messages: list[dict[Literal["role", "content"], str]]
    max_tokens: int
    temperature: float
    seed: int
    stop: list[str]


class WorkerAnswer(BaseModel, frozen=True):
    """What the model said."""

    id: int
    text: str
    stop_reason: Literal["end", "length", "context_overflow"]
    input_tokens: int
    cached_tokens: int
    output_tokens: int


class _Failure(BaseModel, frozen=True):
    id: int | None = None
    error: str


class LocalProcess:
    """The child process. Not for concurrent use: one question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @classmethod
    async def start(cls, gguf: Path, settings: WorkerSettings) -> Self:
        """Starts the child and waits until the weights are loaded.

        Raises:
            ModelUnavailableError: The weights cannot be loaded.
        """
        # By path and with -P: neither the working directory nor this folder (which has an
        # `openai.py`) may lead the child's imports.
        numbers = (
            settings.n_ctx,
            settings.n_batch,
            settings.threads,
            settings.prompt_threads,
            settings.cache_mib,
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", str(_WORKER), str(gguf), *map(str, numbers)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_environment(),
            limit=_REPLY_LIMIT_BYTES,
            start_new_session=True,  # a Ctrl-C in the terminal is for us to handle
        )
        worker = cls(process)
        try:
            line = await worker._read_line()
        except BaseException:
            await worker.kill()
            raise
        if line != b'{"ready": true}\n':
            await worker.kill()
            raise ModelUnavailableError(
                f"{gguf} cannot be loaded ({_reason(line)}). Check that it is a whole GGUF file of "
                "a model that llama.cpp supports and that memory suffices."
            )
        return worker

    async def ask(self, question: WorkerQuestion) -> WorkerAnswer | None:
        """Returns the answer, or None if the child has died.

        Raises:
            ProviderError: The model refused the request.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(question.model_dump_json().encode() + b"\n")
            await self._process.stdin.drain()
        except OSError:
            return None
        while line := await self._read_line():
            with contextlib.suppress(ValidationError):
                answer = WorkerAnswer.model_validate_json(line)
                if answer.id == question.id:
                    return answer
                continue  # of a question whose asker was cancelled
            failure = _Failure.model_validate_json(line)
            if failure.id == question.id:
                raise ProviderError(
                    f"The local model refused the request: {failure.error}", transient=False
                )
        return None

    async def kill(self) -> None:
        """Ends the child, whatever it is doing. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        assert self._process.stdin is not None
        self._process.stdin.close()
        # Reaping must be finished even if our caller is cancelled: it takes milliseconds.
        await asyncio.shield(self._process.communicate())

    async def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        return await self._process.stdout.readline()


def _environment() -> dict[str, str]:
    kept = (*_PASSED_ON, *_PASSED_ON_LOADER)
    passed = {name: os.environ[name] for name in kept if name in os.environ}
    # A failed assertion in llama.cpp would otherwise start a debugger, for minutes.
    return passed | {"GGML_NO_BACKTRACE": "1"}


def _reason(line: bytes) -> str:
    try:
        return _Failure.model_validate_json(line).error.rstrip(".")
    except ValidationError:
        return "the process that loads it died"
