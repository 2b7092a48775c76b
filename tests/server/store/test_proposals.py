import asyncio
from pathlib import Path

from bayesflow_server.store import Store
from bayesflow_server.store.proposals import OpenCount
from bayesflow_server.store.records import (
    NewRun,
    ProposalRecord,
    SubmissionRecord,
    UsageDelta,
    UsageRecord,
)

LONG = 10**6
ONE_CALL = UsageDelta(scope="run", role="optimizer", model="client", calls=1, needed_calls=1)


def question(name: str, created: float = 0.0, prompt: str = "Write a step.") -> ProposalRecord:
    return ProposalRecord(
        run_id="run",
        name=name,
        proposal_id=f"prop_{name}",
        kind="extend",
        prompt=prompt,
        answer=None,
        given_until=None,
        created=created,
        answered=None,
    )


def submission(workflow_id: str) -> SubmissionRecord:
    return SubmissionRecord("run", 0, workflow_id, "class Workflow: …", "mine", 5.0)


async def give(store: Store, limit: int = 8, *, now: float = 100.0, size: int = LONG) -> list[str]:
    given = await store.give_proposals("run", limit=limit, size=size, now=now, until=now + 10)
    assert all(proposal.given_until == now + 10 for proposal in given)
    return [proposal.name for proposal in given]


async def test_a_question_asked_again_is_the_first_one(store: Store, run_id: str) -> None:
    first = await store.open_proposal(question("a", prompt="first"))
    again = ProposalRecord(run_id, "a", "prop_other", "repair", "second", None, None, 9.0, None)
    assert await store.open_proposal(again) == first
    assert await store.proposal(run_id, "prop_other") is None


async def test_a_question_belongs_to_its_run(store: Store, run_id: str) -> None:
    await store.create_run(NewRun(run_id="other", request="{}", request_hash="hash"), [])
    await store.open_proposal(question("a"))
    assert await store.proposal("other", "prop_a") is None
    assert (await store.open_proposals("other", 0.0)) == OpenCount(0, 0)
    assert await store.answers("other", ["a"]) == {}


async def test_questions_are_handed_out_oldest_first_and_once_while_the_lease_holds(
    store: Store, run_id: str
) -> None:
    for name, created in (("late", 3.0), ("early", 1.0), ("middle", 2.0)):
        await store.open_proposal(question(name, created))
    assert await give(store, 2, now=100.0) == ["early", "middle"]
    assert await store.open_proposals(run_id, 101.0) == OpenCount(total=3, free=1)
    assert await give(store, now=101.0) == ["late"]
    assert await give(store, now=109.0) == []
    assert await give(store, now=110.0) == ["early", "middle"]  # their lease is over


async def test_prompts_that_are_too_long_together_wait_but_never_the_first(
    store: Store, run_id: str
) -> None:
    for name in "abc":
        await store.open_proposal(question(name, prompt="x" * 60))
    assert await give(store, size=50) == ["a"]
    assert await give(store, size=120) == ["b", "c"]


async def test_the_length_of_prompts_is_that_of_their_bytes(store: Store, run_id: str) -> None:
    for name in "ab":
        await store.open_proposal(question(name, prompt="\0" + "å" * 59))
    assert await give(store, size=200) == ["a"]


async def test_a_question_asked_again_is_in_nobodys_hands(store: Store, run_id: str) -> None:
    await store.open_proposal(question("a"))
    assert await give(store) == ["a"]
    assert await give(store) == []
    await store.open_proposal(question("a"))
    assert await give(store) == ["a"]


async def test_an_answered_question_is_not_handed_out(store: Store, run_id: str) -> None:
    await store.open_proposal(question("a"))
    assert await store.answer_proposal("prop_a", "", 7.0, ONE_CALL)  # an empty text is an answer
    assert await give(store) == []
    assert await store.open_proposals(run_id, 0.0) == OpenCount(0, 0)


async def test_the_first_answer_stands_and_is_counted_once(store: Store, run_id: str) -> None:
    await store.open_proposal(question("a"))
    assert await store.answer_proposal("prop_a", "first", 7.0, ONE_CALL)
    assert not await store.answer_proposal("prop_a", "second", 8.0, ONE_CALL)
    assert not await store.answer_proposal("prop_unknown", "third", 9.0, ONE_CALL)
    stored = await store.proposal(run_id, "prop_a")
    assert stored is not None
    assert (stored.answer, stored.answered) == ("first", 7.0)
    assert await store.usage(run_id) == [
        UsageRecord("run", "optimizer", "client", calls=1, needed_calls=1, cost_usd=0.0)
    ]


async def test_answers_are_found_by_the_names_of_their_questions(store: Store, run_id: str) -> None:
    for name in ("extend/1/0/0", "extend/1/1/0", "quote ' and \" both"):
        await store.open_proposal(question(name))
        await store.answer_proposal(f"prop_{name}", f"to {name}", 1.0, ONE_CALL)
    await store.open_proposal(question("open"))
    wanted = ["extend/1/1/0", "quote ' and \" both", "open", "never asked"]
    found = await store.answers(run_id, wanted)
    assert found == {name: f"to {name}" for name in wanted[:2]}
    assert await store.answers(run_id, []) == {}


async def test_a_change_wakes_whoever_waits(store: Store, run_id: str) -> None:
    since = store.proposal_changes
    waiting = asyncio.create_task(store.wait_for_proposal_change(since, 60.0))
    await store.open_proposal(question("a"))
    await waiting
    since = store.proposal_changes
    waiting = asyncio.create_task(store.wait_for_proposal_change(since, 60.0))
    await store.answer_proposal("prop_a", "text", 1.0, ONE_CALL)
    await waiting
    await store.wait_for_proposal_change(since, 60.0)  # it has moved: nothing to wait for
    await store.wait_for_proposal_change(store.proposal_changes, 0.0)


async def test_two_processes_never_hand_out_the_same_question(store: Store, run_id: str) -> None:
    for number in range(40):
        await store.open_proposal(question(f"{number:02}"))
    async with await Store.open(store.path) as other:
        batches = await asyncio.gather(*(give(one, 3) for one in (store, other) * 7))
    given = [name for batch in batches for name in batch]
    assert sorted(given) == [f"{number:02}" for number in range(40)]


async def test_of_two_processes_answers_one_stands(store: Store, run_id: str) -> None:
    await store.open_proposal(question("a"))
    async with await Store.open(store.path) as other:
        accepted = await asyncio.gather(
            store.answer_proposal("prop_a", "here", 1.0, ONE_CALL),
            other.answer_proposal("prop_a", "there", 1.0, ONE_CALL),
        )
        assert sorted(accepted) == [False, True]
        assert await store.answers(run_id, ["a"]) == await other.answers(run_id, ["a"])
    assert [usage.calls for usage in await store.usage(run_id)] == [1]


async def test_a_run_waits_for_its_client_only_as_long_as_its_owner_works_on_it(
    store: Store, run_id: str
) -> None:
    async def status() -> str:
        record = await store.run(run_id)
        assert record is not None
        return record.status

    assert not await store.set_waiting(run_id, "me", 1.0, waits=True)  # nobody holds it
    await store.claim_run(run_id, "me", from_owner=None, statuses=["queued"])
    assert not await store.set_waiting(run_id, "other", 1.0, waits=True)
    assert not await store.set_waiting(run_id, "me", 1.0, waits=False)  # it does not wait
    since = await store.wait_for_revision(run_id, 0, 0.0)
    assert await store.set_waiting(run_id, "me", 1.0, waits=True)
    assert await status() == "waiting_for_client"
    assert await store.wait_for_revision(run_id, since, 60.0) == since + 1
    assert await store.set_waiting(run_id, "me", 1.0, waits=False)
    assert await status() == "running"
    await store.update_run(run_id, status="cancelled")
    assert not await store.set_waiting(run_id, "me", 1.0, waits=True)
    assert await status() == "cancelled"


async def test_submissions_keep_their_order_and_no_workflow_comes_twice(
    store: Store, run_id: str, path: Path
) -> None:
    stored = [await store.add_submission(submission(name)) for name in ("wf_a", "wf_b", "wf_a")]
    assert [one and one.position for one in stored] == [1, 2, None]
    assert [one.workflow_id for one in await store.submissions(run_id)] == ["wf_a", "wf_b"]
    assert await store.submissions(run_id, 1) == [stored[1]]
    assert stored[1] == SubmissionRecord("run", 2, "wf_b", "class Workflow: …", "mine", 5.0)


async def test_submissions_that_come_at_once_get_positions_without_a_gap(
    store: Store, run_id: str
) -> None:
    async with await Store.open(store.path) as other:
        names = [f"wf_{number}" for number in range(20)]
        await asyncio.gather(
            *(
                (store, other)[i % 2].add_submission(submission(name))
                for i, name in enumerate(names)
            )
        )
    kept = await store.submissions(run_id)
    assert [one.position for one in kept] == list(range(1, 21))
    assert {one.workflow_id for one in kept} == set(names)
