from bayesflow_server.gateway.prices import PriceTable
from bayesflow_server.gateway.usage import UsageTotals, is_free, total_usd
from bayesflow_server.models.chat import Usage
from bayesflow_server.store.records import UsageRecord

CALL = Usage(input_tokens=10, output_tokens=5)


def test_what_runs_here_or_at_the_client_is_free_and_other_prices_are_unknown() -> None:
    assert is_free("local:smollm2")
    assert PriceTable().list_cost_usd("local:smollm2", CALL) == 0.0
    assert is_free("client")
    assert is_free("grammar")
    assert not is_free("clients:m")
    assert not is_free("anthropic:claude-haiku-5-5")
    assert PriceTable().list_cost_usd("anthropic:no-such-model", CALL) is None


def test_a_sum_with_an_unknown_part_is_unknown_and_not_zero() -> None:
    assert total_usd([0.25, 0.5]) == 0.75
    assert total_usd([]) == 0.0
    assert total_usd([0.25, None]) is None


def test_totals_add_up_over_roles_and_models() -> None:
    paid = UsageRecord("run_1", "executor", "m", 3, 2, 4, 100, 10, 0.5)
    judged = UsageRecord("run_1", "judge", "n", 1, 0, 1, 20, 5, None)
    assert UsageTotals.of([paid]) == UsageTotals(3, 2, 4, 110, 0.5)
    assert UsageTotals.of([paid, judged]) == UsageTotals(4, 2, 5, 135, None)
