from collections.abc import Callable

import httpx2
import pytest

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest, ManySampler
from bayesflow_server.models.endpoints import Endpoint
from bayesflow_server.models.openai import OpenAIModel
from fakes.provider_wires import Wire, openai_error, openai_reply

ASK = ChatRequest((ChatMessage("user", "Say hi"),))
LAB = Endpoint("lab", base_url="http://lab.invalid/v1")
Connect = Callable[..., OpenAIModel]


def unsupported(param: str) -> httpx2.Response:
    message = f"Unsupported parameter: '{param}' is not supported with this model."
    return openai_error(400, message, param=param, code="unsupported_parameter")


async def test_openai_gets_the_parameters_under_their_names(connect: Connect) -> None:
    wire = Wire(openai_reply("a"))
    request = ChatRequest(
        ASK.messages, temperature=0.0, max_tokens=9, stop=tuple("abcde"), sample=5
    )
    completion = await connect("openai", wire=wire).complete(request)
    assert wire.sent == [
        {
            "model": "m-1",
            "messages": [{"role": "user", "content": "Say hi"}],
            "max_completion_tokens": 9,
            "temperature": 0.0,
            "stop": ["a", "b", "c", "d"],
            "seed": 5,
        }
    ]
    assert (completion.text, completion.stop_reason) == ("", "stop_sequence")


@pytest.mark.parametrize(
    ("reply", "ours"),
    [
        (openai_reply("a", "length"), "length"),
        (openai_reply(None, "length"), "length"),
        (openai_reply("a", "content_filter"), "refusal"),
        (openai_reply(None, "stop", "I will not"), "refusal"),
        (openai_reply(None, "stop"), "empty"),
        (openai_reply("a", "tool_calls"), "end"),
    ],
)
async def test_openais_stop_reasons_are_read(
    connect: Connect, reply: httpx2.Response, ours: str
) -> None:
    completion = await connect("openai", wire=Wire(reply)).complete(ASK)
    assert completion.stop_reason == ours


async def test_an_answer_that_broke_off_is_a_failure_not_an_answer(connect: Connect) -> None:
    with pytest.raises(ProviderError, match="in the middle"):
        await connect("openai", wire=Wire(openai_reply("a", "error"))).complete(ASK)


@pytest.mark.parametrize(
    ("code", "kind", "transient"),
    [
        (429, ProviderError, True),
        ("overloaded", ProviderError, True),
        (None, ProviderError, True),
        (400, ProviderError, False),
        (402, ModelUnavailableError, None),
    ],
)
async def test_an_error_told_with_status_200_is_an_error(
    connect: Connect, code: object, kind: type[Exception], transient: bool | None
) -> None:
    body = {"error": {"code": code, "message": "upstream said no"}}
    with pytest.raises(kind) as caught:
        await connect("openai", wire=Wire(httpx2.Response(200, json=body))).complete(ASK)
    assert getattr(caught.value, "transient", None) is transient


@pytest.mark.parametrize("n_asked", [1, 3])
async def test_a_prompt_that_does_not_fit_is_an_outcome_not_an_error(
    connect: Connect, n_asked: int
) -> None:
    wire = Wire(openai_error(400, "too long", code="context_length_exceeded"))
    request = ChatRequest(ASK.messages, max_tokens=9)
    completions = await connect("openai", wire=wire).sample(request, n_asked)
    assert [completion.stop_reason for completion in completions] == ["context_overflow"] * n_asked
    assert len(wire.sent) == 1


async def test_a_limit_that_nobody_asked_for_gives_way_before_the_prompt_is_called_too_long(
    connect: Connect,
) -> None:
    overflow = openai_error(
        400, "This model's maximum context length is 4096 tokens. However, you requested 4101"
    )
    wire = Wire(overflow, openai_reply("hi"))
    completion = await connect("openai", wire=wire, endpoint=LAB).complete(ASK)
    assert completion.text == "hi"
    assert [message.get("max_tokens") for message in wire.sent] == [4096, None]
    wire = Wire(overflow)
    completion = await connect("openai", wire=wire, endpoint=LAB).complete(ASK)
    assert (completion.stop_reason, len(wire.sent)) == ("context_overflow", 2)


async def test_parameters_that_a_model_does_not_know_are_dropped_once_and_for_all(
    connect: Connect,
) -> None:
    wire = Wire(
        unsupported("temperature"),
        unsupported("stop"),
        openai_error(422, "[{'type': 'extra_forbidden', 'loc': ['body', 'seed']}]"),
        openai_reply("one\ntwo"),
    )
    model = connect("openai", wire=wire)
    request = ChatRequest(ASK.messages, temperature=0.0, stop=("\n",))
    for _ in range(2):
        completion = await model.complete(request)
        assert (completion.text, completion.dropped) == ("one", ("temperature",))
    assert len(wire.sent) == 5
    assert {"temperature", "stop", "seed"}.isdisjoint(wire.sent[-1])


async def test_a_value_that_a_model_does_not_take_is_dropped_from_that_call_alone(
    connect: Connect,
) -> None:
    wire = Wire(
        openai_error(400, "Invalid 'temperature': expected <= 2, but got 3.", param="temperature"),
        openai_reply("hi"),
    )
    model = connect("openai", wire=wire)
    dropped = [
        (await model.complete(ChatRequest(ASK.messages, temperature=temperature))).dropped
        for temperature in (3.0, 1.0)
    ]
    assert dropped == [("temperature",), ()]


@pytest.mark.parametrize(
    ("endpoint", "first", "then"),
    [(None, "max_completion_tokens", "max_tokens"), (LAB, "max_tokens", "max_completion_tokens")],
)
async def test_the_limit_is_sent_under_the_name_that_the_server_knows(
    connect: Connect, endpoint: Endpoint | None, first: str, then: str
) -> None:
    message = f"Unsupported parameter: '{first}' is not supported. Use '{then}' instead."
    wire = Wire(openai_error(400, message), openai_reply("hi"))
    model = connect("openai", wire=wire, endpoint=endpoint)
    for _ in range(2):
        await model.complete(ChatRequest(ASK.messages, max_tokens=9))
    names = [{first, then} & set(message) for message in wire.sent]
    assert names == [{first}, {then}, {then}]


async def test_a_limit_that_was_asked_for_is_never_left_out(connect: Connect) -> None:
    wire = Wire(unsupported("max_tokens"), unsupported("max_completion_tokens"))
    with pytest.raises(ProviderError):
        await connect("openai", wire=wire, endpoint=LAB).complete(
            ChatRequest(ASK.messages, max_tokens=9)
        )
    assert len(wire.sent) == 2


async def test_a_refusal_that_names_no_parameter_is_an_error_after_one_call(
    connect: Connect,
) -> None:
    wire = Wire(openai_error(400, "messages: roles must alternate"))
    with pytest.raises(ProviderError, match="roles must alternate"):
        await connect("openai", wire=wire).complete(ASK)
    assert len(wire.sent) == 1


async def test_several_answers_come_in_one_call_and_share_its_usage(connect: Connect) -> None:
    wire = Wire(openai_reply("a", more=("b", "c")))
    model = connect("openai", wire=wire)
    assert isinstance(model, ManySampler)
    answers = await model.sample(ASK, 3)
    assert [answer.text for answer in answers] == ["a", "b", "c"]
    assert [answer.usage.input_tokens for answer in answers] == [123, 0, 0]
    assert [answer.usage.cached_input_tokens for answer in answers] == [20, 0, 0]
    assert [answer.usage.output_tokens for answer in answers] == [3, 2, 2]
    assert wire.sent[0]["n"] == 3
    assert "seed" not in wire.sent[0]  # one seed would make them all alike on some servers


async def test_more_answers_than_were_asked_for_are_not_taken_but_paid(connect: Connect) -> None:
    answers = await connect("openai", wire=Wire(openai_reply("a", more=("b",)))).sample(ASK, 1)
    assert [(answer.text, answer.usage.output_tokens) for answer in answers] == [("a", 7)]


async def test_a_server_that_passes_over_n_gives_one_answer_and_is_known_to(
    connect: Connect,
) -> None:
    wire = Wire(openai_reply("a"))
    model = connect("openai", wire=wire, endpoint=LAB)
    assert [answer.text for answer in await model.sample(ASK, 3)] == ["a"]
    assert (wire.sent[0]["n"], model.most_samples) == (3, 1)


async def test_a_server_that_gives_fewer_answers_is_known_to_give_so_many(
    connect: Connect,
) -> None:
    model = connect("openai", wire=Wire(openai_reply("a", more=("b",))), endpoint=LAB)
    assert len(await model.sample(ASK, 5)) == 2
    assert model.most_samples == 2


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ("'n' : number must be at most 1 with this model.", [4, 2, None]),
        ("Only one completion choice is allowed", [4, 2, None]),
        ("n_cmpl cannot be greater than the number of slots, please increase -np", [4, 2, None]),
        ("body -> n\n  Extra inputs are not permitted (type=extra_forbidden)", [4, None]),
    ],
)
async def test_a_server_that_refuses_n_is_asked_for_fewer_and_then_for_one(
    connect: Connect, message: str, sent: list[int | None]
) -> None:
    refusals = [openai_error(400, message)] * (len(sent) - 1)
    wire = Wire(*refusals, openai_reply("a"))
    model = connect("openai", wire=wire, endpoint=LAB)
    assert [answer.text for answer in await model.sample(ASK, 4)] == ["a"]
    assert [message.get("n") for message in wire.sent] == sent
    assert model.most_samples == 1


def test_the_registry_may_take_it_for_a_chat_model(connect: Connect) -> None:
    model: ChatModel = connect("openai")
    assert not model.deterministic


async def test_no_more_tokens_are_cached_than_were_asked(connect: Connect) -> None:
    body = openai_reply("a").json()
    body["usage"]["prompt_tokens_details"]["cached_tokens"] = 1000
    wire = Wire(httpx2.Response(200, json=body))
    usage = (await connect("openai", wire=wire).complete(ASK)).usage
    assert (usage.input_tokens, usage.cached_input_tokens) == (123, 123)
