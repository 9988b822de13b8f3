"""Which bars of a minute that differs are made again, where klines of a second are patchy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.pipeline.audit.repair import MAX_EPOCH
from tests.pipeline.audit.stage import BTC, HOUR, MINUTE, AuditStage
from tests.references import TradesReference
from tests.strategies import INTERVAL, START, bar_of, bars_of, make_trade

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Kline, Trade

WHOLE = [(START, START + 10 * MINUTE)]
OTHER_MINUTES = [(START + MINUTE, START + 10 * MINUTE)]
TRADES = [
    make_trade(1_000 + place, START + place * 2_000, price=str(10 + place % 5))
    for place in range(300)
]
"""One every two seconds, five in each bar."""


def bar_at(place: int) -> list[Trade]:
    """Return the trades of a bar of the first minute."""
    since = START + place * INTERVAL
    return [trade for trade in TRADES if since <= trade.time < since + INTERVAL]


def made_of(parts: Mapping[int, Sequence[Trade]], **changes: int) -> Callable[[Bar], Bar]:
    """Return what makes bars of the first minute of these trades instead of their own."""

    def mistake(bar: Bar) -> Bar:
        trades = parts.get((bar.open_time_ms - START) // INTERVAL)
        if trades is None:
            return bar
        own = [replace(trade, time=bar.open_time_ms) for trade in trades]
        times = {
            "first_trade_time_ms": trades[0].time,
            "last_trade_time_ms": trades[-1].time,
        }
        return replace(bar_of(own), is_closed=True, is_complete=True, **times, **changes)

    return mistake


MOVED = {3: bar_at(3)[:-1], 4: [bar_at(3)[-1], *bar_at(4)]}
"""The last trade of a bar is in the next one."""


def leaving_out(seconds: Collection[int]) -> Callable[[Kline], Kline | None]:
    """Return what leaves out the klines of these seconds of the first minute."""

    def revise(kline: Kline) -> Kline | None:
        second = (kline.open_time_ms - START) // 1_000
        return None if kline.interval_ms == 1_000 and second in seconds else kline

    return revise


def contents(bars: Collection[Bar]) -> list[Bar]:
    return [replace(bar, is_complete=True, epoch=0, version=1, updated_at_ms=0) for bar in bars]


def made_again(stage: AuditStage) -> list[int]:
    """Return the places of the bars that are in a later epoch."""
    return [(bar.open_time_ms - START) // INTERVAL for bar in stage.stored() if bar.epoch]


def requests_for_trades(stage: AuditStage) -> int:
    return [length for _, length, _, _ in stage.reference.asked].count(0)


def assert_repaired(stage: AuditStage) -> None:
    assert stage.verified() == WHOLE
    assert contents(stage.stored()) == contents(bars_of(TRADES).values())
    assert {each.outcome.value for each in stage.reader.differences()} <= {"repaired"}


def test_a_lost_trade_is_found_though_just_its_kline_of_a_second_is_missing(
    journal: Journal,
) -> None:
    lost = bar_at(2)[2]
    kept = [trade for trade in bar_at(2) if trade is not lost]
    reference = TradesReference(TRADES, revise=leaving_out([(lost.time - START) // 1_000]))
    stage = AuditStage(journal, TRADES, mistake=made_of({2: kept}), reference=reference)

    stage.wait(HOUR)

    assert_repaired(stage)
    assert made_again(stage) == [2]


def test_a_lost_trade_is_found_though_klines_of_a_second_lack_it_too(journal: Journal) -> None:
    """And have others of another bar: they do not add up to the minute."""
    lost, *kept = bar_at(2)

    def lack(kline: Kline) -> Kline:
        counts = {lost.time: 0, START + 50_000: 3} if kline.interval_ms == 1_000 else {}
        return replace(kline, trade_count=counts.get(kline.open_time_ms, kline.trade_count))

    reference = TradesReference(TRADES, revise=lack)
    stage = AuditStage(journal, TRADES, mistake=made_of({2: kept}), reference=reference)

    stage.wait(HOUR)

    assert_repaired(stage)
    assert made_again(stage) == [2]


def test_bars_that_contradict_themselves_are_made_again_beside_one_that_lacks_a_trade(
    journal: Journal,
) -> None:
    wrong = {0: [*bar_at(0)[:2], *bar_at(0)[3:]], **MOVED}
    reference = TradesReference(TRADES, revise=leaving_out(range(30, 50)))
    stage = AuditStage(journal, TRADES, mistake=made_of(wrong), reference=reference)

    stage.wait(HOUR)

    assert_repaired(stage)
    assert made_again(stage) == [0, 3, 4]


def test_a_bar_of_which_a_kline_without_trades_is_missing_is_made_again_as_well(
    journal: Journal,
) -> None:
    wrong = {0: bar_at(0)[1:], 5: bar_at(5)[1:]}
    reference = TradesReference(TRADES, revise=leaving_out([51]))
    stage = AuditStage(journal, TRADES, mistake=made_of(wrong), reference=reference)

    stage.wait(HOUR)

    assert_repaired(stage)
    assert made_again(stage) == [0, 5]
    assert requests_for_trades(stage) == 1


@pytest.mark.parametrize("pages_of_trades", [1, 1_000], ids=["few trades", "too many trades"])
def test_ids_that_the_exchange_has_left_out_are_no_difference(
    journal: Journal, pages_of_trades: int
) -> None:
    trades = [
        replace(each, trade_id=each.trade_id + (each.time > START + 21_000)) for each in TRADES
    ]
    trades = [
        replace(each, trade_id=each.trade_id + (each.time > START + 23_000)) for each in trades
    ]
    reference = TradesReference(trades, pages_of_trades=pages_of_trades)
    stage = AuditStage(journal, trades, reference=reference)

    stage.wait(HOUR)

    assert stage.verified() == WHOLE
    assert stage.reader.differences() == []
    assert made_again(stage) == []


@pytest.mark.parametrize("lengths", [(MINUTE, 1_000), (MINUTE,)], ids=["1s klines", "none finer"])
def test_bars_that_were_made_again_too_often_and_contradict_themselves_stay_on_record(
    journal: Journal, lengths: tuple[int, ...]
) -> None:
    mistake = made_of(MOVED, epoch=MAX_EPOCH)
    reference = TradesReference(TRADES, kline_intervals_ms=lengths)
    stage = AuditStage(journal, TRADES, mistake=mistake, reference=reference)

    stage.wait(HOUR)

    assert stage.verified() == OTHER_MINUTES
    found = {each.open_time_ms: each.outcome.value for each in stage.reader.differences(BTC)}
    assert found == {START + 30_000: "stays", START + 40_000: "stays"}


def test_they_are_not_verified_because_another_bar_of_their_minute_was_repaired(
    journal: Journal,
) -> None:
    lacking, moved = made_of({0: bar_at(0)[1:]}), made_of(MOVED, epoch=MAX_EPOCH)
    reference = TradesReference(TRADES, kline_intervals_ms=(MINUTE,))
    stage = AuditStage(
        journal, TRADES, mistake=lambda bar: moved(lacking(bar)), reference=reference
    )

    stage.wait(HOUR)

    assert made_again(stage) == [0, 3, 4]
    assert stage.verified() == OTHER_MINUTES
