"""The Chat Completions API: OpenAI, and the many servers that speak the same.

The SDK is the extra `openai`, imported on the first call. `n` is used where the server takes it,
and what it does not take is learned (`openai_parameters.py`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from pydantic import BaseModel, Field

from bayesflow_server.errors import ModelUnavailableError, ServerError
from bayesflow_server.models.chat import (
    ChatRequest,
    Completion,
    StopReason,
    Usage,
)
from bayesflow_server.models.connection import STAND_IN, Connection, Dialled, SdkErrors
from bayesflow_server.models.endpoints import BUILT_IN_ENDPOINTS
from bayesflow_server.models.openai_parameters import Attempt, Parameters
from bayesflow_server.models.provider_http import BadRequest, cut_at_stop, outcome
from bayesflow_server.models.remote_model import RemoteModel, Tokens

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAIModel", "dial_openai"]

_STOP_REASONS: Mapping[str, StopReason] = {"length": "length", "content_filter": "refusal"}
_ERROR_STATUSES = frozenset(str(status) for status in range(400, 600))


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    finish_reason: str | None
    message: _Message


class _Details(BaseModel):
    cached_tokens: Tokens | None = None


class _ReplyUsage(BaseModel):
    prompt_tokens: Tokens
    completion_tokens: Tokens
    prompt_tokens_details: _Details | None = None


class _Reply(BaseModel):
    """What is read of an answer."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _ReplyUsage


class _Fault(BaseModel):
    """An error told with status 200, as routers do."""

    code: int | str | None = None
    message: str = ""


class _FaultyReply(BaseModel):
    error: _Fault


def dial_openai(connection: "Connection[AsyncOpenAI]") -> "Dialled[AsyncOpenAI]":
    """The SDK's client for a connection.

    Raises:
        ModelUnavailableError: The package is not installed.
    """
    try:
        import openai  # heavy and optional: on the first call
    except ImportError:
        raise ModelUnavailableError(
            f"{connection.provider.title} needs a package: pip install 'bayesflow-mcp[openai]'"
        ) from None
    client = openai.AsyncOpenAI(
        api_key=STAND_IN,
        base_url=connection.base_url,
        max_retries=0,
        timeout=connection.call_seconds,
        http_client=connection.http(openai.DefaultAioHttpClient),
    )
    errors = SdkErrors(
        timeout=openai.APITimeoutError,
        connection=openai.APIConnectionError,
        status=openai.APIStatusError,
        root=openai.APIError,
    )
    return Dialled(client, errors)


class OpenAIModel(RemoteModel["AsyncOpenAI"]):
    """A model behind the Chat Completions API, as a `ChatModel` and `ManySampler`."""

    def __init__(self, model: str, connection: "Connection[AsyncOpenAI]") -> None:
        """As `RemoteModel`."""
        super().__init__(model, connection)
        # Other servers know `max_tokens`, and some pass over a name they do not know in silence.
        is_openai = connection.endpoint.name in BUILT_IN_ENDPOINTS
        self._parameters = Parameters(
            limit_first="max_completion_tokens" if is_openai else "max_tokens"
        )

    @property
    def most_samples(self) -> int:
        """The most answers in one call; 1 once the server is known to give no more."""
        return self._parameters.most_samples

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request; a parameter that the model refuses is left out and named.

        Raises:
            ProviderError: Rate limit, server error, time-out, no network, or a refused request.
            ModelUnavailableError: No `openai` package, no key, a refused key, or an unknown model.
        """
        return (await self._draw(request, 1))[0]

    async def sample(self, request: ChatRequest, count: int) -> tuple[Completion, ...]:
        """Draws up to `count` answers, as many as the server gives in a call; as `complete`."""
        return await self._draw(request, count)

    async def _draw(self, request: ChatRequest, count: int) -> tuple[Completion, ...]:
        """At least one answer and at most `count`."""
        attempt = self._parameters.attempt(request, count)
        while True:  # ends: each turn but the last leaves out one more of a few parameters
            answer = await self._connection.call(
                self._model, lambda client: self._create(client, attempt)
            )
            if not isinstance(answer, BadRequest):
                break
            if attempt.drop_what_is_refused(answer):
                continue
            if answer.outcome is not None:
                return (Completion("", Usage(), answer.outcome, attempt.dropped),) * count
            raise answer.error
        reply = self._read(answer)
        del reply.choices[count:]
        self._parameters.learn(attempt, len(reply.choices))
        return tuple(self._completion(reply, index, attempt) for index in range(len(reply.choices)))

    async def _create(self, client: "AsyncOpenAI", attempt: Attempt) -> object:
        # The SDK's plain `post`: its typed `create` spends half of a call's CPU on turning dicts
        # into the same dicts, and the answer into a model that is read field by field here.
        asked: dict[str, object] = {
            "model": self._model,
            "messages": [
                {"role": turn.role, "content": turn.content} for turn in attempt.request.messages
            ],
            attempt.limit_name or "": attempt.max_tokens,
            "temperature": attempt.temperature,
            "stop": attempt.stop or None,
            "seed": attempt.seed,
            "n": attempt.n if attempt.n > 1 else None,
        }
        body = {name: value for name, value in asked.items() if name and value is not None}
        return await client.post("/chat/completions", cast_to=object, body=body)

    def _read(self, answer: object) -> _Reply:
        if _tells_error(answer):
            raise self._told_with_success(answer)
        reply = self._read_as(_Reply, answer)
        if any(choice.finish_reason == "error" for choice in reply.choices):
            raise self._connection.provider.broke_off(self._model)
        return reply

    def _told_with_success(self, answer: object) -> ServerError:
        fault = self._read_as(_FaultyReply, answer).error
        status = int(fault.code or 0) if str(fault.code) in _ERROR_STATUSES else 502
        refused = self._connection.provider.refused(
            status, fault.message, {}, model=self._model, clean=self._connection.without_key
        )
        return refused.error if isinstance(refused, BadRequest) else refused

    def _completion(self, reply: _Reply, index: int, attempt: Attempt) -> Completion:
        choice = reply.choices[index]
        # The key goes first: a stop text could leave a part of it.
        said = self._connection.without_key(choice.message.content or "")
        cut = cut_at_stop(said, attempt.request.stop)
        stop_reason = _STOP_REASONS.get(choice.finish_reason or "", "end")
        if choice.message.refusal:
            stop_reason = "refusal"
        return Completion(
            text=cut.text,
            usage=_share(reply, index),
            stop_reason="stop_sequence" if cut.cut else outcome(cut.text, stop_reason),
            dropped=attempt.dropped,
        )


def _tells_error(answer: object) -> bool:
    told = cast("Mapping[str, object]", answer)
    return isinstance(answer, Mapping) and told.get("error") is not None


def _share(reply: _Reply, index: int) -> Usage:
    """One answer's part of the usage: the question stands with the first, the rest is even."""
    usage, answers = reply.usage, len(reply.choices)
    each, rest = divmod(usage.completion_tokens, answers)
    output = each + (1 if index < rest else 0)
    if index:
        return Usage(0, output)
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details else 0
    return Usage(usage.prompt_tokens, output, min(cached, usage.prompt_tokens))
