import ast
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bayesflow_sampler import final_pick, operators, tempering
from bayesflow_sampler.correction import REPAIRS
from bayesflow_sampler.options import SearchOptions
from bayesflow_sampler.refinement import KEPT
from bayesflow_sampler.selection import select

DOCS = Path(__file__).parents[2] / "docs"
NUMERALS = {2: "two", 3: "three", 5: "five", 10: "ten"}


@pytest.fixture(scope="module")
def generator() -> Iterator[ModuleType]:
    sys.path.insert(0, str(DOCS))
    yield importlib.import_module("make_algorithm")
    sys.path.remove(str(DOCS))


@pytest.fixture(scope="module")
def toy(generator: ModuleType) -> ModuleType:
    return importlib.import_module("algorithm_toy")


@pytest.fixture(scope="module")
def parts(generator: ModuleType) -> Mapping[str, str]:
    """The enumerated parts of the page, as they are computed now."""
    computed: Mapping[str, str] = generator.blocks()
    return computed


@pytest.fixture(scope="module")
def page() -> str:
    return (DOCS / "algorithm.md").read_text(encoding="utf-8")


def test_the_enumerated_numbers_of_the_page_are_those_of_the_shipped_functions(
    generator: ModuleType, parts: Mapping[str, str], page: str
) -> None:
    assert generator.replaced(page, parts) == page, "run `make docs`"


def test_a_number_that_was_changed_on_the_page_is_found(
    generator: ModuleType, parts: Mapping[str, str], page: str
) -> None:
    stale = page.replace("| 0.281 |", "| 0.282 |")
    assert stale != page
    assert generator.replaced(stale, parts) == page


def test_a_page_without_markers_is_refused(generator: ModuleType) -> None:
    with pytest.raises(ValueError, match="words"):
        generator.replaced("# Algorithm\n", {"words": ""})
    with pytest.raises(ValueError, match="words"):
        generator.replaced("<!-- begin words -->\n", {"words": ""})


def test_every_variant_that_the_page_calls_unbiased_is_so_to_rounding(toy: ModuleType) -> None:
    for name, variant in toy.VARIANTS.items():
        error = abs(toy.mean_estimate(variant) - 1)
        if "control" in name:
            assert error > 1e-3, name
        else:
            assert error < 1e-12, name


@pytest.mark.parametrize("name", ["ess_threshold", "tempering"])
def test_the_trigger_and_tempering_bite_in_some_selections_of_the_toy_and_not_in_all(
    toy: ModuleType, name: str
) -> None:
    share = next(value for v in toy.VARIANTS.values() if (value := getattr(v, name)) is not None)
    asked: dict[str, Any] = {name: share}
    chosen = [
        select([0.0, 0.0], [toy.REWARDS[first], toy.REWARDS[second]], 2, [0.5].__getitem__, **asked)
        for first in toy.WORDS
        for second in toy.WORDS
    ]
    plain = [one.resampled and one.temper == 1 for one in chosen]
    assert any(plain)
    assert not all(plain)


def test_the_clean_floor_of_the_toy_holds_refined_lineages_back(toy: ModuleType) -> None:
    floor = next(v.clean_floor for v in toy.VARIANTS.values() if v.clean_floor)
    free = toy.mean_estimate(toy.Variant(inject=True, everyone=True))
    held = toy.mean_estimate(toy.Variant(inject=True, everyone=True, clean_floor=floor))
    assert abs(free - held) > 1e-3


def test_the_laws_of_the_toy_are_laws(toy: ModuleType) -> None:
    for law in (toy.prior(), toy.posterior(2.0), toy.printed_limit(2.0)):
        assert sum(law.values()) == pytest.approx(1)
    assert toy.value("", 1.0) == pytest.approx(
        sum(p * toy.value(word, 1.0) for word, p in toy.prior().items())
    )


def test_the_page_names_every_option_and_none_that_there_is_not(page: str) -> None:
    names = {field.name for field in fields(SearchOptions)}
    code = set(re.findall(r"`([^`\n]+)`", page))
    words = {word for text in code for word in re.findall(r"[a-z_]+", text)}
    assert names <= words
    assigned = {match[1] for text in code if (match := re.fullmatch(r"([a-z_]+)=.*", text))}
    assert assigned
    assert assigned <= names


def test_the_settings_that_the_page_writes_out_are_accepted(page: str) -> None:
    found = re.findall(r"`([a-z_]+)=(\"[a-z]+\"|\d+|True|False|None)`", page)
    assert {name for name, _ in found} >= {"weighting", "refinement", "lookahead"}
    for name, text in found:
        settings: dict[str, Any] = {name: ast.literal_eval(text)}
        assert getattr(SearchOptions(**settings), name) == settings[name]


def test_every_link_of_the_page_leads_to_a_file(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", page)
    assert "algorithm.png" in links
    assert not [link for link in links if not (DOCS / link).exists()]


def test_the_constants_that_the_page_tells_are_those_of_the_code(page: str) -> None:
    text = " ".join(page.split())
    low, high = tempering.BETA_RANGE
    assert f"the {NUMERALS[final_pick.COMPLETED]} best by shrunk score are completed" in text
    assert f"the {NUMERALS[final_pick.RESCORED]} best of those are scored" in text
    assert f"one of the {NUMERALS[operators.TOP]} best complete workflows" in text
    assert f"the {NUMERALS[KEPT]} best edits of earlier rounds" in text
    assert f"at temperature {operators.TEMPERATURE}" in text
    assert f"β within {low:g} to {high:g}" in text
    assert f"at most {REPAIRS} repairs" in text


def test_the_plot_is_small(generator: ModuleType) -> None:
    assert generator.PLOT.stat().st_size < 100_000


@pytest.mark.slow
def test_the_curves_of_the_plot_are_what_the_page_says(
    generator: ModuleType, toy: ModuleType
) -> None:
    """Seeds are fixed; at the largest N the factor 1.5 is six standard errors away."""
    independent, exact, paper = generator.distances().values()
    assert all(ours < 1.5 * floor for ours, floor in zip(exact, independent, strict=True))
    limit = toy.total_variation(toy.printed_limit(1.0), toy.posterior(1.0))
    assert paper[-1] == pytest.approx(limit, abs=0.002)
    assert exact[-1] < limit / 20
