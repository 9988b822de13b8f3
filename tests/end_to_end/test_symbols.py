"""Symbols that come and go while a collector runs: nothing of any other is lost."""

from __future__ import annotations

import json
from contextlib import contextmanager
from signal import SIGHUP
from typing import TYPE_CHECKING, Any

from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector
from tests.end_to_end.trading import Trading, expected

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades.model import Bar
    from tests.end_to_end.collector import Sections

STAY = ("BTCUSDT", "ETHUSDT")


def assert_whole(collector: Collector, trading: Trading, *symbols: str) -> None:
    """Assert that every trade is in one bar, once."""
    for symbol in symbols:
        bars = bars_of(collector, symbol)
        wanted = expected(trading.happened[symbol])
        assert bars.keys() == wanted.keys(), symbol
        for open_time, bar in bars.items():
            one = wanted[open_time]
            found = (bar.trade_count, bar.quantity, bar.first_trade_id, bar.last_trade_id)
            assert found == (one.count, one.quantity, one.first, one.last), (symbol, bar)


def bars_of(collector: Collector, symbol: str) -> dict[int, Bar]:
    """Return the bars of a symbol by open time, the oldest first."""
    bars = sorted(collector.bars().items())
    return {open_time: bar for (name, open_time), bar in bars if name == symbol}


def quick(include: str, **options: object) -> Sections:
    """Return a configuration that looks for symbols every second, and makes bars of a second."""
    return {
        "symbols": {"include": include, "refresh": "1s", **options},
        "bars": {"interval": "1s", "grace": "200ms"},
        "repair": {"enabled": "yes", "weight_share": "100"},
        "audit": {"enabled": "no"},
        "binance": {"silence_timeout": "5m"},
    }


@contextmanager
def running(
    tmp_path: Path, exchange: ExchangeSimulator, include: str, **options: object
) -> Iterator[Collector]:
    """Run a collector, and stop it in good order at the end."""
    with Collector(tmp_path, exchange, quick(include, **options)) as collector:
        collector.start()
        yield collector
        assert collector.stop() == 0


def begin_trading(exchange: ExchangeSimulator, trading: Trading, collector: Collector) -> None:
    """Have the symbols that stay trade once the collector listens, and a bar of each close."""
    exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")
    trading.begin(*STAY)
    for symbol in STAY:
        wait_for_bars(collector, symbol)


def wait_for_bars(collector: Collector, symbol: str, count: int = 2) -> None:
    """Wait until *symbol* has so many closed bars."""

    def closed() -> int:
        return sum(bar.is_closed for bar in bars_of(collector, symbol).values())

    collector.wait_until(lambda: closed() >= count, lambda: f"{closed()} bars of {symbol}")


def wait_until_proven(collector: Collector, trading: Trading, *symbols: str) -> None:
    """Wait until each trade so far of *symbols* is in a bar, and every bar but the last complete.

    What proves the last one is the exchange's word, some seconds later.
    """

    def lacking() -> list[str]:
        found = {symbol: list(bars_of(collector, symbol).values()) for symbol in symbols}
        counts = {symbol: sum(bar.trade_count for bar in bars) for symbol, bars in found.items()}
        return [
            f"{symbol}: {counts[symbol]} of {len(trading.happened[symbol])} trades"
            for symbol, bars in found.items()
            if counts[symbol] != len(trading.happened[symbol])
            or not all(bar.is_complete for bar in bars[:-1])
        ]

    collector.wait_until(lambda: not lacking(), lambda: f"lacking {lacking()}")
    assert not collector.journal.gaps().keys() & {*symbols}


def undisturbed(collector: Collector) -> None:
    """Assert that no connection was lost, no stream dead, and no trade of others missing."""
    events = [event.get("event") for event in collector.events]
    for trouble in ("connection_lost", "stream_stalled", "rotation_started", "connection_failed"):
        assert trouble not in events, trouble
    for event in collector.events:
        if event.get("event") == "gap_opened" and event["cause"] != "start":
            assert event["symbol"] not in STAY, event


def events(collector: Collector, name: str) -> list[dict[str, Any]]:
    return [event for event in collector.events if event.get("event") == name]


def records(collector: Collector) -> dict[str, dict[str, Any]]:
    """Return what `bintrades symbols --json` says, by symbol."""
    done = collector.command("symbols", "--json")
    assert done.returncode == 0, done.stderr
    return {row["symbol"]: row for row in json.loads(done.stdout)}


def test_a_listing_that_fits_a_pattern_is_collected_from_its_first_trade_on(
    tmp_path: Path,
) -> None:
    with (
        ExchangeSimulator((*STAY, "ETHBTC")) as exchange,
        Trading(exchange) as trading,
        running(tmp_path, exchange, "*USDT") as collector,
    ):
        begin_trading(exchange, trading, collector)
        exchange.list_symbol("NEWBTC")
        exchange.list_symbol("NEWUSDT")
        trading.begin("NEWUSDT", "NEWBTC")
        wait_for_bars(collector, "NEWUSDT")
        trading.end(*STAY, "NEWUSDT", "NEWBTC")
        wait_until_proven(collector, trading, *STAY, "NEWUSDT")

        assert_whole(collector, trading, *STAY, "NEWUSDT")
        undisturbed(collector)
        assert len(exchange.connections) == 1
        found = records(collector)
        assert found.keys() == {*STAY, "NEWUSDT"}
        assert found["NEWUSDT"]["why"] == "*USDT"
        assert collector.status()["symbol_changes"] == {"added": 1, "returned": 0, "left": 0}


def test_a_delisted_symbol_ends_with_its_last_bar_proven_and_a_halted_one_stays(
    tmp_path: Path,
) -> None:
    symbols = (*STAY, "OLDUSDT", "HALTUSDT")
    with (
        ExchangeSimulator(symbols) as exchange,
        Trading(exchange) as trading,
        running(tmp_path, exchange, "*USDT") as collector,
    ):
        begin_trading(exchange, trading, collector)
        trading.begin("OLDUSDT", "HALTUSDT")
        wait_for_bars(collector, "OLDUSDT")
        trading.end("OLDUSDT", "HALTUSDT")
        exchange.list_symbol("OLDUSDT", "BREAK")
        exchange.list_symbol("HALTUSDT", "HALT")
        collector.wait_for_log('"symbol_left"')
        exchange.wait_until(
            lambda: "oldusdt@trade" not in exchange.connections[0].streams, timeout_s=120
        )

        assert "haltusdt@trade" in exchange.connections[0].streams
        found = records(collector)
        assert (found["OLDUSDT"]["left_because"], found["OLDUSDT"]["status"]) == (
            "delisted",
            "BREAK",
        )
        assert found["OLDUSDT"]["left"] is not None
        assert (found["HALTUSDT"]["is_collected"], found["HALTUSDT"]["status"]) == (True, "HALT")
        (left,) = events(collector, "symbol_left")
        assert left["is_last_bar_proven"]
        bars = bars_of(collector, "OLDUSDT").values()
        assert all(bar.is_closed and bar.is_complete for bar in bars)
        trading.end(*STAY)
        wait_until_proven(collector, trading, *symbols)
        assert_whole(collector, trading, *symbols)
        undisturbed(collector)
        assert collector.status()["symbols"] == 3


def test_a_name_that_returns_goes_on_from_where_it_ended(tmp_path: Path) -> None:
    with (
        ExchangeSimulator((*STAY, "BACKUSDT")) as exchange,
        Trading(exchange) as trading,
        running(tmp_path, exchange, "*USDT") as collector,
    ):
        begin_trading(exchange, trading, collector)
        trading.begin("BACKUSDT")
        wait_for_bars(collector, "BACKUSDT")
        trading.end("BACKUSDT")
        exchange.list_symbol("BACKUSDT", "BREAK")
        collector.wait_for_log('"symbol_left"')
        trading.begin("BACKUSDT")  # while nobody listens
        exchange.list_symbol("BACKUSDT", "TRADING")
        collector.wait_for_log('"symbol_returned"')
        exchange.wait_for_subscription("backusdt@trade")
        trading.end(*STAY, "BACKUSDT")
        wait_until_proven(collector, trading, *STAY, "BACKUSDT")

        assert_whole(collector, trading, *STAY, "BACKUSDT")
        undisturbed(collector)
        found = records(collector)["BACKUSDT"]
        assert found["is_collected"]
        assert found["returned"] > found["since"]
        assert collector.status()["symbol_changes"] == {"added": 0, "returned": 1, "left": 1}


def test_sighup_reads_the_symbols_again_under_load_and_nothing_of_others_is_touched(
    tmp_path: Path,
) -> None:
    listed = (*STAY, *(f"N{number}USDT" for number in range(20)))
    with (
        ExchangeSimulator(listed) as exchange,
        Trading(exchange) as trading,
        running(tmp_path, exchange, " ".join(STAY), refresh="5m") as collector,
    ):
        begin_trading(exchange, trading, collector)
        trading.begin(*listed)
        collector.configure({"symbols": {"include": "*USDT"}, "bars": {"interval": "2s"}})
        collector.send_signal(SIGHUP)
        for symbol in listed:
            wait_for_bars(collector, symbol)
        assert [event["sections"] for event in events(collector, "restart_needed")] == ["bars"]
        collector.configure({"symbols": {"include": " ".join(STAY)}, "bars": {"interval": "1s"}})
        collector.send_signal(SIGHUP)
        collector.wait_for_log('"symbol_left"', 20)
        exchange.wait_until(lambda: len(exchange.connections[0].streams) == 2, timeout_s=120)
        trading.end(*listed)
        wait_until_proven(collector, trading, *STAY)

        assert_whole(collector, trading, *STAY)
        for symbol in listed[2:]:
            bars = bars_of(collector, symbol).values()
            wanted = expected(trading.happened[symbol])
            assert len(bars) >= 2
            for bar in bars:
                assert bar.is_closed, bar
                assert bar.trade_count == wanted[bar.open_time_ms].count
                assert bar.is_complete, bar
        undisturbed(collector)
        assert len(exchange.connections) == 1


def test_a_broken_file_on_sighup_is_logged_with_every_problem_and_the_old_symbols_stay(
    tmp_path: Path,
) -> None:
    with (
        ExchangeSimulator((*STAY, "NEWUSDT")) as exchange,
        Trading(exchange) as trading,
        running(tmp_path, exchange, " ".join(STAY)) as collector,
    ):
        begin_trading(exchange, trading, collector)
        collector.configure({"symbols": {"include": "NEWUSDT", "refresh": "often"}, "oops": {}})
        collector.send_signal(SIGHUP)
        collector.wait_for_log('"symbols_reload_failed"', 2)
        wait_for_bars(collector, "BTCUSDT", 4)

        assert set(exchange.connections[0].streams) == {"btcusdt@trade", "ethusdt@trade"}
        assert collector.status()["symbols"] == 2
        undisturbed(collector)


def test_a_name_that_does_not_exist_is_refused_at_the_start_with_the_nearest_ones(
    tmp_path: Path,
) -> None:
    with (
        ExchangeSimulator() as exchange,
        Collector(tmp_path, exchange, quick("BTCUSD NOSUCHTHING ETHUSDT")) as collector,
    ):
        collector.start()

        assert collector.wait() == 2
        refused = [line for line in collector.log.splitlines() if "is not listed" in line]
        assert len(refused) == 2
        assert "BTCUSD is not listed by the exchange; did you mean BTCUSDT" in refused[0]
        assert "NOSUCHTHING is not listed by the exchange" in refused[1]


def test_a_name_that_was_collected_once_and_is_listed_no_longer_stops_no_restart(
    tmp_path: Path,
) -> None:
    with (
        ExchangeSimulator((*STAY, "OLDUSDT")) as exchange,
        Trading(exchange) as trading,
    ):
        with running(tmp_path, exchange, "BTCUSDT ETHUSDT OLDUSDT") as collector:
            begin_trading(exchange, trading, collector)
        exchange.unlist_symbol("OLDUSDT")
        collector.start()
        collector.wait_for_log('"symbol_unlisted_now"')
        exchange.wait_for_subscription("btcusdt@trade")
        # It starts once more, since its last trades may be missing, and leaves.
        collector.wait_until(
            lambda: records(collector)["OLDUSDT"]["left_because"] == "unlisted",
            lambda: str(records(collector)),
        )

        assert not records(collector)["OLDUSDT"]["is_collected"]
        assert collector.stop() == 0
        assert records(collector).keys() == {*STAY, "OLDUSDT"}, "a stopped collector's as well"


def test_without_the_list_names_start_all_the_same_and_a_later_list_puts_it_right(
    tmp_path: Path,
) -> None:
    with (
        ExchangeSimulator(STAY) as exchange,
        Trading(exchange) as trading,
    ):
        exchange.rest_answer(500, times=2, path="exchangeInfo")
        with running(tmp_path, exchange, "BTCUSDT ETHUSDT NOSUCHUSDT") as collector:
            begin_trading(exchange, trading, collector)
            collector.wait_for_log('"symbol_list_failed"')
            collector.wait_for_log('"symbol_unlisted"')
            collector.wait_until(
                lambda: collector.status()["unlisted_symbols"] == ["NOSUCHUSDT"],
                lambda: f"{collector.status()['unlisted_symbols']}",
            )
            exchange.list_symbol("NOSUCHUSDT")
            exchange.wait_for_subscription("nosuchusdt@trade")
            undisturbed(collector)


def test_without_the_list_patterns_take_the_last_one_and_say_so(tmp_path: Path) -> None:
    with (
        ExchangeSimulator(STAY) as exchange,
        Trading(exchange) as trading,
    ):
        with running(tmp_path, exchange, "*USDT") as collector:
            begin_trading(exchange, trading, collector)
        exchange.list_symbol("NEWUSDT")
        exchange.rest_answer(500, times=2, path="exchangeInfo")
        collector.start()
        exchange.wait_for_subscription("btcusdt@trade", "ethusdt@trade")
        assert events(collector, "symbol_list_failed")
        exchange.wait_for_subscription("newusdt@trade")
        assert collector.stop() == 0
