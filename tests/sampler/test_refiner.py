import math
from collections import Counter

import pytest

from bayesflow_sampler.operators import TEMPERATURE, Operator, pick, pick_parent
from bayesflow_sampler.ports import Edit, Refiner
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow
from bayesflow_sampler.weights import normalise
from fakes.approx import approx
from fakes.toys import letter, make_toy, workflow_of

TOY = make_toy("abc", 3, seed=4, stop=True)
WORKFLOWS = [leaf.workflow for leaf in TOY.leaves]


def candidate(workflow: Workflow, reward: float) -> Candidate:
    rows = RowSet("validation", (0,))
    return Candidate(workflow, Evaluation(workflow.workflow_id, rows, (reward,)), 1, "prior")


def pool() -> list[Candidate]:
    return [candidate(leaf.workflow, leaf.reward) for leaf in TOY.leaves[:8]]


def differing(old: Workflow, new: Workflow) -> list[int]:
    length = max(len(old), len(new))
    return [i for i in range(length) if old.steps[i : i + 1] != new.steps[i : i + 1]]


def test_decision_08_the_parent_is_one_of_the_best_three_by_a_softmax_at_a_tenth() -> None:
    candidates = [
        candidate(w, r) for w, r in zip(WORKFLOWS, (0.1, 0.9, 0.3, 0.8, 0.85), strict=False)
    ]
    law = dict(zip((1, 4, 3), normalise([0.9 / 0.1, 0.85 / 0.1, 0.8 / 0.1]), strict=True))
    assert TEMPERATURE == 0.1

    grid = 20_000
    picks = Counter(
        candidates.index(pick_parent(candidates, (i + 0.5) / grid)) for i in range(grid)
    )

    assert {index: count / grid for index, count in picks.items()}.keys() == law.keys()
    for index, probability in law.items():
        assert picks[index] / grid == approx(probability, abs=1 / grid)


def test_a_small_pool_is_picked_from_as_it_is() -> None:
    lone = candidate(WORKFLOWS[0], 0.0)

    assert pick_parent([lone], 0.999) is lone
    equal = [candidate(workflow, 0.5) for workflow in WORKFLOWS[:2]]
    assert [pick_parent(equal, quantile) for quantile in (0.25, 0.75)] == equal


async def edits(count: int, seen: set[str] | None = None) -> list[Edit]:
    refiner: Refiner = GrammarRefiner(TOY.grammar, seed=1)
    return [
        await refiner.refine(pool(), seen or set(), DrawKey("refine", 1, m)) for m in range(count)
    ]


async def test_an_edit_stays_in_the_grammar_and_changes_one_step_and_its_consequences() -> None:
    parents = {c.workflow.workflow_id: c.workflow for c in pool()}
    for edit in await edits(200):
        assert TOY.grammar.log_probability(edit.workflow) > -math.inf
        assert TOY.grammar.state_after(edit.workflow.steps) is None
        changed = differing(parents[edit.parent_id], edit.workflow)
        assert changed
        # Behind the changed step, what the grammar still writes has stayed.
        place = changed[0]
        state = TOY.grammar.state_after(edit.workflow.steps[: place + 1])
        for later in range(place + 1, len(edit.workflow)):
            old = parents[edit.parent_id].steps[later : later + 1]
            assert state is not None
            writable = [p.step for p in TOY.grammar.productions[state]]
            if old and old[0] in writable:
                assert edit.workflow.steps[later] == old[0]
            state = TOY.grammar.state_after(edit.workflow.steps[: later + 1])


async def test_every_step_can_be_the_one_that_changes() -> None:
    parents = {c.workflow.workflow_id: c.workflow for c in pool()}
    places = {differing(parents[edit.parent_id], edit.workflow)[0] for edit in await edits(200)}

    assert places == {0, 1, 2}


async def test_steps_of_well_scored_workflows_are_likelier_edits() -> None:
    """The law of an edit: prior probability × exp(mean reward of its step / 0.1)."""
    flat = make_toy("abc", 1, seed=1)
    candidates = [
        candidate(workflow_of("a"), 0.2),
        candidate(workflow_of("b"), 0.0),
        candidate(workflow_of("c"), 1.0),
    ]
    refiner = GrammarRefiner(flat.grammar, seed=0)
    to_a = Counter[str]()
    for m in range(300):
        edit = await refiner.refine(candidates, set(), DrawKey("refine", 1, m))
        if edit.parent_id == candidates[2].workflow.workflow_id:
            to_a[edit.workflow.workflow_id] += 1
    prior = {p.step.title: p.probability for p in flat.grammar.productions["^"]}
    odds = prior["Write a"] / prior["Write b"] * math.exp(0.2 / 0.1)

    share = to_a[candidates[0].workflow.workflow_id] / to_a.total()
    # 4 standard errors of a share over at least 250 picks: false alarm 6e-5.
    assert to_a.total() > 250
    assert share == approx(odds / (1 + odds), abs=4 * 0.5 / 250**0.5)


async def test_decision_09_an_edit_seen_before_is_asked_again() -> None:
    """All but a few workflows are seen: three tries find an unseen one far more often than one."""
    unseen = {workflow.workflow_id for workflow in WORKFLOWS[20:]}
    seen = {workflow.workflow_id for workflow in WORKFLOWS} - unseen

    once = sum(edit.workflow.workflow_id in unseen for edit in await edits(200))
    thrice = sum(edit.workflow.workflow_id in unseen for edit in await edits(200, seen))
    assert thrice > 1.5 * once


async def test_decision_09_after_three_tries_a_seen_edit_is_given_back() -> None:
    everything = {workflow.workflow_id for workflow in WORKFLOWS}

    assert len(await edits(5, everything)) == 5


async def test_an_edit_depends_on_the_seed_and_the_key_alone() -> None:
    assert await edits(20) == await edits(20)
    other = GrammarRefiner(TOY.grammar, seed=2)
    again = [await other.refine(pool(), set(), DrawKey("refine", 1, m)) for m in range(20)]
    assert again != await edits(20)


async def test_a_workflow_from_outside_the_grammar_is_brought_into_it() -> None:
    foreign = candidate(Workflow("", (letter("z", 0), letter("a", 1))), 1.0)
    edit = await GrammarRefiner(TOY.grammar, 0).refine([foreign], set(), DrawKey("refine", 1, 0))

    assert TOY.grammar.log_probability(edit.workflow) > -math.inf


async def test_a_grammar_with_one_workflow_gives_the_parent_back() -> None:
    single = make_toy("a", 1, seed=0)
    lone = candidate(single.leaves[0].workflow, 0.5)
    edit = await GrammarRefiner(single.grammar, 0).refine([lone], set(), DrawKey("refine", 1, 0))

    assert edit == Edit(lone.workflow, lone.workflow.workflow_id)


@pytest.mark.parametrize("operator", ["linear", "evolutionary", "tree"])
async def test_other_search_operators_pick_the_workflow_that_is_edited(operator: Operator) -> None:
    refiner: Refiner = GrammarRefiner(TOY.grammar, seed=1, operator=operator)
    for m in range(20):
        key = DrawKey("refine", 1, m)
        parent = pick(operator, pool(), 1, *key, 0)[0]
        edit = await refiner.refine(pool(), set(), key)

        assert edit.parent_id == parent.workflow.workflow_id
        assert TOY.grammar.log_probability(edit.workflow) > -math.inf
