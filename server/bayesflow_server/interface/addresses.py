"""Reading the addresses that `uris.py` writes."""

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from mcp.server.mcpserver.exceptions import ResourceNotFoundError

from bayesflow_server.excerpt import excerpt
from bayesflow_server.interface.uris import RUNS, events_uri, pool_uri, run_uri, workflow_uri

__all__ = ["Address", "Subject", "is_ours", "parse_address"]

Subject: TypeAlias = Literal["runs", "run", "pool", "events", "workflow"]

_PARTS: Final[dict[str | None, Subject]] = {None: "run", "pool": "pool", "events": "events"}
_RUN: Final = re.compile(r"bayesflow://runs/([A-Za-z0-9_-]{1,80})(?:/(pool|events))?")
_WORKFLOW: Final = re.compile(r"bayesflow://workflows/([A-Za-z0-9_-]{1,80})")
_LONGEST_URI: Final = 200


class Address(NamedTuple):
    """What a URI of ours names.

    Attributes:
        subject: Which kind of resource.
        id: The run's or the workflow's id; empty for the list of runs.
    """

    subject: Subject
    id: str = ""


def is_ours(uri: str) -> bool:
    """Whether the URI has our scheme, well-formed or not."""
    return uri.startswith("bayesflow:")


def parse_address(uri: str) -> Address:
    """What the URI names.

    Raises:
        ResourceNotFoundError: It is not of one of our forms.
    """
    if uri == RUNS:
        return Address("runs")
    if found := _RUN.fullmatch(uri):
        return Address(_PARTS[found[2]], found[1])
    if found := _WORKFLOW.fullmatch(uri):
        return Address("workflow", found[1])
    raise ResourceNotFoundError(
        f"There is no resource {excerpt(uri, _LONGEST_URI)!r}; there are {RUNS}, "
        f"{run_uri('RUN_ID')}, {pool_uri('RUN_ID')}, {events_uri('RUN_ID')} and "
        f"{workflow_uri('WORKFLOW_ID')}."
    )
