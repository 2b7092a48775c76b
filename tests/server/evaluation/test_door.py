import asyncio
from itertools import permutations

import pytest

from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.llm_call import parse_llm_call
from bayesflow_server.errors import ProviderError, RequestRefusedError
from bayesflow_server.evaluation.door import Door, Meter, Tiers
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Answer, Gateway
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.models.chat import ChatMessage, ChatRequest, Completion, StopReason, Usage
from bayesflow_server.store.store import Store
from fakes.approx import approx
from fakes.models import FakeModel
from fakes.sessions import EndingModel, free_session, priced_session


class SamplingModel(FakeModel):
    """Draws at most three answers a call; counts the question with the first, as providers do."""

    most_samples = 3

    def __init__(self) -> None:
        super().__init__()
        self.counts: list[int] = []

    async def complete(self, request: ChatRequest) -> Completion:
        """One answer."""
        return (await self.sample(request, 1))[0]

    async def sample(self, request: ChatRequest, count: int) -> tuple[Completion, ...]:
        """The question's text with a number, `count` times."""
        self.counts.append(count)
        text = request.messages[-1].content
        words = len(text.split())
        return tuple(
            Completion(f"{text}{n}".replace(" ", ""), Usage(0 if n else words, 1))
            for n in range(count)
        )


def door(store: Store, model: FakeModel, example: str = "row") -> Door:
    return Door(free_session(store, model), example, replicate=0, seed=0)


async def test_role_and_instructions_become_the_system_turn(store: Store) -> None:
    model = FakeModel()
    call = parse_llm_call(
        (["one", "two"],), {"agent_role": "clerk", "instructions": "Be brief.", "temperature": 0}
    )
    await door(store, model).call_llm(call)
    (request,) = model.finished
    assert request.messages == (
        ChatMessage("system", "You are a clerk.\nBe brief."),
        ChatMessage("user", "one\ntwo"),
    )


async def test_turns_stops_and_token_limits_reach_the_model(store: Store) -> None:
    model = FakeModel()
    turns = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    call = parse_llm_call((turns,), {"stop": ["\n"], "max_tokens": 9, "temperature": 0.5})
    await door(store, model).call_llm(call)
    (request,) = model.finished
    assert [turn.role for turn in request.messages] == ["user", "assistant"]
    assert (request.stop, request.max_tokens, request.temperature) == (("\n",), 9, 0.5)


async def test_equal_requests_of_one_execution_are_distinct_draws(store: Store) -> None:
    model = FakeModel(lambda request: str(request.sample))
    three = parse_llm_call((["q"],), {"temperature": 0.7, "num_of_response": 3})
    one = parse_llm_call((["q"],), {"temperature": 0.7})
    here = door(store, model)
    texts = [*await here.call_llm(three), *await here.call_llm(one)]
    assert len(set(texts)) == 4
    assert await door(store, model).call_llm(three) == texts[:3]  # the next execution's first three
    assert await door(store, model, "another row").call_llm(one) != texts[:1]


async def test_the_meter_counts_tokens_as_if_nothing_had_been_cached(store: Store) -> None:
    model = FakeModel()
    call = parse_llm_call((["a b c"],), {"temperature": 0.0, "num_of_response": 2})
    here = door(store, model)
    await here.call_llm(call)
    meter = here.meter
    assert (meter.calls, meter.cached_calls) == (2, 1)
    assert (meter.input_tokens, meter.output_tokens) == (6, 6)
    assert here.get_usage_summary() == {
        "total_cost": 0.0,
        "calls": 2,
        "input_tokens": 6,
        "output_tokens": 6,
    }


async def test_once_the_execution_is_over_calls_in_flight_end_and_later_ones_are_refused(
    store: Store,
) -> None:
    model = FakeModel()
    model.hold_at(1)
    call = parse_llm_call((["q"],), {"temperature": 0.7})
    here = door(store, model)
    await here.call_llm(call)
    waiting = asyncio.create_task(here.call_llm(call))
    await model.reached()
    await here.aclose()
    assert waiting.cancelled()
    model.release()
    with pytest.raises(CallRefusedError, match="over"):
        await here.call_llm(call)
    assert model.finished.total() == 1
    assert model.started.total() == 2


# --- outcomes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ending"), [("half an ans", "length"), ("I cannot", "refusal"), ("", "empty")]
)
async def test_an_answer_that_did_not_end_well_is_a_text_and_is_counted_cached_or_not(
    store: Store, text: str, ending: StopReason
) -> None:
    model = EndingModel(lambda _: (text, ending))
    call = parse_llm_call((["q"],), {"temperature": 0.7, "num_of_response": 2})
    first, second = door(store, model), door(store, model)
    for here in (first, second):
        assert await here.call_llm(call) == [text, text]
        assert here.meter.outcomes == {ending: 2}
    assert (first.meter.cached_calls, second.meter.cached_calls) == (0, 2)


@pytest.mark.parametrize("ending", ["end", "stop_sequence"])
async def test_an_answer_that_ended_well_is_not_counted(store: Store, ending: StopReason) -> None:
    here = door(store, EndingModel(lambda _: ("yes", ending)))
    await here.call_llm(parse_llm_call((["q"],), {}))
    assert not here.meter.outcomes


async def test_a_prompt_longer_than_the_context_is_refused_with_its_size_every_time(
    store: Store,
) -> None:
    model = EndingModel(lambda _: ("", "context_overflow"))
    call = parse_llm_call((["two words"],), {"temperature": 0})
    for _ in range(2):  # the second time from the cache
        here = door(store, model)
        with pytest.raises(CallRefusedError, match=r"\(9 characters, 2 tokens\) is longer"):
            await here.call_llm(call)
        assert here.meter.outcomes == {"context_overflow": 1}
        assert here.meter.calls == 1
    assert model.finished.total() == 1


async def test_an_answer_that_met_the_end_of_the_context_halfway_is_kept(store: Store) -> None:
    here = door(store, EndingModel(lambda _: ("half of it", "context_overflow")))
    assert await here.call_llm(parse_llm_call((["q"],), {})) == ["half of it"]
    assert here.meter.outcomes == {"context_overflow": 1}


# --- tiers ----------------------------------------------------------------------------------


async def test_a_tier_is_another_model_and_the_rest_goes_to_the_executor(store: Store) -> None:
    plain = EndingModel(lambda _: ("p", "end"), identity="p")
    strong = EndingModel(lambda _: ("s", "end"), identity="s")
    tiers: Tiers = {"strong": free_session(store, strong)}
    here = Door(free_session(store, plain), "row", 0, 0, tiers)
    texts = [
        await here.call_llm(parse_llm_call((["q"],), {"tier": tier, "temperature": 0}))
        for tier in (None, "strong", None)
    ]
    assert texts == [["p"], ["s"], ["p"]]
    assert (plain.finished.total(), strong.finished.total()) == (1, 1)
    with pytest.raises(CallRefusedError, match="offers the tiers 'strong'; leave out tier='cheap'"):
        await here.call_llm(parse_llm_call((["q"],), {"tier": "cheap"}))


async def test_where_a_run_offers_no_tiers_a_tier_is_refused(store: Store) -> None:
    model = FakeModel()
    with pytest.raises(CallRefusedError, match="this run offers no tiers"):
        await door(store, model).call_llm(parse_llm_call((["q"],), {"tier": "strong"}))
    assert model.started.total() == 0


async def test_a_tier_that_is_the_executor_itself_draws_on(store: Store) -> None:
    model = FakeModel(lambda request: str(request.sample))
    session = free_session(store, model)
    here = Door(session, "row", 0, 0, {"cheap": session})
    texts = [
        (await here.call_llm(parse_llm_call((["q"],), {"tier": tier, "temperature": 1})))[0]
        for tier in (None, "cheap", None)
    ]
    assert len(set(texts)) == 3


# --- cost -----------------------------------------------------------------------------------


async def test_the_cost_is_the_list_price_of_every_model_used_cached_or_not(store: Store) -> None:
    tiers: Tiers = {
        "strong": priced_session(store, EndingModel(lambda _: ("s", "end"), identity="s"), 1.0)
    }
    plain = priced_session(store, FakeModel(lambda _: "p"), 0.01)
    costs: list[float | None] = []
    for _ in range(2):
        here = Door(plain, "row", 0, 0, tiers)
        await here.call_llm(parse_llm_call((["a b c"],), {"temperature": 0, "num_of_response": 2}))
        await here.call_llm(parse_llm_call((["q"],), {"temperature": 0, "tier": "strong"}))
        costs.append(here.meter.usd)
        assert here.get_usage_summary()["total_cost"] == here.meter.usd
    assert costs == [approx(2 * 0.04 + 2.0)] * 2


async def test_a_price_that_is_unknown_makes_the_cost_unknown(store: Store) -> None:
    tiers: Tiers = {"cheap": free_session(store, FakeModel())}
    here = Door(priced_session(store, FakeModel(), 0.01), "row", 0, 0, tiers)
    await here.call_llm(parse_llm_call((["q"],), {"temperature": 0}))
    assert here.meter.usd == approx(0.02)
    await here.call_llm(parse_llm_call((["q"],), {"temperature": 0, "tier": "cheap"}))
    assert here.meter.usd is None


async def test_the_cost_does_not_depend_on_what_others_bought_before(store: Store) -> None:
    def meter_of(here: Door) -> tuple[int, int, float | None]:
        return here.meter.input_tokens, here.meter.output_tokens, here.meter.usd

    five = parse_llm_call((["a b c"],), {"temperature": 0.7, "num_of_response": 5})
    one = parse_llm_call((["a b c"],), {"temperature": 0.7})
    model = SamplingModel()
    priced = priced_session(store, model, 1.0)
    alone = Door(priced, "one row", 0, 0)
    await alone.call_llm(five)
    assert model.counts == [3, 2]
    for calls in (1, 2):  # here some of the five are there already
        for _ in range(calls):
            await Door(priced, f"row {calls}", 0, 0).call_llm(one)
        late = Door(priced, f"row {calls}", 0, 0)
        await late.call_llm(five)
        assert meter_of(late) == meter_of(alone) == (2 * 3, 5, 11.0)


async def test_a_model_that_draws_several_answers_at_once_is_asked_once(store: Store) -> None:
    model = SamplingModel()
    three = parse_llm_call((["q"],), {"temperature": 0.7, "num_of_response": 3})
    here = door(store, model)
    assert await here.call_llm(three) == ["q0", "q1", "q2"]
    assert model.counts == [3]
    assert await door(store, model).call_llm(three) == ["q0", "q1", "q2"]
    assert model.counts == [3]


async def test_an_execution_may_not_spend_longer_in_calls_than_an_example_has(
    store: Store,
) -> None:
    budget = Budget(BudgetLimits())
    gateway = Gateway(store, timing=Timing(example_seconds=0.0))
    session = gateway.session(FakeModel(), budget, scope="run", role="executor")
    with pytest.raises(ProviderError, match="its time is over"):
        await Door(session, "row", 0, 0).call_llm(parse_llm_call((["q"],), {}))


def test_the_cost_does_not_depend_on_the_order_of_the_answers() -> None:
    answer = Answer(Completion("", Usage()), cached=False)
    sums: set[float | None] = set()
    for order in permutations([0.1, 0.2, 0.3, 1e-9, 7e5]):
        meter = Meter()
        for cost in order:
            meter.count(answer, Usage(), cost)
        sums.add(meter.usd)
    assert len(sums) == 1


async def test_an_execution_that_asked_nothing_cost_nothing(store: Store) -> None:
    assert door(store, FakeModel()).meter.usd == 0.0


# --- the log --------------------------------------------------------------------------------


async def test_the_log_shows_calls_in_the_order_they_were_begun(store: Store) -> None:
    def slow_first(request: ChatRequest) -> str:
        return request.messages[-1].content.upper()

    here = door(store, FakeModel(slow_first, latency_seed=3, turns=30))
    calls = [parse_llm_call(([f"question {n}"],), {"temperature": 0}) for n in range(5)]
    await asyncio.gather(*(here.call_llm(call) for call in calls))
    lines = here.log.text.splitlines()
    assert lines[::2] == [f"call {n + 1} asked: question {n}" for n in range(5)]
    assert lines[1::2] == [f"call {n + 1} answered: QUESTION {n}" for n in range(5)]


async def test_the_log_is_bounded_whatever_was_asked(store: Store) -> None:
    model = EndingModel(lambda request: ("answer " * 5_000, "length"))
    here = door(store, model)
    for number in range(11):
        call = parse_llm_call(([f"{number} " + "long " * 100_000],), {"num_of_response": 3})
        await here.call_llm(call)
    text = here.log.text
    assert len(text) <= 4_000
    assert text.startswith("(3 earlier calls left out)\ncall 4 asked: 3 long")
    assert "call 11 answered (length): answer" in text


async def test_a_call_without_an_answer_is_not_in_the_log(store: Store) -> None:
    model = FakeModel()
    model.hold_at(1)
    here = door(store, model)
    await here.call_llm(parse_llm_call((["one"],), {}))
    waiting = asyncio.create_task(here.call_llm(parse_llm_call((["two"],), {})))
    await model.reached()
    await here.aclose()
    assert waiting.cancelled()
    assert here.log.text == "call 1 asked: one\ncall 1 answered: one"


async def test_a_request_that_a_model_refuses_while_it_answers_others_is_the_workflows_fault(
    store: Store,
) -> None:
    model = FakeModel()
    refusal = RequestRefusedError("HTTP 400: messages must not be empty")
    empty, good = parse_llm_call(([""],), {}), parse_llm_call((["hi"],), {})
    model.fault = lambda _: refusal
    with pytest.raises(RequestRefusedError):  # of a model that has answered nothing: a pause
        await door(store, model).call_llm(empty)
    model.fault = lambda _: None
    assert await door(store, model).call_llm(good) == ["hi"]
    model.fault = lambda _: refusal
    with pytest.raises(
        CallRefusedError, match=r"call_llm\(\): HTTP 400: messages must not be empty"
    ):
        await door(store, model).call_llm(empty)
    assert model.started.total() == 4  # it was asked twice


async def test_a_request_that_is_refused_once_is_answered_the_second_time(store: Store) -> None:
    model = FakeModel()
    call = parse_llm_call((["hi"],), {"temperature": 0.5})
    await door(store, model).call_llm(call)
    model.fault = lambda number: RequestRefusedError("HTTP 400") if number == 1 else None
    assert await door(store, model, "another row").call_llm(call) == ["hi"]
