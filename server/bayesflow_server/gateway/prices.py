"""What tokens cost: list prices of `anthropic:` and `openai:`, and those given for an endpoint.

A model on this machine, the client's own and the grammar cost nothing. Every other price that is
not on a list is unknown (None), never 0. The list is the package genai-prices, which works offline.
Two figures: what was billed (cached input tokens at their own price), and the list cost, as if
nothing had been cached.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from bayesflow_server.gateway.usage import is_free
from bayesflow_server.models.chat import Usage

if TYPE_CHECKING:
    from genai_prices.types import TieredPrices

__all__ = ["PriceTable"]

_LISTED: Final = ("anthropic", "openai")


class _Tier(NamedTuple):
    """The price of a token in calls with more than `above` input tokens."""

    above: float
    usd: float


class _Rates(NamedTuple):
    """Each with its tiers, from the lowest up; the last that applies prices the whole call."""

    input: tuple[_Tier, ...]
    cached: tuple[_Tier, ...]
    output: tuple[_Tier, ...]


_FREE: Final = _Rates((_Tier(-1, 0.0),), (_Tier(-1, 0.0),), (_Tier(-1, 0.0),))


@dataclass
class PriceTable:
    """The prices in force in this process.

    Attributes:
        overrides: By the name before the colon of a spec, US dollars for a million tokens in and
            for a million out. They go before any list.
    """

    overrides: Mapping[str, tuple[float, float]] = field(
        default_factory=dict[str, tuple[float, float]]
    )
    # The list is searched once for each model: it costs 0.1 ms, as much as the rest of a call.
    _known: dict[str, _Rates | None] = field(
        default_factory=dict[str, "_Rates | None"], init=False, repr=False
    )

    def is_known(self, spec: str) -> bool:
        """Whether calls to the model have a price."""
        return self._rates(spec) is not None

    def cost_usd(self, spec: str, usage: Usage) -> float | None:
        """What the tokens are billed at, or None if that is not known."""
        rates = self._rates(spec)
        if rates is None:
            return None
        fresh = usage.input_tokens - usage.cached_input_tokens
        return (
            fresh * _price(rates.input, usage)
            + usage.cached_input_tokens * _price(rates.cached, usage)
            + usage.output_tokens * _price(rates.output, usage)
        )

    def list_cost_usd(self, spec: str, usage: Usage) -> float | None:
        """What the tokens would cost if none of them had been cached."""
        return self.cost_usd(spec, Usage(usage.input_tokens, usage.output_tokens))

    def _rates(self, spec: str) -> _Rates | None:
        try:
            return self._known[spec]
        except KeyError:
            return self._known.setdefault(spec, self._look_up(spec))

    def _look_up(self, spec: str) -> _Rates | None:
        provider, _, model = spec.partition(":")
        given = self.overrides.get(provider)
        if given is not None:
            asked, answered = (_Tier(-1, usd / 1e6) for usd in given)
            return _Rates((asked,), (asked,), (answered,))
        if is_free(spec):
            return _FREE
        return _listed(provider, model) if provider in _LISTED else None


def _listed(provider: str, model: str) -> _Rates | None:
    # Heavy (0.2 CPU-s): imported when the first listed model is priced.
    from genai_prices import Usage as Tokens
    from genai_prices import calc_price

    try:
        found = calc_price(Tokens(input_tokens=1, output_tokens=1), model, provider_id=provider)
    except LookupError:
        return None
    prices = found.model_price
    asked, answered = _tiers(prices.input_mtok), _tiers(prices.output_mtok)
    if asked is None or answered is None:
        return None
    return _Rates(asked, _tiers(prices.cache_read_mtok) or asked, answered)


def _tiers(price: "Decimal | TieredPrices | None") -> tuple[_Tier, ...] | None:
    if price is None:
        return None
    if isinstance(price, Decimal):
        return (_Tier(-1, float(price) / 1e6),)
    above = (_Tier(tier.start, float(tier.price) / 1e6) for tier in price.tiers)
    return (_Tier(-1, float(price.base) / 1e6), *above)


def _price(tiers: tuple[_Tier, ...], usage: Usage) -> float:
    if len(tiers) == 1:
        return tiers[0].usd
    return [tier.usd for tier in tiers if usage.input_tokens > tier.above][-1]
