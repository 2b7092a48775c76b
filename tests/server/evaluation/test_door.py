import asyncio

import pytest

from bayesflow_sandbox.errors import CallRefusedError
from bayesflow_sandbox.llm_call import parse_llm_call
from bayesflow_server.evaluation.door import Door
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.gateway import Gateway
from bayesflow_server.models.chat import ChatMessage
from bayesflow_server.store.store import Store
from fakes.models import FakeModel


def door(store: Store, model: FakeModel, example: str = "row") -> Door:
    session = Gateway(store).session(model, Budget(BudgetLimits()), scope="run", role="executor")
    return Door(session, example, replicate=0, seed=0)


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
