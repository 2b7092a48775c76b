"""The best workflows of a run's pool, as an ensemble takes them: ranked, with what each weighs."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from bayesflow_server.errors import InputError
from bayesflow_server.evaluation.report import FinalReport
from bayesflow_server.runs.pool_view import StoredPool, view_pool
from bayesflow_server.runs.progress import Phase
from bayesflow_server.store.records import RunRecord

__all__ = ["BestMember", "Member", "best_member", "posterior_weights", "top_members"]

_EMPTY: Final = (
    "The run has not finished its first round, so there is no workflow yet; call get_run with "
    "wait_seconds=20 first."
)


class Member(BaseModel):
    """A workflow of an ensemble.

    Attributes:
        workflow_id: Its id in the store.
        weight: Its posterior probability in the run, or None: it has none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workflow_id: str
    weight: float | None = None


def top_members(stored: StoredPool, top: int) -> tuple[Member, ...]:
    """The first workflows of the pool, ranked as get_pool ranks them; fewer if it has fewer.

    Raises:
        InputError: The pool is empty.
    """
    ranked = view_pool(stored).items[:top]
    if not ranked:
        raise InputError(_EMPTY)
    return tuple(
        Member(workflow_id=item.row.entry.workflow_id, weight=item.posterior) for item in ranked
    )


def posterior_weights(members: Sequence[Member]) -> list[float] | None:
    """What each vote weighs, best-ranked first, or None where no member has a posterior."""
    weights = [member.weight or 0.0 for member in members]
    return weights if any(weights) else None


class BestMember(NamedTuple):
    """A run's best workflow.

    Attributes:
        member: The workflow.
        shrunk: Its shrunk validation score.
        report: The run's final report, or None: it goes on, and this is the best so far.
    """

    member: Member
    shrunk: float
    report: FinalReport | None

    @property
    def final(self) -> bool:
        """Whether it is the final pick rather than the best so far."""
        return self.report is not None


def best_member(run: RunRecord) -> BestMember:
    """The run's final pick, or the best so far.

    Raises:
        InputError: There is none yet.
    """
    if run.outcome:
        report = FinalReport.model_validate_json(run.outcome)
        pick = report.best[0]
        return BestMember(Member(workflow_id=pick.workflow_id), pick.validation_shrunk, report)
    best = Phase.model_validate_json(run.phase or "{}").best_so_far
    if best is None:
        raise InputError(
            f"{run.run_id} has not finished its first round, so there is no workflow yet; call "
            f"get_run(run_id='{run.run_id}', wait_seconds=20) first."
        )
    return BestMember(Member(workflow_id=best.workflow_id), best.shrunk, None)
