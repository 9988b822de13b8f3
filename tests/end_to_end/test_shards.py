"""Several collectors that share the symbols, or have the same ones, and one database."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from decimal import Decimal
from signal import SIGHUP
from typing import TYPE_CHECKING, Any

from bintrades.exchange.shards import shard_of
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import documents
from tests.end_to_end.trading import Trading, expected

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymongo.database import Database

SYMBOLS = [f"S{number}USDT" for number in range(8)]


class Cluster:
    """Collectors of SYMBOLS that store into one database."""

    def __init__(
        self, folder: Path, exchange: ExchangeSimulator, uri: str, database: Database[Any]
    ) -> None:
        self._folder = folder
        self._exchange = exchange
        self._uri = uri
        self._database = database
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def start(self, name: str, shard: str, **environ: str) -> Collector:
        """Start a collector of a *shard*; wait until it listens to all of its symbols."""
        folder = self._folder / name
        folder.mkdir()
        sections = {
            "symbols": {"include": "*USDT", "refresh": "1s", "shard": shard},
            "bars": {"interval": "1s", "grace": "200ms"},
            "repair": {"enabled": "yes", "weight_share": "100"},
            "audit": {"enabled": "no"},
        }
        stored = to_mongodb(self._uri, self._database.name)
        collector = Collector(folder, self._exchange, sections, stored, environ=environ)
        collector.configure(sections)
        self._stack.enter_context(collector)
        collector.start()
        collector.wait_for_log('"connection_subscribed"')
        return collector

    def wait_for(self, is_met: Callable[[Counter[str]], bool], collector: Collector) -> None:
        """Wait for what is to be true of the number of complete bars of each symbol."""

        def count() -> Counter[str]:
            complete = documents(self._database, {"is_closed": True, "is_complete": True})
            return Counter(bar["symbol"] for bar in complete)

        collector.wait_until(lambda: is_met(count()), lambda: f"{count()}")


def assert_stored_once(database: Database[Any], trading: Trading) -> None:
    """Assert that every trade of every symbol is in one bar, once."""
    stored = {
        (bar["symbol"], bar["open_time"].timestamp() * 1000): bar for bar in documents(database)
    }
    wanted = {
        (symbol, open_time): bar
        for symbol, trades in trading.happened.items()
        for open_time, bar in expected(trades).items()
    }
    assert stored.keys() == wanted.keys()
    for key, one in wanted.items():
        bar = stored[key]
        found = (bar["trade_count"], bar["quantity"], bar["first_trade_id"], bar["last_trade_id"])
        assert found == (one.count, Decimal(one.quantity), one.first, one.last), key


def test_a_shard_that_is_added_takes_its_part_and_no_trade_is_lost(
    tmp_path: Path, mongodb_uri: str, mongodb_database: Database[Any]
) -> None:
    with (
        ExchangeSimulator(SYMBOLS) as exchange,
        Cluster(tmp_path, exchange, mongodb_uri, mongodb_database) as cluster,
        Trading(exchange) as trading,
    ):
        first = cluster.start("first", "1/2")
        second = cluster.start("second", "", BINTRADES_SHARD="2/2")
        trading.begin(*SYMBOLS)
        cluster.wait_for(lambda bars: all(bars[symbol] >= 2 for symbol in SYMBOLS), first)

        third = cluster.start("third", "3/3")
        first.configure({"symbols": {"shard": "1/3"}})
        first.send_signal(SIGHUP)
        assert second.stop() == 0
        second.configure(environ={"BINTRADES_SHARD": "2/3"})
        second.start()
        before = Counter(bar["symbol"] for bar in documents(mongodb_database))
        cluster.wait_for(
            lambda bars: all(bars[symbol] >= before[symbol] + 3 for symbol in SYMBOLS), first
        )
        trading.end(*SYMBOLS)
        for collector in (first, second, third):
            assert collector.stop() == 0

    assert_stored_once(mongodb_database, trading)
    having = {symbol: str(shard_of(symbol, 3)) for symbol in SYMBOLS}
    assert set(having.values()) == {"1", "2", "3"}
    assert first.log.count('"symbol_left"') == sum(
        shard_of(symbol, 2) == 1 and shard_of(symbol, 3) == 3 for symbol in SYMBOLS
    )


def test_of_two_collectors_of_one_shard_either_may_die(
    tmp_path: Path, mongodb_uri: str, mongodb_database: Database[Any]
) -> None:
    with (
        ExchangeSimulator(SYMBOLS[:3]) as exchange,
        Cluster(tmp_path, exchange, mongodb_uri, mongodb_database) as cluster,
        Trading(exchange) as trading,
    ):
        one = cluster.start("one", "")
        other = cluster.start("other", "")
        trading.begin(*SYMBOLS[:3])
        cluster.wait_for(lambda bars: all(bars[symbol] >= 2 for symbol in SYMBOLS[:3]), other)
        one.kill()
        before = Counter(bar["symbol"] for bar in documents(mongodb_database))
        cluster.wait_for(
            lambda bars: all(bars[each] >= before[each] + 3 for each in SYMBOLS[:3]), other
        )
        trading.end(*SYMBOLS[:3])
        assert other.stop() == 0

    assert_stored_once(mongodb_database, trading)
