"""Trades and aggregates as each simulated market spells them, on streams and in REST answers. Pure.

Also what a symbol's row of exchangeInfo has in it.
"""

from __future__ import annotations

import json
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bintrades.testing.market_rules import MarketRules
    from bintrades.testing.simulated_market import Aggregate, SimulatedTrade

_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY", "BRL", "USD")
_EXACT = Context(prec=200, rounding=ROUND_DOWN)
_EIGHT_PLACES = Decimal("1E-8")
_CENTS = Decimal("0.01")


def aggregate_payload(aggregate: Aggregate, event_time_ms: int, rules: MarketRules) -> bytes:
    """Return the aggregate as the raw stream sends it."""
    row = aggregate_row(aggregate, rules)
    fields = {"e": "aggTrade", "E": event_time_ms, "s": aggregate.trades[0].symbol, **row}
    if rules.is_futures:
        fields["st"] = rules.settlement
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def trade_row(trade: SimulatedTrade, rules: MarketRules, contract_size: int) -> dict[str, object]:
    """Return the trade as REST answers it."""
    row: dict[str, object] = {"id": trade.trade_id, "price": trade.price, "qty": trade.quantity}
    if rules.has_contracts:
        value = base_value(trade, contract_size).quantize(_EIGHT_PLACES, ROUND_HALF_UP)
        row["baseQty"] = f"{value:f}"
    else:
        places = _CENTS if rules.is_futures else _EIGHT_PLACES
        row["quoteQty"] = f"{_product(trade).quantize(places, context=_EXACT):f}"
    row |= {"time": trade.time_ms, "isBuyerMaker": trade.buyer_is_maker}
    if not rules.is_futures:
        row["isBestMatch"] = True
    elif not rules.has_contracts:
        row["isRPITrade"] = trade.kind == "RPI"
    return row


def aggregate_row(aggregate: Aggregate, rules: MarketRules) -> dict[str, object]:
    """Return the aggregate as REST answers it."""
    first, last = aggregate.trades[0], aggregate.trades[-1]
    row: dict[str, object] = {
        "a": aggregate.aggregate_id,
        "p": first.price,
        "q": _sum(aggregate.trades),
    }
    if rules.is_futures and not rules.has_contracts:
        row["nq"] = _sum(trade for trade in aggregate.trades if trade.kind != "RPI")
    row |= {
        "f": first.trade_id,
        "l": last.trade_id,
        "T": first.time_ms,
        "m": first.buyer_is_maker,
    }
    if not rules.is_futures:
        row["M"] = True
    return row


def quote_quantity(trade: SimulatedTrade) -> Decimal:
    """Return price times quantity, cut to eight decimals as spot does."""
    return _product(trade).quantize(_EIGHT_PLACES, context=_EXACT)


def base_value(trade: SimulatedTrade, contract_size: int) -> Decimal:
    """Return what contracts are worth in the base asset, to more digits than anybody asks for."""
    worth = _EXACT.multiply(Decimal(contract_size), Decimal(trade.quantity))
    return _EXACT.divide(worth, Decimal(trade.price))


def listing(symbol: str, status: str, rules: MarketRules, contract_size: int) -> dict[str, object]:
    """Return a symbol's row of exchangeInfo."""
    name = symbol.partition("_")[0]
    quote = next((each for each in _QUOTES if name.endswith(each)), name[-3:])
    row: dict[str, object] = {
        "symbol": symbol,
        rules.status_key: status,
        "baseAsset": name.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
    }
    if rules.is_futures:
        row |= {"pair": name, "contractType": "PERPETUAL", "orderTypes": ["LIMIT", "MARKET"]}
        if rules.has_contracts:
            row["contractSize"] = contract_size
        else:
            row["permissionSets"] = ["GRID", "COPY"]
    else:
        row |= {
            "quoteAssetPrecision": 8,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": [],
            "permissionSets": [["SPOT"]],
        }
    row["filters"] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01000000",
            "maxPrice": "1000000.00000000",
            "tickSize": "0.01000000",
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": "0.00001000",
            "maxQty": "9000.00000000",
            "stepSize": "0.00001000",
        },
    ]
    return row


def _product(trade: SimulatedTrade) -> Decimal:
    return _EXACT.multiply(Decimal(trade.price), Decimal(trade.quantity))


def _sum(trades: Iterable[SimulatedTrade]) -> str:
    quantity = Decimal(0)
    for trade in trades:
        quantity = _EXACT.add(quantity, Decimal(trade.quantity))
    return f"{quantity:f}"
