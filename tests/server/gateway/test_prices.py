import pytest
from genai_prices import Usage as Tokens
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.models.chat import Usage
from fakes.approx import approx

# With and without tiers, of both providers.
LISTED = [
    "anthropic:claude-haiku-5-5",
    "anthropic:claude-sonnet-5-5",
    "anthropic:claude-sonnet-4-5",
    "openai:gpt-5",
    "openai:gpt-5-mini",
]


@given(
    spec=st.sampled_from(LISTED),
    asked=st.integers(0, 900_000),
    answered=st.integers(0, 100_000),
    share=st.floats(0, 1),
)
def test_the_bill_is_what_the_price_list_computes_on_every_tier(
    spec: str, asked: int, answered: int, share: float
) -> None:
    cached = int(asked * share)
    provider, _, model = spec.partition(":")
    tokens = Tokens(input_tokens=asked, cache_read_tokens=cached, output_tokens=answered)
    listed = float(calc_price(tokens, model, provider_id=provider).total_price)
    assert PriceTable().cost_usd(spec, Usage(asked, answered, cached)) == approx(listed)


@pytest.mark.parametrize("spec", LISTED)
def test_at_list_price_nothing_is_cached(spec: str) -> None:
    prices = PriceTable()
    some = Usage(1000, 100, 900)
    assert prices.list_cost_usd(spec, some) == prices.cost_usd(spec, Usage(1000, 100))
    billed = prices.cost_usd(spec, some)
    listed = prices.list_cost_usd(spec, some)
    assert billed is not None
    assert listed is not None
    assert 0 < billed < listed


@pytest.mark.parametrize("spec", ["local:smollm2", "client", "grammar"])
def test_what_runs_here_or_at_the_client_costs_nothing(spec: str) -> None:
    assert PriceTable().cost_usd(spec, Usage(1000, 1000)) == 0.0
    assert PriceTable().is_known(spec)


@pytest.mark.parametrize(
    "spec", ["scripted:default", "lab:qwen", "openai:never-heard-of", "anthropic:", "", "gpt-5"]
)
def test_a_price_that_is_on_no_list_is_unknown_and_not_zero(spec: str) -> None:
    assert PriceTable().cost_usd(spec, Usage()) is None
    assert PriceTable().list_cost_usd(spec, Usage(1, 1)) is None
    assert not PriceTable().is_known(spec)


def test_a_price_given_at_launch_goes_before_the_list_and_knows_no_discount() -> None:
    prices = PriceTable({"lab": (2.0, 8.0), "openai": (0.0, 1.0)})
    assert prices.cost_usd("lab:qwen", Usage(1_000_000, 500_000, 700_000)) == approx(6.0)
    assert prices.cost_usd("openai:gpt-5", Usage(10, 1_000_000)) == approx(1.0)
    assert prices.cost_usd("lab", Usage(1, 1)) == approx(1e-5)
