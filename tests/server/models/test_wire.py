"""Both SDKs against a real server with a real model: real HTTP, real tokens, real refusals."""

from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest, ManySampler
from bayesflow_server.models.endpoints import Api, Endpoint
from bayesflow_server.models.openai import OpenAIModel
from fakes.provider_wires import remote

if TYPE_CHECKING:
    from xllamacpp import CommonParams

ASK = ChatRequest((ChatMessage("user", "Name three colours."),), max_tokens=16)
TOO_LONG = ChatRequest((ChatMessage("user", "word " * 3000),), max_tokens=8)


@pytest.fixture(scope="session")
def address(smollm2: Path) -> Generator[str]:
    """A server with two slots of 512 tokens."""
    import xllamacpp

    params: CommonParams = xllamacpp.CommonParams()
    params.model.path = str(smollm2)
    params.n_ctx = 1024
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.cpuparams.poll = 0
    params.cpuparams_batch.poll = 0
    params.ctx_shift = False
    params.prefill_assistant = False
    params.verbosity = -1
    server = xllamacpp.Server(params)
    yield str(getattr(server, "listening_address"))  # noqa: B009 # our stub does not have it
    del server


@pytest.fixture(params=["anthropic", "openai"])
async def model(request: pytest.FixtureRequest, address: str) -> AsyncGenerator[ChatModel]:
    api: Api = request.param
    url = address if api == "anthropic" else f"{address}/v1"
    built = remote(api, endpoint=Endpoint("lab", api=api, base_url=url), environment={})
    yield built.model
    await built.aclose()


@pytest.fixture
async def chat(address: str) -> AsyncGenerator[OpenAIModel]:
    built = remote("openai", endpoint=Endpoint("lab", base_url=f"{address}/v1"), environment={})
    assert isinstance(built.model, OpenAIModel)
    yield built.model
    await built.aclose()


async def test_text_and_counted_tokens_come_back(model: ChatModel) -> None:
    completion = await model.complete(ASK)
    assert completion.text.strip()
    assert completion.stop_reason in ("end", "length")
    assert 0 < completion.usage.output_tokens <= 16
    assert completion.usage.input_tokens > 5


async def test_the_second_time_the_question_is_cached(model: ChatModel) -> None:
    first, second = [await model.complete(ASK) for _ in range(2)]
    assert second.usage.cached_input_tokens > 0
    assert second.usage.input_tokens == first.usage.input_tokens


async def test_a_system_turn_and_an_example_are_taken(model: ChatModel) -> None:
    turns = (
        ChatMessage("system", "Answer with one word.", shared=True),
        ChatMessage("user", "What colour is grass?", shared=True),
        ChatMessage("assistant", "Green", shared=True),
        ChatMessage("user", "What colour is the sky?"),
    )
    completion = await model.complete(ChatRequest(turns, max_tokens=8))
    assert completion.text.strip()


async def test_an_answer_that_reaches_its_limit_says_so(model: ChatModel) -> None:
    completion = await model.complete(ChatRequest(ASK.messages, max_tokens=2))
    assert (completion.stop_reason, completion.usage.output_tokens) == ("length", 2)


async def test_an_answer_ends_before_a_stop_text(model: ChatModel) -> None:
    # Claude's API takes no temperature, so the words are chance; hardly any lacks these letters.
    turns = (ChatMessage("user", "Tell a story."),)
    request = ChatRequest(turns, temperature=0.0, max_tokens=40, stop=("e", "a", "t", "o"))
    completion = await model.complete(request)
    assert not set("eato") & set(completion.text)
    assert completion.usage.output_tokens < 40


async def test_a_prompt_beyond_the_context_is_an_outcome(model: ChatModel) -> None:
    for request in (TOO_LONG, ChatRequest(TOO_LONG.messages)):
        completion = await model.complete(request)
        assert (completion.text, completion.stop_reason) == ("", "context_overflow")


async def test_a_seed_makes_a_draw_repeatable_and_another_sample_another_draw(
    chat: OpenAIModel,
) -> None:
    def draw(sample: int) -> ChatRequest:
        turns = (ChatMessage("user", "Tell a story."),)
        return ChatRequest(turns, temperature=1.0, max_tokens=16, sample=sample)

    texts = [(await chat.complete(draw(sample))).text for sample in (1, 2)]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("count", [2, 5])
async def test_several_answers_come_from_a_server_that_gives_two_at_most(
    chat: OpenAIModel, count: int
) -> None:
    turns = (ChatMessage("user", "Tell a story."),)
    request = ChatRequest(turns, temperature=1.0, max_tokens=12)
    assert isinstance(chat, ManySampler)
    answers = await chat.sample(request, count)
    assert len({answer.text for answer in answers}) == 2
    assert all(answer.usage.output_tokens > 0 for answer in answers)
    assert chat.most_samples >= 2
