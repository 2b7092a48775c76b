"""The gateway over the real wire: both SDKs, real HTTP, and a provider with moods."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module

import pytest

from bayesflow_server.errors import ProviderError
from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.gateway.cache_key import CallContext
from bayesflow_server.gateway.gateway import Gateway, ModelSession
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.models.endpoints import parse_endpoints
from bayesflow_server.models.registry import ModelRegistry
from bayesflow_server.store.store import Store
from fakes.unhappy_endpoint import FAULTS, Capacity, Fault, Mood, UnhappyEndpoint, unhappy_endpoint

APIS = ["openai", "anthropic"]
QUICK = Timing(call_seconds=1.0, patience_seconds=0.2, first_pause=0.001, longest_pause=0.01)
QUESTIONS = [f"question {number}" for number in range(40)]


def request(text: str) -> ChatRequest:
    return ChatRequest((ChatMessage("user", text),), temperature=0.5, max_tokens=20)


@asynccontextmanager
async def session(
    store: Store, endpoint: UnhappyEndpoint, api: str, timing: Timing = QUICK
) -> AsyncGenerator[ModelSession, None]:
    url = endpoint.url if api == "openai" else endpoint.url.removesuffix("/v1")
    models = ModelRegistry({}, endpoints=parse_endpoints([f"stub={url},api={api},concurrency=16"]))
    try:
        gateway = Gateway(store, prices=PriceTable({"stub": (1.0, 2.0)}), timing=timing)
        budget = Budget(BudgetLimits(usd=1, calls=100))
        yield gateway.session(models.model("stub:m"), budget, scope="run", role="executor")
    finally:
        await models.aclose()


async def answers(calls: ModelSession) -> list[str]:
    got = await asyncio.gather(
        *(calls.complete(request(text), CallContext(text)) for text in QUESTIONS)
    )
    return [answer.completion.text for answer in got]


async def faultless(store: Store, endpoint: UnhappyEndpoint, api: str) -> list[str]:
    """What the endpoint answers in a good mood to one who knows nothing yet."""
    endpoint.mood = Mood()
    async with session(store, endpoint, api) as calls:
        return await answers(calls)


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Imports the SDKs, whose seconds would else count as the first call's."""
    import_module("anthropic")
    import_module("openai")


@pytest.fixture
async def elsewhere(store: Store) -> AsyncGenerator[Store, None]:
    """A store that has no part in the run under test."""
    async with await Store.open(store.path.with_name("elsewhere.sqlite3")) as other:
        yield other


@pytest.mark.parametrize("api", APIS)
async def test_with_a_tenth_of_each_fault_every_question_gets_the_answer_of_a_faultless_pass(
    store: Store, elsewhere: Store, api: str
) -> None:
    mood = Mood(faults=dict.fromkeys(FAULTS, 0.1), seed=1, latency=0.001)
    patient = replace(QUICK, patience_seconds=60)
    async with unhappy_endpoint(mood) as endpoint, session(store, endpoint, api, patient) as calls:
        got = await answers(calls)
        assert {fault for fault in FAULTS if endpoint.counts[fault]} == set(FAULTS)
        assert set(endpoint.answered.values()) == {1}  # nothing was asked again once answered
        assert endpoint.counts["answered"] == len(QUESTIONS)
        assert await answers(calls) == got  # from the cache
        assert endpoint.counts["answered"] == len(QUESTIONS)
        assert got == await faultless(elsewhere, endpoint, api)
    (used,) = await store.usage("run")
    assert (used.calls, used.cached_calls) == (len(QUESTIONS), len(QUESTIONS))
    assert calls.budget.calls == len(QUESTIONS)
    assert used.cost_usd == calls.budget.usd


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_never_ends_is_an_outage_that_names_the_model_and_keeps_everything(
    store: Store, api: str, fault: Fault
) -> None:
    timing = replace(QUICK, call_seconds=0.1) if fault == "hang" else QUICK
    async with unhappy_endpoint() as endpoint, session(store, endpoint, api, timing) as calls:
        await calls.complete(request("before"), CallContext())
        endpoint.mood = Mood(faults={fault: 1.0})
        with pytest.raises(
            ProviderError, match=r"stub:m failed \d+ times in a row.*resume the run"
        ):
            await calls.complete(request("during"), CallContext())
        # A hang takes its time: three times the patience is enough then.
        assert endpoint.counts[fault] >= (2 if fault == "hang" else 8)
        assert (await calls.complete(request("before"), CallContext())).cached
        endpoint.mood = Mood()
        assert not (await calls.complete(request("during"), CallContext())).cached
    assert calls.budget.calls == 2


async def test_a_model_that_hangs_is_given_up_before_it_has_hung_as_often_as_others_may_fail(
    store: Store,
) -> None:
    timing = replace(QUICK, call_seconds=0.1, patience_seconds=0.1)
    mood = Mood(faults={"hang": 1.0})
    async with (
        unhappy_endpoint(mood) as endpoint,
        session(store, endpoint, "openai", timing) as calls,
    ):
        with pytest.raises(ProviderError, match=r"failed [234] times in a row.*no answer within"):
            await calls.complete(request("during"), CallContext())


async def test_a_model_that_takes_no_temperature_answers_without_and_says_so(store: Store) -> None:
    mood = Mood(refuses_temperature=True)
    async with unhappy_endpoint(mood) as endpoint, session(store, endpoint, "openai") as calls:
        got = await answers(calls)
        assert len(set(got)) == len(QUESTIONS)
        assert calls.dropped == frozenset({"temperature"})
        assert endpoint.counts["answered"] == len(QUESTIONS)


@pytest.mark.parametrize("api", APIS)
async def test_a_capacity_that_shrinks_in_mid_run_loses_no_answer(
    store: Store, elsewhere: Store, api: str
) -> None:
    mood = Mood(latency=0.005, capacity=[Capacity(0, 12), Capacity(0.02, 3)])
    async with unhappy_endpoint(mood) as endpoint, session(store, endpoint, api) as calls:
        got = await answers(calls)
        assert endpoint.counts["refused"] > 0
        assert endpoint.counts["answered"] == len(QUESTIONS)
        assert got == await faultless(elsewhere, endpoint, api)


async def test_several_answers_are_asked_in_one_call_and_kept_apart(store: Store) -> None:
    contexts = [CallContext("row", ordinal=ordinal) for ordinal in range(5)]
    async with unhappy_endpoint() as endpoint, session(store, endpoint, "openai") as calls:
        got = await calls.complete_many(request("many"), contexts)
        assert len({answer.completion.text for answer in got}) == 5
        assert endpoint.counts["answered"] == 1
        again = await calls.complete_many(request("many"), contexts)
        assert [one.completion for one in again] == [one.completion for one in got]
        assert endpoint.counts["answered"] == 1
    (used,) = await store.usage("run")
    assert (used.calls, used.output_tokens) == (1, 10)
