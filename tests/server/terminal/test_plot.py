"""`plot` as a person types it."""

import json
from pathlib import Path
from typing import get_args

import pytest

from bayesflow_server.plots.kinds import PlotKind
from bayesflow_server.terminal.flags import KINDS
from fakes.command_line import Command


def test_a_run_is_drawn_and_each_picture_told(command: Command, task: Path, tmp_path: Path) -> None:
    assert command("run", task, "--json").code == 0
    said = command("plot", "latest", "--out", tmp_path / "plots")
    assert (said.code, said.err) == (0, "")
    files = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert files == ["accuracy_cost.png", "genealogy.png", "posterior.png", "reward_per_round.png"]
    for name in files:
        assert f"wrote {tmp_path / 'plots' / name}\n  " in said.out
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")
    some = command("plot", "latest", "--out", tmp_path / "one", "--kind", "posterior", "--json")
    found = json.loads(some.out)
    assert set(found) == {"run_id", "plots"}
    assert [set(one) for one in found["plots"]] == [{"kind", "file", "caption", "figures"}]
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["posterior.png"]


def test_the_folder_is_named_by_the_run_if_nothing_else_is(
    command: Command, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_id = json.loads(command("run", task, "--json").out)["run_id"]
    assert command("plot", run_id, "--kind", "rewards").code == 0
    assert (tmp_path / run_id / "reward_per_round.png").is_file()


def test_a_run_without_a_round_and_a_kind_that_is_none_are_told(
    command: Command, task: Path
) -> None:
    assert command("run", task, "--calls", 1, "--json").code == 1
    said = command("plot", "latest")
    assert said.code == 2
    assert "has finished no round yet" in said.err
    said = command("plot", "latest", "--kind", "posterio")
    assert (said.code, said.out) == (2, "")
    assert "'posterio' is no kind of plot; did you mean posterior?" in said.err


def test_the_kinds_are_those_of_the_plots() -> None:
    assert get_args(PlotKind) == KINDS
