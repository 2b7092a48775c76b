"""`local:NAME`: a GGUF model on this machine, in a child process of ours.

Equal requests give equal text, bit for bit, whatever was asked before: temperature 0 is greedy, any
other draws from a seed made of the request, and the prompt cache changes no number
(`local_worker.py`).

One process on the machine uses the local model at a time, because two would share the same cores.
The owner holds a file lock from its first call until it closes or has been idle for a while;
another process waits its turn. Called by the gateway through `ChatModel`.
"""

import asyncio
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models.chat import ChatRequest, Completion, Pace, Usage
from bayesflow_server.models.local_process import (
    LocalProcess,
    WorkerAnswer,
    WorkerQuestion,
    WorkerSettings,
)
from bayesflow_server.models.provider_http import outcome
from bayesflow_server.models.weights import content_hash, lock_path

__all__ = ["LocalModel"]

# Raise this when something that shapes the answers changes here or in local_worker.py.
_REVISION = 1
_MOST_THREADS = 8
_DEFAULT_MAX_TOKENS = 512
_DEFAULT_TEMPERATURE = 0.8  # llama.cpp's own
_LOCK_POLL_SECONDS = 0.2
_START_SECONDS = 120.0


class LocalModel:
    """A GGUF model behind `ChatModel`; starts on the first call, one call at a time.

    Attributes:
        waiting: True while another process has the local model and this one waits for it.
    """

    concurrency = 1
    deterministic = True
    pace = Pace()

    def __init__(
        self,
        name: str,
        gguf: Path,
        cache: Path,
        *,
        on_wait: Callable[[bool], None] = lambda _: None,
        call_seconds: float = 120.0,
        idle_seconds: float = 30.0,
        n_ctx: int = 2048,
    ) -> None:
        """Prepares the model; nothing is started or locked yet.

        Args:
            name: As in ``local:NAME``.
            gguf: The weights.
            cache: The folder that holds the lock and the weights' hash (`weights.cache_folder`).
            on_wait: Called with True when this process begins to wait for another that is using
                the local model, with False when the wait is over.
            call_seconds: Deadline of one call; the model is killed when it passes.
            idle_seconds: After so long without a call memory and lock are given back.
            n_ctx: The context window, in tokens.
        """
        self.spec = f"local:{name}"
        self.waiting = False
        self._name = name
        self._gguf = gguf
        self._cache = cache
        self._on_wait = on_wait
        self._call_seconds = call_seconds
        self._idle_seconds = idle_seconds
        cores = os.cpu_count() or 1
        self._settings = WorkerSettings(
            n_ctx=n_ctx,
            n_batch=32,
            threads=max(1, min(cores - 1, _MOST_THREADS)),
            prompt_threads=min(cores, _MOST_THREADS),
            cache_mib=256,
        )
        # Invariant: a process runs only while the lock is held; both change only under _turn.
        self._turn = asyncio.Lock()
        self._lock = FileLock(lock_path(cache), thread_local=False)
        self._process: LocalProcess | None = None
        self._questions = 0
        self._idle: asyncio.TimerHandle | None = None
        self._release: asyncio.Task[None] | None = None

    @property
    def identity(self) -> str:
        """Hash of the weights, and all else that shapes an answer."""
        try:
            digest = content_hash(self._name, self._gguf, self._cache)
        except OSError as error:
            raise ModelUnavailableError(
                f"Cannot read the weights of {self.spec} at {self._gguf}: {error.strerror}."
            ) from error
        version = importlib.metadata.version("xllamacpp")
        shape = f"ctx-{self._settings.n_ctx}/threads-{self._settings.threads}"
        return f"local/{digest}/xllamacpp-{version}/{shape}/{_REVISION}"

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return None if self._process is None else self._process.pid

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request; waits first while another process has the local model.

        Raises:
            ProviderError: The model died twice over this request, refused it, or took too long.
            ModelUnavailableError: The weights cannot be loaded.
        """
        async with self._turn:
            self._stop_idle_clock()
            await self._own_the_machine()
            try:
                return _completion(await self._ask_twice(request))
            finally:
                self._start_idle_clock()

    async def aclose(self) -> None:
        """Ends the child and gives the lock back; a later call would start anew."""
        async with self._turn:
            self._stop_idle_clock()
            await self._give_back()
        if self._release is not None:
            await self._release

    async def _ask_twice(self, request: ChatRequest) -> WorkerAnswer:
        for _ in range(2):
            process = await self._running()
            self._questions += 1
            question = _question(request, self._questions)
            try:
                async with asyncio.timeout(self._call_seconds):
                    answer = await process.ask(question)
            except TimeoutError:
                await self._kill()
                raise ProviderError(
                    f"{self.spec} gave no answer in {self._call_seconds:g} s and was stopped; the "
                    "next call starts it again."
                ) from None
            if answer is not None:
                return answer
            await self._kill()
        raise ProviderError(
            f"{self.spec} crashed, was started again, and crashed on the same request. Check that "
            "memory suffices; the next call starts it again."
        )

    async def _running(self) -> LocalProcess:
        if self._process is None:
            try:
                async with asyncio.timeout(_START_SECONDS):
                    self._process = await LocalProcess.start(self._gguf, self._settings)
            except TimeoutError:
                raise ProviderError(
                    f"{self.spec} was not loaded in {_START_SECONDS:g} s: the machine is too busy."
                ) from None
        return self._process

    async def _own_the_machine(self) -> None:
        try:
            while not self._try_lock():
                if not self.waiting:
                    self.waiting = True
                    self._on_wait(True)
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        finally:
            if self.waiting:
                self.waiting = False
                self._on_wait(False)

    def _try_lock(self) -> bool:
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise ModelUnavailableError(
                f"Cannot lock {self._lock.lock_file}: {error.strerror}. Set BAYESFLOW_CACHE to a "
                "folder that can be written to."
            ) from error
        return True

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await process.kill()

    async def _give_back(self) -> None:
        await self._kill()
        self._lock.release()

    def _start_idle_clock(self) -> None:
        loop = asyncio.get_running_loop()
        self._idle = loop.call_later(self._idle_seconds, self._release_when_idle)

    def _stop_idle_clock(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _release_when_idle(self) -> None:
        self._idle = None
        self._release = asyncio.get_running_loop().create_task(self._release_unless_busy())

    async def _release_unless_busy(self) -> None:
        async with self._turn:
            if self._idle is None:  # no call came in between
                await self._give_back()


def _question(request: ChatRequest, number: int) -> WorkerQuestion:
    temperature = _DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
    return WorkerQuestion(
        id=number,
        messages=[{"role": turn.role, "content": turn.content} for turn in request.messages],
        max_tokens=request.max_tokens or _DEFAULT_MAX_TOKENS,
        temperature=temperature,
        seed=_seed(request),
        stop=list(request.stop),
    )


def _seed(request: ChatRequest) -> int:
    """31 bits made of the question and the draw's number, so that questions draw independently."""
    question = [[turn.role, turn.content] for turn in request.messages]
    text = json.dumps([question, request.sample], ensure_ascii=True)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) >> 1


def _completion(answer: WorkerAnswer) -> Completion:
    return Completion(
        text=answer.text,
        usage=Usage(
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            cached_input_tokens=answer.cached_tokens,
        ),
        stop_reason=outcome(answer.text, answer.stop_reason),
    )
