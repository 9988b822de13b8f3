"""A long loss of futures: approximated without an API key, and made good once there is one."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.model import utc
from bintrades.testing.exchange_simulator import ExchangeSimulator
from bintrades.testing.simulated_market import FILLS, SimulatedTrade
from bintrades.util.clocks import utc_ms
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import (
    assert_same_bars,
    bars_of,
    documents,
    in_the_journal,
    in_the_trades,
)
from tests.end_to_end.stage import newest_connection, wait_for_subscription_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from pymongo.database import Database

    from bintrades.model import Bar
    from tests.end_to_end.collector import Sections
    from tests.end_to_end.market import Fields, Key

BTC, ETH = "BTCUSDT", "ETHUSDT"
MINUTE = 60_000
SLOT = 200
LOST = (MINUTE, 3 * MINUTE)
"""Minutes of BTCUSDT that do not reach anybody: 1,200 fills, of 2,400 in all."""
END = 4 * MINUTE
SUMS = ("quantity", "buy_quantity", "sell_quantity", "value", "buy_value", "sell_value")
USDM: Sections = {
    "binance": {"market": "usdm"},
    "repair": {"enabled": "yes", "weight_share": "100"},
    "audit": {"enabled": "no"},
    "proof": {"every": "1h"},
}
KEY: Sections = {"binance": {"api_key": "aKeyOfNobody2024"}}


@pytest.fixture
def exchange() -> Iterator[ExchangeSimulator]:
    """Run USD-M futures, with a weight that is no obstacle to anybody who reads rateLimits."""
    with ExchangeSimulator(market="usdm", weight_limit=1_000_000) as simulator:
        yield simulator


def happened(symbol: str, since_ms: int) -> list[SimulatedTrade]:
    """Return four minutes of a symbol: orders of two fills, and ids that are no fills.

    Of those, some are between orders, and some between the two fills of one, within the aggregate.
    At the end are two fills of the minute behind, which prove what is before: so the newest 1,000
    begin with a whole order.
    """
    made: list[SimulatedTrade] = []

    def add(time_ms: int, price: str, quantity: str, kind: str = "") -> None:
        is_sell = time_ms // SLOT % 3 == 0
        made.append(
            SimulatedTrade(symbol, 1 + len(made), price, quantity, time_ms, time_ms, is_sell, kind)
        )

    for number, time_ms in enumerate(range(since_ms, since_ms + END, SLOT)):
        price = f"{2_000 + number % 7}.5"
        add(time_ms, price, f"0.{1 + number % 5}")
        if number % 15 == 0:
            add(time_ms + 20, "0", "0", "NA")
        add(time_ms + 50, price, f"0.{1 + number % 9}")
        if number % 10 == 0:
            add(time_ms + 100, "0", "0", "NA")
    add(since_ms + END, "2000.5", "1")
    add(since_ms + END, "2000.5", "1")
    return made


def as_events(trades: list[SimulatedTrade]) -> list[dict[str, Any]]:
    """Return the fills as the stream has them."""
    return [
        {
            "s": each.symbol,
            "t": each.trade_id,
            "p": each.price,
            "q": each.quantity,
            "T": each.time_ms,
            "m": each.buyer_is_maker,
        }
        for each in trades
        if each.kind in FILLS
    ]


def left_open(collector: Collector) -> list[dict[str, Any]]:
    """Return the gaps that `bintrades gaps --json` says have not ended."""
    done = collector.command("gaps", "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return [row for row in rows if row["state"] not in ("repaired", "excluded", "absent")]


def approximated(collector: Collector) -> dict[tuple[str, int], Bar]:
    return {key: bar for key, bar in collector.bars().items() if bar.is_approximate}


def sums(bars: Iterable[Mapping[str, Any]]) -> dict[str, Decimal]:
    """Return what the bars of BTCUSDT come to, all together."""
    own = [bar for bar in bars if bar["symbol"] == BTC]
    return {name: sum((bar[name] for bar in own), Decimal(0)) for name in SUMS}


def replaced(collector: Collector, since_ms: int) -> dict[str, int]:
    """Have `bintrades verify --repair` look at all; return how many bars of a symbol it replaced.

    Nothing that it compares may differ.
    """
    span = ("--since", utc(since_ms).isoformat(), "--until", utc(since_ms + END).isoformat())
    done = collector.command("verify", "--repair", "--json", *span)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["total"]["different_seconds"] == 0, said
    return {each["symbol"]: each["replaced"] for each in said["symbols"]}


def lose_two_minutes(exchange: ExchangeSimulator, trades: Iterable[SimulatedTrade]) -> None:
    """Have all happen, and of BTCUSDT not sent what is LOST."""
    in_time = sorted(trades, key=lambda trade: trade.time_ms)
    begin = in_time[0].time_ms
    first, behind = begin + LOST[0], begin + LOST[1]
    during = [each for each in in_time if first <= each.time_ms < behind]
    exchange.publish_trades(each for each in in_time if each.time_ms < first)
    exchange.add_trades(each for each in during if each.symbol == BTC)
    exchange.publish_trades(each for each in during if each.symbol == ETH)
    exchange.publish_trades(each for each in in_time if each.time_ms >= behind)


def test_a_long_loss_is_approximated_without_a_key_and_made_of_single_trades_with_one(
    exchange: ExchangeSimulator,
    mongodb_database: Database[dict[str, Any]],
    mongodb_uri: str,
    tmp_path: Path,
) -> None:
    since = utc_ms() // MINUTE * MINUTE - 30 * MINUTE
    trades = [each for symbol in (BTC, ETH) for each in happened(symbol, since)]
    right = bars_of(as_events(trades), "usdm")
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    with Collector(tmp_path, exchange, store, USDM) as collector:
        before = newest_connection(exchange)
        collector.start()
        wait_for_subscription_after(exchange, before)
        lose_two_minutes(exchange, trades)
        collector.wait_until(
            lambda: {row["state"] for row in left_open(collector)} == {"approximated"},
            lambda: f"{left_open(collector)}",
        )
        assert_approximated(collector, since, right)
        assert replaced(collector, since) == {BTC: 0, ETH: 0}, "there is no key"
        assert_approximated(collector, since, right)
        assert collector.stop() == 0

        collector.configure(KEY)
        before = newest_connection(exchange)
        collector.start()
        wait_for_subscription_after(exchange, before)
        count = len(approximated(collector))
        assert replaced(collector, since) == {BTC: count, ETH: 0}
        collector.wait_until(lambda: not left_open(collector), lambda: f"{left_open(collector)}")
        bars = collector.bars()
        assert sum(bar.epoch == 1 for bar in bars.values()) == count
        for (symbol, open_ms), bar in bars.items():
            assert not bar.is_approximate, bar
            assert bar.is_complete or open_ms == since + END, (symbol, bar)
        assert_same_bars(in_the_journal(bars.values()), right)
        collector.wait_until(
            lambda: mongodb_database["bars"].count_documents({"epoch": 1}) == count,
            lambda: "MongoDB has not got the bars that were made again",
        )
        assert collector.stop() == 0

    assert_same_bars(in_the_trades(documents(mongodb_database)), right)
    assert "aKeyOfNobody2024" not in collector.log


def assert_approximated(collector: Collector, since: int, right: dict[Key, Fields]) -> None:
    """Assert that only bars of the lost minutes are approximate, and say so, and lack nothing."""
    rows = left_open(collector)
    assert {(row["symbol"], row["state"]) for row in rows} == {(BTC, "approximated")}
    approximate = approximated(collector)
    lost = range(since + LOST[0], since + LOST[1], 10_000)
    assert len(approximate) >= 6
    assert {*approximate} <= {(BTC, open_ms) for open_ms in lost}
    assert not any(bar.is_complete for bar in approximate.values())
    ids = sum(row["last_id"] - row["first_id"] + 1 for row in rows)
    assert 600 <= ids <= 1_200
    assert sums(bar.as_dict() for bar in collector.bars().values()) == sums(right.values())
    wrong_counts = [
        bar.open_time_ms
        for bar in approximate.values()
        if bar.trade_count >= right[BTC, utc(bar.open_time_ms)]["trade_count"]
    ]
    assert not wrong_counts, "each aggregate of two counts once"
