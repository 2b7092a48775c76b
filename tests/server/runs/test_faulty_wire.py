"""Whole runs over real HTTP, with a provider that fails: a fault costs time and nothing else."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, closing
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from bayesflow_server.gateway.budget import BudgetLimits
from bayesflow_server.gateway.patience import Timing
from bayesflow_server.models.chat import ChatRequest
from bayesflow_server.runs.options import SamplerOptions
from bayesflow_server.runs.service import RunService
from fakes.houses import Footprint, footprint, settled
from fakes.tasks import GRAMMAR, request
from fakes.unhappy_endpoint import FAULTS, Fault, Mood, UnhappyEndpoint, unhappy_endpoint
from fakes.wired_houses import ANSWERS, asked, endpoints_of, wired_service

# The executor's API and the writer's.
WIRES: Final = [("chat", "chat"), ("claude", "chat"), ("chat", "claude")]
# A call that a busy machine holds up for longer is asked again, which changes nothing either.
# With seven faults in ten, one call in two billion fails sixty times in a row.
PATIENT: Final = Timing(
    call_seconds=0.15,
    patience_seconds=60.0,
    first_pause=0.001,
    longest_pause=0.01,
    most_attempts=60,
)
HASTY: Final = replace(PATIENT, call_seconds=0.1, patience_seconds=0.1)
SMALL: Final = SamplerOptions(particles=3, rounds=2, refinements=1, minibatch=4)
LARGE: Final = SamplerOptions(particles=6, rounds=4, refinements=2, minibatch=5)
KEY: Final = "sk-planted-key-of-a-lab"


class Done(NamedTuple):
    """What a finished run found, what it paid for, and the answers on disk."""

    footprint: Footprint
    paid: list[tuple[str, str, int, int, int]]
    completions: int


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """Imports the SDKs, whose seconds would else count as the first call's."""
    import_module("anthropic")
    import_module("openai")


@pytest.fixture
async def stub() -> AsyncGenerator[UnhappyEndpoint, None]:
    async with unhappy_endpoint(answers=ANSWERS) as stub:
        yield stub


async def done(service: RunService, run_id: str) -> Done:
    """What the run left; every paid answer is on disk once."""
    record = await settled(service, run_id)
    assert record.status == "finished", record.reason
    usage = await service.usage_by_role(run_id)
    paid = [(u.role, u.model, u.calls, u.input_tokens, u.output_tokens) for u in usage]
    with closing(sqlite3.connect(service.workplace.store.path)) as database:
        (completions,) = database.execute("SELECT count(*) FROM completions").fetchone()
    return Done(await footprint(service, run_id), sorted(paid), completions)


async def finished(
    path: Path, stub: UnhappyEndpoint, wires: tuple[str, str], options: SamplerOptions
) -> Done:
    async with wired_service(path, endpoints_of(stub), PATIENT) as service:
        run_id = (await service.start(asked(*wires, options=options))).record.run_id
        return await done(service, run_id)


async def compare_with_a_faultless_run(
    folder: Path, stub: UnhappyEndpoint, wires: tuple[str, str], options: SamplerOptions
) -> None:
    faultless = await finished(folder / "faultless.sqlite3", stub, wires, options)
    stub.mood = Mood(faults=dict.fromkeys(FAULTS, 0.1), seed=1)
    stub.counts.clear()
    faulty = await finished(folder / "faulty.sqlite3", stub, wires, options)
    assert faulty == faultless
    assert {fault for fault in FAULTS if stub.counts[fault]} == set(FAULTS)


@pytest.mark.parametrize("wires", WIRES[:2])
async def test_a_tenth_of_each_fault_leaves_the_footprint_and_the_account_of_a_faultless_run(
    tmp_path: Path, stub: UnhappyEndpoint, wires: tuple[str, str]
) -> None:
    await compare_with_a_faultless_run(tmp_path, stub, wires, SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("wires", WIRES)
async def test_a_tenth_of_each_fault_changes_nothing_in_a_larger_run(
    tmp_path: Path, stub: UnhappyEndpoint, wires: tuple[str, str]
) -> None:
    await compare_with_a_faultless_run(tmp_path, stub, wires, LARGE)


def from_then_on(stub: UnhappyEndpoint, model: str, begin: Callable[[], None]) -> None:
    """Calls `begin` when the model has answered for the third time."""
    answer, answers = stub.answers[model], 0

    def counted(request: ChatRequest) -> str:
        nonlocal answers
        answers += 1
        if answers == 3:
            begin()
        return answer(request)

    stub.answers = {**stub.answers, model: counted}


async def start(service: RunService) -> str:
    return (await service.start(asked("chat", "chat", options=SMALL))).record.run_id


async def reason_of_its_pause(service: RunService, run_id: str) -> str:
    """Why the run paused, in the middle; everything it paid for is kept."""
    record = await settled(service, run_id)
    assert record.status == "paused", (record.status, record.reason)
    assert record.reason is not None
    usage = await service.usage(run_id)
    assert usage.calls > 0
    assert usage.usd is not None
    return record.reason


@pytest.fixture
async def undisturbed(tmp_path: Path, stub: UnhappyEndpoint) -> Done:
    """What the small run leaves if nothing gets in its way."""
    return await finished(tmp_path / "undisturbed.sqlite3", stub, WIRES[0], SMALL)


# How each is told.
OUTAGES: Final[dict[Fault, str]] = {
    "500": "answered HTTP 500",
    "529": "answered HTTP 529",
    "hang": "gave no answer within 0.1 s",
    "cut": "cannot be reached",
    "garbage": "sent an answer for {model} that cannot be read",
}


@pytest.mark.parametrize(
    ("fault", "model"),
    [*((fault, "executor") for fault in OUTAGES), ("500", "writer"), ("hang", "writer")],
)
async def test_an_outage_of_one_model_pauses_the_run_which_then_goes_on_as_if_nothing_had_been(
    tmp_path: Path, stub: UnhappyEndpoint, undisturbed: Done, fault: Fault, model: str
) -> None:
    faulty = Mood(faults={fault: 1.0})
    from_then_on(stub, model, lambda: stub.moods.update({model: faulty}))
    async with wired_service(tmp_path / "runs.sqlite3", endpoints_of(stub), HASTY) as service:
        run_id = await start(service)
        reason = await reason_of_its_pause(service, run_id)
        assert reason.startswith(f"chat:{model} failed ")
        assert OUTAGES[fault].format(model=model) in reason
        assert reason.endswith("Everything found so far is kept; resume the run to go on.")
        stub.moods.clear()
        await service.resume(run_id)
        assert await done(service, run_id) == undisturbed


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (
            401,
            "The endpoint 'chat' refused the key in LAB_KEY for executor (HTTP 401). Put a "
            "valid one into LAB_KEY and start the server anew.",
        ),
        (402, "The endpoint 'chat' wants to be paid before it answers (HTTP 402)"),
        (403, "The endpoint 'chat' refused the key in LAB_KEY for executor (HTTP 403)"),
        (404, "The endpoint 'chat' knows no model 'executor' (HTTP 404)"),
    ],
)
async def test_a_model_that_is_withdrawn_pauses_the_run_and_no_key_is_named(
    tmp_path: Path, stub: UnhappyEndpoint, undisturbed: Done, status: int, says: str
) -> None:
    from_then_on(stub, "executor", lambda: stub.moods.update(executor=Mood(refuses=status)))
    keyed = endpoints_of(stub, ",key=LAB_KEY")
    async with wired_service(tmp_path / "runs.sqlite3", keyed, HASTY, {"LAB_KEY": KEY}) as service:
        run_id = await start(service)
        reason = await reason_of_its_pause(service, run_id)
        assert reason.startswith(says)
        assert KEY not in reason
        assert stub.counts[str(status)] <= 16  # nobody asked again: as many as were under way
        stub.moods.clear()
        await service.resume(run_id)
        assert await done(service, run_id) == undisturbed


async def test_a_server_that_is_down_pauses_the_run_until_it_is_up_again(tmp_path: Path) -> None:
    down = asyncio.Event()
    async with AsyncExitStack() as open_to_the_end:
        async with unhappy_endpoint(answers=ANSWERS) as stub:
            port, places = stub.port, endpoints_of(stub)
            undisturbed = await finished(tmp_path / "undisturbed.sqlite3", stub, WIRES[0], SMALL)
            from_then_on(stub, "executor", down.set)
            service = await open_to_the_end.enter_async_context(
                wired_service(tmp_path / "runs.sqlite3", places, HASTY)
            )
            run_id = await start(service)
            await down.wait()
        assert "cannot be reached" in await reason_of_its_pause(service, run_id)
        await service.resume(run_id)  # too early
        assert "cannot be reached" in await reason_of_its_pause(service, run_id)
        async with unhappy_endpoint(answers=ANSWERS, port=port):
            await service.resume(run_id)
            assert await done(service, run_id) == undisturbed


async def test_a_workflow_that_asks_what_no_provider_answers_fails_alone(
    tmp_path: Path, stub: UnhappyEndpoint
) -> None:
    stub.mood = Mood(refuses_empty=True)
    grammar = GRAMMAR.replace(
        "return 1 // 0, 0.0", 'return (await self.llm.call_llm(messages=[" "]))[0], 0.0'
    )
    searched = request(executor="claude:executor", grammar=grammar, budget=BudgetLimits(usd=1.0))
    async with wired_service(tmp_path / "runs.sqlite3", endpoints_of(stub), HASTY) as service:
        run_id = (await service.start(searched)).record.run_id
        if (await settled(service, run_id)).status == "paused":
            await service.resume(run_id)  # it was the first of all questions
        left = (await done(service, run_id)).footprint
    assert stub.counts["400"] > 0
    refused = [error for *_, error, _ in left.executions if "non-empty" in str(error)]
    assert refused
    assert all("Fail" in steps for _, steps, measured in left.pool if measured and measured[2])
