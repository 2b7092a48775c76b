"""The last calls of one execution, cut short: what a refiner is shown of it.

Kept in the order the calls were begun, so that the text does not depend on which answer came first.
The door writes it; the evaluator stores the text with executions that could have scored higher.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from bayesflow_server.evaluation.outcomes import NOT_WELL
from bayesflow_server.models.chat import ChatRequest, Completion

__all__ = ["MOST_CHARACTERS", "CallLog", "LoggedCall", "shorten"]

MOST_CHARACTERS: Final = 4_000
_MOST_CALLS: Final = 8
_PROMPT: Final = 140
_ANSWER: Final = 280
_GAP: Final = " […] "


def shorten(text: str, most: int) -> str:
    """The text, or its first third and last two thirds up to `most` characters."""
    if len(text) <= most:
        return text
    kept = most - len(_GAP)
    head = kept // 3
    return text[:head] + _GAP + text[len(text) - (kept - head) :]


@dataclass(slots=True)
class LoggedCall:
    """One call; `answer` is None until it came."""

    number: int
    prompt: str
    answer: str | None = None
    endings: str = ""

    def answered(self, completions: Sequence[Completion]) -> None:
        """Notes the answers, and how they ended if not well."""
        self.answer = shorten(" || ".join(one.text for one in completions), _ANSWER)
        odd = sorted({one.stop_reason for one in completions} & NOT_WELL)
        self.endings = f" ({', '.join(odd)})" if odd else ""


@dataclass(slots=True)
class CallLog:
    """The last eight calls of an execution."""

    _calls: deque[LoggedCall] = field(
        default_factory=lambda: deque[LoggedCall](maxlen=_MOST_CALLS), init=False
    )
    _begun: int = field(default=0, init=False)

    def begin(self, request: ChatRequest) -> LoggedCall:
        """Opens the entry of a call that is about to be made."""
        self._begun += 1
        # Cut turn by turn: a prompt may be a megabyte long.
        turns = [shorten(turn.content, _PROMPT) for turn in request.messages]
        call = LoggedCall(self._begun, shorten("\n".join(turns), _PROMPT))
        self._calls.append(call)
        return call

    @property
    def text(self) -> str:
        """All entries that have an answer, at most 4,000 characters."""
        lines: list[str] = []
        if (dropped := self._begun - len(self._calls)) > 0:
            lines.append(f"({dropped} earlier calls left out)")
        for call in self._calls:
            if call.answer is not None:
                lines.append(f"call {call.number} asked: {call.prompt}")
                lines.append(f"call {call.number} answered{call.endings}: {call.answer}")
        return shorten("\n".join(lines), MOST_CHARACTERS)
