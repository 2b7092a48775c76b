"""An LLM as the prior: steps and rollouts, self-correction, and what stands for no answer."""

import itertools
import random
import re
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.ports import Checker, Prior, Prompt, Reply, TextModel
from bayesflow_sampler.prior import LLMPrior, is_unusable, unusable
from bayesflow_sampler.prompts import TaskBrief, continue_question, load_templates
from bayesflow_sampler.randomness import uniform
from bayesflow_sampler.smc import Search
from bayesflow_sampler.types import DrawKey, Generation, Workflow
from bayesflow_sandbox.policy import check_workflow
from bayesflow_sandbox.sandbox import Sandbox
from fakes.search_ports import MemoryJournal, NoRefiner, TableReward
from fakes.searches import run
from fakes.writers import PolicyChecker, ScriptedWriter, ShuffledWriter, fenced

TEMPLATES = load_templates()
BRIEF = TaskBrief("Answer the riddle.", "1 if equal, else 0.", "- No imports.", rounds=3)
KEY = DrawKey("extend", 2, 7)
RETURN = '        return problem, self.llm.get_usage_summary()["total_cost"]\n'


def step(number: int, word: str, *, last: bool = False, code: str = "") -> str:
    body = code or f"        said_{number} = {word!r}\n"
    return f"        # Step {number}: Say {word}\n{body}{RETURN if last else ''}\n"


def rest(*steps: str, module: str = "") -> str:
    """New steps in the form that is asked for."""
    head = "class Workflow:\n    async def __call__(self, problem):\n"
    return fenced(f"{module}{head}{''.join(steps)}")


def whole(*words: str, brief: TaskBrief = BRIEF) -> str:
    prior = LLMPrior(ScriptedWriter(), PolicyChecker(), TEMPLATES, brief)
    steps = [step(n, word, last=n == len(words)) for n, word in enumerate(words, start=1)]
    return prior.root.preamble + "\n".join(steps)


def prior_of(model: TextModel, checker: Checker | None = None, **settings: int) -> Prior:
    return LLMPrior(model, checker or PolicyChecker(), TEMPLATES, BRIEF, **settings)


async def drawn(
    *replies: str | Reply, checker: Checker | None = None
) -> tuple[Workflow, ScriptedWriter]:
    """The draw of step 2 behind PREFIX when the model says these things in turn."""
    names = ["extend/2/7/0", "extend/2/7/0/repair-1", "extend/2/7/0/repair-2"]
    model = ScriptedWriter(dict(zip(names, replies, strict=False)))
    return await prior_of(model, checker).extend(await prefix_of("one"), KEY), model


async def prefix_of(*words: str) -> Workflow:
    model = ScriptedWriter(rule=lambda _: fenced(whole(*words, "end")))
    prior = prior_of(model)
    return (await prior.extend(prior.root, DrawKey("extend", 1, 0))).prefix(len(words))


def words_of(workflow: Workflow) -> list[str]:
    return [s.title.removeprefix("Say ") for s in workflow.steps]


GOOD = rest(step(2, "two"), step(3, "three", last=True))
BAD = rest(step(2, "two", code="        said = open('x')\n"), step(3, "three", last=True))
WORSE = rest(step(2, "two", code="        said = eval('x')\n"), step(3, "three", last=True))
CUT = Reply("```python\n        # Step 2: Say tw", "truncated")
REFUSED = Reply("", "refused")


# --- draws ----------------------------------------------------------------------------------


async def test_one_call_yields_the_next_step_and_a_rollout() -> None:
    workflow, model = await drawn(GOOD)

    assert words_of(workflow) == ["one", "two", "three"]
    assert workflow.prefix(1) == await prefix_of("one")
    assert [(prompt.name, prompt.kind) for prompt in model.asked] == [("extend/2/7/0", "extend")]
    assert "# Step 1: Say one" in model.asked[0].question
    assert "Answer the riddle." in model.asked[0].shared


async def test_a_further_rollout_is_asked_for_in_the_words_of_the_next_step() -> None:
    model = ScriptedWriter(rule=lambda _: rest(step(2, "two", last=True)))
    prior = prior_of(model)
    prefix = await prefix_of("one")
    await prior.extend(prefix, KEY)
    await prior.complete(prefix, DrawKey("complete", 1, 7, 2))

    first, second = model.asked
    assert (second.name, second.kind) == ("complete/1/7/2", "complete")
    assert first.question == second.question == continue_question(TEMPLATES, BRIEF, prefix)


async def test_a_chat_is_not_coherent() -> None:
    assert not prior_of(ScriptedWriter()).coherent


async def test_a_task_with_public_tests_has_its_own_skeleton() -> None:
    brief = replace(BRIEF, public_tests=True)
    model = ScriptedWriter(rule=lambda _: fenced(whole("one", brief=brief)))
    prior = LLMPrior(model, PolicyChecker(), TEMPLATES, brief)
    workflow = await prior.extend(prior.root, DrawKey("extend", 1, 0))

    assert "async def __call__(self, problem, entry_point):" in workflow.source
    assert words_of(workflow) == ["one"]


async def test_an_outage_ends_the_draw_with_its_own_error() -> None:
    class Down:
        async def write(self, prompt: Prompt) -> Reply:
            raise ConnectionError(prompt.name)

    class DownChecker:
        async def check(self, workflow: Workflow) -> str | None:
            raise ConnectionError("smoke")

    prefix = await prefix_of("one")
    with pytest.raises(ConnectionError, match="extend/2/7/0"):
        await prior_of(Down()).extend(prefix, KEY)
    with pytest.raises(ConnectionError, match="smoke"):
        await prior_of(ScriptedWriter({"extend/2/7/0": GOOD}), DownChecker()).extend(prefix, KEY)


# --- self-correction ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failing", [BAD, CUT, REFUSED, "I cannot.", fenced("        # Step 2: (\n")]
)
async def test_decision_10_what_cannot_be_used_is_asked_again_with_its_reason(
    failing: str | Reply,
) -> None:
    workflow, model = await drawn(failing, GOOD)

    assert words_of(workflow) == ["one", "two", "three"]
    question, repair = model.asked
    assert (repair.name, repair.kind) == ("extend/2/7/0/repair-1", "repair")
    assert repair.question.startswith(question.question.rstrip())
    assert repair.shared == question.shared
    assert "Do not use any try-except blocks." in repair.question


async def test_decision_10_the_error_log_and_the_failing_code_are_shown() -> None:
    checker = PolicyChecker({"'two'": "KeyError: 'x' in Step 2, line 9"})
    _, model = await drawn(GOOD, rest(step(2, "second", last=True)), checker=checker)

    assert "| KeyError: 'x' in Step 2, line 9" in model.asked[1].question
    assert "said_2 = 'two'" in model.asked[1].question


async def test_an_answer_that_was_cut_is_shown_as_it_came() -> None:
    _, model = await drawn(CUT, GOOD)

    assert "# Step 2: Say tw\n```" in model.asked[1].question
    assert "| The answer was cut off" in model.asked[1].question


async def test_decision_10_two_repairs_at_most() -> None:
    third = rest(step(2, "two", code="        said = exec('x')\n"), step(3, "three", last=True))
    workflow, model = await drawn(BAD, WORSE, third)

    assert model.names == ["extend/2/7/0", "extend/2/7/0/repair-1", "extend/2/7/0/repair-2"]
    assert words_of(workflow)[0] == "one"
    assert len(workflow) == 2
    assert "`exec` is not allowed" in workflow.source


async def test_decision_10_a_model_that_repeats_itself_ends_early_and_is_checked_once() -> None:
    checker = PolicyChecker()
    workflow, model = await drawn(BAD, BAD, GOOD, checker=checker)

    assert len(model.asked) == 2
    assert len(checker.checked) == 1
    assert "`open` is not allowed" in workflow.source


async def test_decision_10_a_model_that_goes_back_and_forth_ends_too() -> None:
    workflow, model = await drawn(BAD, WORSE, BAD)

    assert len(model.asked) == 3
    assert "`open` is not allowed" in workflow.source


@pytest.mark.parametrize(
    "code",
    [
        "        try:\n            said = 1\n        except ValueError:\n            said = 2\n",
        "        if problem:\n            for _ in problem:\n                try:\n"
        "                    said = 1\n                finally:\n                    said = 2\n",
    ],
)
async def test_decision_10_a_repair_may_not_use_try(code: str) -> None:
    caught = rest(step(2, "two", code=code), step(3, "three", last=True))
    checker = PolicyChecker()
    workflow, model = await drawn(BAD, caught, GOOD, checker=checker)

    assert words_of(workflow) == ["one", "two", "three"]
    assert "| It contains a `try` statement." in model.asked[2].question
    assert len(checker.checked) == 2  # not the one that was refused


async def test_decision_10_a_helper_of_a_repair_may_not_use_try() -> None:
    tried = "    try:\n        return int(text)\n    except ValueError:\n        return 0\n"
    helper = f"def read(text):\n{tried}\n\n"
    caught = rest(step(2, "two", last=True), module=helper)
    _, model = await drawn(BAD, caught, GOOD)

    assert "| It contains a `try` statement." in model.asked[2].question


async def test_decision_10_a_first_answer_may_use_try_and_a_prefix_that_does_is_no_obstacle() -> (
    None
):
    code = "        try:\n            said = 1\n        except ValueError:\n            said = 2\n"
    prefix = await prefix_of("one")
    model = ScriptedWriter(
        {
            "extend/2/7/0": rest(step(2, "two", last=True, code=code)),
            "extend/3/7/0": BAD.replace("Step 3", "Step 4").replace("Step 2", "Step 3"),
            "extend/3/7/0/repair-1": rest(step(3, "three", last=True)),
        }
    )
    prior = prior_of(model)
    caught = (await prior.extend(prefix, KEY)).prefix(2)
    workflow = await prior.extend(caught, DrawKey("extend", 3, 7))

    assert words_of(workflow) == ["one", "two", "three"]
    assert "except ValueError" in workflow.source


async def test_decision_10_a_repair_cannot_change_the_prefix() -> None:
    changed = fenced(whole("uno", "dos", "tres"))
    for kind, number in (("extend", 2), ("complete", 1)):
        key = DrawKey(kind, number, 0, 1)
        model = ScriptedWriter({key.text: BAD, f"{key.text}/repair-1": changed})
        prior = prior_of(model)
        draw = prior.extend if kind == "extend" else prior.complete
        prefix = await prefix_of("one")

        assert (await draw(prefix, key)).prefix(1) == prefix


async def test_no_repairs_can_be_asked_for() -> None:
    model = ScriptedWriter({"extend/2/7/0": BAD})
    await prior_of(model, attempts=0).extend(await prefix_of("one"), KEY)

    assert len(model.asked) == 1


# --- no usable answer -----------------------------------------------------------------------


async def test_a_refusal_is_a_workflow_that_fails_visibly_at_its_step() -> None:
    workflow, _ = await drawn(REFUSED, REFUSED)

    assert workflow.prefix(1) == await prefix_of("one")
    assert len(workflow) == 2
    assert "raise RuntimeError(" in workflow.steps[1].body


HOSTILE = "'); import os; os.system('x') #\n\"\"\"\\ \ud800 {problem} \0 \u2028" + "long " * 200


@pytest.mark.parametrize("reason", ["Plain.", HOSTILE, "", "# Step 9: no"])
async def test_the_unusable_workflow_keeps_the_policy_and_raises_its_reason(reason: str) -> None:
    workflow = unusable(await prefix_of("one"), reason)
    assert check_workflow(workflow.source) is None
    async with Sandbox() as sandbox:
        outcome = await sandbox.run_workflow(workflow.source, ["What?"], SilentHost())

    assert outcome.failure is not None
    assert outcome.failure.type == "RuntimeError"
    assert "\n" not in outcome.failure.message
    assert len(outcome.failure.message) <= 300


@given(st.text(max_size=400))
def test_whatever_the_reason_the_unusable_workflow_is_one_literal(reason: str) -> None:
    root = prior_of(ScriptedWriter()).root
    workflow = unusable(root, reason)

    assert unusable(root, reason) == workflow
    assert is_unusable(workflow)
    assert check_workflow(workflow.source) is None
    assert len(workflow) == 1
    assert workflow.source.count("\n") == unusable(root, "").source.count("\n")


@dataclass
class SilentHost:
    async def call_llm(self, call: object, /) -> list[str]:
        raise AssertionError("the workflow must not get this far")

    def get_usage_summary(self) -> dict[str, float]:
        return {"total_cost": 0.0}


# --- within a search ------------------------------------------------------------------------


def improvise(prompt: Prompt) -> str:
    """Writes one to three more steps, now and then something that fails; the name decides."""
    fate = uniform(0, prompt.name)
    if fate < 0.15:
        return BAD if fate < 0.1 else "I would rather not."
    count = 1 + int(uniform(1, prompt.name) * 3)
    words = [f"w{int(uniform(2, prompt.name, n) * 5)}" for n in range(count)]
    begun = re.search(r"from step (\d+) on", prompt.question)
    if begun is None:
        return fenced(whole(*words))
    first = int(begun[1])
    return rest(*(step(first + n, word, last=n == count - 1) for n, word in enumerate(words)))


async def searched(model: TextModel, journal: MemoryJournal | None = None) -> list[Generation]:
    options = SearchOptions(
        particles=5, rollouts=2, refinements=0, rounds=3, inverse_temperature=3.0, minibatch=None
    )
    reward = TableReward({}, rows=2)
    prior = prior_of(model)
    return await run(Search(prior, reward, NoRefiner(), journal or MemoryJournal(), options, 5))


async def test_a_search_does_not_depend_on_the_order_in_which_answers_arrive() -> None:
    plain = await searched(ScriptedWriter(rule=improvise))
    for seed in range(5):
        shuffled = ShuffledWriter(ScriptedWriter(rule=improvise), random.Random(seed))
        assert await searched(shuffled) == plain


async def test_no_two_questions_of_a_search_share_a_name_and_a_terminal_prefix_asks_nothing() -> (
    None
):
    model = ScriptedWriter(rule=improvise)
    generations = await searched(model)

    assert len(set(model.names)) == len(model.names)
    assert any(prompt.kind == "repair" for prompt in model.asked)
    for before, generation in itertools.pairwise(generations):
        for index, parent in enumerate(before.ancestors):
            asked = f"extend/{generation.round}/{index}/0" in model.names
            assert asked is not before.particles[parent].terminal


async def test_a_search_that_is_repeated_over_its_journal_asks_nothing() -> None:
    journal = MemoryJournal()
    first = await searched(ScriptedWriter(rule=improvise), journal)

    silent = ScriptedWriter()
    assert await searched(silent, journal) == first
    assert silent.asked == []


def test_only_what_stands_for_no_answer_is_unusable() -> None:
    root = prior_of(ScriptedWriter()).root
    stop = unusable(root, "nothing was said")
    (step,) = stop.steps
    titled = replace(step, body="        return problem, 0.0\n")

    assert not is_unusable(root)
    assert not is_unusable(replace(stop, steps=(titled,)))
    assert not is_unusable(replace(stop, steps=(replace(step, title="Stop"),)))
    assert not is_unusable(replace(stop, steps=(step, titled)))
