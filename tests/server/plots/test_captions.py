"""What is said beside a picture: two sentences of ours, and the numbers."""

from pathlib import Path

import pytest

from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.plots.plot import draw_plot
from bayesflow_server.plots.source import PlotSource, read_source
from fakes.pictures import run_to_draw


async def source_of(path: Path, kind: str) -> PlotSource:
    async with run_to_draw(path / "runs.sqlite3", kind) as (service, run_id):
        return await read_source(service, run_id)


def said(source: PlotSource, kind: PlotKind) -> str:
    return draw_plot(source, kind).caption


async def test_one_agents_workflows_rank_without_a_guarantee(tmp_path: Path) -> None:
    source = await source_of(tmp_path, "archive")
    alone = source._replace(prior_independent=False)
    guarantee = "one agent wrote them, so this ranks without a guarantee"
    assert guarantee in said(alone, "posterior")
    assert guarantee not in said(source, "posterior")


async def test_a_refined_answer_is_shown_last_and_said_to_have_no_posterior(tmp_path: Path) -> None:
    source = await source_of(tmp_path, "archive")
    refined = next(
        row.entry.workflow_id for row in source.pool.rows if row.entry.origin == "refined"
    )
    report = source.report
    assert report is not None
    winner = report.best[0].model_copy(update={"workflow_id": refined})
    source = source._replace(report=report.model_copy(update={"best": (winner,)}))
    plot = draw_plot(source, "posterior")
    assert "the final answer, last, is no draw of the prior and has none" in plot.caption
    shown = plot.figures["workflows"]
    assert isinstance(shown, list)
    last = shown[-1]
    assert isinstance(last, dict)
    assert (last["workflow_id"], last["posterior"], last["prior"]) == (refined, None, None)


async def test_rounds_that_kept_all_particles_are_named(tmp_path: Path) -> None:
    source = await source_of(tmp_path, "kept")
    caption = said(source, "genealogy")
    assert caption.endswith(
        "No refined ancestor: 4 of the 4 particles of the last round; nothing was resampled after "
        "rounds 1, 2."
    )
    assert "4 of the 4 in round 1 have descendants in round 3" in caption


async def test_islands_and_injected_refinements_are_counted(tmp_path: Path) -> None:
    islands = draw_plot(await source_of(tmp_path, "islands"), "genealogy")
    assert "in 3 islands" in islands.caption
    assert islands.figures["islands"] == 3
    (tmp_path / "more").mkdir()
    injected = draw_plot(await source_of(tmp_path / "more", "inject"), "genealogy")
    rounds = injected.figures["rounds"]
    assert isinstance(rounds, list)
    assert [one["injected"] for one in rounds if isinstance(one, dict)] == [4, 4, 0]


@pytest.mark.parametrize("kind", ["paused", "running"])
async def test_a_run_that_has_not_ended_says_why_nothing_is_marked(
    tmp_path: Path, kind: str
) -> None:
    source = await source_of(tmp_path, kind)
    assert said(source, "rewards").endswith(f"The run is {kind}, so no test score is drawn.")
    assert said(source, "accuracy_cost").endswith(
        f"The run is {kind}, so winner and baseline are not marked."
    )


async def test_a_pool_in_which_nothing_runs_says_so(tmp_path: Path) -> None:
    source = await source_of(tmp_path, "alone")
    assert "1 workflow: none of them runs." in said(source, "accuracy_cost")
    assert draw_plot(source, "accuracy_cost").figures["front"] == []
