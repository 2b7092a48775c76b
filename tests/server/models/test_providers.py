"""What holds for every remote model's adapter, over its real SDK and a mocked transport."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import httpx2
import pytest

from bayesflow_server.errors import (
    ModelUnavailableError,
    ProviderError,
    RequestRefusedError,
    ServerError,
)
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest
from bayesflow_server.models.endpoints import Api
from bayesflow_server.models.provider_http import cut_at_stop, retry_after_seconds
from fakes.provider_wires import (
    KEY,
    Wire,
    anthropic_error,
    anthropic_reply,
    openai_error,
    openai_reply,
)

ASK = ChatRequest((ChatMessage("user", "Say hi"),))
Connect = Callable[..., ChatModel]


@dataclass(frozen=True, slots=True)
class Case:
    api: Api
    variable: str
    reply: Callable[[str], httpx2.Response]
    error: Callable[[int, str, dict[str, str]], httpx2.Response]


CASES = (
    Case("anthropic", "ANTHROPIC_API_KEY", anthropic_reply, anthropic_error),
    Case("openai", "OPENAI_API_KEY", openai_reply, openai_error),
)


@pytest.fixture(params=CASES, ids=lambda case: case.api)
def case(request: pytest.FixtureRequest) -> Case:
    given: Case = request.param
    return given


async def failure(case: Case, connect: Connect, wire: Wire) -> ServerError:
    with pytest.raises(ServerError) as caught:
        await connect(case.api, wire=wire).complete(ASK)
    return caught.value


async def test_the_answer_and_its_tokens_come_back_with_the_cached_ones_included(
    case: Case, connect: Connect
) -> None:
    model = connect(case.api, wire=Wire(case.reply("hello")))
    completion = await model.complete(ASK)
    assert (completion.text, completion.stop_reason) == ("hello", "end")
    usage = completion.usage
    assert (usage.input_tokens, usage.cached_input_tokens, usage.output_tokens) == (123, 20, 7)


@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_answer_without_a_word_is_empty(case: Case, connect: Connect, text: str) -> None:
    completion = await connect(case.api, wire=Wire(case.reply(text))).complete(ASK)
    assert completion.stop_reason == "empty"


async def test_nothing_left_before_a_stop_text_is_no_empty_answer(
    case: Case, connect: Connect
) -> None:
    request = ChatRequest(ASK.messages, stop=("\n",))
    completion = await connect(case.api, wire=Wire(case.reply("\nmore"))).complete(request)
    assert (completion.text, completion.stop_reason) == ("", "stop_sequence")


@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
async def test_a_busy_or_broken_provider_is_a_transient_failure_after_one_attempt(
    case: Case, connect: Connect, status: int
) -> None:
    wire = Wire(case.error(status, "slow down", {"retry-after": "7"}))
    error = await failure(case, connect, wire)
    assert isinstance(error, ProviderError)
    assert (error.transient, error.retry_after, len(wire.sent)) == (True, 7.0, 1)


@pytest.mark.parametrize("problem", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.ReadError])
async def test_a_network_that_fails_is_a_transient_failure(
    case: Case, connect: Connect, problem: type[httpx2.TransportError]
) -> None:
    error = await failure(case, connect, Wire(problem))
    assert isinstance(error, ProviderError)
    assert error.transient


async def test_a_refused_request_is_not_worth_repeating(case: Case, connect: Connect) -> None:
    error = await failure(case, connect, Wire(case.error(400, f"bad thing near {KEY}", {})))
    assert isinstance(error, ProviderError)
    assert not error.transient
    assert "bad thing near <key>" in str(error)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_key_is_named_by_its_variable_only(
    case: Case, connect: Connect, status: int
) -> None:
    error = await failure(case, connect, Wire(case.error(status, f"Incorrect key {KEY}", {})))
    assert isinstance(error, ModelUnavailableError)
    assert case.variable in str(error)


async def test_an_unknown_model_is_unavailable(case: Case, connect: Connect) -> None:
    error = await failure(case, connect, Wire(case.error(404, "no such model", {})))
    assert isinstance(error, ModelUnavailableError)
    assert "m-1" in str(error)


async def test_a_prompt_that_does_not_fit_is_an_outcome(case: Case, connect: Connect) -> None:
    for status in (400, 413, 500):
        wire = Wire(case.error(status, "the request exceeds the available context size", {}))
        completion = await connect(case.api, wire=wire).complete(ASK)
        assert (completion.text, completion.stop_reason) == ("", "context_overflow")


@pytest.mark.parametrize("status", [400, 403])
async def test_a_request_that_a_filter_refuses_is_a_refusal(
    case: Case, connect: Connect, status: int
) -> None:
    wire = Wire(case.error(status, "Output blocked by content filtering policy", {}))
    completion = await connect(case.api, wire=wire).complete(ASK)
    assert (completion.text, completion.stop_reason) == ("", "refusal")
    assert len(wire.sent) == 1


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (402, "pay up"),
        (429, "You exceeded your current quota (insufficient_quota)"),
        (400, "Your credit balance is too low to access the API"),
    ],
)
async def test_an_account_without_credit_is_no_passing_failure(
    case: Case, connect: Connect, status: int, says: str
) -> None:
    error = await failure(case, connect, Wire(case.error(status, says, {})))
    assert isinstance(error, ModelUnavailableError)
    assert "Top" in str(error)


@pytest.mark.parametrize(
    "body", ["<html>sign in</html>", "{}", '{"choices": []}', "[]", "null", '"no"', ""]
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_page_in_place_of_an_answer_is_a_failure(
    case: Case, connect: Connect, body: str, kind: str
) -> None:
    page = httpx2.Response(200, text=body, headers={"content-type": kind})
    error = await failure(case, connect, Wire(page))
    assert isinstance(error, ProviderError)
    assert "cannot be read" in str(error)


@pytest.mark.parametrize("body", [b'{"id": ', b"\xff\xfe{", b"[" * 100_000])
async def test_broken_json_is_a_failure(case: Case, connect: Connect, body: bytes) -> None:
    page = httpx2.Response(200, content=body, headers={"content-type": "application/json"})
    assert isinstance(await failure(case, connect, Wire(page)), ProviderError)


async def test_half_a_character_in_a_prompt_is_a_failure_of_the_prompt(
    case: Case, connect: Connect
) -> None:
    request = ChatRequest((ChatMessage("user", "\ud800"),))
    with pytest.raises(ProviderError, match="surrogate") as caught:
        await connect(case.api, wire=Wire(case.reply("hi"))).complete(request)
    assert not caught.value.transient


async def test_a_missing_key_is_named(case: Case, connect: Connect) -> None:
    other = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"} - {case.variable}
    keyless = connect(case.api, environment={other.pop(): KEY})
    with pytest.raises(ModelUnavailableError, match=f"set {case.variable}"):
        await keyless.complete(ASK)


@pytest.mark.parametrize("key", ["sk-two\nlines", "sk-\u2026", "sk one"])
async def test_what_cannot_be_a_key_is_not_sent_nor_shown(
    case: Case, connect: Connect, key: str
) -> None:
    wire = Wire(case.reply("hi"))
    model = connect(case.api, wire=wire, environment={case.variable: key})
    with pytest.raises(ModelUnavailableError, match=case.variable) as caught:
        await model.complete(ASK)
    assert key not in str(caught.value)
    assert not wire.sent


async def test_an_answer_that_repeats_the_key_comes_back_without_it(
    case: Case, connect: Connect
) -> None:
    completion = await connect(case.api, wire=Wire(case.reply(f"it is {KEY}"))).complete(ASK)
    assert completion.text == "it is <key>"


def test_the_wait_is_read_from_milliseconds_seconds_or_a_date() -> None:
    def wait(**headers: str) -> float | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return retry_after_seconds(named, lambda: 784111777.0)

    assert wait(retry_after_ms="50", retry_after="9") == 0.05
    assert wait(retry_after="2.5") == 2.5
    assert wait(retry_after="-3") == 0.0
    assert wait(retry_after="Sun, 06 Nov 1994 08:49:47 GMT") == 10.0
    for unread in ("soon", "inf", "nan"):
        assert wait(retry_after=unread) is None
    assert wait() is None


def test_a_text_is_cut_at_the_earliest_stop_text() -> None:
    assert cut_at_stop("one two three", ("three", "two")).text == "one "
    assert not cut_at_stop("one", ("x", "")).cut


@pytest.mark.parametrize("tokens", [-1, 10**9 + 1, 2**63, 10**30, 1.5])
async def test_a_number_of_tokens_that_cannot_be_is_a_failure(
    case: Case, connect: Connect, tokens: float
) -> None:
    body = json.loads(case.reply("hi").content)
    for name in body["usage"]:
        if name.endswith("_tokens"):
            body["usage"][name] = tokens
    error = await failure(case, connect, Wire(httpx2.Response(200, json=body)))
    assert isinstance(error, ProviderError)
    assert "cannot be read" in str(error)


@pytest.mark.parametrize(
    "said", ["API key not valid", "User location is not supported", "No such organization"]
)
async def test_a_refusal_that_is_about_the_account_is_no_requests_fault(
    case: Case, connect: Connect, said: str
) -> None:
    told = await failure(case, connect, Wire(case.error(400, said, {})))
    assert type(told) is ProviderError
    wrong = await failure(case, connect, Wire(case.error(400, "messages must not be empty", {})))
    assert isinstance(wrong, RequestRefusedError)
