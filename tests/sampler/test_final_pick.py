from collections.abc import Mapping

from bayesflow_sampler.archive import Archive
from bayesflow_sampler.final_pick import COMPLETED, RESCORED, choose, shrunk_rewards
from bayesflow_sampler.types import Candidate, Evaluation, RowSet, Workflow
from fakes.approx import approx
from fakes.search_ports import TableReward
from fakes.toys import workflow_of

WORDS = [f"{a}{b}" for a in "abcdef" for b in "uvw"]
WORKFLOWS = {word: workflow_of(word) for word in WORDS}


class SplitReward(TableReward):
    """Another reward on the selection rows: what the search saw there was luck."""

    def __init__(self, validation: Mapping[str, float], selection: Mapping[str, float]) -> None:
        super().__init__(validation, rows=10, selection_rows=30)
        self.selection = selection

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        if rows.split == "validation":
            return await super().score(workflow, rows)
        self.asked.append((workflow.workflow_id, rows))
        scores = (self.selection[workflow.workflow_id],) * len(rows.positions)
        return Evaluation(workflow.workflow_id, rows, scores)


def ids(rewards: Mapping[str, float]) -> dict[str, float]:
    return {WORKFLOWS[word].workflow_id: reward for word, reward in rewards.items()}


def archive_of(rewards: Mapping[str, float], rows: int = 4, failed: str = "") -> Archive:
    archive = Archive(10)
    for word, reward in rewards.items():
        evaluation = Evaluation(
            WORKFLOWS[word].workflow_id,
            RowSet("validation", tuple(range(rows))),
            (reward,) * rows,
            "NameError" if word == failed else None,
        )
        archive.add_candidate(Candidate(WORKFLOWS[word], evaluation, 1, "prior"))
    return archive


# So near to each other that ten rows tell none of them apart for certain.
RISING = {word: place / 200 for place, word in enumerate(WORDS)}


async def test_decision_16_the_ten_best_are_completed_and_the_five_best_rescored() -> None:
    reward = TableReward(ids(RISING), rows=10, selection_rows=6)
    archive = archive_of(RISING)
    finalists = await choose(archive, reward)
    validated = [name for name, rows in reward.asked if rows.split == "validation"]
    selected = [name for name, rows in reward.asked if rows.split == "selection"]

    assert (COMPLETED, RESCORED) == (10, 5)
    assert sorted(validated) == sorted(WORKFLOWS[word].workflow_id for word in WORDS[-10:])
    assert sorted(selected) == sorted(WORKFLOWS[word].workflow_id for word in WORDS[-5:])
    assert all(rows.positions == tuple(range(10)) for _, rows in reward.asked[:10])
    assert [finalist.workflow for finalist in finalists] == [
        WORKFLOWS[word] for word in reversed(WORDS[-5:])
    ]
    for word in WORDS[-10:]:
        assert archive.full_reward(WORKFLOWS[word].workflow_id) is not None


async def test_no_row_is_spent_on_a_workflow_that_is_clearly_worse_than_the_best() -> None:
    rewards = {"au": 0.9, "av": 0.85, "aw": 0.1, "bu": 0.0}
    reward = TableReward(ids(rewards), rows=10, selection_rows=6)
    finalists = await choose(archive_of(rewards), reward)

    asked = {name for name, _ in reward.asked}
    assert asked == {WORKFLOWS["au"].workflow_id, WORKFLOWS["av"].workflow_id}
    assert [finalist.workflow for finalist in finalists] == [WORKFLOWS["au"], WORKFLOWS["av"]]


async def test_decision_16_the_winner_is_the_best_by_all_rows_and_not_by_validation() -> None:
    """ "fw" was lucky on validation; on the selection rows "fu" is better."""
    reward = SplitReward(ids(RISING), ids({**RISING, "fw": 0.0, "fu": 1.0}))
    finalists = await choose(archive_of(RISING), reward)

    assert finalists[0].workflow == WORKFLOWS["fu"]
    assert finalists[-1].workflow == WORKFLOWS["fw"]
    fu = finalists[0]
    assert fu.selection is not None
    assert fu.pooled == approx((10 * RISING["fu"] + 30 * 1.0) / 40)


async def test_without_a_selection_split_the_shrunk_validation_score_decides() -> None:
    reward = TableReward(ids(RISING), rows=10)
    finalists = await choose(archive_of(RISING), reward)

    assert all(finalist.selection is None for finalist in finalists)
    assert [finalist.pooled for finalist in finalists] == [f.shrunk for f in finalists]
    assert finalists[0].workflow == WORKFLOWS["fw"]
    assert finalists[0].shrunk < finalists[0].validation.mean


async def test_a_few_lucky_rows_do_not_beat_a_well_measured_workflow() -> None:
    archive = Archive(100)
    for word, right, rows in (("au", 5, 6), ("av", 80, 100), ("aw", 30, 100), ("bu", 40, 100)):
        scores = tuple(float(row < right) for row in range(rows))
        evaluation = Evaluation(
            WORKFLOWS[word].workflow_id, RowSet("validation", tuple(range(rows))), scores
        )
        archive.add_candidate(Candidate(WORKFLOWS[word], evaluation, 1, "prior"))
    shrunk = shrunk_rewards(archive)

    assert shrunk[WORKFLOWS["au"].workflow_id] < shrunk[WORKFLOWS["av"].workflow_id]
    assert shrunk[WORKFLOWS["av"].workflow_id] == approx(0.80, abs=0.02)


async def test_equal_workflows_are_ranked_in_a_fixed_order() -> None:
    equal = dict.fromkeys(WORDS, 0.5)
    backwards = dict.fromkeys(reversed(WORDS), 0.5)
    reward = TableReward(ids(equal), rows=10, selection_rows=3)
    ranked = [f.workflow for f in await choose(archive_of(equal), reward)]

    assert ranked == [f.workflow for f in await choose(archive_of(backwards), reward)]
    assert ranked == sorted(ranked, key=lambda workflow: workflow.workflow_id)


async def test_a_workflow_that_does_not_run_keeps_the_score_zero() -> None:
    archive = archive_of({"au": 0.0, "av": 0.02}, failed="au")
    reward = TableReward(
        ids({"au": 0.0, "av": 0.02}),
        rows=10,
        failures={WORKFLOWS["au"].workflow_id: "NameError"},
    )
    finalists = await choose(archive, reward)

    assert [finalist.workflow for finalist in finalists] == [WORKFLOWS["av"], WORKFLOWS["au"]]
    assert finalists[1].shrunk == 0.0
    assert finalists[1].validation.failure == "NameError"


async def test_a_refinement_can_win() -> None:
    archive = archive_of({"au": 0.2})
    evaluation = Evaluation(WORKFLOWS["bw"].workflow_id, RowSet("validation", (0, 1)), (1.0, 1.0))
    archive.add_candidate(Candidate(WORKFLOWS["bw"], evaluation, 2, "refined", clean=False))
    reward = TableReward(ids({"au": 0.2, "bw": 1.0}), rows=10, selection_rows=4)

    assert (await choose(archive, reward))[0].workflow == WORKFLOWS["bw"]


def test_an_empty_archive_has_no_rewards() -> None:
    assert shrunk_rewards(Archive(10)) == {}
