"""Coverage as MongoDB has it: no trades, or not collected; split by a gap, and joined again."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from bintrades.model import utc
from bintrades.testing.exchange_simulator import ExchangeSimulator
from tests.end_to_end.collector import Collector, to_mongodb
from tests.end_to_end.stage import newest_connection, wait_for_subscription_after

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymongo.database import Database

    Document = dict[str, Any]

BASE = 1_795_737_600_000
INTERVAL_S = 10
BTC = "BTCUSDT"


class Clock:
    """The exchange's clock, which the test moves."""

    def __init__(self) -> None:
        self.ms = BASE

    def __call__(self) -> int:
        return self.ms

    def move_to(self, seconds: int) -> None:
        """Have it be so many seconds since BASE."""
        self.ms = BASE + 1_000 * seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def exchange(clock: Clock) -> Iterator[ExchangeSimulator]:
    with ExchangeSimulator([BTC, "ETHUSDT"], now_ms=clock) as exchange:
        yield exchange


@pytest.fixture
def collector(
    exchange: ExchangeSimulator,
    mongodb_uri: str,
    mongodb_database: Database[Document],
    tmp_path: Path,
) -> Iterator[Collector]:
    store = to_mongodb(mongodb_uri, mongodb_database.name)
    repairing = {"repair": {"enabled": "yes"}, "audit": {"enabled": "no"}}
    with Collector(tmp_path, exchange, store, repairing) as collector:
        yield collector


def start(collector: Collector, exchange: ExchangeSimulator) -> None:
    before = newest_connection(exchange)
    collector.start()
    wait_for_subscription_after(exchange, before)


def trade(exchange: ExchangeSimulator, clock: Clock, *seconds: int, is_sent: bool = True) -> None:
    """Have a trade happen at each of these times."""
    for second in seconds:
        clock.move_to(second)
        (exchange.publish if is_sent else exchange.record)(BTC, "100.5", "0.25")


def wait_for_coverage(collector: Collector, *spans: tuple[int, int]) -> None:
    """Wait until the journal has these spans, in seconds since BASE."""

    def covered() -> list[tuple[int, int]]:
        found = collector.journal.coverage(BTC)
        spans = [] if found is None else found.coverage.spans
        return [((since - BASE) // 1000, (until - BASE) // 1000) for since, until in spans]

    collector.wait_until(lambda: covered() == [*spans], lambda: f"{covered()} instead of {spans}")


def stored_spans(database: Database[Document]) -> list[Document]:
    """Return the spans in MongoDB; every bar in one of them is whole."""
    spans = list(database["bars_coverage"].find({"symbol": BTC}).sort("since"))
    for span in spans:
        inside = {"symbol": BTC, "open_time": {"$gte": span["since"], "$lt": span["until"]}}
        for bar in database["bars"].find(inside):
            assert (bar["is_closed"], bar["is_complete"]) == (True, True), bar
    return spans


def seconds_of(spans: list[Document]) -> list[tuple[int, int]]:
    second = timedelta(seconds=1)
    return [((e["since"] - utc(BASE)) // second, (e["until"] - utc(BASE)) // second) for e in spans]


def bars_at(database: Database[Document]) -> list[int]:
    """Return when the stored bars open, in intervals."""
    bars = database["bars"].find({"symbol": BTC}).sort("open_time")
    return [(bar["open_time"] - utc(BASE)) // timedelta(seconds=INTERVAL_S) for bar in bars]


def test_an_interval_without_trades_is_told_from_one_that_was_not_collected(
    collector: Collector,
    exchange: ExchangeSimulator,
    clock: Clock,
    mongodb_database: Database[Document],
) -> None:
    start(collector, exchange)
    trade(exchange, clock, 1, 2, 21, 31, 51)
    wait_for_coverage(collector, (0, 50))
    assert collector.stop() == 0

    (whole,) = stored_spans(mongodb_database)
    assert seconds_of([whole]) == [(0, 50)]
    assert bars_at(mongodb_database) == [0, 2, 3, 5], "there were no trades in 1 and 4"

    trade(exchange, clock, 61, 73, is_sent=False)
    collector.configure({"repair": {"enabled": "no"}})
    start(collector, exchange)
    trade(exchange, clock, 81, 91, 101)
    wait_for_coverage(collector, (0, 50), (90, 100))
    assert collector.stop() == 0

    first, second = stored_spans(mongodb_database)
    assert seconds_of([first, second]) == [(0, 50), (90, 100)]
    assert first == whole, "what has not changed is not written"
    assert 6 not in bars_at(mongodb_database), "and nothing says that it had no trades"

    collector.configure({"repair": {"enabled": "yes"}})
    start(collector, exchange)
    wait_for_coverage(collector, (0, 100))
    assert collector.stop() == 0

    (joined,) = stored_spans(mongodb_database)
    assert seconds_of([joined]) == [(0, 100)]
    assert joined["_id"] == whole["_id"]
    assert bars_at(mongodb_database) == [0, 2, 3, 5, 6, 7, 8, 9, 10]


def test_a_collection_that_was_dropped_gets_its_bars_again_before_it_covers_anything(
    collector: Collector,
    exchange: ExchangeSimulator,
    clock: Clock,
    mongodb_database: Database[Document],
) -> None:
    start(collector, exchange)
    trade(exchange, clock, 1, 2, 21, 31, 51)
    wait_for_coverage(collector, (0, 50))
    assert collector.stop() == 0
    before = bars_at(mongodb_database)
    assert before == [0, 2, 3, 5]

    mongodb_database.drop_collection("bars")
    start(collector, exchange)
    collector.wait_until(
        lambda: bars_at(mongodb_database) == before, lambda: f"{bars_at(mongodb_database)}"
    )
    assert collector.stop() == 0

    assert seconds_of(stored_spans(mongodb_database)) == [(0, 50)]
