"""What became of one execution: a value, or a failure that says where and why.

Both are plain data and safe to store, show and compare. ``answer_of`` reads the answer out of the
paper's ``(answer, cost)``.
"""

import json
from dataclasses import dataclass

from bayesflow_sandbox.limits import LimitName

__all__ = ["Failure", "JsonValue", "Outcome", "ReturnValue", "answer_of"]

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]

# A tuple survives at the top only: ``(answer, cost)`` is told from a list that is the answer.
ReturnValue = JsonValue | tuple[JsonValue, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a workflow failed.

    Attributes:
        type: The exception's class name, or ``PolicyViolation``, ``LimitExceeded``,
            ``InvalidReturnValue``, ``SandboxCrashed``.
        message: One or two sentences, at most 1,000 characters.
        line: Line of the workflow's source, from 1; None where it is not known.
        code: That line's text, stripped.
        step: ``Step 3`` or ``Step 3: its title``; None outside the steps.
        limit: Which limit was reached, or None.
    """

    type: str
    message: str
    line: int | None = None
    code: str | None = None
    step: str | None = None
    limit: LimitName | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one execution.

    Attributes:
        value: What the workflow returned, or None if it failed.
        failure: None if it returned.
        unsupported: Whether it failed for lack of a Python feature in the interpreter, not by a
            mistake of its own.
        host_calls: Calls that went through the door, refused ones included.
        seconds: Wall time, without the wait for a free worker.
    """

    value: ReturnValue = None
    failure: Failure | None = None
    unsupported: bool = False
    host_calls: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the workflow returned a value."""
        return self.failure is None


def answer_of(value: ReturnValue) -> str:
    """Returns the answer as text: of ``(answer, cost)`` the first, otherwise the value itself.

    Text stays as it is, None becomes the empty text, lists and dicts become JSON.
    """
    answer = value[0] if isinstance(value, tuple) and value else value
    if answer is None or answer == ():
        return ""
    if isinstance(answer, list | dict):
        return json.dumps(answer, ensure_ascii=False)
    return str(answer)
