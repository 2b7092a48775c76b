"""What every `ChatModel` promises, whichever stands behind it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bayesflow_server.models.chat import (
    ChatMessage,
    ChatModel,
    ChatRequest,
    ManySampler,
    Pace,
)
from bayesflow_server.models.local import LocalModel
from bayesflow_server.models.scripted import ScriptedModel
from fakes.provider_wires import Wire, anthropic_reply, openai_reply, remote

ASK = ChatRequest((ChatMessage("user", "Say hi"),), temperature=0.0, max_tokens=8)
OVER_HTTP = {"anthropic": anthropic_reply, "openai": openai_reply}


@pytest.fixture(
    params=["anthropic", "openai", "scripted", pytest.param("local", marks=pytest.mark.slow)]
)
async def model(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[ChatModel]:
    match request.param:
        case "scripted":
            yield ScriptedModel(lambda _: "hi")
        case "local":
            weights: Path = request.getfixturevalue("smollm2")
            local = LocalModel("smollm2", weights, tmp_path)
            yield local
            await local.aclose()
        case api:
            built = remote(api, wire=Wire(OVER_HTTP[api]()))
            yield built.model
            await built.aclose()


async def test_a_request_is_answered_with_text_and_usage(model: ChatModel) -> None:
    completion = await model.complete(ASK)
    assert completion.text
    assert completion.usage.input_tokens > 0
    assert completion.usage.output_tokens > 0
    assert completion.usage.cached_input_tokens <= completion.usage.input_tokens
    assert completion.stop_reason in ("end", "length")
    assert set(completion.dropped) <= {"temperature"}


async def test_a_model_says_what_it_is_before_it_is_called(model: ChatModel) -> None:
    provider, colon, name = model.spec.partition(":")
    assert (bool(provider), colon, bool(name)) == (True, ":", True)
    assert model.identity
    assert model.concurrency >= 1
    assert isinstance(model.pace, Pace)
    assert isinstance(model.deterministic, bool)


async def test_the_identity_stays_the_same_when_the_model_is_used(model: ChatModel) -> None:
    before = model.identity
    await model.complete(ASK)
    assert model.identity == before


async def test_a_model_can_be_closed_twice_used_or_not(model: ChatModel) -> None:
    await model.aclose()
    await model.complete(ASK)
    await model.aclose()
    await model.aclose()


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_who_draws_several_answers_draws_no_more_than_were_asked_for(
    model: ChatModel, count: int
) -> None:
    if not isinstance(model, ManySampler):
        return
    assert model.most_samples >= 1
    answers = await model.sample(ASK, count)
    assert 1 <= len(answers) <= count
    assert answers[0].usage.input_tokens > 0
    assert all(answer.text and answer.usage.output_tokens for answer in answers)


async def test_only_who_always_answers_alike_says_so(model: ChatModel) -> None:
    if model.deterministic:
        assert (await model.complete(ASK)).text == (await model.complete(ASK)).text
