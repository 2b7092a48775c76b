"""The Messages API: Claude, and servers that speak the same.

The SDK costs 2.4 CPU-seconds to import, so that happens on the first call. The API takes no
temperature and draws one answer a call. Turns marked `shared` are cached by the provider.
"""

import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

from pydantic import BaseModel

from bayesflow_server.models.chat import (
    ChatMessage,
    ChatRequest,
    Completion,
    StopReason,
    Usage,
)
from bayesflow_server.models.connection import STAND_IN, Connection, Dialled, SdkErrors
from bayesflow_server.models.provider_http import BadRequest, cut_at_stop, outcome
from bayesflow_server.models.remote_model import RemoteModel, Tokens

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["AnthropicModel", "dial_anthropic"]

# As the budget reckons: an answer without a limit of its own ends here.
_DEFAULT_MAX_TOKENS = 4096
_MOST_CACHE_MARKS = 4  # the API refuses more
_STOP_REASONS: Mapping[str, StopReason] = {
    "max_tokens": "length",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    "model_context_window_exceeded": "context_overflow",
}


class _Block(BaseModel):
    type: str
    text: str = ""


class _ReplyUsage(BaseModel):
    input_tokens: Tokens
    output_tokens: Tokens
    cache_read_input_tokens: Tokens | None = None
    cache_creation_input_tokens: Tokens | None = None


class _Reply(BaseModel):
    """What is read of an answer."""

    content: list[_Block]
    stop_reason: str | None
    usage: _ReplyUsage


def dial_anthropic(connection: "Connection[AsyncAnthropic]") -> "Dialled[AsyncAnthropic]":
    """The SDK's client for a connection."""
    import anthropic  # heavy: on the first call

    logging.getLogger("anthropic._base_client").addFilter(_without_traceback)
    client = anthropic.AsyncAnthropic(
        api_key=STAND_IN,
        base_url=connection.base_url,
        max_retries=0,
        timeout=connection.call_seconds,
        http_client=connection.http(anthropic.DefaultAioHttpClient),
    )
    errors = SdkErrors(
        timeout=anthropic.APITimeoutError,
        connection=anthropic.APIConnectionError,
        status=anthropic.APIStatusError,
        root=anthropic.APIError,
    )
    return Dialled(client, errors)


def _without_traceback(record: logging.LogRecord) -> bool:
    """The SDK's debug log attaches the failed request, with the headers it left with."""
    record.exc_info = None
    return True


class AnthropicModel(RemoteModel["AsyncAnthropic"]):
    """A model behind the Messages API, as a `ChatModel`."""

    async def complete(self, request: ChatRequest) -> Completion:
        """Answers the request. The API takes no temperature: it is left out and named as dropped.

        Raises:
            ProviderError: Rate limit, server error, time-out, no network, or a refused request.
            ModelUnavailableError: No key, a refused key, or an unknown model.
        """
        message = await self._connection.call(
            self._model, lambda client: self._create(client, request)
        )
        if isinstance(message, BadRequest):
            if message.outcome is not None:
                return Completion("", Usage(), message.outcome, _dropped(request))
            raise message.error
        return self._completion(self._read_as(_Reply, message), request)

    async def _create(self, client: "AsyncAnthropic", request: ChatRequest) -> object:
        # The SDK's plain `post`: see `openai.py`.
        marked = _cache_marks(request.messages)
        system = [
            _block(turn, turn in marked)
            for turn in request.messages
            if turn.role == "system" and turn.content
        ]
        asked: dict[str, object] = {
            "model": self._model,
            "max_tokens": request.max_tokens or _DEFAULT_MAX_TOKENS,
            "messages": [
                {
                    "role": turn.role,
                    "content": [_block(turn, True)] if turn in marked else turn.content,
                }
                for turn in request.messages
                if turn.role != "system"
            ],
            "system": system,
            "stop_sequences": [stop for stop in request.stop if stop.strip()],
        }
        body = {name: value for name, value in asked.items() if value}
        return await client.post("/v1/messages", cast_to=object, body=body)

    def _completion(self, reply: _Reply, request: ChatRequest) -> Completion:
        said = "".join(block.text for block in reply.content if block.type == "text")
        # The key goes first: a stop text could leave a part of it.
        said = self._connection.without_key(said)
        # The API takes no stop text of white space alone ("\n"), so those are cut here.
        cut = cut_at_stop(said, [stop for stop in request.stop if not stop.strip()])
        stop_reason = _STOP_REASONS.get(reply.stop_reason or "", "end")
        cached = reply.usage.cache_read_input_tokens or 0
        written = reply.usage.cache_creation_input_tokens or 0
        return Completion(
            text=cut.text,
            usage=Usage(
                input_tokens=reply.usage.input_tokens + cached + written,
                output_tokens=reply.usage.output_tokens,
                cached_input_tokens=cached,
            ),
            stop_reason="stop_sequence" if cut.cut else outcome(cut.text, stop_reason),
            dropped=_dropped(request),
        )


def _cache_marks(turns: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    """The last shared turns: each mark caches all that stands before it."""
    shared = (turn for turn in reversed(turns) if turn.shared and turn.content)
    return tuple(islice(shared, _MOST_CACHE_MARKS))


def _block(turn: ChatMessage, marked: bool) -> dict[str, object]:
    block: dict[str, object] = {"type": "text", "text": turn.content}
    return block | {"cache_control": {"type": "ephemeral"}} if marked else block


def _dropped(request: ChatRequest) -> tuple[str, ...]:
    return () if request.temperature is None else ("temperature",)
