"""A deterministic model for tests and benches: answers by rule, counts its calls, fails on demand.

    {"rules": [{"contains": "2 + 2", "answer": "4"},
               {"contains": "busy", "error": "slow down", "retry_after": 0.5, "times": 2}],
     "default": "I do not know.", "latency_ms": 20, "count_file": "/tmp/calls"}

In a server it exists as `scripted:default`, and only if `BAYESFLOW_SCRIPTED_MODEL` names such a
file at launch; no tool argument can make the server read one.
"""

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models.chat import ChatRequest, Completion, Pace, Usage

__all__ = ["CallCounts", "Rule", "Script", "ScriptedModel", "read_counts"]


class Rule(BaseModel):
    """What to do when the last turn contains a text. The first rule that applies is used.

    Attributes:
        contains: The text looked for; the empty text applies always.
        answer: What is answered, unless `error` or `answers` is set.
        answers: One of these is: which, the request and its sample decide, as if by chance.
        error: Raise a `ProviderError` with this message instead.
        retry_after: The error's attribute, in seconds.
        times: The rule applies so many times, then never again; None: always.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    contains: str
    answer: str = ""
    answers: tuple[str, ...] = ()
    error: str | None = None
    retry_after: float | None = None
    times: int | None = Field(default=None, ge=0)


class Script(BaseModel):
    """The file's content.

    Attributes:
        rules: Tried in order.
        default: The answer when no rule applies.
        latency_ms: How long each call takes.
        count_file: Where calls are noted; see `read_counts`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    rules: tuple[Rule, ...] = ()
    default: str = ""
    latency_ms: float = Field(default=0.0, ge=0)
    count_file: Path | None = None


@dataclass(frozen=True, slots=True)
class CallCounts:
    """Calls noted in a count file, by all processes that ever wrote to it.

    Attributes:
        started: How often each request was begun, by its key: a digest, a dot, its sample.
        finished: How often each request was answered or failed, by its key.
    """

    started: Counter[str]
    finished: Counter[str]


def read_counts(path: Path) -> CallCounts:
    """Reads a count file; one that does not exist holds no calls."""
    lines = path.read_text().splitlines() if path.exists() else []
    notes = [line.split(" ", 1) for line in lines]
    return CallCounts(
        started=Counter(key for event, key in notes if event == "start"),
        finished=Counter(key for event, key in notes if event == "finish"),
    )


class ScriptedModel:
    """Answers from a function, after a latency, and counts.

    Attributes:
        calls: The requests so far, in the order they came; none of a model read from a file,
            which may serve a server for hours.
    """

    deterministic = True
    pace = Pace()

    def __init__(
        self,
        answer: Callable[[ChatRequest], str],
        *,
        name: str = "default",
        latency_seconds: float = 0.0,
        count_file: Path | None = None,
        concurrency: int = 64,
        keeps_calls: bool = True,
    ) -> None:
        """Takes a function of the request; what it raises, `complete` raises."""
        self.spec = f"scripted:{name}"
        self.identity = self.spec
        self.concurrency = concurrency
        self.calls: list[ChatRequest] = []
        self._keeps_calls = keeps_calls
        self._answer = answer
        self._latency_seconds = latency_seconds
        self._count_file = count_file

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Reads a script.

        Raises:
            ModelUnavailableError: The file is missing or not a script.
        """
        try:
            script = Script.model_validate_json(path.read_bytes())
        except OSError as error:
            raise ModelUnavailableError(
                f"BAYESFLOW_SCRIPTED_MODEL names {path}: {error.strerror}."
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise ModelUnavailableError(
                f"BAYESFLOW_SCRIPTED_MODEL names {path}, which is not a script: "
                f"{where}: {first['msg']}."
            ) from error
        return cls(
            _rule_follower(script),
            latency_seconds=script.latency_ms / 1000,
            count_file=script.count_file,
            keeps_calls=False,
        )

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers by the function; tokens are counted as words.

        Raises:
            ProviderError: The script says so.
        """
        if self._keeps_calls:
            self.calls.append(request)
        self._note("start", request)
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        try:
            text = self._answer(request)
        finally:
            self._note("finish", request)
        words = sum(len(turn.content.split()) for turn in request.messages)
        return Completion(text=text, usage=Usage(words, len(text.split())))

    async def aclose(self) -> None:
        """Nothing to free."""

    def _note(self, event: str, request: ChatRequest) -> None:
        if self._count_file is None:
            return
        key = f"{_digest(request).hex()}.{request.sample}"
        # One write to a file opened for appending: whole lines, though several processes write.
        file = os.open(self._count_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, f"{event} {key}\n".encode())
        finally:
            os.close(file)


def _digest(request: ChatRequest) -> bytes:
    return hashlib.blake2b(repr(request).encode(), digest_size=8).digest()


def _rule_follower(script: Script) -> Callable[[ChatRequest], str]:
    used: Counter[int] = Counter()

    def answer(request: ChatRequest) -> str:
        last = request.messages[-1].content if request.messages else ""
        for number, rule in enumerate(script.rules):
            spent = rule.times is not None and used[number] >= rule.times
            if spent or rule.contains not in last:
                continue
            used[number] += 1
            if rule.error is not None:
                raise ProviderError(rule.error, retry_after=rule.retry_after)
            if rule.answers:
                return rule.answers[int.from_bytes(_digest(request), "big") % len(rule.answers)]
            return rule.answer
        return script.default

    return answer
