"""Errors of the sandbox: what is wrong with the caller or the host, never with the workflow.

    SandboxError
    ├── LimitsError             a limit outside its range (also a ValueError)
    ├── UnitTestsError          unit tests that are none, too many or too long (also a ValueError)
    ├── SandboxClosedError      used after ``aclose()``, or closed while it was running
    ├── SandboxUnavailableError the interpreter cannot be started on this machine
    ├── ProtocolError           a sandboxed process sent what it may not
    └── CallRefusedError        raised *by a host handler*: the workflow asked for the impossible

A workflow that fails is data (``Outcome``), not an exception. ``CallRefusedError`` is the one error
that a host handler may raise at the workflow: inside it appears as a ``ValueError``. Every other
exception of a handler is a fault of the host, ends the execution, and leaves ``run_workflow``
unchanged.
"""

__all__ = [
    "CallRefusedError",
    "LimitsError",
    "ProtocolError",
    "SandboxClosedError",
    "SandboxError",
    "SandboxUnavailableError",
    "UnitTestsError",
]


class SandboxError(Exception):
    """Root of every error that this package raises on purpose."""


class LimitsError(SandboxError, ValueError):
    """A limit outside its range.

    Attributes:
        limit: The field of ``Limits``.
        value: What was given.
    """

    def __init__(self, limit: str, value: float, low: float, high: float) -> None:
        super().__init__(f"limit {limit}={value!r} is not between {low:g} and {high:g}")
        self.limit = limit
        self.value = value


class UnitTestsError(SandboxError, ValueError):
    """Unit tests that cannot be run: none, too many, or too long."""


class SandboxClosedError(SandboxError):
    """The sandbox was used after ``aclose()``, or closed while it was running a workflow."""


class SandboxUnavailableError(SandboxError):
    """The interpreter cannot be started on this machine; the message says what to do."""


class ProtocolError(SandboxError):
    """A sandboxed process sent what it may not: bytes that are no frame, value or message."""


class CallRefusedError(SandboxError):
    """A host handler refuses a call because of what the workflow asked for.

    Raised inside the workflow as a ``ValueError`` with this message.
    """
