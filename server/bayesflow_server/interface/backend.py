"""What the tools need of the application.

Tools import this, never the composition root: the services behind it are opened at the first call
that needs them.
"""

from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from bayesflow_server.runs.answering import AnswerService
    from bayesflow_server.runs.evaluations import EvaluationService
    from bayesflow_server.runs.proposal_service import ProposalService
    from bayesflow_server.runs.service import RunService

__all__ = ["Backend", "ClosingBackend"]


class Backend(Protocol):
    """The application as the tools see it."""

    @property
    def confirm_above(self) -> float:
        """US dollars; a request that may spend more needs the user's word."""
        ...

    async def runs(self) -> "RunService":
        """The run service, opened if need be."""
        ...

    async def evaluations(self) -> "EvaluationService":
        """The evaluation service, opened if need be."""
        ...

    async def answers(self) -> "AnswerService":
        """The service that answers new inputs, opened if need be."""
        ...

    async def proposals(self) -> "ProposalService":
        """The service for runs that ask their client, opened if need be."""
        ...


class ClosingBackend(Backend, Protocol):
    """A backend that leaves nothing open when its block ends."""

    async def adopt_runs(self, quiet: float) -> None:
        """Goes on with runs that nobody works on, until cancelled; first after so many seconds."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...
