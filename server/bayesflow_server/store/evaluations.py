"""Evaluations of one workflow that a caller asked for."""

import time
from collections.abc import Sequence

from bayesflow_server.errors import NotFoundError
from bayesflow_server.store.access import Access
from bayesflow_server.store.datasets import insert_rows
from bayesflow_server.store.records import (
    UNSET,
    EvaluationRecord,
    NewEvaluation,
    RowRecord,
    RunStatus,
    Unset,
)
from bayesflow_server.store.table import Statement, Table, assignments

__all__ = ["EvaluationStore"]

EVALUATIONS = Table("evaluations", EvaluationRecord)


class EvaluationStore(Access):
    """The evaluations in the file; their rows are pinned under ``evaluation_id``."""

    async def create_evaluation(self, new: NewEvaluation, rows: Sequence[RowRecord]) -> None:
        """Stores an evaluation with its rows, in one transaction; its workflow is there already."""
        now = time.time()
        record = EvaluationRecord(
            evaluation_id=new.evaluation_id,
            workflow_id=new.workflow_id,
            request=new.request,
            status=new.status,
            reason=None,
            report=None,
            created=now,
            updated=now,
        )
        await self._writer.submit(EVALUATIONS.insert(record), insert_rows(new.evaluation_id, rows))

    async def evaluation(self, evaluation_id: str) -> EvaluationRecord | None:
        """Returns the evaluation, or None."""
        return await self._find(EVALUATIONS, "WHERE evaluation_id = ?", evaluation_id)

    async def update_evaluation(
        self,
        evaluation_id: str,
        *,
        status: RunStatus | Unset = UNSET,
        reason: str | Unset | None = UNSET,
        report: str | Unset | None = UNSET,
    ) -> None:
        """Changes the fields that are given.

        Raises:
            NotFoundError: There is no such evaluation.
        """
        changes = assignments(status=status, reason=reason, report=report, updated=time.time())
        rows = await self._writer.submit(
            Statement(
                f"UPDATE evaluations SET {changes.sql} WHERE evaluation_id = ? RETURNING 1",
                (*changes.parameters, evaluation_id),
            )
        )
        if not rows:
            raise NotFoundError(
                f"There is no evaluation {evaluation_id!r}; evaluate_workflow starts one."
            )
