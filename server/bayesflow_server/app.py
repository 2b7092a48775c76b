"""The composition root: the only place that knows every concrete class.

`Application` opens the store, the models and the sandbox at the first request that needs them, so a
server answers `initialize` without having paid for any; leaving it stops every sitting, then closes
what was opened, in the reverse order.
"""

import asyncio
import contextlib
import gc
import logging
import sys
from contextlib import AsyncExitStack
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from bayesflow_server.errors import StoreError
from bayesflow_server.settings import Settings

if TYPE_CHECKING:
    from bayesflow_server.runs.answering import AnswerService
    from bayesflow_server.runs.evaluations import EvaluationService
    from bayesflow_server.runs.proposal_service import ProposalService
    from bayesflow_server.runs.service import RunService

__all__ = ["Application"]

_LOG = logging.getLogger(__name__)

# How often a server looks for runs that were left while its database is not open.
_LOOK_SECONDS: Final = 10.0

# These import nearly everything that `_open` does.
_HEAVY: Final = (
    "bayesflow_server.runs.answering",
    "bayesflow_server.models.registry",
    "bayesflow_server.store.opening",
)

# Executions in flight; each holds an interpreter (2 MB idle) while its model calls are answered. As
# many as the most willing endpoint takes calls, so that it can be filled, within these bounds.
_LEAST_WORKERS: Final = 64
_MOST_WORKERS: Final = 256

# New containers before a collection of the young; such collections before one of the next oldest.
_GARBAGE: Final = (2000, 10, 20)
# How long a thread may compute before another has its turn; Python's own are 5 ms.
_SWITCH_SECONDS: Final = 0.001


class Application:
    """Everything a process needs, opened on first use. An async context manager.

    Attributes:
        settings: What the process was started with.
    """

    def __init__(self, settings: Settings, *, hosted: bool = False) -> None:
        """Opens nothing yet.

        Args:
            settings: What the process was started with.
            hosted: Whether this is a server that its host may close at any time; new runs go to a
                worker then, if one lives.
        """
        self.settings = settings
        self._hosted = hosted
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened = asyncio.Event()
        self._runs: RunService | None = None
        self._evaluations: EvaluationService | None = None
        self._answers: AnswerService | None = None

    @property
    def confirm_above(self) -> float:
        """US dollars; a request that may spend more needs the user's word."""
        return self.settings.confirm_above

    async def runs(self) -> "RunService":
        """The run service.

        Raises:
            StoreError: The database cannot be opened.
        """
        async with self._opening:
            if self._runs is None:
                await self._open()
        assert self._runs is not None
        return self._runs

    async def evaluations(self) -> "EvaluationService":
        """The evaluation service; opens what `runs` opens."""
        await self.runs()
        assert self._evaluations is not None
        return self._evaluations

    async def answers(self) -> "AnswerService":
        """The service that answers new inputs; opens what `runs` opens."""
        await self.runs()
        assert self._answers is not None
        return self._answers

    async def proposals(self) -> "ProposalService":
        """The service for runs that ask their client; opens what `runs` opens."""
        from bayesflow_server.runs.proposal_service import ProposalService  # with the run service

        return ProposalService(await self.runs())

    async def adopt_runs(self, quiet: float) -> None:
        """Goes on with runs that nobody works on, now and at each heartbeat, until cancelled.

        Opens the database only if there is such a run, or once a request has opened it.

        Args:
            quiet: How long to wait before the first look, in seconds; a request that opens the
                database ends the wait.
        """
        pause = quiet
        while self._runs is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._opened.wait()
            if await self._work_is_left():
                await self._open_for_adoption()
            pause = _LOOK_SECONDS
        from bayesflow_server.runs.adoption import Adoption  # with the run service

        self._runs.standing.adopts = True
        await Adoption(self._runs).run()

    async def _work_is_left(self) -> bool:
        from bayesflow_server.runs.adoption import work_is_left  # not before the first answer

        async with self._opening:  # two connections of one process at the start of a file: no
            if self._runs is not None:
                return False
            return await asyncio.to_thread(work_is_left, self.settings.db)

    async def _open_for_adoption(self) -> None:
        """Opens everything; imports it in a thread, so that requests are answered meanwhile."""
        await asyncio.to_thread(lambda: [import_module(name) for name in _HEAVY])
        try:
            await self.runs()
        except StoreError as error:  # whoever asks for the database is told
            _LOG.warning("looking for runs that were left: %s", error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.aclose()
        self._runs = self._evaluations = self._answers = None

    async def _open(self) -> None:
        # Imported here: the server's first answer must not wait for them.
        from bayesflow_sandbox.sandbox import Sandbox
        from bayesflow_server.evaluation.graders import ScoringTools
        from bayesflow_server.evaluation.scorer_file import parse_scorer_files
        from bayesflow_server.gateway.gateway import Gateway
        from bayesflow_server.gateway.prices import PriceTable
        from bayesflow_server.models.endpoints import parse_endpoints
        from bayesflow_server.models.registry import ModelRegistry
        from bayesflow_server.runs.answering import AnswerService
        from bayesflow_server.runs.evaluations import EvaluationService
        from bayesflow_server.runs.service import RunService
        from bayesflow_server.runs.sitting import Workplace
        from bayesflow_server.store.store import Store

        async with AsyncExitStack() as stack:
            store = await Store.open(self.settings.db)
            stack.push_async_callback(store.aclose)
            waiting: set[str] = set()
            endpoints = parse_endpoints(self.settings.endpoints)
            models = ModelRegistry(
                endpoints=endpoints,
                on_wait=lambda spec, waits: (waiting.add if waits else waiting.discard)(spec),
            )
            stack.push_async_callback(models.aclose)
            scoring = ScoringTools(files=parse_scorer_files(self.settings.scorers))
            stack.push_async_callback(scoring.aclose)
            wanted = max(endpoint.concurrency for endpoint in endpoints.values())
            workers = min(max(wanted, _LEAST_WORKERS), _MOST_WORKERS)
            sandbox = await stack.enter_async_context(Sandbox(workers=workers))
            workplace = Workplace(
                store,
                models,
                Gateway(store, prices=PriceTable(models.price_overrides())),
                sandbox,
                waiting,
                scoring,
            )
            evaluations = EvaluationService(workplace)
            stack.push_async_callback(evaluations.aclose)
            answers = AnswerService(workplace)
            stack.push_async_callback(answers.aclose)
            runs = RunService(workplace, hosted=self._hosted)
            await runs.open()
            stack.push_async_callback(runs.aclose)
            self._runs, self._evaluations, self._answers = runs, evaluations, answers
            self._stack.push_async_exit(stack.pop_all())
            self._opened.set()
        _shorten_pauses()


def _shorten_pauses() -> None:
    """Keeps the event loop from waiting for garbage collections and for threads that compute.

    What was imported stays for good, and a full collection would look through all of it, for a
    tenth of a second each time. Runs make hardly any cycles.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    gc.set_threshold(*_GARBAGE)
    sys.setswitchinterval(_SWITCH_SECONDS)
