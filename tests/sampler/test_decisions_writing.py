"""Decisions 9 and 10 where the paper is silent: textual gradients, and what does not run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bayesflow_sampler.llm_refiner import LLMRefiner
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.prior import LLMPrior, is_unusable
from bayesflow_sampler.prompts import TaskBrief, Trace, load_templates
from bayesflow_sampler.refiner import GrammarRefiner
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import Candidate, DrawKey, Evaluation, Generation, RowSet, Workflow
from fakes.approx import approx
from fakes.search_ports import MemoryJournal, NoRefiner, TableReward
from fakes.searches import run
from fakes.toys import make_toy
from fakes.writers import PolicyChecker, ScriptedWriter, fenced

# --- 9: the textual gradient --------------------------------------------------------------------

BRIEF = TaskBrief("Answer the riddle.", "1 if equal, else 0.", "- No imports.", rounds=3)
TEMPLATES = load_templates()
RETURN = "        return problem, 0.0\n"


def body(*words: str, code: str = "") -> str:
    lines = [
        f"        # Step {n}: Say {w}\n        said_{n} = {w!r}\n" for n, w in enumerate(words, 1)
    ]
    return "".join(lines) + code + RETURN


@dataclass
class Worst:
    """More examples than are asked for, the worst first."""

    asked: list[int] = field(default_factory=list[int])

    async def worst(self, evaluation: Evaluation, limit: int) -> list[Trace]:
        self.asked.append(limit)
        return [
            Trace(f"Riddle {n}", f"gold {n}", f"said {n}", 0.1 * n, None, f"call {n}")
            for n in range(6)
        ]


async def written(*words: str) -> Workflow:
    model = ScriptedWriter(rule=lambda _: fenced(body(*words)))
    prior = LLMPrior(model, PolicyChecker(), TEMPLATES, BRIEF)
    return await prior.extend(prior.root, DrawKey("extend", 1, 0))


class Refined(NamedTuple):
    """An edit of `Say one; Say two` by its titles, who wrote it and from what."""

    titles: str
    model: ScriptedWriter
    worst: Worst


async def refined(replies: Mapping[str, str], seen: str = "") -> Refined:
    """An edit by a model that answers so, where workflows of one step are known already."""
    parent = await written("one", "two")
    known = {(await written(word)).workflow_id for word in seen}
    evaluation = Evaluation(parent.workflow_id, RowSet("validation", (0,)), (0.5,))
    model = ScriptedWriter({f"refine/1/0/0/{name}": text for name, text in replies.items()})
    worst = Worst()
    refiner = LLMRefiner(model, PolicyChecker(), TEMPLATES, BRIEF, worst, 0)
    pool = [Candidate(parent, evaluation, 1, "prior")]
    edit = await refiner.refine(pool, known, DrawKey("refine", 1, 0))
    return Refined("; ".join(step.title for step in edit.workflow.steps), model, worst)


async def test_decision_09_a_critique_from_three_of_the_worst_examples_then_one_edit() -> None:
    titles, model, worst = await refined(
        {"critique": "Never checks.", "edit-1": fenced(body("one", "three"))}
    )
    critique, edit = model.asked

    assert titles == "Say one; Say three"
    assert (critique.kind, edit.kind) == ("critique", "edit")
    assert worst.asked == [3]
    for n in range(6):
        for part in (f"Riddle {n}", f"gold {n}", f"said {n}", f"call {n}"):
            assert (part in critique.question) == (n < 3)
    assert "Never checks." in edit.question
    assert "# Step 1: Say one" in edit.question


async def test_decision_09_an_edit_seen_before_is_asked_again_at_most_twice() -> None:
    again = {f"edit-{n}": fenced(body(word)) for n, word in enumerate(("a", "b", "c", "d"), 1)}
    everything = {"critique": "Hm.", **again}
    for seen, expected, calls in (
        ("", "Say a", 2),
        ("a", "Say b", 3),
        ("ab", "Say c", 4),
        ("abc", "Say c", 4),
    ):
        titles, model, _ = await refined(everything, seen)
        assert (titles, len(model.asked)) == (expected, calls)


async def test_decision_09_the_grammars_edit_is_made_again_at_most_twice_too() -> None:
    toy = make_toy("abcd", 3, seed=4)
    rows = RowSet("validation", (0,))
    pool = [
        Candidate(leaf.workflow, Evaluation(leaf.workflow.workflow_id, rows, (0.5,)), 1, "prior")
        for leaf in toy.leaves[:3]
    ]
    refiner, key = GrammarRefiner(toy.grammar, 3), DrawKey("refine", 1, 0)
    tried: list[str] = []
    for _ in range(5):
        tried.append((await refiner.refine(pool, tried, key)).workflow.workflow_id)

    assert len(set(tried[:3])) == 3
    assert tried[3:] == [tried[2]] * 2


async def test_decision_09_the_workflow_that_is_edited_is_no_edit_of_itself() -> None:
    titles, model, _ = await refined(
        {"critique": "Hm.", "edit-1": fenced(body("one", "two")), "edit-2": fenced(body("new"))}
    )

    assert (titles, len(model.asked)) == ("Say new", 3)


# --- 10: a workflow that does not run -----------------------------------------------------------

OPEN = "        said_9 = open('x')\n"
EVAL = "        said_9 = eval('x')\n"
EXEC = "        said_9 = exec('x')\n"
TRY = "        try:\n            said_9 = 1\n        except ValueError:\n            said_9 = 2\n"


class FirstRound(NamedTuple):
    """Round 1 of a search with one particle, the names it was asked by, and the checker."""

    generation: Generation
    asked: list[str]
    checker: PolicyChecker


async def search_with(replies: Mapping[str, str], rollouts: int) -> FirstRound:
    model = ScriptedWriter(replies, rule=lambda prompt: fenced(body("ok", prompt.name[0])))
    checker = PolicyChecker()
    prior = LLMPrior(model, checker, TEMPLATES, BRIEF)
    options = SearchOptions(
        particles=1,
        rollouts=rollouts,
        refinements=0,
        rounds=2,
        inverse_temperature=2.0,
        minibatch=None,
    )
    reward = ZeroIfUnusable()
    search = Search(prior, reward, NoRefiner(), MemoryJournal(), options, 0)
    first, _ = await run(search)
    asked = [name for name in model.names if name.split("/")[1] == "1"]
    return FirstRound(first, asked, checker)


class ZeroIfUnusable(TableReward):
    """As a sandbox: what raises fails and has R = 0; the rest is worth 1."""

    def __init__(self) -> None:
        super().__init__({})

    async def score(self, workflow: Workflow, rows: RowSet) -> Evaluation:
        failed = is_unusable(workflow)
        reward = (0.0 if failed else 1.0,) * len(rows.positions)
        return Evaluation(workflow.workflow_id, rows, reward, "RuntimeError" if failed else None)


async def test_decision_10_two_repairs_at_most_then_the_draw_is_worth_nothing() -> None:
    broken = [fenced(body("one", code=code)) for code in (OPEN, EVAL, EXEC)]
    names = ["extend/1/0/0", "extend/1/0/0/repair-1", "extend/1/0/0/repair-2"]
    first, asked, checker = await search_with(dict(zip(names, broken, strict=True)), 1)
    (particle,) = first.particles

    assert asked == names
    assert len(checker.checked) == 3
    assert is_unusable(particle.prefix)
    assert particle.score == 0.0
    assert particle.rollouts[0].evaluation.failure == "RuntimeError"

    mended = {**dict(zip(names[:2], broken, strict=False)), names[2]: fenced(body("one"))}
    first, asked, _ = await search_with(mended, 1)
    assert asked == names
    assert first.particles[0].score == approx(2.0)


async def test_decision_10_try_in_a_repair_is_refused_before_it_is_run() -> None:
    names = ["extend/1/0/0", "extend/1/0/0/repair-1", "extend/1/0/0/repair-2"]
    answers = [fenced(body("one", code=code)) for code in (OPEN, TRY, "")]
    first, asked, checker = await search_with(dict(zip(names, answers, strict=True)), 1)

    assert asked == names
    assert not any("except ValueError" in source for source in checker.checked)
    assert first.particles[0].score == approx(2.0)


async def test_decision_10_the_first_rollout_is_repaired_before_the_others_are_drawn() -> None:
    mended = {
        "extend/1/0/0": fenced(body("bad", code=OPEN)),
        "extend/1/0/0/repair-1": fenced(body("good", "end")),
    }
    first, asked, _ = await search_with(mended, 3)
    (particle,) = first.particles

    assert asked[:2] == ["extend/1/0/0", "extend/1/0/0/repair-1"]
    assert sorted(asked[2:]) == ["complete/1/0/1", "complete/1/0/2"]
    assert [step.title for step in particle.prefix.steps] == ["Say good"]
    assert all(one.workflow.prefix(1) == particle.prefix for one in particle.rollouts)


async def test_decision_10_a_further_rollouts_repair_changes_steps_behind_t_alone() -> None:
    spoilt = fenced(body("other", "end", code=OPEN))
    replies = {
        "extend/1/0/0": fenced(body("one", "end")),
        "complete/1/0/1": spoilt,
        "complete/1/0/1/repair-1": fenced(body("another", "finish")),
    }
    first, asked, _ = await search_with(replies, 2)
    (particle,) = first.particles

    assert asked[1:] == ["complete/1/0/1", "complete/1/0/1/repair-1"]
    assert particle.rollouts[1].workflow.prefix(1) == particle.prefix
    assert particle.prefix.steps[0].title == "Say one"
    assert "another" not in particle.rollouts[1].workflow.prefix(1).source


async def test_decision_10_a_first_answers_repair_may_change_the_new_step() -> None:
    replies = {
        "extend/1/0/0": fenced(body("bad", code=OPEN)),
        "extend/1/0/0/repair-1": fenced(body("good")),
    }
    first, _, _ = await search_with(replies, 1)

    assert first.particles[0].prefix.steps[0].title == "Say good"
