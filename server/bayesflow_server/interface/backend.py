"""What the tools need of the application, and how its errors reach a model.

Tools import this, never the composition root: the services behind it are opened at the first call
that needs them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from mcp.server.mcpserver.exceptions import ToolError

from bayesflow_server.errors import ServerError

if TYPE_CHECKING:
    from bayesflow_server.runs.evaluations import EvaluationService
    from bayesflow_server.runs.service import RunService

__all__ = ["Backend", "clear_errors"]


class Backend(Protocol):
    """The application as the tools see it."""

    async def runs(self) -> "RunService":
        """The run service, opened if need be."""
        ...

    async def evaluations(self) -> "EvaluationService":
        """The evaluation service, opened if need be."""
        ...


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns the application's errors into tool errors: one sentence that says what to do."""
    try:
        yield
    except ServerError as error:
        raise ToolError(str(error)) from None
