"""What a refiner is told of a workflow: its worst validation rows, with the calls it made there.

Implements `bayesflow_sampler.llm_refiner.Feedback` from the evaluator's executions. All of it is on
record, so a run that is resumed within a round builds the same prompts from it.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bayesflow_sampler.prompts import Trace
from bayesflow_sampler.types import Evaluation
from bayesflow_server.evaluation.call_log import shorten
from bayesflow_server.evaluation.evaluate import Evaluator, failure_line
from bayesflow_server.evaluation.scorers import target_text
from bayesflow_server.store.records import ExecutionRecord
from bayesflow_server.store.text import storable

__all__ = ["StoredFeedback"]

_INPUT: Final = 800
_GOLD: Final = 400
_ANSWER: Final = 600
_ERROR: Final = 400


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """Reads the executions of the validation split.

    Attributes:
        evaluator: Where they are.
    """

    evaluator: Evaluator

    async def worst(self, evaluation: Evaluation, limit: int) -> Sequence[Trace]:
        """The evaluation's rows with the lowest accuracy, the worst first, ties by position.

        Texts are cut in the middle. Rows that succeeded may be among them, without a trace.
        """
        met = set(evaluation.rows.positions)
        records = [
            record
            for record in await self.evaluator.executions(evaluation.workflow_id, "validation")
            if record.position in met
        ]
        # Stable: of equal scores the first positions come first.
        return [
            self._trace(record)
            for record in heapq.nsmallest(limit, records, key=lambda record: record.score)
        ]

    def _trace(self, record: ExecutionRecord) -> Trace:
        row = self.evaluator.rows["validation"][record.position]
        gold = target_text(row.target)
        return Trace(
            input=storable(shorten(row.problem, _INPUT)),
            gold=None if gold is None else storable(shorten(gold, _GOLD)),
            answer=None if record.answer is None else shorten(record.answer, _ANSWER),
            score=record.score,
            error=None if record.error is None else shorten(failure_line(record), _ERROR),
            trace=record.trace,
        )
