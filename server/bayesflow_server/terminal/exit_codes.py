"""What an exit code of `bayesflow-mcp` means: the same in every command."""

from typing import Final

__all__ = [
    "DONE",
    "ENVIRONMENT",
    "INTERRUPTED",
    "MEANINGS",
    "TERMINATED",
    "TIMED_OUT",
    "UNFINISHED",
    "WRONG",
    "code_of",
]

DONE: Final = 0
UNFINISHED: Final = 1
WRONG: Final = 2
ENVIRONMENT: Final = 3
TIMED_OUT: Final = 75  # "try again later", as in sysexits.h
INTERRUPTED: Final = 130
TERMINATED: Final = 143

MEANINGS: Final = {
    DONE: "done",
    UNFINISHED: "the run did not finish, or the check found something in the way",
    WRONG: "the request is wrong: a flag, a file, an id",
    ENVIRONMENT: "this machine does not give what is needed: database, model, sandbox",
    TIMED_OUT: "the time to wait is over (wait --timeout)",
    INTERRUPTED: "stopped by Ctrl-C; what was found is kept",
    TERMINATED: "stopped by SIGTERM; what was found is kept",
}


def code_of(error: Exception) -> int:
    """The exit code of a command that an error ended."""
    from bayesflow_sandbox.errors import SandboxError  # here: the server starts without it
    from bayesflow_server.errors import (
        ModelUnavailableError,
        ProviderError,
        ScorerError,
        StoreError,
    )

    surroundings = (ModelUnavailableError, ProviderError, ScorerError, StoreError, SandboxError)
    return ENVIRONMENT if isinstance(error, surroundings) else WRONG
