"""`openai:MODEL`: the Chat Completions API.

The SDK is the extra `openai`, imported on the first call. Reasoning models refuse parameters that
others take. Which ones is learned from the refusal: the call is repeated without the parameter, and
the model is not offered it again. Retries are off and redirects refused, as in `anthropic.py`.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bayesflow_server.errors import ModelUnavailableError, ServerError
from bayesflow_server.models.chat import (
    ChatMessage,
    ChatRequest,
    Completion,
    Pace,
    StopReason,
    Usage,
)
from bayesflow_server.models.provider_http import CALL_SECONDS, Provider, cut_at_stop

if TYPE_CHECKING:
    from httpx2 import AsyncClient
    from openai import APIStatusError, AsyncOpenAI
    from openai.types.chat import ChatCompletionMessageParam

__all__ = ["OPENAI", "OpenAIModel"]

OPENAI = Provider(title="OpenAI", key_variable="OPENAI_API_KEY")

# As the budget reckons: an answer without a limit of its own ends here.
_DEFAULT_MAX_TOKENS = 4096
_OPTIONAL = frozenset({"temperature", "stop"})
_MOST_STOPS = 4  # the API takes no more; the others are cut from the text here
_STOP_REASONS: Mapping[str, StopReason] = {"length": "length", "content_filter": "refusal"}


class _Message(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    content: str | None
    refusal: str | None = None


class _Choice(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    finish_reason: str
    message: _Message


class _Details(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    cached_tokens: int | None = None


class _ReplyUsage(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class _Reply(BaseModel):
    """What is read of the SDK's completion."""

    model_config = ConfigDict(from_attributes=True)
    choices: list[_Choice] = Field(min_length=1)
    usage: _ReplyUsage


class OpenAIModel:
    """An OpenAI model behind `ChatModel`."""

    concurrency = 32
    deterministic = False
    pace = Pace()

    def __init__(
        self,
        model: str,
        *,
        environment: Mapping[str, str] | None = None,
        http_client: "AsyncClient | None" = None,
    ) -> None:
        """Prepares the model; the SDK is imported and the key read on the first call.

        Args:
            model: The provider's model id.
            environment: Where the key is; the process's own if None.
            http_client: The connection pool, closed with this model; the SDK's own if None.
        """
        self.spec = f"openai:{model}"
        self.identity = self.spec
        self._model = model
        self._environment = os.environ if environment is None else environment
        self._http_client = http_client
        self._client: AsyncOpenAI | None = None
        self._not_taken: set[str] = set()

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request; a parameter that the model refuses is left out and named.

        Raises:
            ProviderError: Rate limit, server error, time-out, no network, or a refused request.
            ModelUnavailableError: No `openai` package, no key, a refused key, or an unknown model.
        """
        client = self._connected()
        import openai  # heavy: on the first call; present, or _connected would have raised

        try:
            completion = await self._create_with_what_it_takes(client, request)
        except openai.APITimeoutError:
            raise OPENAI.unreachable(self._model, timed_out=True) from None
        except openai.APIConnectionError:
            raise OPENAI.unreachable(self._model, timed_out=False) from None
        except openai.APIStatusError as error:
            if error.code == "context_length_exceeded":
                return Completion("", Usage(), "context_overflow", self._dropped(request))
            raise self._status_error(error) from None
        except openai.APIError:
            raise OPENAI.unreadable(self._model) from None
        try:
            reply = _Reply.model_validate(completion)
        except ValidationError:  # a page with status 200: the SDK itself does not validate
            raise OPENAI.unreadable(self._model) from None
        return self._read(reply, request)

    async def aclose(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> "AsyncOpenAI":
        if self._client is None:
            try:
                import openai  # heavy and optional: on the first call
            except ImportError:
                raise ModelUnavailableError(
                    f"{self.spec} needs a package: pip install 'bayesflow-mcp[openai]'"
                ) from None
            key = OPENAI.key(self._environment)
            http = self._http_client or openai.DefaultAsyncHttpxClient(follow_redirects=False)
            self._client = openai.AsyncOpenAI(
                api_key=key, max_retries=0, timeout=CALL_SECONDS, http_client=http
            )
        return self._client

    async def _create_with_what_it_takes(
        self, client: "AsyncOpenAI", request: ChatRequest
    ) -> object:
        from openai import BadRequestError

        while True:  # ends: each turn but the last removes one of the optional parameters
            try:
                return await self._create(client, request)
            except BadRequestError as error:
                if error.param not in _OPTIONAL - self._not_taken:
                    raise
                self._not_taken.add(error.param)

    async def _create(self, client: "AsyncOpenAI", request: ChatRequest) -> object:
        from openai import omit

        temperature = None if "temperature" in self._not_taken else request.temperature
        return await client.chat.completions.create(
            model=self._model,
            messages=[_turn(turn) for turn in request.messages],
            max_completion_tokens=request.max_tokens or _DEFAULT_MAX_TOKENS,
            temperature=omit if temperature is None else temperature,
            stop=self._stops_sent(request) or omit,
        )

    def _stops_sent(self, request: ChatRequest) -> list[str]:
        return [] if "stop" in self._not_taken else list(request.stop[:_MOST_STOPS])

    def _dropped(self, request: ChatRequest) -> tuple[str, ...]:
        asked = request.temperature is not None
        return ("temperature",) if asked and "temperature" in self._not_taken else ()

    def _status_error(self, error: "APIStatusError") -> ServerError:
        key = OPENAI.key(self._environment)
        return OPENAI.status_error(
            error.status_code, error.message, error.response.headers, model=self._model, key=key
        )

    def _read(self, reply: _Reply, request: ChatRequest) -> Completion:
        choice = reply.choices[0]
        cut = cut_at_stop(choice.message.content or "", request.stop)
        stop_reason = _STOP_REASONS.get(choice.finish_reason, "end")
        if choice.message.refusal is not None:
            stop_reason = "refusal"
        details = reply.usage.prompt_tokens_details
        return Completion(
            text=cut.text,
            usage=Usage(
                input_tokens=reply.usage.prompt_tokens,
                output_tokens=reply.usage.completion_tokens,
                cached_input_tokens=(details.cached_tokens or 0) if details else 0,
            ),
            stop_reason="stop_sequence" if cut.cut else stop_reason,
            dropped=self._dropped(request),
        )


def _turn(turn: ChatMessage) -> "ChatCompletionMessageParam":
    match turn.role:
        case "system":
            return {"role": "system", "content": turn.content}
        case "user":
            return {"role": "user", "content": turn.content}
        case "assistant":
            return {"role": "assistant", "content": turn.content}
