import pytest

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.evaluation.task import Preset
from bayesflow_server.runs.options import PRESETS
from bench.efficiency.preset_variations import VARIATIONS, preset_variations

SOME = ("M = 0", "islands = 2", "recycle, K = 2", "refinement alone")


@pytest.mark.parametrize("name", VARIATIONS)
@pytest.mark.parametrize("preset", ["balanced", "quick"])
def test_every_variation_can_be_made_of_each_preset(preset: Preset, name: str) -> None:
    assert isinstance(VARIATIONS[name](PRESETS[preset]), SearchOptions)


def test_the_bench_prints_a_line_for_each_contender_and_names_what_is_better(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = preset_variations("quick", 6, {name: VARIATIONS[name] for name in SOME})
    lines = [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()]
    for name in ("as shipped", *SOME, "prior draws"):
        assert f"| {name}" in lines
    assert len(figures) == 1
    assert figures[0].met == (figures[0].figure == "none")
