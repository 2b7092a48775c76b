"""Every kind of setting of a run that models write, and writers that are of no use at all."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from bayesflow_server.models.chat import ChatRequest, StopReason
from fakes.approx import approx
from fakes.llm_runs import EDITOR, WRITER, Ended, House, WaywardModel
from fakes.models import SPEC, FakeModel
from fakes.optimizers import GoodOptimizer, MessyOptimizer
from fakes.tasks import GRAMMAR, OPTIONS, addition_task, answer_addition, workflow

Answer = Callable[[ChatRequest], str]
# A baseline that is always right, so that seven test rows suffice to lose against it.
BASELINE: Final = workflow(
    'words = problem.strip("?").split()\n        return str(int(words[2]) + int(words[4])), 0.0'
).source
LONG: Final = "".join(f"        # Step {n}: Go on\n        x{n} = {n}\n\n" for n in range(2, 9))
REFUSAL: Final = "I'm sorry, but I can't help with that."


def with_options(**changes: Any) -> dict[str, Any]:
    return {"options": OPTIONS.model_copy(update=changes)}


def code(steps: str) -> str:
    return (
        "```python\nclass Workflow:\n"
        "    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n\n"
        f"    async def __call__(self, problem):\n{steps}```"
    )


def one_step(_: ChatRequest) -> str:
    return code(
        "        # Step 1: All at once\n"
        '        return (await self.llm.call_llm(messages=["style2 " + problem]))[0], 0.0\n'
    )


def nine_steps(request: ChatRequest) -> str:
    style = request.sample % 4 + 1
    return code(
        f'        # Step 1: Style\n        text = "style{style} " + problem\n\n{LONG}'
        "        # Step 9: Ask\n        return (await self.llm.call_llm(messages=[text]))[0], 0.0\n"
    )


def failing(_: ChatRequest) -> str:
    return code("        # Step 1: Fail\n        return 1 // 0, 0.0\n")


def endless(_: ChatRequest) -> str:
    return code("        # Step 1: Think\n        out = problem\n")


async def check(house: House, ended: Ended) -> None:
    """What holds for every finished run, whatever its settings."""
    report, view, phase = ended.report, await house.pool(ended), ended.phase
    assert phase.doing == "finished"
    assert phase.executions_done == phase.executions_planned
    ids = {item.row.entry.workflow_id for item in view.items}
    assert {one.workflow_id for one in report.best} <= ids
    assert phase.best_so_far is not None
    assert phase.best_so_far.workflow_id in ids
    assert phase.pool.distinct == len(ids) - 1  # less the baseline
    assert sum(row.cost_usd or 0.0 for row in ended.usage) > 0
    if view.posterior is not None:
        assert sum(view.posterior.probability.values()) == approx(1.0)


SETTINGS: Final[dict[str, dict[str, Any]]] = {
    "quick": {"preset": "quick", "options": None},
    "inject": with_options(refinement="inject"),
    "two rollouts": with_options(rollouts=2),
    "inject with two rollouts, weighted as printed": with_options(
        refinement="inject", rollouts=2, weighting="paper", resampling="multinomial", beta=1.0
    ),
    "no look-ahead": with_options(lookahead=False, refinements=2),
    "no refinement": with_options(refinements=0),
    "one particle": with_options(particles=1),
    "one round": with_options(rounds=1),
    "more rounds than steps": with_options(rounds=7, refinement="inject"),
    "linear": with_options(operator="linear", refinements=2),
    "evolutionary": with_options(operator="evolutionary", refinements=2),
    "tree": with_options(operator="tree", refinements=2),
    "tree without look-ahead": with_options(operator="tree", refinements=2, lookahead=False),
    "cost counts": with_options(cost_weight=0.3),
    "grammar and a model that refines": {
        "optimizer": "grammar",
        "grammar": GRAMMAR,
        **with_options(refiner=WRITER, refinements=2),
    },
    "grammar and a model whose edits are injected": {
        "optimizer": "grammar",
        "grammar": GRAMMAR,
        **with_options(refiner=WRITER, refinement="inject", rollouts=2),
    },
}


@pytest.mark.parametrize("name", SETTINGS)
async def test_a_run_finishes_under_every_setting(path: Path, name: str) -> None:
    async with House.open(path, MessyOptimizer()) as house:
        ended = await house.run(**SETTINGS[name])
        await check(house, ended)
    assert ended.report.test.score > 0.5


async def test_the_paper_preset_says_that_the_model_takes_no_temperature(path: Path) -> None:
    writer = WaywardModel(GoodOptimizer(), spec=WRITER, dropped=("temperature",))
    async with House.open(path, writer) as house:
        ended = await house.run(preset="paper", options=OPTIONS.model_copy(update={"rounds": 2}))
        await check(house, ended)
        questions = writer.finished
    assert ended.phase.notes.count(f"{WRITER} takes no temperature: it was left out of the calls.")
    assert any("prior collapses" in warning for warning in json.loads(ended.record.warnings))
    assert {one.temperature for one in questions} == {0.0}
    # N equal questions are N draws, at temperature 0 as well.
    begun = [one for one in questions if "Write a workflow for the task" in one.messages[1].content]
    assert len(begun) == 4
    assert len({one.messages for one in begun}) == 1


async def test_workflows_shorter_than_the_rounds_are_carried_to_the_end(path: Path) -> None:
    async with House.open(path, one_step) as house:
        ended = await house.run(options=OPTIONS.model_copy(update={"rounds": 4, "refinements": 0}))
        await check(house, ended)
    assert ended.used("optimizer").calls == 4
    assert ended.phase.pool.distinct == 1


async def test_the_last_round_takes_all_the_steps_that_are_left(path: Path) -> None:
    async with House.open(path, nine_steps) as house:
        ended = await house.run(options=OPTIONS.model_copy(update={"refinements": 0}))
        await check(house, ended)
    assert ended.used("optimizer").calls == 4 * 3
    assert {len(one.step_titles) for one in ended.report.best} == {9}


USELESS: Final[dict[str, tuple[Answer, StopReason, str]]] = {
    "declines": (lambda _: REFUSAL, "end", "holds no Python code"),
    "is stopped by a filter": (lambda _: REFUSAL, "refusal", "was a refusal"),
    "says nothing": (lambda _: "", "empty", "holds no Python code"),
    "babbles": (lambda _: "\0\ud800 }{ def (", "end", "holds no Python code"),
    "is cut": (GoodOptimizer(), "length", "was cut off before its end"),
    "is overrun": (GoodOptimizer(), "context_overflow", "did not fit the context"),
    "errs": (failing, "end", "division by zero"),
    "forgets to return": (endless, "end", "ended without an answer"),
}


@pytest.mark.parametrize("name", USELESS)
@pytest.mark.parametrize(
    "options", [{}, {"lookahead": False}, {"refinement": "inject", "rollouts": 2}], ids=str
)
async def test_a_writer_that_is_of_no_use_ends_in_a_report_that_says_so(
    path: Path, name: str, options: dict[str, Any]
) -> None:
    answer, ending, error = USELESS[name]
    writer = WaywardModel(answer, spec=WRITER, ending=lambda _: ending)
    async with House.open(path, writer) as house:
        task = addition_task(baseline=BASELINE)
        ended = await house.run(task=task, **with_options(cost_weight=0.2, **options))
        await check(house, ended)
        view = await house.pool(ended)
    report, phase = ended.report, ended.phase
    assert (report.test.score, report.beats_baseline) == (0.0, "no")
    assert report.gain.high < 0
    assert phase.pool.failed == phase.pool.distinct == 1
    assert error in phase.top_errors[0]
    assert (
        "4 of 4 draws of the optimizer gave no workflow that runs, also after repairs; each counts "
        "as a workflow that fails."
    ) in phase.notes
    assert any(note.startswith("3 of 3 refinements changed nothing") for note in phase.notes)
    assert all(item.shrunk in (-0.2, None) for item in view.items)
    # A draft that fails like the one before it is not asked for a third time.
    assert writer.finished.total() <= 4 * 3 + 3 * 3


async def test_a_writer_that_always_writes_the_same_is_edited_in_vain_and_judged_fairly(
    path: Path,
) -> None:
    async with House.open(path, one_step) as house:
        ended = await house.run()
        await check(house, ended)
    assert ended.phase.pool.distinct == 1
    assert ended.report.test.score > 0.5
    assert ended.used("optimizer").calls == 4
    assert ended.used("refiner").calls == 3 * (1 + 3)
    assert any("3 of 3 refinements changed nothing" in note for note in ended.phase.notes)


async def test_a_refiner_apart_may_fail_alone(path: Path) -> None:
    refiner = FakeModel(lambda _: REFUSAL, spec=EDITOR)
    async with House.open(path, others={EDITOR: refiner}) as house:
        ended = await house.run(**with_options(refiner=EDITOR))
        await check(house, ended)
        view = await house.pool(ended)
    assert ended.report.test.score > 0.5
    assert {item.row.entry.origin for item in view.items} == {"prior", "baseline"}
    assert [note for note in ended.phase.notes if "draws" in note] == []
    assert any("3 of 3 refinements changed nothing" in note for note in ended.phase.notes)
    assert ended.used("refiner", EDITOR).calls == refiner.finished.total()


@pytest.mark.parametrize(
    ("ending", "note"),
    [
        ("refusal", "answers were refusals."),
        ("empty", "answers were empty."),
        ("length", "answers were cut at max_tokens."),
        ("context_overflow", "calls met the end of the model's context."),
    ],
)
async def test_what_the_executor_does_not_answer_well_is_counted_and_told(
    path: Path, ending: StopReason, note: str
) -> None:
    def ends(request: ChatRequest) -> StopReason:
        return ending if "style1" in request.messages[-1].content else "end"

    def answer(request: ChatRequest) -> str:
        return answer_addition(request) if ends(request) == "end" else ""

    executor = WaywardModel(answer, spec=SPEC, ending=ends)
    async with House.open(path, MessyOptimizer(3), executor) as house:
        ended = await house.run(**with_options(particles=6))
        await check(house, ended)
    (count,) = [int(one.split()[0]) for one in ended.phase.notes if one.endswith(note)]
    asked = sum(finished for one, finished in executor.finished.items() if ends(one) != "end")
    assert count >= asked > 0


async def test_a_context_that_overflows_is_the_fault_of_the_workflow(path: Path) -> None:
    executor = WaywardModel(lambda _: "", ending=lambda _: "context_overflow")
    async with House.open(path, executor=executor) as house:
        ended = await house.run()
        await check(house, ended)
    assert "longer than the model's context" in ended.phase.top_errors[0]
    assert ended.phase.pool.failed == ended.phase.pool.distinct
    assert (ended.report.test.score, ended.report.gain.delta) == (0.0, 0.0)
