"""What the tools need of the application.

Tools import this, never the composition root: the services behind it are opened at the first call
that needs them.
"""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bayesflow_server.runs.evaluations import EvaluationService
    from bayesflow_server.runs.service import RunService

__all__ = ["Backend"]


class Backend(Protocol):
    """The application as the tools see it."""

    async def runs(self) -> "RunService":
        """The run service, opened if need be."""
        ...

    async def evaluations(self) -> "EvaluationService":
        """The evaluation service, opened if need be."""
        ...
