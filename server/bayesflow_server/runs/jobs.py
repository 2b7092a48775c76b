"""Small works that a client asks for and may wait for: an evaluation of a workflow, an answer.

A job is a row in the store's evaluations: what was asked, how it stands, what came of it. It has an
id by which it can be waited for. One process at a time works on it, which a lock file says. If that
one dies, whoever asks for the job sets it going again, and what was paid for is on record.
`evaluations.py` and `answering.py` have one `Jobs` each.
"""

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from filelock import FileLock, Timeout
from pydantic import BaseModel

from bayesflow_server.errors import NotFoundError, StoreError
from bayesflow_server.runs.ending import Ending, ending_of
from bayesflow_server.runs.lease import lock_of
from bayesflow_server.scheduling import in_background
from bayesflow_server.store.records import EvaluationRecord
from bayesflow_server.store.store import Store

__all__ = ["Jobs", "Work", "new_job_id"]

_LOG = logging.getLogger(__name__)
_ENDED: Final = ("finished", "failed")
_LOOK_SECONDS: Final = 0.2

# Given the job's id and its request as JSON, does it and returns the report.
Work: TypeAlias = Callable[[str, str], Awaitable[BaseModel]]


def new_job_id(prefix: str, ticket: str | None = None) -> str:
    """The id of a new job; under a ticket always the same one."""
    return prefix + (ticket or uuid.uuid4().hex)[:12]


@dataclass
class Jobs:
    """The jobs of one kind in this process, until `aclose`.

    Attributes:
        store: Where they are kept.
        prefix: How the ids of this kind begin.
        work: Does a job, from its beginning or from where an earlier process stopped.
    """

    store: Store
    prefix: str
    work: Work
    _tasks: dict[str, asyncio.Task[None]] = field(
        default_factory=dict[str, asyncio.Task[None]], init=False
    )

    async def record(self, job_id: str) -> EvaluationRecord:
        """The job as stored.

        Raises:
            NotFoundError: There is no such job of this kind.
        """
        record = None
        if job_id.startswith(self.prefix):
            record = await self.store.evaluation(job_id)
        if record is None:
            what = "evaluation" if self.prefix == "eval_" else "answer"
            raise NotFoundError(
                f"There is no {what} {job_id!r}; its id begins with `{self.prefix}`. Leave the id "
                "out to start one."
            )
        return record

    def launch(self, job_id: str, request: str) -> asyncio.Task[None]:
        """Sets a stored job going."""
        task = in_background(self._run(job_id, request))
        self._tasks[job_id] = task
        task.add_done_callback(lambda done: self._forget(job_id, done))
        return task

    def _forget(self, job_id: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(job_id) is done:
            del self._tasks[job_id]

    async def wait(self, job_id: str, seconds: float) -> EvaluationRecord:
        """The job once it has ended, or after `seconds`; one that nobody works on goes on.

        Raises:
            NotFoundError: There is no such job of this kind.
        """
        record = await self.record(job_id)
        task = self._tasks.get(job_id)
        if record.status not in _ENDED and (task is None or task.done()):
            task = self.launch(job_id, record.request)
        if task is not None:
            await asyncio.wait([task], timeout=seconds)
        return await self.record(job_id)

    async def aclose(self) -> None:
        """Stops what is going on; it can be asked for again."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, job_id: str, request: str) -> None:
        """The job, unless another process works on it, or did and ended it."""
        async with self._alone(job_id):
            with contextlib.suppress(StoreError):  # whoever asks for it is told
                if (await self.record(job_id)).status not in _ENDED:
                    await self._worked(job_id, request)

    @asynccontextmanager
    async def _alone(self, job_id: str) -> AsyncGenerator[None]:
        """Waits until no other process works on the job, which may have ended it by then."""
        lock = lock_of(self.store.path, job_id)
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except Timeout:
                await asyncio.sleep(_LOOK_SECONDS)
        try:
            yield
            _remove(lock)
        finally:
            lock.release()

    async def _worked(self, job_id: str, request: str) -> None:
        """The job, with every error turned into a status and a reason."""
        ending: Ending | None = None
        try:
            report = await self.work(job_id, request)
            await self.store.update_evaluation(
                job_id, status="finished", report=report.model_dump_json()
            )
        except* Exception as group:
            ending = ending_of(group)
            if ending.bug is not None:
                _LOG.error("job %s failed", job_id, exc_info=ending.bug)
        if ending is not None:
            with contextlib.suppress(StoreError):  # it stays as it was: asked for, it goes on
                await self.store.update_evaluation(job_id, status="failed", reason=ending.reason)


def _remove(lock: FileLock) -> None:
    """Removes the file of an ended job: whoever still holds it finds nothing to do."""
    Path(lock.lock_file).unlink(missing_ok=True)
