"""`anthropic:MODEL`: the Messages API.

The SDK costs 2.4 CPU-seconds to import, so that happens on the first call. Its retries are off: the
gateway must see every 429. Redirects are refused: the key belongs to one origin.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from bayesflow_server.errors import ServerError
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
    from anthropic import APIStatusError, AsyncAnthropic
    from anthropic.types import MessageParam
    from httpx2 import AsyncClient

__all__ = ["ANTHROPIC", "AnthropicModel"]

ANTHROPIC = Provider(title="Anthropic", key_variable="ANTHROPIC_API_KEY")

_DEFAULT_MAX_TOKENS = 4096
_STOP_REASONS: Mapping[str, StopReason] = {
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_overflow",
}


class _Block(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    type: str
    text: str = ""


class _ReplyUsage(BaseModel):
    model_config = ConfigDict(from_attributes=True)
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Reply(BaseModel):
    """What is read of the SDK's message."""

    model_config = ConfigDict(from_attributes=True)
    content: list[_Block]
    stop_reason: str | None
    usage: _ReplyUsage


class AnthropicModel:
    """A Claude model behind `ChatModel`."""

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
        self.spec = f"anthropic:{model}"
        self.identity = self.spec
        self._model = model
        self._environment = os.environ if environment is None else environment
        self._http_client = http_client
        self._client: AsyncAnthropic | None = None

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request. The API takes no temperature: it is left out and named as dropped.

        Raises:
            ProviderError: Rate limit, server error, time-out, no network, or a refused request.
            ModelUnavailableError: No key, a refused key, or an unknown model.
        """
        import anthropic  # heavy: on the first call

        client = self._connected()
        try:
            message = await self._create(client, request)
        except anthropic.APITimeoutError:
            raise ANTHROPIC.unreachable(self._model, timed_out=True) from None
        except anthropic.APIConnectionError:
            raise ANTHROPIC.unreachable(self._model, timed_out=False) from None
        except anthropic.APIStatusError as error:
            if _is_overflow(error):
                return Completion("", Usage(), "context_overflow", _dropped(request))
            raise self._status_error(error) from None
        except anthropic.APIError:
            raise ANTHROPIC.unreadable(self._model) from None
        try:
            reply = _Reply.model_validate(message)
        except ValidationError:  # a page with status 200: the SDK itself does not validate
            raise ANTHROPIC.unreadable(self._model) from None
        return _completion(reply, request)

    async def aclose(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def _connected(self) -> "AsyncAnthropic":
        if self._client is None:
            import anthropic  # heavy: on the first call

            key = ANTHROPIC.key(self._environment)
            http = self._http_client or anthropic.DefaultAsyncHttpxClient(follow_redirects=False)
            self._client = anthropic.AsyncAnthropic(
                api_key=key, max_retries=0, timeout=CALL_SECONDS, http_client=http
            )
        return self._client

    async def _create(self, client: "AsyncAnthropic", request: ChatRequest) -> object:
        from anthropic import omit

        system = "\n\n".join(turn.content for turn in request.messages if turn.role == "system")
        turns = [_turn(turn) for turn in request.messages if turn.role != "system"]
        return await client.messages.create(
            model=self._model,
            max_tokens=request.max_tokens or _DEFAULT_MAX_TOKENS,
            messages=turns,
            system=system or omit,
            stop_sequences=[stop for stop in request.stop if stop.strip()] or omit,
        )

    def _status_error(self, error: "APIStatusError") -> ServerError:
        key = ANTHROPIC.key(self._environment)
        return ANTHROPIC.status_error(
            error.status_code, error.message, error.response.headers, model=self._model, key=key
        )


def _turn(turn: ChatMessage) -> "MessageParam":
    if turn.role == "assistant":
        return {"role": "assistant", "content": turn.content}
    return {"role": "user", "content": turn.content}


def _dropped(request: ChatRequest) -> tuple[str, ...]:
    return () if request.temperature is None else ("temperature",)


def _is_overflow(error: "APIStatusError") -> bool:
    return error.status_code == 400 and "prompt is too long" in error.message


def _completion(reply: _Reply, request: ChatRequest) -> Completion:
    text = "".join(block.text for block in reply.content if block.type == "text")
    stop_reason = _STOP_REASONS.get(reply.stop_reason or "", "end")
    # The API takes no stop text of white space alone ("\n"), so those are cut here.
    blank = cut_at_stop(text, [stop for stop in request.stop if not stop.strip()])
    cached = reply.usage.cache_read_input_tokens or 0
    written = reply.usage.cache_creation_input_tokens or 0
    return Completion(
        text=blank.text,
        usage=Usage(
            input_tokens=reply.usage.input_tokens + cached + written,
            output_tokens=reply.usage.output_tokens,
            cached_input_tokens=cached,
        ),
        stop_reason="stop_sequence" if blank.cut else stop_reason,
        dropped=_dropped(request),
    )
