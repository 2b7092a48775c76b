from dataclasses import asdict, fields

import pytest
from pydantic import JsonValue

from bayesflow_sampler.options import SearchOptions
from bayesflow_server.errors import InputError
from bayesflow_server.runs.options import PRESETS, SamplerOptions, parse_options, resolve_options


def test_without_changes_a_preset_is_what_it_is() -> None:
    for preset, options in PRESETS.items():
        assert resolve_options(preset, None) == options
        assert resolve_options(preset, SamplerOptions()) == options


def test_the_paper_preset_is_the_papers_algorithm() -> None:
    paper = PRESETS["paper"]
    assert (paper.particles, paper.rollouts, paper.refinements, paper.rounds) == (10, 1, 10, 5)
    assert (paper.inverse_temperature, paper.weighting, paper.refinement) == (
        1.0,
        "paper",
        "inject",
    )
    assert (paper.minibatch, paper.resampling) == (None, "multinomial")


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({"particles": 7}, {"particles": 7}),
        ({"rollouts": 3}, {"rollouts": 3}),
        ({"refinements": 0}, {"refinements": 0}),
        ({"rounds": 4}, {"rounds": 4}),
        ({"beta": 2.5}, {"inverse_temperature": 2.5}),
        ({"beta": "auto"}, {"inverse_temperature": None}),
        ({"weighting": "paper"}, {"weighting": "paper"}),
        ({"resampling": "multinomial"}, {"resampling": "multinomial"}),
        ({"minibatch": 9}, {"minibatch": 9}),
        ({"minibatch": "full"}, {"minibatch": None}),
        ({"refinement": "inject"}, {"refinement": "inject"}),
        ({"splits": {"validation": 5}}, {}),
    ],
)
def test_each_option_changes_its_own_setting_and_no_other(
    given: dict[str, JsonValue], changed: dict[str, object]
) -> None:
    resolved = resolve_options("balanced", parse_options(given))
    assert asdict(resolved) == asdict(PRESETS["balanced"]) | changed


def test_every_setting_of_the_search_can_be_given() -> None:
    roles = {"operator", "temperature", "refiner", "judge", "tiers", "cost_weight", "cost_cap"}
    apart = roles | {"splits", "beta", "warm_start"}
    ours = set(SamplerOptions.model_fields) - apart | {"inverse_temperature"}
    # How much of a selection refined lineages may take is the controller's affair.
    assert ours | {"clean_floor"} == {field.name for field in fields(SearchOptions)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("particles", 0),
        ("particles", 1001),
        ("particles", "many"),
        ("rollouts", 0),
        ("rollouts", 33),
        ("refinements", -1),
        ("refinements", 101),
        ("rounds", 0),
        ("rounds", 21),
        ("beta", 0),
        ("beta", -3),
        ("beta", 1001),
        ("beta", "hot"),
        ("weighting", "fair"),
        ("resampling", "none"),
        ("minibatch", 1),
        ("minibatch", 0),
        ("minibatch", "half"),
        ("refinement", "none"),
        ("splits", 3),
    ],
)
def test_a_value_out_of_range_names_its_option(name: str, value: JsonValue) -> None:
    with pytest.raises(InputError, match=name):
        resolve_options("balanced", parse_options({name: value}))


def test_not_a_number_is_no_beta() -> None:
    with pytest.raises(InputError, match="beta"):
        resolve_options("balanced", SamplerOptions(beta=float("nan")))


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"no 'particle'.*particles, rollouts"):
        parse_options({"particle": 3})
