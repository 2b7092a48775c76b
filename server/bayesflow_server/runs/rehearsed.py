"""What a rehearsal measured; pinned with the run, so that its estimate can be told again."""

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Rehearsal", "Use"]


class Use(NamedTuple):
    """What one execution (a workflow on a row) asks of its model, on average.

    Attributes:
        calls: Answers asked for.
        input_tokens: Tokens of the questions, at four characters each.
        output_tokens: Tokens of the answers, at 100 each unless the call allows fewer.
    """

    calls: float
    input_tokens: float
    output_tokens: float


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What was measured.

    Attributes:
        baseline: Of the baseline; None if it did not run in time.
        drawn: Of the workflows that the grammar draws; None where no grammar writes.
        executions: How many were run.
    """

    baseline: Use | None
    drawn: Use | None
    executions: int
