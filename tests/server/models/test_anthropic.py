from collections.abc import Callable

import pytest

from bayesflow_server.models.chat import ChatMessage, ChatModel, ChatRequest, ManySampler
from fakes.provider_wires import Wire, anthropic_error, anthropic_reply

ASK = ChatRequest((ChatMessage("user", "Say hi"),))
Connect = Callable[..., ChatModel]


async def test_claude_gets_the_system_turn_apart_and_no_temperature(connect: Connect) -> None:
    wire = Wire(anthropic_reply())
    turns = (ChatMessage("system", "Be brief"), *ASK.messages, ChatMessage("assistant", "hi"))
    request = ChatRequest(turns, temperature=0.0, max_tokens=9, stop=("END",), sample=3)
    completion = await connect("anthropic", wire=wire).complete(request)
    assert completion.dropped == ("temperature",)
    assert wire.sent == [
        {
            "model": "m-1",
            "max_tokens": 9,
            "system": [{"type": "text", "text": "Be brief"}],
            "stop_sequences": ["END"],
            "messages": [
                {"role": "user", "content": "Say hi"},
                {"role": "assistant", "content": "hi"},
            ],
        }
    ]


async def test_shared_turns_are_marked_for_the_providers_cache_the_last_four_at_most(
    connect: Connect,
) -> None:
    wire = Wire(anthropic_reply())
    turns = (
        ChatMessage("system", "rules", shared=True),
        *(ChatMessage("user", f"example {number}", shared=True) for number in range(4)),
        ChatMessage("user", "the question"),
    )
    await connect("anthropic", wire=wire).complete(ChatRequest(turns))
    mark = {"cache_control": {"type": "ephemeral"}}
    assert wire.sent[0]["system"] == [{"type": "text", "text": "rules"}]
    assert wire.sent[0]["messages"] == [
        *(
            {"role": "user", "content": [{"type": "text", "text": f"example {number}"} | mark]}
            for number in range(4)
        ),
        {"role": "user", "content": "the question"},
    ]


async def test_a_shared_system_turn_is_marked_and_an_empty_one_is_not_sent(
    connect: Connect,
) -> None:
    wire = Wire(anthropic_reply())
    model = connect("anthropic", wire=wire)
    for text in ("rules", ""):
        await model.complete(ChatRequest((ChatMessage("system", text, shared=True), *ASK.messages)))
    mark = {"cache_control": {"type": "ephemeral"}}
    assert wire.sent[0]["system"] == [{"type": "text", "text": "rules"} | mark]
    assert "system" not in wire.sent[1]


async def test_a_blank_stop_text_that_claude_does_not_take_is_cut_here(connect: Connect) -> None:
    wire = Wire(anthropic_reply("X + Y\nbecause"))
    request = ChatRequest(ASK.messages, stop=("\n",))
    completion = await connect("anthropic", wire=wire).complete(request)
    assert "stop_sequences" not in wire.sent[0]
    assert (completion.text, completion.stop_reason) == ("X + Y", "stop_sequence")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "end"),
        ("pause_turn", "end"),
        ("max_tokens", "length"),
        ("refusal", "refusal"),
        ("stop_sequence", "stop_sequence"),
        ("model_context_window_exceeded", "context_overflow"),
    ],
)
async def test_claudes_stop_reasons_are_read(connect: Connect, theirs: str, ours: str) -> None:
    completion = await connect("anthropic", wire=Wire(anthropic_reply("a", theirs))).complete(ASK)
    assert completion.stop_reason == ours


async def test_a_refusal_without_a_word_stays_a_refusal(connect: Connect) -> None:
    completion = await connect("anthropic", wire=Wire(anthropic_reply("", "refusal"))).complete(ASK)
    assert completion.stop_reason == "refusal"


async def test_a_prompt_that_does_not_fit_is_an_outcome_not_an_error(connect: Connect) -> None:
    error = anthropic_error(400, "prompt is too long: 213462 tokens > 200000 maximum")
    completion = await connect("anthropic", wire=Wire(error)).complete(ASK)
    assert (completion.text, completion.stop_reason) == ("", "context_overflow")


def test_claude_draws_one_answer_a_call(connect: Connect) -> None:
    assert not isinstance(connect("anthropic"), ManySampler)
