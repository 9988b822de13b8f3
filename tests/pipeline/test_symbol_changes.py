"""Series begin before their streams, and end after the last message, while others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.core.aggregator import Aggregator
from bintrades.core.newest_ids import NewestIds
from bintrades.core.proof import LAG_MS
from bintrades.core.symbol_changes import NewSymbol, SymbolsChanged
from bintrades.core.write_batch import WriteBatch
from bintrades.exchange.events import Connected, StreamsAdded, StreamsRemoved
from bintrades.model.symbol_record import LeftBecause, SymbolRecord
from bintrades.pipeline.symbol_changes import SymbolChanges, SymbolHooks
from tests.strategies import INTERVAL, START, make_trade, spot_series

if TYPE_CHECKING:
    from bintrades.model import Trade

BTC, ETH = "BTCUSDT", "ETHUSDT"
BTC_KEY, ETH_KEY = spot_series([BTC, ETH])
GRACE = 500
LEFT = SymbolRecord(1, "*", left_ms=2, left_because=LeftBecause.DELISTED)
UNLISTED = SymbolRecord(1, "*", left_ms=2, left_because=LeftBecause.UNLISTED)


class Desk:
    """Changes of symbols beside one that stays, with a clock that is looked at often."""

    def __init__(self, *, is_repairing: bool = True) -> None:
        self.now = 0
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.written = WriteBatch()
        self.aggregator = Aggregator([BTC_KEY], interval_ms=INTERVAL, grace_ms=GRACE)
        self.changes = SymbolChanges(
            self.aggregator,
            SymbolHooks(
                *(
                    lambda symbols, name=name: self.told.append((name, tuple(symbols)))
                    for name in ("carry", "drop", "halted", "begun", "ended")
                )
            ),
            checkpoint_of=lambda symbol: self.written.checkpoints.get(symbol),
            utc=lambda: 99,
            is_repairing=is_repairing,
        )
        self.changes.connected(Connected("c", [BTC], 0))
        self.take(make_trade(0, START), make_trade(1, START + 1))

    def take(self, *trades: Trade) -> None:
        """Have trades come."""
        self.aggregator.add(trades, self.now)

    def change(self, event: SymbolsChanged) -> None:
        """Have symbols come or go."""
        self.written.update(self.changes.change(event))

    def begin(self) -> None:
        """Have a second symbol be collected, and its stream answered."""
        self.change(SymbolsChanged(self.now, added=[NewSymbol(ETH_KEY)]))
        self.changes.streams_added(StreamsAdded("c", [ETH], self.now))

    def leave(self, record: SymbolRecord = LEFT) -> None:
        """Have it leave."""
        self.change(SymbolsChanged(self.now, left=[ETH], records={ETH: record}))

    def drop(self) -> None:
        """Have the feed say that nothing of it comes any more."""
        self.changes.streams_removed(StreamsRemoved("c", [ETH], self.now))

    def pass_time(self, ms: int) -> None:
        """Have time go by, with everything looked at as the thread does."""
        for _ in range(0, ms, 500):
            self.now += 500
            self.aggregator.advance(self.now)
            changes = self.changes.tick(self.now)
            if changes is not None:
                self.written.update(changes)


def test_a_series_is_there_before_its_stream_is_asked_for() -> None:
    desk = Desk()

    desk.begin()

    assert desk.told == [("begun", (ETH,)), ("carry", (ETH,))]
    assert desk.aggregator.series[ETH].is_carried


def test_a_symbol_leaves_once_its_last_bar_is_closed_and_proven() -> None:
    desk = Desk()
    desk.begin()
    desk.take(make_trade(0, START + 2, symbol=ETH))
    desk.leave()
    desk.pass_time(5_000)
    assert ("drop", (ETH,)) not in desk.told, "it is open"
    desk.pass_time(20_000)
    assert ("drop", (ETH,)) not in desk.told, "nothing proves it"

    desk.take(make_trade(1, START + INTERVAL + 3, symbol=ETH))
    desk.pass_time(1_000)
    assert desk.told[-1] == ("drop", (ETH,))
    assert ETH in desk.aggregator.symbols, "messages of it may still come"
    desk.drop()
    desk.pass_time(1_000)

    assert desk.told[-1] == ("ended", (ETH,))
    assert desk.aggregator.symbols == {BTC}
    assert desk.written.symbols[ETH].left_ms == 99
    assert desk.written.checkpoints[ETH].ledger.next_id == 1, "the trade behind is left out"
    assert desk.aggregator.foreign_count == 0


@pytest.mark.parametrize(("is_repairing", "limit_ms"), [(True, 620_000), (False, 20_000)])
def test_what_cannot_be_proven_is_not_waited_for_without_end(
    is_repairing: bool, limit_ms: int
) -> None:
    desk = Desk(is_repairing=is_repairing)
    desk.begin()
    desk.take(make_trade(0, START + 2, symbol=ETH))
    desk.leave()

    desk.pass_time(limit_ms)
    desk.drop()
    desk.pass_time(1_000)

    assert ETH not in desk.aggregator.symbols


def test_a_symbol_of_which_nothing_came_leaves_once_the_exchange_says_that_there_was_nothing() -> (
    None
):
    desk = Desk()
    desk.begin()
    desk.leave()
    desk.pass_time(20_000)
    assert ("drop", (ETH,)) not in desk.told, "its trades may be lost on the way"

    said_at = START + INTERVAL + LAG_MS + 1_000
    desk.aggregator.on_newest_ids(NewestIds({BTC: 1, ETH: None}, said_at, desk.now))
    desk.pass_time(500)

    assert ("drop", (ETH,)) in desk.told


def test_what_the_exchange_says_of_a_symbol_minutes_later_is_still_asked_for() -> None:
    desk = Desk()
    desk.begin()
    desk.leave()
    desk.pass_time(400_000)
    assert ("drop", (ETH,)) not in desk.told, "nobody has said which trades it had"

    said_at = START + desk.now
    desk.aggregator.on_newest_ids(NewestIds({BTC: 1, ETH: 3}, said_at, desk.now))
    desk.pass_time(500)

    (gap,) = desk.aggregator.series[ETH].gap_set.missing
    assert gap.last_id == 3
    assert ("drop", (ETH,)) not in desk.told, "they can be had now"


def test_nothing_is_waited_for_that_the_exchange_does_not_know_any_more() -> None:
    desk = Desk()
    desk.begin()
    desk.leave(UNLISTED)

    desk.pass_time(500)

    assert ("drop", (ETH,)) in desk.told


def test_gaps_get_a_last_chance() -> None:
    desk = Desk()
    desk.begin()
    desk.take(make_trade(0, START + 2, symbol=ETH), make_trade(5, START + 3, symbol=ETH))
    desk.take(make_trade(6, START + INTERVAL + 2, symbol=ETH))
    desk.leave()
    desk.pass_time(12_000)
    desk.take(make_trade(7, START + 2 * INTERVAL + 2, symbol=ETH))
    assert desk.aggregator.is_settled(ETH, START + 2 * INTERVAL)

    desk.pass_time(300_000)
    assert ("drop", (ETH,)) not in desk.told
    desk.pass_time(400_000)

    assert ("drop", (ETH,)) in desk.told


def test_a_symbol_that_is_back_before_it_has_left_just_goes_on() -> None:
    desk = Desk()
    desk.begin()
    desk.take(make_trade(0, START + 2, symbol=ETH))
    desk.leave()

    desk.begin()
    desk.pass_time(900_000)

    assert ("drop", (ETH,)) not in desk.told
    assert ETH in desk.aggregator.symbols
    assert ETH not in desk.written.symbols


def test_a_symbol_that_is_back_while_its_stream_is_given_up_is_asked_for_again() -> None:
    desk = Desk(is_repairing=False)
    desk.begin()
    desk.leave()
    desk.pass_time(30_000)
    assert desk.told[-1] == ("drop", (ETH,))

    desk.begin()
    desk.drop()
    desk.changes.streams_added(StreamsAdded("c", [ETH], desk.now))
    desk.pass_time(30_000)

    assert desk.told[-1] == ("carry", (ETH,))
    assert desk.aggregator.series[ETH].is_carried


def test_a_connection_that_names_a_symbol_which_has_left_counts_for_the_others() -> None:
    desk = Desk()

    desk.changes.connected(Connected("d", [BTC, ETH], 0))
    desk.begin()
    desk.changes.disconnected("d", 0)

    assert desk.aggregator.series[ETH].is_carried, "by the other one"
    desk.changes.disconnected("c", 0)
    assert not desk.aggregator.series[ETH].is_carried
    assert not desk.aggregator.series[BTC].is_carried


def test_what_connections_say_that_nobody_knows_changes_nothing() -> None:
    desk = Desk()

    desk.changes.streams_added(StreamsAdded("x", [BTC], 0))
    desk.changes.streams_removed(StreamsRemoved("x", [BTC], 0))
    desk.changes.streams_removed(StreamsRemoved("c", [ETH], 0))
    desk.changes.streams_added(StreamsAdded("c", [BTC], 0))
    desk.changes.disconnected("x", 0)
    desk.changes.disconnected("c", 0)

    assert not desk.aggregator.series[BTC].is_carried


def test_coming_and_going_for_months_leaves_nothing_behind() -> None:
    desk = Desk(is_repairing=False)
    for number in range(200):
        (key,) = spot_series([f"N{number}USDT"])
        desk.change(SymbolsChanged(desk.now, added=[NewSymbol(key)]))
        desk.changes.streams_added(StreamsAdded("c", [key.symbol], desk.now))
        desk.take(make_trade(0, START + desk.now, symbol=key.symbol))
        desk.change(SymbolsChanged(desk.now, left=[key.symbol], records={key.symbol: LEFT}))
        desk.pass_time(30_000)
        desk.changes.streams_removed(StreamsRemoved("c", [key.symbol], desk.now))
        desk.pass_time(1_000)

    aggregator = desk.aggregator
    assert aggregator.symbols == aggregator._wakes_at.keys() == {BTC}
    assert len(aggregator._wakes) < 5
    assert not aggregator._unsaved.keys() - {BTC}
    assert {key[0] for key in aggregator.collect().finished} == {BTC}
    assert desk.changes.leaving_count == 0
    assert desk.changes._carried == {"c": {BTC}}
