from dataclasses import replace

import pytest

from bayesflow_server.gateway.cache_key import CallContext, completion_key, sample_number
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from fakes.models import FakeModel

HERE = CallContext(example="row 1", replicate=0, ordinal=0, seed=1)
ELSEWHERE = [
    CallContext(example="row 2", seed=1),
    CallContext(example="row 1", seed=2),
]
OTHER_DRAWS = [
    CallContext(example="row 1", seed=1, ordinal=1),
    CallContext(example="row 1", seed=1, replicate=1),
]


def ask(text: str = "2 + 2", temperature: float | None = 0.0) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), temperature=temperature)


@pytest.fixture
async def greedy() -> FakeModel:
    return FakeModel()


@pytest.fixture
async def noisy() -> FakeModel:
    return FakeModel(deterministic=False)


@pytest.mark.parametrize("context", ELSEWHERE + OTHER_DRAWS)
def test_a_deterministic_model_at_temperature_0_has_one_key_a_question(
    greedy: FakeModel, context: CallContext
) -> None:
    assert completion_key(greedy, ask(), context) == completion_key(greedy, ask(), HERE)


@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize("context", ELSEWHERE + OTHER_DRAWS)
def test_above_temperature_0_another_example_seed_ordinal_or_replicate_is_another_draw(
    greedy: FakeModel, context: CallContext, temperature: float | None
) -> None:
    question = ask(temperature=temperature)
    assert completion_key(greedy, question, context) != completion_key(greedy, question, HERE)


@pytest.mark.parametrize("context", OTHER_DRAWS)
def test_a_model_that_is_not_deterministic_draws_anew_at_temperature_0(
    noisy: FakeModel, context: CallContext
) -> None:
    assert completion_key(noisy, ask(), context) != completion_key(noisy, ask(), HERE)


@pytest.mark.parametrize("context", ELSEWHERE)
def test_such_a_model_shares_its_draws_at_temperature_0_among_examples_and_runs(
    noisy: FakeModel, context: CallContext
) -> None:
    assert completion_key(noisy, ask(), context) == completion_key(noisy, ask(), HERE)


@pytest.mark.parametrize(
    "other",
    [
        ask("2 + 3"),
        ask(temperature=0.1),
        ask(temperature=None),
        replace(ask(), max_tokens=5),
        replace(ask(), stop=("\n",)),
        replace(ask(), messages=(ChatMessage("system", "2 + 2"),)),
        replace(ask(), messages=(*ask().messages, ChatMessage("assistant", ""))),
    ],
)
def test_whatever_changes_the_question_changes_the_key(
    greedy: FakeModel, other: ChatRequest
) -> None:
    assert completion_key(greedy, other, HERE) != completion_key(greedy, ask(), HERE)


def test_other_weights_are_another_question(greedy: FakeModel, noisy: FakeModel) -> None:
    noisy.deterministic, noisy.identity = True, "fake-2"
    assert completion_key(greedy, ask(), HERE) != completion_key(noisy, ask(), HERE)


@pytest.mark.parametrize("zero", [0, 0.0, -0.0])
def test_zero_is_one_temperature_however_it_is_written(greedy: FakeModel, zero: float) -> None:
    key = completion_key(greedy, ask(temperature=zero), HERE)
    assert key == completion_key(greedy, ask(), HERE)


def test_a_lone_surrogate_in_a_question_has_a_key_too(greedy: FakeModel) -> None:
    key = completion_key(greedy, ask("\ud800"), HERE)
    assert key != completion_key(greedy, ask("?"), HERE)


def test_the_sample_number_fits_31_bits_and_follows_the_key(greedy: FakeModel) -> None:
    numbers = {sample_number(completion_key(greedy, ask(str(n)), HERE)) for n in range(200)}
    assert len(numbers) == 200
    assert all(0 <= number < 2**31 for number in numbers)
