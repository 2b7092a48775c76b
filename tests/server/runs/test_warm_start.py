"""Runs that start with what is there already: earlier runs, workflows, sources, files."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bayesflow_sampler.types import Origin
from bayesflow_server.errors import InputError
from bayesflow_server.export.script import ExportSettings, script_of
from bayesflow_server.runs.check import TaskChecker, TaskDraft
from bayesflow_server.runs.options import SamplerOptions, parse_options
from bayesflow_server.runs.pool_view import PoolItem, PoolView, view_pool
from bayesflow_server.runs.request import RunRequest
from bayesflow_server.runs.service import RunService
from bayesflow_server.runs.spec import RunSpec
from bayesflow_server.runs.warm_start import warm_sources
from bayesflow_server.store.records import (
    NewRun,
    PoolEntry,
    RunRecord,
    SummaryRecord,
    WorkflowRecord,
)
from fakes.houses import footprint, open_service, settled
from fakes.llm_runs import House
from fakes.models import SPEC, FakeModel
from fakes.tasks import GRAMMAR, OPTIONS, addition_task, answer_addition, request, workflow

# The only workflow that is right on every row; the grammar below cannot write it.
ORACLE = workflow(
    "numbers = [int(one) for one in problem.rstrip('?').split() if one.isdigit()]\n"
    "        return str(sum(numbers)), 0.0"
).source
OTHER = workflow("return problem, 0.0").source
EXPORT = ExportSettings(executor="openai:gpt-5-mini", api="openai")
SMALL = OPTIONS.model_copy(update={"particles": 2, "rounds": 2})


def warm(*names: str, **changes: Any) -> RunRequest:
    options = SMALL.model_copy(update={"warm_start": list(names), **changes})
    return request(options=options)


class Ran(NamedTuple):
    """A run at rest."""

    record: RunRecord
    spec: RunSpec
    view: PoolView

    @property
    def warm(self) -> list[PoolItem]:
        return [item for item in self.view.items if item.row.entry.origin == "warm"]


async def run(service: RunService, asked: RunRequest) -> Ran:
    started = await service.start(asked)
    record = await settled(service, started.record.run_id)
    assert record.status == "finished", record.reason
    return Ran(record, started.spec, view_pool(await service.pool(record.run_id)))


async def named(service: RunService, *names: str) -> tuple[str, ...]:
    return await warm_sources(names, service.workplace.store)


# --- what can be named --------------------------------------------------------------------------


async def test_a_run_gives_its_five_best_scored_workflows_that_run(service: RunService) -> None:
    options = OPTIONS.model_copy(update={"particles": 12, "refinements": 3})
    earlier = await run(service, request(options=options, seed=5))
    sources = await named(service, earlier.record.run_id)
    best = view_pool(await service.pool(earlier.record.run_id), sort="validation").items
    eligible = [
        item.row.entry.workflow_id
        for item in best
        if item.row.validation is not None
        and not item.row.validation.failed
        and item.row.entry.origin != "baseline"
    ]

    assert any(item.row.validation and item.row.validation.failed for item in best)
    assert len(eligible) > 5
    store = service.workplace.store
    for name, source in zip(eligible[:5], sources, strict=True):
        record = await store.workflow(name)
        assert record is not None
        assert record.source == source


async def test_neither_what_failed_nor_the_baseline_is_taken_though_it_scores_best(
    service: RunService,
) -> None:
    store = service.workplace.store
    await store.create_run(NewRun(run_id="run_old", request="{}", request_hash="h"), [])
    kept: tuple[tuple[str, str, Origin, float, bool], ...] = (
        ("wf_a", "return 'a', 0.0", "baseline", 1.0, False),
        ("wf_b", "return 'b', 0.0", "prior", 1.0, True),
        ("wf_c", "return 'c', 0.0", "refined", 0.4, False),
        ("wf_d", "return 'd', 0.0", "prior", 0.6, False),
    )
    for name, body, origin, mean, failed in kept:
        record = WorkflowRecord(name, workflow(body).source, '["Only"]')
        entry = PoolEntry("run_old", name, 1, origin)
        await store.add_to_pool(record, entry)
        await store.put_summary(
            SummaryRecord("run_old", name, "validation", 10, mean, 0.2, failed=failed)
        )
    assert await named(service, "run_old") == (
        workflow("return 'd', 0.0").source,
        workflow("return 'c', 0.0").source,
    )


async def test_ids_sources_files_and_scripts_name_the_same_workflow_once(
    service: RunService, tmp_path: Path
) -> None:
    plain, script = tmp_path / "plain.py", tmp_path / "script.py"
    plain.write_text(ORACLE)
    script.write_text(script_of(ORACLE, EXPORT))
    first = await run(service, warm(ORACLE))
    (mine,) = first.warm
    names = (ORACLE, str(plain), str(script), script.read_text(), mine.row.entry.workflow_id)

    for name in names:
        assert await named(service, name) == (ORACLE,)
    assert await named(service, OTHER, *names, first.record.run_id) == (
        OTHER,
        ORACLE,
        *[one for one in await named(service, first.record.run_id) if one != ORACLE],
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run_0123456789ab", "names 'run_0123456789ab', and there is no such run"),
        ("run_empty", "run_empty, which has no scored workflow yet"),
        ("wf_0123456789abcdef", "There is no workflow 'wf_0123456789abcdef'"),
        ("mine.py", "The path 'mine.py' is not absolute"),
        ("/nowhere/mine.py", r"'/nowhere/mine.py' cannot be read \(No such file"),
        ("my best run", "has 'my best run', which is neither a run id"),
        ("/nowhere/mine.txt", "neither a run id"),
        ("", "has '', which is neither"),
        ("import os\nos.remove('x')\n", r"`options.warm_start` \(a source\): The workflow cannot"),
        (ORACLE.replace("return str", "import os\n        return str"), r"\(a source\): .*import"),
        ("#" * 200_001, "more than 200,000 characters"),
        ("run_" + "x" * 5000, "run_x+…', and there is no such run"),
    ],
)
async def test_a_wrong_name_is_one_sentence_in_start_and_check_and_nothing_is_written(
    service: RunService, model: FakeModel, name: str, words: str
) -> None:
    store = service.workplace.store
    await store.create_run(NewRun(run_id="run_empty", request="{}", request_hash="h"), [])
    asked = warm(name)
    with pytest.raises(InputError, match=words) as refused:
        await service.start(asked)
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    for executor in (SPEC, None):
        draft = TaskDraft(asked.task, executor, options=asked.options, grammar=GRAMMAR)
        with pytest.raises(InputError) as again:
            await TaskChecker(service.workplace).check(draft)
        assert str(again.value) == sentence
    assert [one.run_id for one in await service.newest(5)] == ["run_empty"]
    assert model.started.total() == 0


async def test_a_file_that_is_no_workflow_is_not_quoted(
    service: RunService, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("PASSWORD = 'hunter2'\n")
    with pytest.raises(InputError, match=r"secret\.py") as refused:
        await named(service, str(secret))
    assert "hunter2" not in str(refused.value)


async def test_a_workflow_that_runs_public_tests_is_refused_where_there_are_none(
    service: RunService,
) -> None:
    tester = workflow("return str(exec_code(problem, 'f')), 0.0").source
    with pytest.raises(InputError, match=r"\(a source\): .*exec_code is not available"):
        await named(service, tester)


# --- what becomes of it -------------------------------------------------------------------------


async def test_a_warm_workflow_is_scored_may_win_and_is_no_draw_of_the_prior(
    service: RunService,
) -> None:
    cold = await run(service, warm())
    found = await run(service, warm(ORACLE, beta=5.0))
    (mine,) = found.warm
    report = found.record.outcome or ""

    assert mine.row.entry.workflow_id in report
    assert f'"best":[{{"workflow_id":"{mine.row.entry.workflow_id}"' in report.replace(" ", "")
    assert (mine.row.entry.round, mine.row.entry.clean, mine.posterior) == (1, False, None)
    assert mine.row.validation is not None
    assert (mine.row.validation.mean, mine.row.validation.rows) == (1.0, 10)
    assert cold.warm == []
    posterior = found.view.posterior
    assert posterior is not None
    assert mine.row.entry.workflow_id not in posterior.probability


@pytest.mark.parametrize("refinement", ["archive", "inject"])
async def test_posterior_and_evidence_are_those_of_the_same_run_without_warm_workflows(
    service: RunService, refinement: str
) -> None:
    """No edits, so that nothing else differs; a grammar cannot go on from the steps of others."""
    changes: dict[str, Any] = {"refinements": 0, "beta": 5.0, "minibatch": "full"}
    changes["refinement"] = refinement
    cold = await run(service, warm(**changes))
    found = await run(service, warm(ORACLE, OTHER, **changes))

    assert len(found.warm) == 2
    assert found.view.posterior == cold.view.posterior
    assert found.view.clean_share == 1.0


async def test_under_injection_a_model_may_go_on_from_a_warm_workflow(path: Path) -> None:
    options = SMALL.model_copy(
        update={"warm_start": [ORACLE], "refinement": "inject", "refinements": 0, "beta": 50.0}
    )
    async with House.open(path) as house:
        ended = await house.run(options=options)
        view = await house.pool(ended)
    assert ended.record.status == "finished"
    (mine,) = [item for item in view.items if item.row.entry.origin == "warm"]
    assert (mine.row.entry.clean, mine.posterior) == (False, None)
    # It is right on every row, so that at beta 50 its lineage takes the last round.
    assert view.clean_share is not None
    assert view.clean_share < 1.0


async def test_what_the_prior_writes_by_itself_stays_its_own_draw(service: RunService) -> None:
    earlier = await run(service, request(options=SMALL))
    again = await run(service, warm(earlier.record.run_id))
    # The same seed writes the same workflows: those are clean draws, warm or not.
    taken = set(await named(service, earlier.record.run_id))
    both = [item for item in again.view.items if item.row.entry.origin == "prior"]
    sources = [await service.workflow(item.row.entry.workflow_id) for item in both]
    assert taken & {one.source for one in sources}
    assert all(item.row.entry.clean for item in both)
    assert all(not item.row.entry.clean and item.posterior is None for item in again.warm)


async def test_without_lookahead_warm_workflows_are_edited_and_compete(service: RunService) -> None:
    found = await run(service, warm(ORACLE, lookahead=False, beta=5.0))
    (mine,) = found.warm
    assert mine.posterior is None
    assert any(item.row.entry.parent_id == mine.row.entry.workflow_id for item in found.view.items)


# --- pinned -------------------------------------------------------------------------------------


@asynccontextmanager
async def stopped(
    path: Path, model: FakeModel, asked: RunRequest, calls: int
) -> AsyncGenerator[str]:
    """The id of a run that was interrupted after some calls."""
    async with open_service(path, model) as service:
        model.hold_at(calls)
        run_id = (await service.start(asked)).record.run_id
        await model.reached()
    model.release()
    yield run_id


async def test_what_happens_to_a_file_later_changes_nothing_on_resume(
    path: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(ORACLE)
    async with open_service(tmp_path / "other.sqlite3", FakeModel(answer_addition)) as service:
        whole = await footprint(service, (await run(service, warm(str(mine)))).record.run_id)
    async with stopped(path, FakeModel(answer_addition), warm(str(mine)), 4) as run_id:
        mine.write_text("nothing that runs")
        async with open_service(path, FakeModel(answer_addition)) as service:
            await service.resume(run_id)
            await settled(service, run_id)
            assert await footprint(service, run_id) == whole
            mine.unlink()
            again = await service.resume(run_id)
            assert again.status == "finished"


async def test_what_happens_to_an_earlier_run_changes_nothing_on_resume(
    path: Path, tmp_path: Path
) -> None:
    first = request(seed=7, options=SMALL)
    async with open_service(tmp_path / "other.sqlite3", FakeModel(answer_addition)) as service:
        earlier = (await run(service, first)).record.run_id
        whole = await footprint(service, (await run(service, warm(earlier))).record.run_id)
    async with open_service(path, FakeModel(answer_addition)) as service:
        earlier = (await run(service, first)).record.run_id
    async with (
        stopped(path, FakeModel(answer_addition), warm(earlier), 4) as run_id,
        open_service(path, FakeModel(answer_addition)) as service,
    ):
        # A run that began now would take this one.
        store, best = service.workplace.store, workflow("return 'best', 0.0")
        entry = PoolEntry(earlier, best.workflow_id, 1, "refined")
        await store.add_to_pool(WorkflowRecord(best.workflow_id, best.source, "[]"), entry)
        await store.put_summary(
            SummaryRecord(earlier, best.workflow_id, "validation", 10, 1.0, 0.0, failed=False)
        )
        assert best.source in await named(service, earlier)
        await service.resume(run_id)
        await settled(service, run_id)
        assert await footprint(service, run_id) == whole


async def test_warm_workflows_are_in_the_estimate_and_in_the_hash_of_the_request(
    service: RunService,
) -> None:
    task = addition_task()
    cold = await TaskChecker(service.workplace).check(
        TaskDraft(task, SPEC, options=SMALL, grammar=GRAMMAR)
    )
    found = await TaskChecker(service.workplace).check(
        TaskDraft(task, SPEC, options=warm(ORACLE, OTHER).options, grammar=GRAMMAR)
    )
    assert cold.estimate is not None
    assert found.estimate is not None
    # Two more in round 1, and in round 2 the three best of both and the edit.
    assert found.estimate.executions == cold.estimate.executions + 2 * 10 + 2 * 10
    first = await service.start(warm(ORACLE))
    second = await service.start(warm(OTHER))
    assert first.record.request_hash != second.record.request_hash


def test_options_of_a_file_take_one_name_for_a_list_and_at_most_twenty() -> None:
    assert parse_options({"warm_start": "run_x"}).warm_start == ["run_x"]
    assert parse_options({"warm_start": ["a", "b"]}).warm_start == ["a", "b"]
    with pytest.raises(InputError, match=r"options.warm_start.*at most 20") as refused:
        parse_options({"warm_start": [*[ORACLE] * 21]})
    assert len(str(refused.value)) < 300
    with pytest.raises(InputError, match=r"options.warm_start"):
        parse_options({"warm_start": 3})
    with pytest.raises(ValueError, match="at most 20"):
        SamplerOptions(warm_start=["x"] * 21)
