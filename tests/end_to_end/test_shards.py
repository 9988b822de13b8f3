"""Several collectors that share the symbols, or have the same ones, and one database."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from decimal import Decimal
from signal import SIGHUP
from typing import TYPE_CHECKING, Any

from bintrades.app.figures import Process
from bintrades.exchange.shards import shard_of
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.market import documents
from tests.end_to_end.trading import Trading, expected
from tests.journals import journal_at

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


def wait_for(collector: Collector, **said: str) -> None:
    """Wait until a collector says this of itself in its status."""
    collector.wait_until(
        lambda: said.items() <= collector.status().items(), lambda: f"{collector.status()}"
    )


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
        wait_for(first, shard="1/2")
        first.configure({"symbols": {"shard": "1/3"}})
        first.send_signal(SIGHUP)
        assert second.stop() == 0
        second.configure(environ={"BINTRADES_SHARD": "2/3"})
        second.start()
        before = Counter(bar["symbol"] for bar in documents(mongodb_database))
        cluster.wait_for(
            lambda bars: all(bars[symbol] >= before[symbol] + 3 for symbol in SYMBOLS), first
        )
        for collector, shard in ((first, "1/3"), (second, "2/3"), (third, "3/3")):
            wait_for(collector, shard=shard)
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


def test_a_shard_whose_journal_another_one_has_says_so_and_is_not_well(tmp_path: Path) -> None:
    """As with a path that is the same for all: nobody collects the symbols of the second."""
    with ExchangeSimulator(SYMBOLS) as exchange:
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
        wanted = {"symbols": {"include": "*USDT"}}
        first = Collector(tmp_path / "first", exchange, wanted, environ={"BINTRADES_SHARD": "1/2"})
        second = Collector(
            tmp_path / "second",
            exchange,
            wanted,
            {"journal": {"path": first.journal.path}},
            environ={"BINTRADES_SHARD": "2/2"},
        )
        with first, second:
            first.start()
            first.wait_for_log('"connection_subscribed"')
            wait_for(first, shard="1/2", state="running")
            second.start()
            second.wait_for_log("journal of its own")

            (line, *_) = (each for each in second.events if "not shard 2/2" in each["message"])
            assert (line["event"], line["level"]) == ("journal_locked", "WARNING")
            checked = second.command("status", "--check")
            assert checked.returncode == 1
            assert checked.stdout == (
                "running: the collector that has this journal is shard 1/2, not shard 2/2: give"
                " each shard a journal of its own, such as var/bintrades-${SHARD}.journal\n"
            )
            page = second.command("status").stdout
            assert page.startswith("collector   running (shard 1/2, process ")
            assert "trouble     the collector that has this journal is shard 1/2" in page
            checked = first.command("status", "--check")
            assert (checked.returncode, checked.stdout) == (0, "running: well\n")


def test_a_shard_that_starts_together_with_another_of_its_journal_says_so_once_it_is_known(
    tmp_path: Path,
) -> None:
    """The first warning, of a journal without a status yet, is not the last for a minute."""
    with ExchangeSimulator(SYMBOLS) as exchange:
        second = Collector(
            tmp_path,
            exchange,
            {"symbols": {"include": "*USDT"}},
            environ={"BINTRADES_SHARD": "2/2"},
        )
        path = tmp_path / "bintrades.journal"
        with second, journal_at(path) as journal:
            second.start()
            second.wait_for_log('"journal_locked"')
            assert "journal of its own" not in second.log

            Process("1/2").publish(journal)
            second.wait_for_log("journal of its own")
