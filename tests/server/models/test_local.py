"""The local model, with the real weights in a real child process."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bayesflow_server.errors import ModelUnavailableError, ProviderError
from bayesflow_server.models import local_worker
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.models.local import LocalModel
from bayesflow_server.models.weights import content_hash

Build = Callable[..., LocalModel]

SHOTS = (
    ("Ann has X apples and buys Y more. How many apples has she?", "X + Y"),
    ("Each of X boxes holds Y pens. How many pens are there?", "X * Y"),
    ("Ben had X coins and lost Y. How many are left?", "X - Y"),
)
STORY = ChatRequest((ChatMessage("user", "Write a long story about a robot."),), 0.0, 150)


def ask(
    question: str, shots: tuple[tuple[str, str], ...] = SHOTS, temperature: float = 0.0
) -> ChatRequest:
    turns: list[ChatMessage] = []
    for asked, answered in shots:
        turns += [ChatMessage("user", asked), ChatMessage("assistant", answered)]
    turns.append(ChatMessage("user", question))
    return ChatRequest(tuple(turns), temperature=temperature, max_tokens=12, stop=("\n",))


async def test_it_answers_and_counts_tokens_with_the_shared_prefix_cached(
    local_model: Build,
) -> None:
    model = local_model()
    first = await model.complete(ask("Cleo had X cards and lost Y. How many are left?"))
    second = await model.complete(ask("Dan picks X pears and Y plums. How many fruits?"))
    assert first.text.strip()
    assert first.usage.input_tokens > 100
    assert first.usage.cached_input_tokens == 0
    assert 1 <= first.usage.output_tokens <= 12
    assert second.usage.cached_input_tokens > 80


async def test_an_answer_does_not_depend_on_what_was_asked_before(local_model: Build) -> None:
    questions = [f"Eve has X {thing} and gives Y away. How many?" for thing in ("eggs", "pens")]
    requests = [
        ask(question, SHOTS[:count], temperature)
        for question in questions
        for count in (0, 2, 3)
        for temperature in (0.0, 0.9)
    ]
    # A model's own answer comes back as a turn, so that generated tokens are found in the cache.
    requests += [ask("And if she gives Z more?", (*SHOTS, (questions[0], "X - Y")))]
    shuffled = random.Random(1).sample(requests, len(requests))
    repeated = [request for request in shuffled for _ in range(2)]
    model = local_model()
    in_order = {request: (await model.complete(request)).text for request in requests}
    for request in repeated:
        assert (await model.complete(request)).text == in_order[request]
    await model.aclose()  # and a fresh process agrees
    assert (await model.complete(repeated[0])).text == in_order[repeated[0]]


async def test_samples_of_one_question_differ_and_each_can_be_drawn_again(
    local_model: Build,
) -> None:
    model = local_model()
    question = (ChatMessage("user", "Name an animal."),)
    draws = [ChatRequest(question, 1.0, 12, (), sample) for sample in range(4)]
    texts = [(await model.complete(draw)).text for draw in draws]
    assert len(set(texts)) > 1
    assert (await model.complete(draws[2])).text == texts[2]


async def test_a_prompt_that_does_not_fit_is_an_outcome(local_model: Build) -> None:
    completion = await local_model(n_ctx=256).complete(ask("word " * 600))
    assert (completion.text, completion.stop_reason) == ("", "context_overflow")
    assert completion.usage.output_tokens == 0


async def test_a_cut_answer_says_so(local_model: Build) -> None:
    assert (await local_model().complete(ask("Why?", ()))).stop_reason == "length"


async def test_a_child_that_died_is_replaced_within_the_call(local_model: Build) -> None:
    model = local_model()
    request = ask("Fay has X cats and Y dogs. How many pets?")
    before = await model.complete(request)
    assert model.pid is not None
    os.kill(model.pid, signal.SIGKILL)
    after = await model.complete(request)
    assert after.text == before.text


async def test_the_deadline_kills_the_model_and_is_a_provider_failure(local_model: Build) -> None:
    model = local_model(call_seconds=0.01)
    with pytest.raises(ProviderError, match="gave no answer in"):
        await model.complete(STORY)
    assert model.pid is None


async def test_a_cancelled_call_does_not_answer_the_next_one(local_model: Build) -> None:
    model = local_model()
    request = ask("Gus has X hens and Y ducks. How many birds?")
    expected = (await model.complete(request)).text
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await model.complete(STORY)
    assert (await model.complete(request)).text == expected


async def test_another_owner_is_waited_for_and_the_waiter_says_so(local_model: Build) -> None:
    heard: list[bool] = []
    waits = asyncio.Event()

    def on_wait(waiting: bool) -> None:
        heard.append(waiting)
        waits.set()

    owner, waiter = local_model(), local_model(on_wait=on_wait)
    request = ask("Hal has X nuts and Y figs. How many?")
    await owner.complete(request)
    pending = asyncio.create_task(waiter.complete(request))
    await waits.wait()
    assert waiter.waiting
    await owner.aclose()
    assert (await pending).text
    assert heard == [True, False]
    assert owner.pid is None


async def test_an_idle_owner_gives_the_model_back(local_model: Build) -> None:
    owner, waiter = local_model(idle_seconds=0.0), local_model()
    request = ask("Ida has X nuts and Y figs. How many?")
    first = await owner.complete(request)
    assert (await waiter.complete(request)).text == first.text
    assert owner.pid is None


async def test_closing_before_the_first_call_or_twice_is_harmless(local_model: Build) -> None:
    model = local_model()
    await model.aclose()
    await model.aclose()
    assert model.pid is None


async def test_a_broken_file_is_reported_in_one_sentence(smollm2: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    with smollm2.open("rb") as whole:
        broken.write_bytes(whole.read(100_000))
    model = LocalModel("broken", broken, tmp_path)
    with pytest.raises(ModelUnavailableError, match="cannot be loaded"):
        await model.complete(STORY)
    await model.aclose()


async def test_the_identity_is_that_of_the_weights_content(
    local_model: Build, smollm2: Path, tmp_path: Path
) -> None:
    digest = content_hash("smollm2", smollm2, tmp_path)
    model = local_model()
    assert digest in model.identity
    assert model.identity != local_model(n_ctx=512).identity
    assert (model.concurrency, model.deterministic) == (1, True)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
async def test_the_child_is_not_given_the_servers_keys(
    local_model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-planted")
    model = local_model()
    await model.complete(ask("Jon has X nuts and Y figs. How many?"))
    given = await asyncio.to_thread(Path(f"/proc/{model.pid}/environ").read_bytes)
    assert b"sk-planted" not in given


def test_the_child_prints_only_replies_and_ends_with_its_input_even_when_busy(
    smollm2: Path,
) -> None:
    worker = str(Path(local_worker.__file__))
    command = [sys.executable, "-P", worker, str(smollm2), "2048", "32", "1", "2", "64"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert json.loads(child.stdout.readline()) == {"ready": True}
        turn = {"role": "user", "content": "Write a long story about a robot."}
        for number in (1, 2):
            request = {"id": number, "messages": [turn], "max_tokens": 1 if number == 1 else 1500}
            child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        assert json.loads(child.stdout.readline())["id"] == 1
        child.stdin.close()
        assert child.wait(timeout=20) == 0
        assert child.stdout.read() == b""  # it did not finish the second answer first
