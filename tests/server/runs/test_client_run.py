"""Runs whose workflows an agent writes: however it answers, the run ends the same."""

import asyncio
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random

import pytest

from bayesflow_server.gateway.budget import Budget, BudgetLimits
from bayesflow_server.models.chat import ChatMessage, ChatRequest
from bayesflow_server.runs import sitting
from bayesflow_server.runs.proposal_service import ClientAnswer, ProposalService
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.store.records import ProposalRecord
from fakes.houses import Footprint, footprint, open_service, settled, until
from fakes.models import FakeModel
from fakes.optimizers import GoodOptimizer, MessyOptimizer
from fakes.tasks import answer_addition, request

# What every prompt of a run begins with ends with an example; the question follows.
_SHARED = re.compile(r".*This is a workflow for some other task.*?```python\n.*?\n```\n", re.DOTALL)


def asked() -> RunRequest:
    return request(optimizer="client", preset="client", grammar=None)


@dataclass
class Agent:
    """Answers a run's questions, each by its name and text alone.

    Attributes:
        service: Where it asks.
        optimizer: Writes the answers.
        careless: If given, it takes questions in random numbers, answers them in random order,
            some twice, and some that nobody asked.
        patience: It leaves after so many answers.
    """

    service: ProposalService
    optimizer: Callable[[ChatRequest], str] = field(default_factory=GoodOptimizer)
    careless: Random | None = None
    patience: int = 10_000
    accepted: int = 0

    async def work(self, run_id: str) -> None:
        """Answers until the run has ended, or until its patience is over."""
        while self.accepted < self.patience:
            limit = self.careless.randint(1, 5) if self.careless else 4
            given = await self.service.next_proposals(run_id, limit=limit, wait_seconds=20)
            if given.status not in ("queued", "running", "waiting_for_client"):
                return
            answers = [ClientAnswer(one.proposal_id, self.answer(one)) for one in given.proposals]
            answers = answers[: self.patience - self.accepted]
            if self.careless:
                answers += [*answers[:1], ClientAnswer("prop_of_nobody", "what?")]
                self.careless.shuffle(answers)
            taken = await self.service.submit(run_id, answers)
            self.accepted += taken.verdicts.count("accepted")

    def answer(self, question: ProposalRecord) -> str:
        text = _SHARED.sub("", question.prompt, count=1)
        assert len(text) < len(question.prompt)
        draw = hashlib.blake2b(question.name.encode(), digest_size=4).digest()
        message = ChatMessage("user", text)
        return self.optimizer(ChatRequest((message,), sample=int.from_bytes(draw, "big")))


async def client_calls(service: RunService, run_id: str) -> int:
    usage = await service.workplace.store.usage(run_id)
    return sum(one.calls for one in usage if one.model == "client")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Footprint, int]:
    """What one agent finds that answers everything at once, and how often it was asked."""

    async def run() -> tuple[Footprint, int]:
        path = tmp_path_factory.mktemp("client") / "bayesflow.sqlite3"
        async with open_service(path, FakeModel(answer_addition)) as service:
            run_id = (await service.start(asked())).record.run_id
            agent = Agent(ProposalService(service))
            await agent.work(run_id)
            await settled(service, run_id)
            assert await client_calls(service, run_id) == agent.accepted
            return await footprint(service, run_id), agent.accepted

    return asyncio.run(run())


async def test_careless_agents_in_two_processes_find_what_one_alone_finds(
    path: Path, undisturbed: tuple[Footprint, int]
) -> None:
    model = FakeModel(answer_addition, latency_seed=1, turns=9)
    async with (
        open_service(path, model) as service,
        open_service(path, FakeModel(answer_addition)) as other,
    ):
        run_id = (await service.start(asked())).record.run_id
        agents = [Agent(ProposalService(one), careless=Random(1)) for one in (service, other)]
        await asyncio.gather(*(agent.work(run_id) for agent in agents))
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed[0]
        answered = sum(agent.accepted for agent in agents)
        assert answered == undisturbed[1] == await client_calls(service, run_id)


@pytest.mark.parametrize("answers", [0, 3, 6, 9])
async def test_a_run_that_was_left_in_the_middle_asks_no_question_twice(
    path: Path, undisturbed: tuple[Footprint, int], answers: int
) -> None:
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked())).record.run_id
        first = Agent(ProposalService(service), patience=answers)
        await first.work(run_id)
    async with open_service(path, FakeModel(answer_addition)) as service:
        assert service.status(await service.record(run_id)) == "interrupted"
        await service.resume(run_id)
        second = Agent(ProposalService(service))
        await second.work(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed[0]
        assert first.accepted + second.accepted == undisturbed[1]


async def test_answers_given_while_no_server_runs_are_used(
    path: Path, undisturbed: tuple[Footprint, int]
) -> None:
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked())).record.run_id
        given = await ProposalService(service).next_proposals(run_id, limit=8, wait_seconds=20)
    async with open_service(path, FakeModel(answer_addition)) as service:
        agent = Agent(ProposalService(service))
        answers = [ClientAnswer(one.proposal_id, agent.answer(one)) for one in given.proposals]
        taken = await agent.service.submit(run_id, answers)
        assert set(taken.verdicts) == {"accepted"}
        assert taken.status == "interrupted"
        await service.resume(run_id)
        await agent.work(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed[0]


async def test_an_agent_that_answers_as_models_do_finishes_its_run(path: Path) -> None:
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked())).record.run_id
        await Agent(ProposalService(service), MessyOptimizer()).work(run_id)
        record = await settled(service, run_id)
        assert (record.status, record.reason) == ("finished", None)


async def test_a_run_that_waits_for_its_agent_can_be_cancelled_and_resumed(
    path: Path, undisturbed: tuple[Footprint, int]
) -> None:
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked())).record.run_id
        agent = Agent(ProposalService(service), patience=2)
        await agent.work(run_id)
        cancelled = await service.cancel(run_id)
        assert cancelled.status == "cancelled"
        left = await agent.service.next_proposals(run_id, limit=4, wait_seconds=20)
        assert (left.proposals, left.status) == ((), "cancelled")
        await service.resume(run_id)
        await Agent(agent.service).work(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == undisturbed[0]


async def test_waiting_for_the_agent_uses_up_no_minutes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(sitting, "Budget", partial(Budget, clock=lambda: now))
    asked_in_a_minute = replace(asked(), budget=BudgetLimits(minutes=1))
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked_in_a_minute)).record.run_id
        await until(service, run_id, lambda one: one.status == "waiting_for_client")
        now += 3600.0
        await Agent(ProposalService(service)).work(run_id)
        record = await settled(service, run_id)
    assert (record.status, record.active_seconds) == ("finished", 0.0)


async def test_a_workflow_handed_in_is_found_in_the_pool(path: Path) -> None:
    source = (
        "class Workflow:\n    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n\n"
        "    async def __call__(self, problem):\n        # Step 1: Mine\n        return '7', 0.0\n"
    )
    async with open_service(path, FakeModel(answer_addition)) as service:
        run_id = (await service.start(asked())).record.run_id
        agent = Agent(ProposalService(service))
        handed = await agent.service.submit_workflow(run_id, source)
        await agent.work(run_id)
        await settled(service, run_id)
        pool = await service.workplace.store.pool(run_id)
        [mine] = [row for row in pool if row.entry.workflow_id == handed.workflow_id]
        assert (mine.entry.origin, mine.entry.clean) == ("submitted", False)
        assert mine.entry.round == handed.round == 1
        assert mine.validation is not None
