from dataclasses import replace
from pathlib import Path

import pytest

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.models.scripted import Rule, Script, ScriptedModel, read_counts


def ask(text: str) -> ChatRequest:
    return ChatRequest((ChatMessage("system", "busy"), ChatMessage("user", text)))


def from_script(folder: Path, script: Script) -> ScriptedModel:
    file = folder / "script.json"
    file.write_text(script.model_dump_json())
    return ScriptedModel.from_file(file)


async def test_the_first_rule_that_the_last_turn_meets_answers(tmp_path: Path) -> None:
    rules = (Rule(contains="2 + 2", answer="4"), Rule(contains="2", answer="two"))
    model = from_script(tmp_path, Script(rules=rules, default="no idea"))
    answers = [(await model.complete(ask(text))).text for text in ("2 + 2", "2 - 2", "busy?")]
    assert answers == ["4", "two", "no idea"]
    assert model.calls == [], "a server would keep them for ever"


async def test_a_rule_with_several_answers_gives_equal_requests_the_same(tmp_path: Path) -> None:
    rule = Rule(contains="", answers=("a", "b", "c"))
    model = from_script(tmp_path, Script(rules=(rule,)))
    requests = [replace(ask("hi"), sample=number) for number in range(20)]
    first = [(await model.complete(request)).text for request in requests]
    assert set(first) == {"a", "b", "c"}
    again = from_script(tmp_path, Script(rules=(rule,)))
    assert [(await again.complete(request)).text for request in requests] == first


async def test_a_failure_can_be_asked_for_a_number_of_times(tmp_path: Path) -> None:
    rule = Rule(contains="", error="slow down", retry_after=0.5, times=2)
    model = from_script(tmp_path, Script(rules=(rule,), default="fine"))
    for _ in range(2):
        with pytest.raises(ProviderError, match="slow down") as caught:
            await model.complete(ask("hi"))
        assert caught.value.retry_after == 0.5
    assert (await model.complete(ask("hi"))).text == "fine"


async def test_calls_are_counted_across_models_by_what_was_asked(tmp_path: Path) -> None:
    file = tmp_path / "calls"
    assert read_counts(file).started.total() == 0
    script = Script(rules=(Rule(contains="x", error="no"),), count_file=file, latency_ms=1)
    first, second = from_script(tmp_path, script), from_script(tmp_path, script)
    await first.complete(ask("hi"))
    await second.complete(ask("hi"))
    with pytest.raises(ProviderError):
        await second.complete(ask("x"))
    counts = read_counts(file)
    assert sorted(counts.started.values()) == [1, 2]
    assert counts.finished == counts.started


async def test_a_function_can_answer() -> None:
    model = ScriptedModel(lambda request: request.messages[-1].content.upper())
    assert (await model.complete(ask("hi"))).text == "HI"
    await model.aclose()


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"rules": [{}]}', '{"latency_ms": -1}', '{"surprise": 1}']
)
def test_a_script_that_cannot_be_read_is_one_clear_sentence(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "script.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ModelUnavailableError, match="BAYESFLOW_SCRIPTED_MODEL names"):
        ScriptedModel.from_file(file)
