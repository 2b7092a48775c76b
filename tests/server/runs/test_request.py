from typing import Any

import pytest

from bayesflow_server.errors import InputError, ServerError
from bayesflow_server.evaluation.example import Split
from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.runs.options import PRESETS, SamplerOptions
from bayesflow_server.runs.request import RunRequest, resolve, spec_warnings
from bayesflow_server.runs.spec import RunSpec, pinned_rows, request_hash, rows_of_split
from fakes.models import SPEC, FakeModel, FakeRegistry
from fakes.tasks import GRAMMAR, OPTIONS, addition_task, request

PRICES = PriceTable({"scripted": (1.0, 4.0)})
UNPRICED = PriceTable({})
SIZES: dict[Split, int] = {"demonstration": 0, "validation": 10, "selection": 5, "test": 7}


@pytest.fixture
async def models() -> FakeRegistry:
    return FakeRegistry(FakeModel())


def test_a_specification_survives_the_store(models: FakeRegistry) -> None:
    spec = resolve(request(), models, PRICES)
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec


def test_rows_survive_being_pinned() -> None:
    task = addition_task()
    pinned = pinned_rows(task)
    for split in SIZES:
        again = rows_of_split(pinned, split)
        assert [(row.id, row.problem, row.target) for row in again] == [
            (row.id, row.problem, row.target) for row in task.splits.of(split)
        ]


def test_the_hash_of_a_request_covers_rows_and_splits(models: FakeRegistry) -> None:
    spec = resolve(request(), models, PRICES)
    rows = pinned_rows(addition_task())
    assert request_hash(spec, rows) == request_hash(spec, pinned_rows(addition_task()))
    assert request_hash(spec, rows) != request_hash(spec, rows[:-1])
    assert request_hash(spec, rows) != request_hash(spec, pinned_rows(addition_task(seed=1)))


@pytest.mark.parametrize("text", ['say "{problem}" \\ {} {{', '\N{SNOWMAN}\'\n"""'])
def test_any_instructions_make_a_baseline_that_runs(models: FakeRegistry, text: str) -> None:
    spec = resolve(request(task=addition_task(instructions=text)), models, PRICES)
    assert not spec.own_baseline
    assert repr(text) in spec.baseline


class KeyedRegistry(FakeRegistry):
    """A registry of a server that has an Anthropic key."""

    def has_key(self, provider: str) -> bool:
        return provider == "anthropic"

    def require(self, spec: str) -> None:
        if not spec.startswith("anthropic:"):
            super().require(spec)


def asked(**changes: Any) -> RunRequest:
    """A request without a grammar, so that something else may write."""
    return request(grammar=None, **changes)


def test_a_request_without_an_optimizer_is_the_grammars_if_it_brings_one(
    models: FakeRegistry,
) -> None:
    spec = resolve(request(), models, PRICES)
    assert (spec.optimizer, spec.refiner, spec.preset) == ("grammar", "grammar", "balanced")
    assert spec.prompts is None


def test_without_a_key_the_agent_that_asks_writes_the_workflows(models: FakeRegistry) -> None:
    spec = resolve(asked(options=None), models, PRICES)
    assert (spec.optimizer, spec.preset, spec.options) == ("client", "client", PRESETS["client"])
    assert not spec.prior_independent
    assert any("not independent" in warning for warning in spec_warnings(spec))


def test_on_a_terminal_nobody_answers_proposals_and_the_grammar_writes(
    models: FakeRegistry,
) -> None:
    assert resolve(asked(agent=False), models, PRICES).optimizer == "grammar"


def test_with_an_anthropic_key_sonnet_writes(models: FakeRegistry) -> None:
    keyed = KeyedRegistry(FakeModel())
    spec = resolve(asked(), keyed, PRICES)
    assert spec.optimizer == "anthropic:claude-sonnet-5-5"
    assert spec.prompts is not None


def test_whoever_is_chosen_to_write_is_told(models: FakeRegistry) -> None:
    keyed = KeyedRegistry(FakeModel())
    chosen = {
        "you write the workflows": resolve(asked(options=None), models, PRICES),
        "the built-in grammar writes": resolve(asked(agent=False), models, PRICES),
        "anthropic:claude-sonnet-5-5 writes": resolve(asked(), keyed, PRICES),
    }
    for words, spec in chosen.items():
        assert f"No optimizer was named, so {words}" in spec.guesses[-1]
    for named in (request(), asked(optimizer="client", options=None)):
        assert not any("optimizer" in one for one in resolve(named, models, PRICES).guesses)


def test_roles_are_set_apart(models: FakeRegistry) -> None:
    options = OPTIONS.model_copy(
        update={"refiner": "client", "tiers": {"strong": SPEC}, "operator": "tree"}
    )
    spec = resolve(asked(optimizer=SPEC, options=options), models, PRICES)
    assert (spec.optimizer, spec.refiner, spec.tiers) == (SPEC, "client", {"strong": SPEC})
    assert spec.operator == "tree"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"optimizer": SPEC, "grammar": GRAMMAR}, "leave one of `grammar` and `optimizer` out"),
        ({"optimizer": SPEC, "preset": "client"}, "use 'quick', 'balanced' or 'paper'"),
        ({"optimizer": SPEC, "options": {"refiner": "grammar"}}, "refiner 'grammar'"),
        ({"optimizer": SPEC, "options": {"judge": SPEC}}, "asks no judge"),
        ({"optimizer": SPEC, "options": {"cost_cap": 0.1}}, "does nothing without"),
        ({"optimizer": "nobody:x"}, "nobody:x"),
        ({"optimizer": SPEC, "options": {"tiers": {"cheap": "nobody:y"}}}, "nobody:y"),
    ],
)
def test_roles_that_contradict_each_other_are_refused(
    models: FakeRegistry, changes: dict[str, Any], sentence: str
) -> None:
    given: dict[str, Any] = {"grammar": None, **changes}
    if isinstance(given.get("options"), dict):
        given["options"] = SamplerOptions.model_validate(given["options"])
    with pytest.raises(ServerError, match=sentence):
        resolve(request(**given), models, PRICES)


def test_the_paper_preset_asks_at_temperature_zero_and_warns_of_it(models: FakeRegistry) -> None:
    spec = resolve(asked(optimizer=SPEC, preset="paper", options=None), models, PRICES)
    assert spec.temperature == 0.0
    assert any("collapses" in warning for warning in spec_warnings(spec))
    assert resolve(asked(optimizer=SPEC), models, PRICES).temperature is None


def test_cost_counts_against_ten_zero_shot_calls_where_no_cap_is_given(
    models: FakeRegistry,
) -> None:
    options = OPTIONS.model_copy(update={"cost_weight": 0.2})
    spec = resolve(asked(optimizer=SPEC, options=options), models, PRICES)
    assert spec.cost_cap_usd == pytest.approx(10 * 300 * 4e-6, rel=0.1)
    capped = options.model_copy(update={"cost_cap": 0.5})
    assert resolve(asked(optimizer=SPEC, options=capped), models, PRICES).cost_cap_usd == 0.5
    with pytest.raises(InputError, match="price"):
        resolve(asked(optimizer=SPEC, options=options), models, UNPRICED)


def test_a_specification_of_the_first_release_is_still_read(models: FakeRegistry) -> None:
    spec = resolve(request(), models, PRICES)
    new = {"refiner", "judge", "tiers", "operator", "temperature", "cost_weight"}
    new |= {"cost_cap_usd", "prompts", "policy"}
    old = spec.model_dump_json(exclude=new)
    assert RunSpec.model_validate_json(old).roles == spec.roles
