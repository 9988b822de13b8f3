"""Short sessions of COIN-M and Binance.US: what is lost is fetched, and the klines are the same."""

from __future__ import annotations

import decimal
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bintrades.model import utc
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.simulated_market import FILLS, SimulatedTrade
from bintrades.util.clocks import utc_ms
from tests.end_to_end.collector import Collector

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bintrades.model import Bar
    from tests.end_to_end.collector import Sections

MINUTE = 60_000
MINUTES = 4
STEP = 500
LOST = range(MINUTE + 15_000, MINUTE + 35_000)
"""Of either symbol: within one minute, of two bars all and of two a half."""
DIGITS = decimal.Context(prec=34)
CONTRACT_SIZES = {"BTCUSD_PERP": 100, "ETHUSD_PERP": 10}


def happened(symbol: str, since_ms: int, *, has_fillers: bool) -> list[SimulatedTrade]:
    """Return four minutes of a symbol and the first trade behind them, whose ids have no hole."""
    made: list[SimulatedTrade] = []
    for number, time_ms in enumerate(range(since_ms, since_ms + MINUTES * MINUTE + 1, STEP)):
        price, quantity = f"{2_000 + number % 7}.5", str(1 + number % 5)
        made.append(
            SimulatedTrade(
                symbol, 1 + len(made), price, quantity, time_ms, time_ms, number % 3 == 0
            )
        )
        if has_fillers and number % 8 == 0:
            made.append(
                SimulatedTrade(symbol, 1 + len(made), "0", "0", time_ms, time_ms, True, "NA")
            )
    return made


def collecting(market: str, symbols: Sequence[str]) -> Sections:
    return {
        "binance": {"market": market},
        "symbols": {"include": " ".join(symbols)},
        "repair": {"enabled": "yes", "weight_share": "100"},
        "audit": {"enabled": "no"},
        "proof": {"every": "1h"},
    }


def play_with_a_loss(
    exchange: ExchangeSimulator, trades: Sequence[SimulatedTrade], since_ms: int
) -> None:
    """Have all happen, in the order of time, and that of LOST not sent."""
    in_time = sorted(trades, key=lambda trade: trade.time_ms)
    exchange.publish_trades(each for each in in_time if each.time_ms - since_ms < LOST[0])
    exchange.add_trades(each for each in in_time if each.time_ms - since_ms in LOST)
    exchange.publish_trades(each for each in in_time if each.time_ms - since_ms > LOST[-1])


def collected(
    exchange: ExchangeSimulator, collector: Collector, symbols: Sequence[str]
) -> tuple[int, list[SimulatedTrade], dict[str, Any]]:
    """Return when the session began, its fills, and what verify says when all is collected."""
    since = utc_ms() // MINUTE * MINUTE - 30 * MINUTE
    is_futures = exchange.market.rules.is_futures
    trades = [
        each for symbol in symbols for each in happened(symbol, since, has_fillers=is_futures)
    ]
    fills = [each for each in trades if each.kind in FILLS]
    collector.start()
    exchange.wait_for_subscription(*(f"{each.lower()}@trade" for each in symbols))
    play_with_a_loss(exchange, trades, since)
    collector.wait_until(
        lambda: collector.trade_count() == len(fills) and not collector.journal.gaps(),
        lambda: f"{collector.trade_count()} of {len(fills)}, gaps {collector.journal.gaps()}",
    )
    span = [utc(time_ms).isoformat() for time_ms in (since, since + MINUTES * MINUTE)]
    done = collector.command("verify", "--json", "--since", span[0], "--until", span[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert collector.stop() == 0
    said: dict[str, Any] = json.loads(done.stdout)
    return since, fills, said


def assert_all_equal(said: dict[str, Any], symbols: Sequence[str]) -> None:
    found = [
        (each["symbol"], each["equal_seconds"], each["different_seconds"])
        for each in said["symbols"]
    ]
    assert found == [(symbol, MINUTES * 60, 0) for symbol in symbols], said


def in_bar(fills: Sequence[SimulatedTrade], bar: Bar) -> list[SimulatedTrade]:
    return [
        each
        for each in fills
        if each.symbol == bar.symbol and bar.open_time_ms <= each.time_ms < bar.end_time_ms
    ]


def base_value(fills: Sequence[SimulatedTrade]) -> Decimal:
    """Return what contracts are worth in the base asset: 34 digits of each fill, all of the sum."""
    with decimal.localcontext(prec=100):
        return sum(
            (
                DIGITS.divide(
                    CONTRACT_SIZES[each.symbol] * Decimal(each.quantity), Decimal(each.price)
                )
                for each in fills
            ),
            Decimal(0),
        )


def test_a_coinm_session_counts_contracts_and_is_the_same_as_its_klines(tmp_path: Path) -> None:
    symbols = tuple(CONTRACT_SIZES)
    with (
        ExchangeSimulator(symbols, market="coinm") as exchange,
        Collector(tmp_path, exchange, collecting("coinm", symbols)) as collector,
    ):
        since, fills, said = collected(exchange, collector, symbols)
        bars = collector.bars()

    assert_all_equal(said, symbols)
    assert len(bars) == 2 * (6 * MINUTES + 1)
    for (symbol, open_ms), bar in bars.items():
        own, told = in_bar(fills, bar), bar.as_dict()
        assert told["quantity"] == sum(int(each.quantity) for each in own)
        assert told["value"] == DIGITS.plus(base_value(own))
        buys = [each for each in own if not each.buyer_is_maker]
        assert told["buy_value"] == DIGITS.plus(base_value(buys))
        assert bar.value == base_value(own), "not rounded in the journal"
        contracts = CONTRACT_SIZES[symbol] * told["quantity"]
        assert told["average_price"] == DIGITS.divide(contracts, base_value(own))
        if open_ms < since + MINUTES * MINUTE:
            assert bar.is_complete, bar
            ids = told["last_trade_id"] - told["first_trade_id"] + 1
            assert ids == told["trade_count"] + told["excluded_count"], bar
            assert told["excluded_count"] > 0
            assert not told["is_approximate"]
    paths = {request.path for request in exchange.rest_requests}
    assert {"/dapi/v1/trades", "/dapi/v1/klines", "/dapi/v1/exchangeInfo"} <= paths


def test_a_session_of_binance_us_is_the_same_as_its_klines_without_a_key(tmp_path: Path) -> None:
    symbols = ("BTCUSD", "ETHUSD")
    with (
        ExchangeSimulator(symbols, market="us") as exchange,
        Collector(tmp_path, exchange, collecting("us", symbols)) as collector,
    ):
        since, fills, said = collected(exchange, collector, symbols)
        bars = collector.bars()

    assert_all_equal(said, symbols)
    assert len(bars) == 2 * (6 * MINUTES + 1)
    for (_, open_ms), bar in bars.items():
        own, told = in_bar(fills, bar), bar.as_dict()
        assert told["trade_count"] == len(own)
        assert told["quantity"] == sum(int(each.quantity) for each in own)
        assert told["value"] == sum(int(each.quantity) * Decimal(each.price) for each in own)
        assert told.keys().isdisjoint({"excluded_count", "is_approximate"})
        assert bar.is_complete or open_ms == since + MINUTES * MINUTE, bar
    statuses = {request.path: request.status for request in exchange.rest_requests}
    assert statuses["/api/v3/klines"] == 200
    assert 401 not in statuses.values(), "historicalTrades is for those who send a key"
