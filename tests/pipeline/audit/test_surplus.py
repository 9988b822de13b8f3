"""Bars where the exchange has no trades at all: stores cannot forget them, so they say so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.audit_result import BarRebuilt
from bintrades.core.coverage import SURPLUS
from bintrades.core.spans import has
from bintrades.core.write_batch import WriteBatch
from bintrades.model import DifferenceOutcome
from bintrades.pipeline.audit.repair import MAX_EPOCH
from tests.journals import by_key, journal_at
from tests.pipeline.audit.stage import BTC, HOUR, MINUTE, AuditStage, market
from tests.references import TradesReference
from tests.strategies import INTERVAL, START, bars_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bintrades.core.spans import Span
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Kline, Trade

WHOLE = (START, START + 10 * MINUTE)
TRADES = market()
BARS = bars_of(TRADES)
VICTIM = TRADES[len(TRADES) // 2].time // INTERVAL * INTERVAL
FREE = [opens for opens in range(WHOLE[0], WHOLE[1], INTERVAL) if (BTC, opens) not in BARS]
"""Intervals without trades."""

WITHOUT_VICTIM = [trade for trade in TRADES if trade.time // INTERVAL * INTERVAL != VICTIM]
LENGTHS = pytest.mark.parametrize(
    "lengths", [(60_000, 1_000), (60_000,)], ids=["1s klines", "none finer"]
)


def stage_of(
    journal: Journal,
    trades: Sequence[Trade] = TRADES,
    mistake: Callable[[Bar], Bar | None] = lambda bar: bar,
    lengths: tuple[int, ...] = (MINUTE, 1_000),
) -> AuditStage:
    """Return the audit of a journal, which says itself what is covered, beside *trades*."""
    reference = TradesReference(trades, kline_intervals_ms=lengths)
    stage = AuditStage(journal, TRADES, mistake=mistake, reference=reference)
    stage.covered.clear()
    return stage


def minute_of(opens: int) -> Span:
    return opens // MINUTE * MINUTE, opens // MINUTE * MINUTE + MINUTE


def assert_marked(stage: AuditStage, *surplus: int) -> None:
    """Assert that just these bars are not complete, and not covered."""
    bars = {bar.open_time_ms: bar for bar in stage.stored()}
    assert {time for time, bar in bars.items() if not bar.is_complete} == set(surplus)
    assert all(bars[time].is_closed for time in surplus)
    found = stage.reader.coverage(BTC)
    assert found is not None
    holes = {
        opens
        for hole in found.coverage.holes
        for opens in range(hole.since_ms, hole.until_ms, INTERVAL)
        if hole.causes == (SURPLUS,)
    }
    assert holes == set(surplus)


@LENGTHS
def test_such_a_bar_is_stored_again_as_not_complete_once_and_stays_on_record(
    journal: Journal, lengths: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    stage = stage_of(journal, WITHOUT_VICTIM, lengths=lengths)
    stage.wait(3 * HOUR)

    assert_marked(stage, VICTIM)
    (bar,) = (bar for bar in stage.stored() if bar.epoch)
    assert contents(bar) == contents(BARS[BTC, VICTIM])
    assert (bar.epoch, bar.version) == (1, 2)
    (difference,) = stage.reader.differences()
    assert difference.outcome is DifferenceOutcome.STAYS
    assert difference.ours != difference.theirs
    since, until = minute_of(VICTIM)
    assert stage.verified() == [(WHOLE[0], since), (until, stage.end + HOUR)]
    assert {vars(r)["event"] for r in caplog.records} == {"bar_differs", "surplus_bar_stays"}
    counts = stage.audit.snapshot.counts
    assert (counts.different, counts.rebuilt, counts.repaired, counts.staying) == (1, 1, 0, 1)
    assert stage.audit.snapshot.verified_until == stage.end + HOUR, "what differs is on record"


def contents(bar: Bar) -> Bar:
    return replace(bar, is_complete=True, epoch=0, version=1, updated_at_ms=0)


def test_its_minute_is_looked_at_now_and_then_and_nothing_is_made_again(journal: Journal) -> None:
    stage = stage_of(journal, WITHOUT_VICTIM)
    stage.wait(24 * HOUR)
    events, asked = len(stage.events), len(stage.reference.asked)

    stage.wait(72 * HOUR)

    assert len(stage.events) == events
    assert 1 <= len(stage.reference.asked) - asked <= 4, "once a day"
    assert sum(isinstance(event, BarRebuilt) for event in stage.events) == 1


@pytest.mark.parametrize("minutes", [7, 60], ids=["while it is repaired", "thereafter"])
def test_after_a_restart_it_is_what_it_was(path: Path, minutes: int) -> None:
    with journal_at(path) as journal:
        stage_of(journal, WITHOUT_VICTIM).wait(minutes * MINUTE)
    with journal_at(path) as journal:
        stage = stage_of(journal, WITHOUT_VICTIM, mistake=lambda _: None)
        assert_marked(stage, VICTIM)
        stage.wait(3 * HOUR)

        assert_marked(stage, VICTIM)
        assert [bar.epoch for bar in stage.stored() if bar.epoch] == [1]
        (difference,) = stage.reader.differences()
        assert difference.outcome is DifferenceOutcome.STAYS
        assert difference.theirs.startswith("trade_count 0")


def test_one_that_was_found_by_hand_holds_nothing_back(journal: Journal) -> None:
    stage = stage_of(journal, WITHOUT_VICTIM)
    marked = replace(BARS[BTC, VICTIM], is_complete=False, epoch=1)
    journal.write(WriteBatch(rebuilt=by_key([marked])), stage.end)

    stage.wait(3 * HOUR)

    assert_marked(stage, VICTIM)
    assert stage.reader.differences() == []
    assert stage.audit.snapshot.verified_until == stage.end + HOUR


@LENGTHS
@pytest.mark.parametrize("is_near", [True, False], ids=["in its minute", "in another one"])
def test_a_bar_that_was_moved_is_made_again_in_its_place_and_not_complete_in_the_other(
    journal: Journal, lengths: tuple[int, ...], is_near: bool
) -> None:
    place = next(opens for opens in FREE if (minute_of(opens) == minute_of(VICTIM)) == is_near)

    def move(bar: Bar) -> Bar:
        return replace(bar, open_time_ms=place) if bar.open_time_ms == VICTIM else bar

    stage = stage_of(journal, mistake=move, lengths=lengths)
    stage.wait(3 * HOUR)

    assert_marked(stage, place)
    bars = {bar.open_time_ms: bar for bar in stage.stored()}
    assert contents(bars[VICTIM]) == BARS[BTC, VICTIM]
    assert bars[VICTIM].epoch == bars[place].epoch == 1
    outcomes = {each.open_time_ms: each.outcome for each in stage.reader.differences()}
    assert DifferenceOutcome.OPEN not in outcomes.values()
    stays = [time for time, each in outcomes.items() if each is DifferenceOutcome.STAYS]
    assert [minute_of(time) for time in stays] == [minute_of(place)]
    assert not has(stage.verified(), minute_of(place))


@pytest.mark.parametrize("after", [HOUR, 60 * HOUR])
def test_should_the_exchange_have_trades_there_after_all_the_bar_is_made_of_them(
    journal: Journal, after: int
) -> None:
    stage = stage_of(journal, WITHOUT_VICTIM)
    stage.wait(after)
    assert_marked(stage, VICTIM)

    stage.reference.replace_trades(TRADES)
    stage.wait(25 * HOUR)

    assert_marked(stage)
    assert [bar.epoch for bar in stage.stored() if bar.epoch] == [2]
    assert [contents(bar) for bar in stage.stored()] == list(BARS.values())
    assert has(stage.verified(), WHOLE)
    assert [each.outcome for each in stage.reader.differences()] == [DifferenceOutcome.REPAIRED]


def none_of(kline: Kline) -> Kline | None:
    """Return what klines say of VICTIM that know nothing of it."""
    is_its_own = kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
    return replace(kline, trade_count=0) if is_its_own else kline


def test_that_klines_have_no_trades_there_is_not_enough(journal: Journal) -> None:
    stage = stage_of(journal)
    stage.reference.revise = none_of
    stage.wait(HOUR)

    assert_marked(stage)
    assert [each.outcome for each in stage.reader.differences()] == [DifferenceOutcome.STAYS]


def test_while_it_is_not_proven_that_there_are_no_trades_nothing_is_concluded(
    journal: Journal,
) -> None:
    stage = stage_of(journal, WITHOUT_VICTIM)

    def refuse() -> None:
        is_for_trades = stage.reference.asked[-1][1] == 0
        stage.reference.error = "its records may lag" if is_for_trades else None

    stage.reference.on_request = refuse
    stage.wait(6 * HOUR)

    assert_marked(stage)
    assert all(bar.is_complete for bar in stage.stored())


def test_klines_that_have_trades_there_while_the_exchange_has_none_are_not_asked_for_ever(
    journal: Journal,
) -> None:
    stage = stage_of(
        journal,
        WITHOUT_VICTIM,
        lambda bar: replace(bar, quantity=bar.quantity * 2) if at(bar) == VICTIM else bar,
    )
    stage.reference.revise = lambda kline: (
        replace(kline, trade_count=kline.trade_count + 1)
        if kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
        else kline
    )
    stage.wait(24 * HOUR)
    assert_marked(stage, VICTIM)
    assert [each.outcome for each in stage.reader.differences()] == [DifferenceOutcome.STAYS]
    asked = len(stage.reference.asked)

    stage.wait(72 * HOUR)

    assert_marked(stage, VICTIM)
    assert [bar.epoch for bar in stage.stored() if bar.epoch] == [1]
    assert len(stage.reference.asked) - asked <= 4 * 5, "all requests of a suspect, once a day"


def at(bar: Bar) -> int:
    return bar.open_time_ms


def test_a_bar_that_was_made_again_too_often_is_marked_all_the_same(journal: Journal) -> None:
    def often(bar: Bar) -> Bar:
        return replace(bar, epoch=MAX_EPOCH) if at(bar) == VICTIM else bar

    stage = stage_of(journal, WITHOUT_VICTIM, often)
    stage.wait(HOUR)

    assert_marked(stage, VICTIM)
    assert max(bar.epoch for bar in stage.stored()) == MAX_EPOCH + 1


def test_another_bar_of_its_minute_that_goes_wrong_is_found_and_made_again(
    journal: Journal,
) -> None:
    other = next(
        time for _, time in BARS if minute_of(time) == minute_of(VICTIM) and time != VICTIM
    )
    stage = stage_of(journal, WITHOUT_VICTIM)
    stage.wait(HOUR)
    with closing(sqlite3.connect(journal.path)) as connection, connection:
        connection.execute("UPDATE bars SET quantity = '77' WHERE open_time = ?", (other,))

    stage.wait(25 * HOUR)

    assert_marked(stage, VICTIM)
    assert [contents(bar) for bar in stage.stored()] == list(BARS.values())
    outcomes = {each.open_time_ms: each.outcome for each in stage.reader.differences()}
    assert outcomes == {VICTIM: DifferenceOutcome.STAYS, other: DifferenceOutcome.REPAIRED}
