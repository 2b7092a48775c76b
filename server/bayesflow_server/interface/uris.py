"""The addresses of what the server shows as resources; tools link to them.

bayesflow://runs                    the newest runs
bayesflow://runs/RUN_ID             a run's state
bayesflow://runs/RUN_ID/pool        its whole pool, without sources
bayesflow://runs/RUN_ID/events      what happened to it, with times, decisions and figures
bayesflow://workflows/WORKFLOW_ID   a workflow's Python source
"""

from typing import Final

__all__ = ["RUNS", "events_uri", "pool_uri", "run_uri", "workflow_uri"]

RUNS: Final = "bayesflow://runs"


def run_uri(run_id: str) -> str:
    """The address of a run's state."""
    return f"{RUNS}/{run_id}"


def pool_uri(run_id: str) -> str:
    """The address of a run's pool."""
    return f"{RUNS}/{run_id}/pool"


def events_uri(run_id: str) -> str:
    """The address of a run's story."""
    return f"{RUNS}/{run_id}/events"


def workflow_uri(workflow_id: str) -> str:
    """The address of a workflow's source."""
    return f"bayesflow://workflows/{workflow_id}"
