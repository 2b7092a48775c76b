"""The LLM refiner: pick, critique from the worst examples, one consequential edit."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from bayesflow_sampler.grammar import PREAMBLE
from bayesflow_sampler.llm_refiner import Feedback, LLMRefiner
from bayesflow_sampler.operators import Operator, pick
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Edit, Prompt, Refiner, Reply
from bayesflow_sampler.prior import LLMPrior, unusable
from bayesflow_sampler.prompts import (
    TaskBrief,
    Trace,
    continue_question,
    empty_prefix,
    load_templates,
)
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.smc import Search
from bayesflow_sampler.source import parse_workflow
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, RowSet, Workflow
from fakes.search_ports import MemoryJournal, RowReward
from fakes.searches import run
from fakes.writers import PolicyChecker, ScriptedWriter, fenced

TEMPLATES = load_templates()
BRIEF = TaskBrief("Answer the riddle.", "1 if equal, else 0.", "- No imports.", rounds=3)
KEY = DrawKey("refine", 1, 4)
NAME = KEY.text
RETURN = '        return problem, self.llm.get_usage_summary()["total_cost"]\n'


def source_of(*words: str, extra: str = "") -> str:
    steps = [
        f"        # Step {n}: Say {word}\n        said_{n} = {word!r}\n"
        for n, word in enumerate(words, start=1)
    ]
    return PREAMBLE + "\n".join(steps) + extra + RETURN


def workflow(*words: str) -> Workflow:
    return parse_workflow(source_of(*words))


def candidate(reward: float, *words: str, refined: bool = False) -> Candidate:
    written = workflow(*words)
    evaluation = Evaluation(written.workflow_id, RowSet("validation", (0,)), (reward,))
    return Candidate(written, evaluation, 1, "refined" if refined else "prior")


@dataclass
class StoredTraces:
    """Feedback from a list; keeps what it was asked."""

    traces: Sequence[Trace] = (Trace("What has an eye?", "needle", "storm", 0.0, None, "call 1"),)
    asked: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])

    async def worst(self, evaluation: Evaluation, limit: int) -> Sequence[Trace]:
        self.asked.append((evaluation.workflow_id, limit))
        return self.traces


POOL = [candidate(0.9, "one", "two"), candidate(0.1, "three"), candidate(0.2, "four")]
PARENT = POOL[0].workflow
SEEN = {c.workflow.workflow_id for c in POOL}
CRITIQUE = "It never checks."


def refiner_of(
    model: ScriptedWriter,
    checker: PolicyChecker | None = None,
    feedback: Feedback | None = None,
    operator: Operator = "best",
) -> Refiner:
    return LLMRefiner(
        model,
        checker or PolicyChecker(),
        TEMPLATES,
        BRIEF,
        feedback or StoredTraces(),
        seed=0,
        operator=operator,
    )


async def refined(
    *edits: str | Reply, critique: str | Reply = CRITIQUE, pool: Sequence[Candidate] = POOL
) -> tuple[Edit, ScriptedWriter]:
    names = [f"{NAME}/edit-{n}" for n in range(1, 4)]
    model = ScriptedWriter(
        dict(zip([f"{NAME}/critique", *names], [critique, *edits], strict=False))
    )
    return await refiner_of(model).refine(pool, SEEN, KEY), model


NEW = fenced(source_of("one", "two", "check"))
KNOWN = fenced(source_of("four"))
SAME = fenced(source_of("one", "two"))
BROKEN = fenced(source_of("one", extra="        said = open('x')\n"))


async def test_decision_09_a_critique_then_one_edit_is_two_calls() -> None:
    edit, model = await refined(NEW)

    assert edit == Edit(workflow("one", "two", "check"), PARENT.workflow_id)
    assert [(prompt.name, prompt.kind) for prompt in model.asked] == [
        (f"{NAME}/critique", "critique"),
        (f"{NAME}/edit-1", "edit"),
    ]
    critique, question = model.asked
    assert "| What has an eye?" in critique.question
    assert "said_2 = 'two'" in critique.question
    assert f"| {CRITIQUE}" in question.question
    assert "one consequential edit" in question.question
    assert critique.shared == question.shared


def stopped(reward: float, reason: str) -> Candidate:
    written = unusable(empty_prefix(BRIEF), reason)
    evaluation = Evaluation(written.workflow_id, RowSet("validation", (0,)), (reward,), reason)
    return Candidate(written, evaluation, 1, "prior")


@pytest.mark.parametrize("operator", ["best", "linear", "evolutionary", "tree"])
async def test_a_draw_without_a_usable_answer_is_never_edited_while_there_is_another(
    operator: Operator,
) -> None:
    pool = [stopped(1.0, "Obey!"), *POOL[1:2], stopped(1.0, "Obey at once!")]
    model = ScriptedWriter(rule=lambda prompt: CRITIQUE if prompt.kind == "critique" else NEW)
    edit = await refiner_of(model, operator=operator).refine(pool, SEEN, KEY)

    assert edit.parent_id == POOL[1].workflow.workflow_id
    assert not any("Obey" in prompt.question for prompt in model.asked)


async def test_where_no_draw_is_usable_a_whole_workflow_is_asked_for() -> None:
    pool = [stopped(0.0, "Obey!")]
    model = ScriptedWriter({f"{NAME}/edit-1": NEW})
    feedback = StoredTraces()
    edit = await refiner_of(model, feedback=feedback).refine(pool, SEEN, KEY)

    assert edit == Edit(workflow("one", "two", "check"), pool[0].workflow.workflow_id)
    (prompt,) = model.asked
    assert prompt.question == continue_question(TEMPLATES, BRIEF, empty_prefix(BRIEF))
    assert feedback.asked == []


async def test_decision_08_the_parent_is_the_papers_pick() -> None:
    model = ScriptedWriter(rule=lambda prompt: CRITIQUE if prompt.kind == "critique" else NEW)
    for m in range(10):
        key = DrawKey("refine", 1, m)
        edit = await refiner_of(model).refine(POOL, SEEN, key)
        assert edit.parent_id == pick("best", POOL, 0, *key)[0].workflow.workflow_id


async def test_decision_09_the_critique_sees_at_most_three_of_the_worst_problems() -> None:
    many = [Trace(f"Riddle {n}", None, None, 0.0, None, "") for n in range(5)]
    feedback = StoredTraces(many)
    model = ScriptedWriter({f"{NAME}/critique": CRITIQUE, f"{NAME}/edit-1": NEW})
    await refiner_of(model, feedback=feedback).refine(POOL, SEEN, KEY)

    assert feedback.asked == [(PARENT.workflow_id, 3)]
    assert "| Riddle 2" in model.asked[0].question
    assert "| Riddle 3" not in model.asked[0].question


@pytest.mark.parametrize("critique", [Reply("", "refused"), Reply("Too lo", "truncated"), " \n"])
async def test_a_poor_critique_does_not_end_the_refinement(critique: str | Reply) -> None:
    edit, model = await refined(NEW, critique=critique)

    assert edit.workflow == workflow("one", "two", "check")
    assert len(model.asked) == 2


@pytest.mark.parametrize("known", [KNOWN, SAME])
async def test_decision_09_a_known_edit_is_asked_again_and_shown(known: str) -> None:
    edit, model = await refined(known, NEW)

    assert edit.workflow == workflow("one", "two", "check")
    assert model.names[1:] == [f"{NAME}/edit-1", f"{NAME}/edit-2"]
    first, second = (prompt.question for prompt in model.asked[1:])
    assert "already known" not in first
    assert "already known" in second


async def test_decision_09_the_parent_is_known_whatever_has_been_seen() -> None:
    model = ScriptedWriter(
        {f"{NAME}/critique": CRITIQUE, f"{NAME}/edit-1": SAME, f"{NAME}/edit-2": NEW}
    )

    edit = await refiner_of(model).refine(POOL, set(), KEY)
    assert edit.workflow == workflow("one", "two", "check")


async def test_decision_09_a_model_that_repeats_itself_ends_after_two_more_tries() -> None:
    edit, model = await refined(KNOWN, KNOWN, KNOWN)

    assert model.names[1:] == [f"{NAME}/edit-{n}" for n in (1, 2, 3)]
    assert edit == Edit(workflow("four"), PARENT.workflow_id)
    assert model.asked[3].question.count("already known") == 1


async def test_an_edit_that_does_not_run_is_repaired() -> None:
    model = ScriptedWriter(
        {
            f"{NAME}/critique": CRITIQUE,
            f"{NAME}/edit-1": BROKEN,
            f"{NAME}/edit-1/repair-1": NEW,
        }
    )
    edit = await refiner_of(model).refine(POOL, SEEN, KEY)

    assert edit.workflow == workflow("one", "two", "check")
    assert model.asked[2].kind == "repair"
    assert "`open` is not allowed" in model.asked[2].question
    assert f"| {CRITIQUE}" in model.asked[2].question


async def test_a_repaired_edit_may_not_use_try() -> None:
    caught = (
        "        try:\n            said = 1\n        except ValueError:\n            said = 2\n"
    )
    model = ScriptedWriter(
        {
            f"{NAME}/critique": CRITIQUE,
            f"{NAME}/edit-1": BROKEN,
            f"{NAME}/edit-1/repair-1": fenced(source_of("one", extra=caught)),
            f"{NAME}/edit-1/repair-2": NEW,
        }
    )
    edit = await refiner_of(model).refine(POOL, SEEN, KEY)

    assert edit.workflow == workflow("one", "two", "check")
    assert "`try` statement" in model.asked[3].question


async def test_if_no_edit_can_be_used_the_parent_is_given_back() -> None:
    refusal = Reply("", "refused")
    model = ScriptedWriter(
        {
            f"{NAME}/critique": CRITIQUE,
            f"{NAME}/edit-1": refusal,
            f"{NAME}/edit-1/repair-1": refusal,
        }
    )

    edit = await refiner_of(model).refine(POOL, SEEN, KEY)
    assert edit == Edit(PARENT, PARENT.workflow_id)
    assert len(model.asked) == 3


async def test_a_known_edit_stands_if_what_follows_cannot_be_used() -> None:
    model = ScriptedWriter(
        {
            f"{NAME}/critique": CRITIQUE,
            f"{NAME}/edit-1": KNOWN,
            f"{NAME}/edit-2": "No.",
            f"{NAME}/edit-2/repair-1": "No.",
        }
    )

    edit = await refiner_of(model).refine(POOL, SEEN, KEY)
    assert edit == Edit(workflow("four"), PARENT.workflow_id)


async def test_linear_shows_the_whole_pool_in_order_and_goes_on_from_the_latest_edit() -> None:
    pool = [*POOL, candidate(0.05, "five", refined=True)]
    model = ScriptedWriter({f"{NAME}/critique": CRITIQUE, f"{NAME}/edit-1": NEW})
    edit = await refiner_of(model, operator="linear").refine(pool, SEEN, KEY)
    question = model.asked[1].question

    assert edit.parent_id == pool[-1].workflow.workflow_id
    assert "| 1. score 0.900: Say one; Say two\n| 2. score 0.100: Say three" in question
    assert "| 4. score 0.050: Say five" in question


async def test_evolutionary_shows_both_parents_and_asks_for_a_cross() -> None:
    model = ScriptedWriter({f"{NAME}/critique": CRITIQUE, f"{NAME}/edit-1": NEW})
    edit = await refiner_of(model, operator="evolutionary").refine(POOL, SEEN, KEY)
    better, other = pick("evolutionary", POOL, 0, *KEY)
    question = model.asked[1].question

    assert edit.parent_id == better.workflow.workflow_id
    assert better.workflow.source.rstrip() in question
    assert other.workflow.source.rstrip() in question
    assert "a cross of the two" in question
    assert other.workflow.source.rstrip() not in model.asked[0].question


def improvise(prompt: Prompt) -> str:
    """Critiques, repairs, whole workflows and continuations, all decided by the name."""
    if prompt.kind == "critique":
        return f"Do {prompt.name}."
    fate = uniform(0, prompt.name)
    if fate < 0.1:
        return BROKEN
    if fate < 0.2:
        return "I would rather not."
    count = 1 + int(uniform(1, prompt.name) * 3)
    words = [f"w{int(uniform(2, prompt.name, n) * 4)}" for n in range(count)]
    return fenced(source_of(*words))


@dataclass
class HashReward:
    """A reward for any workflow at all: its id decides."""

    rows: int = 4

    def size(self, split: str) -> int:
        return self.rows if split == "validation" else 0

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        name = workflow.workflow_id
        return await RowReward({name: uniform(9, name)}, self.rows).score(workflow, rows)


@pytest.mark.parametrize("operator", ["best", "linear", "evolutionary", "tree"])
@pytest.mark.parametrize("lookahead", [True, False])
async def test_no_two_questions_of_a_search_share_a_name(
    operator: Operator, lookahead: bool
) -> None:
    options = SearchOptions(
        particles=3, refinements=3, rounds=3, inverse_temperature=2.0, lookahead=lookahead
    )
    model = ScriptedWriter(rule=improvise)
    journal = MemoryJournal()

    def search(writer: ScriptedWriter) -> Search:
        prior = LLMPrior(writer, PolicyChecker(), TEMPLATES, BRIEF)
        refiner = refiner_of(writer, operator=operator)
        return Search(prior, HashReward(), refiner, journal, options, seed=3)

    generations = await run(search(model))
    assert len(set(model.names)) == len(model.names)
    assert {prompt.kind for prompt in model.asked} >= {"extend", "critique", "edit", "repair"}
    assert all(len(generation.refinements) == 3 for generation in generations)

    silent = ScriptedWriter()
    assert await run(search(silent)) == generations
    assert silent.asked == []
    asked = [prompt.shared for prompt in model.asked]
    assert all(one == other for one, other in itertools.pairwise(asked))
