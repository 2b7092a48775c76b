"""What executions ask of their model, measured without one."""

from collections.abc import AsyncGenerator
from statistics import fmean

import pytest

from bayesflow_sandbox.sandbox import Sandbox
from bayesflow_server.evaluation.task import load_task
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.rehearsal import ANSWER_TOKENS, rehearse
from bayesflow_server.runs.rehearsed import Rehearsal, Use
from bayesflow_server.runs.request import RunRequest, resolve
from fakes.approx import approx
from fakes.models import SPEC, FakeModel, FakeRegistry
from fakes.tasks import addition_task, request

_TEMPLATE = '''
title = "one"
start = "ask"

[[production]]
state = "ask"
title = "Only"
code = """
{code}
"""
'''
_ANSWER = "return out[0], 0.0"


@pytest.fixture
async def sandbox() -> AsyncGenerator[Sandbox, None]:
    async with Sandbox(workers=4) as sandbox:
        yield sandbox


@pytest.fixture
async def model() -> FakeModel:
    return FakeModel()


def grammar(*lines: str) -> str:
    return _TEMPLATE.format(code="\n".join(lines))


async def rehearsed(sandbox: Sandbox, model: FakeModel, asked: RunRequest) -> Rehearsal:
    spec = resolve(asked, FakeRegistry(model), PriceTable({}))
    return await rehearse(spec, asked.task.splits, sandbox)


async def test_it_asks_no_model_and_is_the_same_every_time(
    sandbox: Sandbox, model: FakeModel
) -> None:
    found = await rehearsed(sandbox, model, request())
    assert found == await rehearsed(sandbox, model, request())
    assert not model.started
    assert found.drawn is not None
    assert 1 < found.drawn.calls < 2  # a third asks once, the others twice
    assert found.drawn.output_tokens == ANSWER_TOKENS * found.drawn.calls
    assert found.drawn.input_tokens > 0


async def test_the_prompts_length_is_that_of_what_the_model_would_read(
    sandbox: Sandbox, model: FakeModel
) -> None:
    task = addition_task(instructions="x" * 4_000)
    found = await rehearsed(sandbox, model, request(task=task))
    assert found.baseline is not None
    assert found.baseline.calls == 1
    assert 1_000 < found.baseline.input_tokens < 1_010  # and a question of some twenty letters


async def test_every_answer_counts_and_a_cut_one_counts_less(
    sandbox: Sandbox, model: FakeModel
) -> None:
    text = grammar(
        "out = await self.llm.call_llm(messages=['abcd'], num_of_response=5, max_tokens=10)",
        _ANSWER,
    )
    found = await rehearsed(sandbox, model, request(grammar=text))
    assert found.drawn == Use(calls=5, input_tokens=5, output_tokens=50)


async def test_a_workflow_counts_as_often_as_it_is_drawn(
    sandbox: Sandbox, model: FakeModel
) -> None:
    often, seldom = (
        grammar(f"out = await self.llm.call_llm(messages=['a'], num_of_response={n})", _ANSWER)
        for n in (1, 5)
    )
    text = often.replace('"Only"', '"Often"\nweight = 4') + seldom.partition('"ask"\n')[2]
    found = await rehearsed(sandbox, model, request(grammar=text))
    assert found.drawn is not None
    # Each of the two counting once, it would be 3.
    assert 1 < found.drawn.calls < 2.5


async def test_rows_from_the_whole_range_of_lengths_are_tried(
    sandbox: Sandbox, model: FakeModel
) -> None:
    rows = [{"input": f"{i:02} ".ljust(40 * (i + 1), "x"), "target": str(i)} for i in range(20)]
    task = load_task(instructions="Count.", examples=rows, scorer="numeric")
    lengths = sorted(len(row.problem) for row in task.splits.validation)
    text = grammar("out = await self.llm.call_llm(messages=[problem])", _ANSWER)
    found = await rehearsed(sandbox, model, request(task=task, grammar=text))
    assert found.drawn is not None
    # Of twelve, the middle ones of each third.
    assert len(lengths) == 12
    assert found.drawn.input_tokens == approx(fmean(lengths[n] for n in (2, 6, 10)) / 4)


async def test_a_workflow_that_fails_counts_what_it_had_asked(
    sandbox: Sandbox, model: FakeModel
) -> None:
    text = grammar(
        "out = await self.llm.call_llm(messages=['abcd'])",
        "out = await self.llm.call_llm(messages=['abcd'])",
        "return out[7], 0.0",
    )
    found = await rehearsed(sandbox, model, request(grammar=text))
    assert found.drawn == Use(calls=2, input_tokens=2, output_tokens=200)


async def test_one_that_never_ends_is_cut_off(sandbox: Sandbox, model: FakeModel) -> None:
    text = grammar("while True:", "    pass", "return problem, 0.0")
    found = await rehearsed(sandbox, model, request(grammar=text))
    assert found.drawn is None or found.drawn.calls == 0


async def test_a_model_that_writes_leaves_only_the_baseline_to_rehearse(
    sandbox: Sandbox, model: FakeModel
) -> None:
    found = await rehearsed(sandbox, model, request(grammar=None, optimizer=SPEC))
    assert found.drawn is None
    assert found.baseline is not None
    assert found.executions == 3


async def test_a_coding_task_gets_the_functions_name_and_its_public_tests(
    sandbox: Sandbox, model: FakeModel
) -> None:
    source = """\
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem, entry_point):
        # Step 1: Write, test, and write again if it fails
        code = (await self.llm.call_llm(messages=[problem]))[0]
        if not exec_code(code, entry_point):
            code = (await self.llm.call_llm(messages=[problem]))[0]
        return code, 0.0
"""
    rows = [
        {
            "input": f"Write add{i}.",
            "target": f"def add{i}(a): return a + {i}",
            "entry_point": f"add{i}",
            "test": f"assert add{i}(1) == {1 + i}",
            "public": f"assert add{i}(0) == {i}",
        }
        for i in range(20)
    ]
    task = load_task(
        instructions="Write code.",
        examples=rows,
        scorer="pass_at_1",
        public_tests="public",
        baseline=source,
    )
    found = await rehearsed(sandbox, model, request(task=task, optimizer=SPEC, grammar=None))
    assert found.baseline is not None
    assert found.baseline.calls >= 1


async def test_a_closed_sandbox_measures_nothing(model: FakeModel) -> None:
    sandbox = Sandbox(workers=1)
    await sandbox.aclose()
    assert await rehearsed(sandbox, model, request()) == Rehearsal(None, None, 0)
