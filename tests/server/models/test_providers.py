"""What holds for every paid provider's adapter, over its real SDK and a mocked transport."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import pytest

from bayesflow_server.errors import ModelUnavailableError, ProviderError, ServerError
from bayesflow_server.models.anthropic import AnthropicModel
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest
from bayesflow_server.models.openai import OpenAIModel
from bayesflow_server.models.provider_http import cut_at_stop, retry_after_seconds
from fakes.provider_wires import (
    Wire,
    anthropic_error,
    anthropic_reply,
    openai_error,
    openai_reply,
)

KEY = "sk-planted-key-0123456789"
ASK = ChatRequest((ChatMessage("user", "Say hi"),))


@dataclass(frozen=True, slots=True)
class Case:
    build: Callable[[Wire], ChatModel]
    keyless: Callable[[], ChatModel]
    variable: str
    reply: Callable[[str], httpx2.Response]
    error: Callable[[int, str, dict[str, str]], httpx2.Response]


def build_anthropic(wire: Wire) -> ChatModel:
    environment = {"ANTHROPIC_API_KEY": KEY}
    return AnthropicModel("m-1", environment=environment, http_client=wire.client())


def build_openai(wire: Wire) -> ChatModel:
    return OpenAIModel("m-1", environment={"OPENAI_API_KEY": KEY}, http_client=wire.client())


CASES = {
    "anthropic": Case(
        build_anthropic,
        lambda: AnthropicModel("m-1", environment={"OPENAI_API_KEY": KEY}),
        "ANTHROPIC_API_KEY",
        anthropic_reply,
        anthropic_error,
    ),
    "openai": Case(
        build_openai,
        lambda: OpenAIModel("m-1", environment={"ANTHROPIC_API_KEY": KEY}),
        "OPENAI_API_KEY",
        openai_reply,
        openai_error,
    ),
}


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[str(request.param)]


async def failure(case: Case, wire: Wire) -> ServerError:
    model = case.build(wire)
    with pytest.raises((ProviderError, ModelUnavailableError)) as caught:
        await model.complete(ASK)
    await model.aclose()
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(model)
    assert KEY not in shown
    return caught.value


async def test_the_answer_and_its_tokens_come_back_with_the_cached_ones_included(
    case: Case,
) -> None:
    model = case.build(Wire(case.reply("hello")))
    completion = await model.complete(ASK)
    assert (completion.text, completion.stop_reason) == ("hello", "end")
    usage = completion.usage
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (123, 20, 7)
    await model.aclose()
    await model.aclose()


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_a_busy_or_broken_provider_is_a_transient_failure_after_one_attempt(
    case: Case, status: int
) -> None:
    wire = Wire(case.error(status, "slow down", {"retry-after": "7"}))
    error = await failure(case, wire)
    assert isinstance(error, ProviderError)
    assert (error.transient, error.retry_after, len(wire.sent)) == (True, 7.0, 1)


@pytest.mark.parametrize("problem", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.ReadError])
async def test_a_network_that_fails_is_a_transient_failure(
    case: Case, problem: type[httpx2.TransportError]
) -> None:
    error = await failure(case, Wire(problem))
    assert isinstance(error, ProviderError)
    assert error.transient


async def test_a_refused_request_is_not_worth_repeating(case: Case) -> None:
    error = await failure(case, Wire(case.error(400, f"bad thing near {KEY}", {})))
    assert isinstance(error, ProviderError)
    assert not error.transient
    assert "bad thing near <key>" in str(error)


async def test_a_refused_key_is_named_by_its_variable_only(case: Case) -> None:
    error = await failure(case, Wire(case.error(401, f"Incorrect key {KEY}", {})))
    assert isinstance(error, ModelUnavailableError)
    assert case.variable in str(error)


async def test_an_unknown_model_is_unavailable(case: Case) -> None:
    error = await failure(case, Wire(case.error(404, "no such model", {})))
    assert isinstance(error, ModelUnavailableError)
    assert "m-1" in str(error)


async def test_a_redirect_is_not_followed_with_the_key(case: Case) -> None:
    away = httpx2.Response(307, headers={"location": "http://elsewhere.invalid/"})
    wire = Wire(away)
    error = await failure(case, wire)
    assert isinstance(error, ProviderError)
    assert not any("elsewhere" in url for url in wire.urls)


@pytest.mark.parametrize("body", ["<html>sign in</html>", "{}", '{"choices": []}'])
async def test_a_page_in_place_of_an_answer_is_a_failure(case: Case, body: str) -> None:
    error = await failure(case, Wire(httpx2.Response(200, text=body)))
    assert isinstance(error, ProviderError)
    assert "cannot be read" in str(error)


async def test_a_missing_key_is_named(case: Case) -> None:
    with pytest.raises(ModelUnavailableError, match=f"set {case.variable}"):
        await case.keyless().complete(ASK)


async def test_claude_gets_the_system_turn_apart_and_no_temperature() -> None:
    wire = Wire(anthropic_reply())
    turns = (ChatMessage("system", "Be brief"), *ASK.messages, ChatMessage("assistant", "hi"))
    request = ChatRequest(turns, temperature=0.0, max_tokens=9, stop=("END",))
    completion = await build_anthropic(wire).complete(request)
    assert completion.dropped == ("temperature",)
    assert wire.sent == [
        {
            "model": "m-1",
            "max_tokens": 9,
            "system": "Be brief",
            "stop_sequences": ["END"],
            "messages": [
                {"role": "user", "content": "Say hi"},
                {"role": "assistant", "content": "hi"},
            ],
        }
    ]


async def test_a_blank_stop_text_that_claude_does_not_take_is_cut_here() -> None:
    wire = Wire(anthropic_reply("X + Y\nbecause"))
    completion = await build_anthropic(wire).complete(ChatRequest(ASK.messages, stop=("\n",)))
    assert "stop_sequences" not in wire.sent[0]
    assert (completion.text, completion.stop_reason) == ("X + Y", "stop_sequence")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("max_tokens", "length"),
        ("refusal", "refusal"),
        ("stop_sequence", "stop_sequence"),
        ("model_context_window_exceeded", "context_overflow"),
    ],
)
async def test_claudes_stop_reasons_are_read(theirs: str, ours: str) -> None:
    completion = await build_anthropic(Wire(anthropic_reply("a", theirs))).complete(ASK)
    assert completion.stop_reason == ours


@pytest.mark.parametrize(
    ("reply", "ours"),
    [
        (openai_reply("a", "length"), "length"),
        (openai_reply("a", "content_filter"), "refusal"),
        (openai_reply(None, "stop", "I will not"), "refusal"),
    ],
)
async def test_openais_stop_reasons_are_read(reply: httpx2.Response, ours: str) -> None:
    completion = await build_openai(Wire(reply)).complete(ASK)
    assert completion.stop_reason == ours


@pytest.mark.parametrize(
    ("build", "reply"),
    [
        (build_anthropic, anthropic_error(400, "prompt is too long: 9 tokens > 8 maximum")),
        (build_openai, openai_error(400, "too long", code="context_length_exceeded")),
    ],
)
async def test_a_prompt_that_does_not_fit_is_an_outcome_not_an_error(
    build: Callable[[Wire], ChatModel], reply: httpx2.Response
) -> None:
    completion = await build(Wire(reply)).complete(ASK)
    assert (completion.text, completion.stop_reason) == ("", "context_overflow")


async def test_openai_gets_the_parameters_under_their_names() -> None:
    wire = Wire(openai_reply("a"))
    request = ChatRequest(ASK.messages, temperature=0.0, max_tokens=9, stop=tuple("abcde"))
    completion = await build_openai(wire).complete(request)
    sent = wire.sent[0]
    assert (sent["temperature"], sent["max_completion_tokens"]) == (0.0, 9)
    assert sent["stop"] == ["a", "b", "c", "d"]
    assert (completion.text, completion.stop_reason) == ("", "stop_sequence")


async def test_parameters_that_an_openai_model_refuses_are_dropped_once_and_for_all() -> None:
    wire = Wire(
        openai_error(400, "no temperature", param="temperature", code="unsupported_value"),
        openai_error(400, "no stop", param="stop", code="unsupported_parameter"),
        openai_reply("one\ntwo"),
    )
    model = build_openai(wire)
    request = ChatRequest(ASK.messages, temperature=0.0, stop=("\n",))
    for _ in range(2):
        completion = await model.complete(request)
        assert (completion.text, completion.dropped) == ("one", ("temperature",))
    assert len(wire.sent) == 4
    assert {"temperature", "stop"}.isdisjoint(wire.sent[-1])


def test_the_wait_is_read_from_milliseconds_seconds_or_a_date() -> None:
    def wait(**headers: str) -> float | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return retry_after_seconds(named, lambda: 784111777.0)

    assert wait(retry_after_ms="50", retry_after="9") == 0.05
    assert wait(retry_after="2.5") == 2.5
    assert wait(retry_after="-3") == 0.0
    assert wait(retry_after="Sun, 06 Nov 1994 08:49:47 GMT") == 10.0
    assert wait(retry_after="soon") is None
    assert wait() is None


def test_a_text_is_cut_at_the_earliest_stop_text() -> None:
    assert cut_at_stop("one two three", ("three", "two")).text == "one "
    assert not cut_at_stop("one", ("x", "")).cut
