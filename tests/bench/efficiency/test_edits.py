import pytest

from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet
from bench.efficiency.edits import edit_of, refiner_of
from bench.efficiency.landscapes import make_landscape
from fakes.toys import word_of, workflow_of

GRAMMAR = make_landscape("smooth", 0, flat=True).grammar
ROW = RowSet("validation", (0,))


def _candidate(word: str, score: float) -> Candidate:
    workflow = workflow_of(word)
    return Candidate(workflow, Evaluation(workflow.workflow_id, ROW, (score,)), 1, "prior")


POOL = [_candidate("aaaaa", 0.9), _candidate("bbbbb", 0.89), _candidate("ccccc", 0.1)]


async def _share_of_bad_letters(*, informed: bool) -> float:
    """Of 200 edits of the good words, how many bring in a letter that stood in the bad one."""
    refiner = refiner_of(GRAMMAR, 1, informed=informed)
    edits = [await refiner.refine(POOL, (), DrawKey("refine", 1, m)) for m in range(200)]
    words = [word_of(edit.workflow) for edit in edits if edit.parent_id != _id(2)]
    return sum("c" in word for word in words) / len(words)


def _id(place: int) -> str:
    return POOL[place].workflow.workflow_id


async def test_informed_edits_leave_letters_of_bad_workflows_alone() -> None:
    assert await _share_of_bad_letters(informed=True) < 0.02


async def test_blind_edits_take_any_other_letter() -> None:
    # A quarter of 200: outside of this band once in 30,000 seeds.
    assert 0.12 < await _share_of_bad_letters(informed=False) < 0.38


@pytest.mark.parametrize("parent", POOL)
async def test_an_edit_is_of_the_workflow_that_was_chosen(parent: Candidate) -> None:
    refiner = GrammarRefiner(GRAMMAR, 1, "linear")
    edit = await edit_of(refiner, parent, POOL, (), DrawKey("refine", 1, 0))
    assert edit.parent_id == parent.workflow.workflow_id
    pairs = zip(word_of(edit.workflow), word_of(parent.workflow), strict=True)
    assert sum(a != b for a, b in pairs) == 1
