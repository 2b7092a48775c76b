"""The paid providers' HTTP answers, and a transport that records what was sent."""

import json
from typing import cast

import httpx2

__all__ = ["Wire", "anthropic_error", "anthropic_reply", "openai_error", "openai_reply"]

JsonObject = dict[str, object]


class Wire:
    """Answers each request with the next of the given responses; the last one repeats."""

    def __init__(self, *responses: httpx2.Response | type[httpx2.TransportError]) -> None:
        self.sent: list[JsonObject] = []
        self.urls: list[str] = []
        self._responses = list(responses)

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer))

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append(cast(JsonObject, json.loads(request.content)))
        self.urls.append(str(request.url))
        more = len(self._responses) > 1
        response = self._responses.pop(0) if more else self._responses[0]
        if isinstance(response, httpx2.Response):
            return response
        raise response("no network")


def anthropic_reply(text: str = "hi", stop_reason: str = "end_turn") -> httpx2.Response:
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 100,
        "output_tokens": 7,
    }
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }
    return httpx2.Response(200, json=body)


def openai_reply(
    text: str | None = "hi", finish_reason: str = "stop", refusal: str | None = None
) -> httpx2.Response:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = {
        "prompt_tokens": 123,
        "completion_tokens": 7,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 20},
    }
    choice = {"index": 0, "finish_reason": finish_reason, "message": message, "logprobs": None}
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [choice],
        "usage": usage,
    }
    return httpx2.Response(200, json=body)


def anthropic_error(
    status: int, message: str, headers: dict[str, str] | None = None
) -> httpx2.Response:
    body = {"type": "error", "error": {"type": "some_error", "message": message}}
    return httpx2.Response(status, json=body, headers=headers)


def openai_error(
    status: int,
    message: str,
    headers: dict[str, str] | None = None,
    *,
    param: str | None = None,
    code: str | None = None,
) -> httpx2.Response:
    error = {"message": message, "type": "some_error", "param": param, "code": code}
    return httpx2.Response(status, json={"error": error}, headers=headers)
