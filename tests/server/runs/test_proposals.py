"""A run that asks its client: boards and services over one file, as one or several processes."""

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bayesflow_sampler.codec import encode_workflows
from bayesflow_sampler.source import parse_workflow
from bayesflow_server.errors import InputError, NotFoundError, StoreError
from bayesflow_server.runs.proposal_service import LONGEST_ANSWER, ClientAnswer, ProposalService
from bayesflow_server.runs.proposals import Submissions, suggestion_key
from bayesflow_server.store.records import NewRun, ProposalRecord, RunStatus
from bayesflow_server.store.store import Store
from fakes.asking import GRAMMAR_RUN, RUN, House, Opened, asking, open_house, pinned, prompt
from fakes.houses import open_service
from fakes.models import FakeModel
from fakes.tasks import answer_addition, workflow

SOURCES = [workflow(f"return str({number}), 0.0").source for number in range(4)]


@pytest.fixture
async def house(path: Path) -> AsyncGenerator[House]:
    async with open_house(path) as house:
        yield house


@pytest.fixture
async def service(path: Path, house: House) -> AsyncGenerator[ProposalService]:
    async with open_service(path, FakeModel(answer_addition)) as runs:
        yield ProposalService(runs)


async def by_name(service: ProposalService, limit: int = 8) -> dict[str, ProposalRecord]:
    given = await service.next_proposals(RUN, limit=limit)
    return {proposal.name: proposal for proposal in given.proposals}


async def test_answers_that_come_out_of_order_reach_their_askers(
    house: House, service: ProposalService
) -> None:
    board = house.board()
    names = [f"extend/1/{number}/0" for number in range(5)]
    async with asking(board, *names) as tasks:
        given = await by_name(service)
        answers = [ClientAnswer(given[name].proposal_id, f"to {name}") for name in names[::-1]]
        taken = await service.submit(RUN, answers)
        assert taken.verdicts == ("accepted",) * 5
        assert taken.open_total == 0
        assert await asyncio.gather(*tasks) == [f"to {name}" for name in names]


async def test_a_question_is_self_contained(house: House, service: ProposalService) -> None:
    board = house.board()
    async with asking(board, "extend/1/0/0"):
        [question] = (await service.next_proposals(RUN, limit=1)).proposals
        assert question.prompt == "The task: add.\n\nWrite step 1."
        assert question.kind == "extend"
        assert question.proposal_id.startswith("prop_")


async def test_the_board_tells_how_many_questions_are_open(
    house: House, service: ProposalService
) -> None:
    board = house.board()
    async with asking(board, "a", "b") as tasks:
        told = board.on_open
        given = await by_name(service)
        await service.submit(RUN, [ClientAnswer(given["a"].proposal_id, "text")])
        await tasks[0]
    assert isinstance(told, Opened)
    assert told.counts == [1, 2, 1, 0]


async def test_an_answer_in_the_same_process_wakes_its_asker(path: Path, house: House) -> None:
    async with open_service(path, FakeModel(answer_addition)) as runs:
        board = house.board(runs.workplace.store)
        service = ProposalService(runs)
        async with asking(board, "a") as [task]:
            given = await by_name(service)
            await service.submit(RUN, [ClientAnswer(given["a"].proposal_id, "text")])
            assert await task == "text"


async def test_an_answer_given_while_nobody_worked_on_the_run_is_used(
    house: House, service: ProposalService
) -> None:
    """Between the question and its answer the process ends; another asks again."""
    async with asking(house.board(), "a", "b"):
        given = await by_name(service)
    await house.set_status("interrupted")
    taken = await service.submit(RUN, [ClientAnswer(given["a"].proposal_id, "meanwhile")])
    assert taken.verdicts == ("accepted",)
    async with await Store.open(house.store.path) as later:
        reborn = house.board(later)
        assert (await reborn.write(prompt("a"))).text == "meanwhile"
        async with asking(reborn, "b") as [task]:
            await service.submit(RUN, [ClientAnswer(given["b"].proposal_id, "afterwards")])
            assert await task == "afterwards"


async def test_a_question_whose_asker_is_cancelled_stays_open(
    house: House, service: ProposalService
) -> None:
    async with asking(house.board(), "a"):
        pass
    assert list(await by_name(service)) == ["a"]


async def test_an_answer_is_counted_once_as_a_call_that_costs_nothing(
    house: House, service: ProposalService
) -> None:
    async with asking(house.board(), "extend/1/0/0", "refine/1/0/0"):
        given = await by_name(service)
        twice = [ClientAnswer(one.proposal_id, "text") for one in given.values()] * 2
        await service.submit(RUN, twice)
        assert (await house.board().write(prompt("extend/1/0/0"))).text == "text"
    counted = {record.role: record for record in await house.store.usage(RUN)}
    assert {role: (one.calls, one.cost_usd) for role, one in counted.items()} == {
        "optimizer": (1, 0.0),
        "refiner": (1, 0.0),
    }
    assert {one.model for one in counted.values()} == {"client"}


async def test_two_agents_never_hold_the_same_question(
    path: Path, house: House, service: ProposalService
) -> None:
    names = [f"extend/1/{number}/0" for number in range(12)]
    async with (
        open_service(path, FakeModel(answer_addition)) as runs,
        asking(house.board(), *names) as tasks,
    ):
        services = (service, ProposalService(runs))
        batches = await asyncio.gather(
            *(services[turn % 2].next_proposals(RUN, limit=2) for turn in range(8))
        )
        given = [proposal for batch in batches for proposal in batch.proposals]
        assert sorted(proposal.name for proposal in given) == sorted(names)
        for turn, one in enumerate(given):
            await services[turn % 2].submit(RUN, [ClientAnswer(one.proposal_id, one.name)])
        assert await asyncio.gather(*tasks) == names


async def test_after_its_lease_a_question_goes_to_another_and_the_first_answer_stands(
    house: House, service: ProposalService
) -> None:
    async with asking(house.board(), "a", "b") as tasks:
        slow = await service.next_proposals(RUN, limit=2, lease_seconds=0.0)
        quick = await service.next_proposals(RUN, limit=2)
        first, second = quick.proposals
        assert [one.name for one in slow.proposals] == ["a", "b"] == [first.name, second.name]
        await service.submit(RUN, [ClientAnswer(first.proposal_id, "quick")])
        late = await service.submit(
            RUN, [ClientAnswer(one.proposal_id, "slow") for one in slow.proposals]
        )
        assert late.verdicts == ("already_answered", "accepted")
        assert await asyncio.gather(*tasks) == ["quick", "slow"]


async def test_bad_answers_are_told_one_by_one_and_the_good_one_among_them_counts(
    house: House, service: ProposalService
) -> None:
    async with asking(house.board(), "a", "b", "c") as tasks:
        given = await by_name(service)
        ids = {name: one.proposal_id for name, one in given.items()}
        taken = await service.submit(
            RUN,
            [
                ClientAnswer("prop_unknown", "text"),
                ClientAnswer("\ud800", "text"),
                ClientAnswer(ids["a"], "x" * (LONGEST_ANSWER + 1)),
                ClientAnswer(ids["a"], "a lone \ud800"),
                ClientAnswer(ids["a"], "again"),
                ClientAnswer(ids["b"], ""),
                ClientAnswer(ids["c"], "é" * (LONGEST_ANSWER // 2)),
            ],
        )
        assert taken.verdicts == (
            "unknown",
            "unknown",
            "too_long",
            "accepted",
            "already_answered",
            "accepted",
            "accepted",
        )
        assert [text[:8] for text in await asyncio.gather(*tasks)] == ["a lone ?", "", "é" * 8]


async def test_an_answer_to_another_runs_question_is_unknown(
    house: House, service: ProposalService
) -> None:
    await house.store.create_run(NewRun("run_other", pinned("client"), "hash"), [])
    async with asking(house.board(), "a"):
        given = await by_name(service)
        taken = await service.submit("run_other", [ClientAnswer(given["a"].proposal_id, "text")])
        assert taken.verdicts == ("unknown",)
        assert (await service.submit(RUN, [])).open_total == 1


async def test_a_client_waits_until_the_run_asks(house: House, service: ProposalService) -> None:
    waiting = asyncio.create_task(service.next_proposals(RUN, limit=4, wait_seconds=45.0))
    async with asking(house.board(), "a"):
        assert [one.name for one in (await waiting).proposals] == ["a"]


@pytest.mark.parametrize("status", ["finished", "failed", "cancelled", "paused", "interrupted"])
async def test_a_client_does_not_wait_for_a_run_that_has_stopped(
    house: House, service: ProposalService, status: RunStatus
) -> None:
    async with asking(house.board(), "a"):
        pass
    waiting = asyncio.create_task(service.next_proposals(RUN, limit=4, wait_seconds=45.0))
    await house.set_status(status)
    ended = await waiting
    if not ended.proposals:  # it may have been handed out before the run stopped
        assert ended.status == status
    after = await service.next_proposals(RUN, limit=4, wait_seconds=45.0)
    assert (after.proposals, after.open_total, after.status) == ((), 1, status)


async def test_a_run_that_asks_nothing_says_so(house: House, service: ProposalService) -> None:
    with pytest.raises(InputError, match="run_grammar asks you nothing, because 'grammar'"):
        await service.next_proposals(GRAMMAR_RUN, limit=1)
    with pytest.raises(InputError, match="submit_workflow"):
        await service.submit(GRAMMAR_RUN, [])
    with pytest.raises(NotFoundError):
        await service.next_proposals("run_unknown", limit=1)


async def test_a_run_may_ask_its_client_for_refinements_alone(
    house: House, service: ProposalService
) -> None:
    request = pinned("grammar", refiner="client")
    await house.store.create_run(NewRun("run_refined", request, "hash"), [])
    assert (await service.next_proposals("run_refined", limit=1)).proposals == ()


async def test_a_store_that_cannot_be_read_ends_the_wait(path: Path, house: House) -> None:
    store = await Store.open(path)
    board = house.board(store)
    async with asking(board, "a") as [task]:
        await store.aclose()
        with pytest.raises(StoreError):
            await task


# --- workflows handed in --------------------------------------------------------------------


async def journal(house: House, number: int, *sources: str) -> None:
    """What the search writes when a round has taken its workflows."""
    taken = encode_workflows([parse_workflow(source) for source in sources])
    await house.store.record_draw(RUN, suggestion_key(number), taken)


async def test_each_round_gets_what_was_handed_in_since_the_one_before(
    house: House, service: ProposalService
) -> None:
    handed = [await service.submit_workflow(RUN, source) for source in SOURCES[:2]]
    assert [(one.accepted, one.round) for one in handed] == [(True, 1), (True, 1)]
    submissions = Submissions(house.store, RUN)
    first = await submissions.take(1)
    assert [one.workflow_id for one in first] == [one.workflow_id for one in handed]
    await journal(house, 1, *SOURCES[:2])
    assert await submissions.take(2) == []
    later = await service.submit_workflow(RUN, SOURCES[2], note="an idea")
    assert later.round == 2
    # Another sitting, in another process, finds the same.
    async with await Store.open(house.store.path) as store:
        again = await Submissions(store, RUN).take(2)
    assert [one.workflow_id for one in again] == [later.workflow_id]


async def test_a_workflow_is_taken_once(house: House, service: ProposalService) -> None:
    first = await service.submit_workflow(RUN, SOURCES[0])
    again = await service.submit_workflow(RUN, SOURCES[0] + "\n\n# the same but for a comment\n")
    assert (first.accepted, again.accepted) == (True, False)
    assert first.workflow_id == again.workflow_id
    assert len(await Submissions(house.store, RUN).take(1)) == 1


async def test_a_workflow_is_taken_by_a_run_of_any_optimizer_and_in_any_pause(
    house: House, service: ProposalService
) -> None:
    assert (await service.submit_workflow(GRAMMAR_RUN, SOURCES[0])).accepted
    await house.set_status("paused")
    handed = await service.submit_workflow(RUN, SOURCES[0])
    assert (handed.accepted, handed.status) == (True, "paused")


async def test_a_workflow_that_comes_too_late_is_refused(
    house: House, service: ProposalService
) -> None:
    rounds = 3
    for number in range(1, rounds + 1):
        assert (await service.submit_workflow(RUN, SOURCES[number])).round == number
        await journal(house, number, SOURCES[number])
    with pytest.raises(InputError, match="evaluate_workflow"):
        await service.submit_workflow(RUN, SOURCES[0])
    await house.store.update_run(GRAMMAR_RUN, status="finished")
    with pytest.raises(InputError, match="takes no more workflows"):
        await service.submit_workflow(GRAMMAR_RUN, SOURCES[0])


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "cannot be used"),
        ("def (:", "not valid Python"),
        ("class Workflow:\n    async def __call__(self, problem):\n        return 1", "no steps"),
        (workflow("import os; return os.getcwd(), 0.0").source, "os"),
        (workflow("return '', open('/etc/passwd').read()").source, "open"),
    ],
)
async def test_a_workflow_that_breaks_the_rules_is_refused_with_its_reason(
    house: House, service: ProposalService, source: str, sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        await service.submit_workflow(RUN, source)
    assert await Submissions(house.store, RUN).take(1) == []


async def test_times_are_kept(house: House, service: ProposalService) -> None:
    before = time.time()
    async with asking(house.board(), "a"):
        [given] = (await service.next_proposals(RUN, limit=1, lease_seconds=60)).proposals
        assert given.given_until is not None
        assert given.created >= before
        assert given.given_until >= before + 60
