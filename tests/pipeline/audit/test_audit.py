"""Bars of a journal against the exchange's klines: verified, repaired, or kept on record."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from math import lcm
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.core.audit_result import BarRebuilt, BarsAudited
from bintrades.core.audit_schedule import AuditTimes
from bintrades.core.write_batch import WriteBatch
from bintrades.model import DifferenceOutcome, RecordedDifference
from bintrades.pipeline.audit.repair import MAX_EPOCH
from tests.journals import by_key, journal_at
from tests.pipeline.audit.stage import BTC, DAY, HOUR, MINUTE, AuditStage, market
from tests.references import TradesReference
from tests.sql_meter import metering
from tests.strategies import INTERVAL, START, bar_of, bars_of, make_trade

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bintrades.exchange.events import Event
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar, Kline

WHOLE = [(START, START + 10 * MINUTE)]
TRADES = market()
VICTIM = TRADES[len(TRADES) // 2].time // INTERVAL * INTERVAL
ITS_MINUTE = VICTIM // MINUTE * MINUTE
WITHOUT_IT = [(START, ITS_MINUTE), (ITS_MINUTE + MINUTE, START + 10 * MINUTE)]


def spoiling(change: Callable[[Bar], Bar | None]) -> Callable[[Bar], Bar | None]:
    """Return what makes one bar wrong."""
    return lambda bar: change(bar) if bar.open_time_ms == VICTIM else bar


def more_of(bar: Bar) -> Bar:
    return replace(bar, quantity=bar.quantity + Decimal("0.00000001"))


def lose_trade(bar: Bar) -> Bar:
    return replace(bar, trade_count=bar.trade_count + 1)


def lower(bar: Bar) -> Bar:
    return replace(bar, min_price=Decimal("1E-9"))


MISTAKES = {"a quantity": more_of, "a count": lose_trade, "a price": lower, "gone": lambda _: None}


def outcomes(stage: AuditStage) -> list[str]:
    return [each.outcome.value for each in stage.reader.differences()]


def test_minutes_that_agree_are_verified_whether_there_were_trades_or_not(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)

    stage.wait(MINUTE)

    assert stage.verified() == WHOLE
    assert stage.audit.snapshot.verified_until == WHOLE[0][1]
    assert stage.audit.snapshot.counts.verified_ms == 10 * MINUTE
    assert stage.reference.asked == [(BTC, MINUTE, *WHOLE[0])], "one request for all"


def test_what_is_verified_is_not_asked_for_again(journal: Journal) -> None:
    stage = AuditStage(journal, TRADES)
    stage.wait(3 * HOUR)

    assert len(stage.reference.asked) == 1


def test_a_symbol_of_which_nothing_can_be_compared_yet_is_looked_at_again_soon(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)
    stage.covered[BTC] = []
    stage.wait(MINUTE)
    assert stage.audit.snapshot.verified_until is None
    stage.covered[BTC] = WHOLE

    stage.wait(5 * MINUTE)

    assert stage.verified() == WHOLE


def test_only_whole_minutes_that_are_covered_and_old_enough_are_compared(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)
    stage.covered[BTC] = [
        (START + INTERVAL, START + 3 * MINUTE + INTERVAL),
        (START + 5 * MINUTE, START + 10 * MINUTE),
    ]
    stage.clock -= 2 * MINUTE + 1

    stage.wait(250)

    assert stage.verified() == [
        (START + MINUTE, START + 3 * MINUTE),
        (START + 5 * MINUTE, START + 7 * MINUTE),
    ]


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("lengths", [(60_000, 1_000), (60_000,)], ids=["1s klines", "none finer"])
def test_a_wrong_bar_is_made_again_once_and_verified(
    journal: Journal, mistake: Callable[[Bar], Bar | None], lengths: tuple[int, ...]
) -> None:
    stage = AuditStage(
        journal,
        TRADES,
        mistake=spoiling(mistake),
        reference=TradesReference(TRADES, kline_intervals_ms=lengths),
    )
    stage.wait(MINUTE)
    assert stage.verified() == WITHOUT_IT
    assert outcomes(stage) == [], "it is looked at a second time before anything is concluded"

    stage.wait(6 * MINUTE)
    assert outcomes(stage) == ["open"]
    stage.wait(6 * MINUTE)

    assert stage.verified() == WHOLE
    (difference,) = stage.reader.differences()
    assert difference.outcome is DifferenceOutcome.REPAIRED
    assert difference.ours != difference.theirs
    made_again = [bar for bar in stage.stored() if bar.epoch == 1]
    assert [bar.open_time_ms for bar in made_again] == [VICTIM]
    right = bars_of(TRADES).values()
    assert [contents(bar) for bar in stage.stored()] == [contents(bar) for bar in right]
    counts = stage.audit.snapshot.counts
    assert (counts.different, counts.rebuilt, counts.repaired, counts.staying) == (1, 1, 1, 0)


def contents(bar: Bar) -> Bar:
    return replace(bar, is_complete=True, epoch=0, version=1, updated_at_ms=0)


@pytest.mark.parametrize("interval_ms", [16_000, 40_000, 90_000])
def test_of_bars_that_divide_no_minute_the_whole_unit_of_an_amended_one_is_compared_again(
    path: Path, interval_ms: int
) -> None:
    unit = lcm(interval_ms, MINUTE)
    whole = [(START, START + 12 * unit)]
    trades = market(12 * unit // MINUTE)
    its_unit = START + 6 * unit
    with journal_at(path, interval_ms) as journal:
        stage = AuditStage(journal, trades, interval_ms=interval_ms, minutes=12 * unit // MINUTE)
        stage.wait(MINUTE)
        assert stage.verified() == whole

        late = make_trade(10**6, its_unit + unit - 1)
        stage.reference.replace_trades(sorted([*trades, late], key=lambda trade: trade.time))
        part = replace(bar_of([late], interval_ms), is_closed=True)
        journal.write(WriteBatch(amendments=by_key([part])), stage.clock)
        assert stage.verified() == [
            (whole[0][0], its_unit),
            (its_unit + unit, whole[0][1]),
        ]
        stage.wait(HOUR)

        assert stage.verified() == whole
        assert stage.reader.differences() == []


def test_a_part_of_a_unit_that_is_verified_is_compared_with_all_of_it(path: Path) -> None:
    """As where klines were shorter once."""
    trades = market(10)
    with journal_at(path, 40_000) as journal:
        stage = AuditStage(journal, trades, interval_ms=40_000)
        part = (START, START + 5 * MINUTE)
        journal.write(WriteBatch(audited=[BarsAudited(BTC, (part,))]), stage.clock)

        stage.wait(MINUTE)

        assert stage.verified() == WHOLE


def test_a_bar_with_a_trade_of_its_neighbour_is_made_again(journal: Journal) -> None:
    """The minute as a whole is right, but a bar in it contradicts itself."""
    trades = market(seed=7)
    bars = bars_of(trades)
    times = sorted(time for _, time in bars)
    first, second = next(
        (one, other)
        for one, other in pairwise(times)
        if other == one + INTERVAL
        and one // MINUTE == other // MINUTE
        and bars[BTC, other].trade_count > 1
    )

    def move_trade(bar: Bar) -> Bar:
        change = {first: 1, second: -1}.get(bar.open_time_ms, 0)
        return replace(bar, trade_count=bar.trade_count + change)

    stage = AuditStage(journal, trades, mistake=move_trade)
    stage.wait(15 * MINUTE)

    assert stage.verified() == WHOLE
    assert [bar.open_time_ms for bar in stage.stored() if bar.epoch] == [first, second]
    assert [contents(bar) for bar in stage.stored()] == [contents(bar) for bar in bars.values()]


def test_a_bar_made_again_of_trades_with_a_hole_in_their_ids_is_verified(
    journal: Journal,
) -> None:
    """The exchange has no such id: the bar seems to contradict itself, and is right."""
    bar = next(bar for bar in bars_of(TRADES).values() if bar.trade_count > 1)
    trades = [
        replace(trade, trade_id=trade.trade_id + 5 * (trade.trade_id > bar.first_trade_id))
        for trade in TRADES
    ]

    def mistake(made: Bar) -> Bar:
        return more_of(made) if made.open_time_ms == bar.open_time_ms else made

    stage = AuditStage(journal, trades, mistake=mistake)
    stage.wait(12 * MINUTE)

    assert outcomes(stage) == ["repaired"]
    assert stage.verified() == WHOLE


def test_klines_that_contradict_the_trades_stay_on_record_with_both_sides(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    def invent(kline: Kline) -> Kline:
        is_wrong = kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
        return replace(kline, trade_count=kline.trade_count + 1) if is_wrong else kline

    stage = AuditStage(journal, TRADES, reference=TradesReference(TRADES, revise=invent))
    stage.wait(3 * HOUR)

    (difference,) = stage.reader.differences()
    count = bars_of(TRADES)[BTC, VICTIM].trade_count
    assert (difference.open_time_ms, difference.interval_ms) == (VICTIM, INTERVAL)
    assert (difference.ours, difference.theirs) == (
        f"trade_count {count}",
        f"trade_count {count + 1}",
    )
    assert difference.outcome is DifferenceOutcome.STAYS
    assert stage.verified() == WITHOUT_IT
    assert all(bar.epoch == 0 for bar in stage.stored()), "its trades say what the bar says"
    assert [vars(r)["event"] for r in caplog.records] == ["difference_stays"]
    assert stage.audit.snapshot.verified_until == WHOLE[0][1], "what differs is on record"
    count = len(stage.reference.asked)
    stage.wait(3 * HOUR)
    assert len(stage.reference.asked) == count, "it is not asked for again"


def test_what_stays_is_compared_again_when_a_bar_of_it_changes(journal: Journal) -> None:
    def invent(kline: Kline) -> Kline:
        is_wrong = kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
        is_wrong = is_wrong and stage.now < 2 * HOUR
        return replace(kline, trade_count=kline.trade_count + 1) if is_wrong else kline

    stage = AuditStage(journal, TRADES, reference=TradesReference(TRADES, revise=invent))
    stage.wait(3 * HOUR)
    assert outcomes(stage) == ["stays"]

    again = replace(bars_of(TRADES)[BTC, VICTIM], epoch=1)
    journal.write(WriteBatch(rebuilt=by_key([again])), stage.clock)
    counts = stage.reader.audit_counts()
    assert (counts["open"], counts["stays"]) == (1, 0)
    stage.wait(HOUR)

    assert stage.verified() == WHOLE
    assert outcomes(stage) == ["repaired"]


def test_a_bar_of_too_many_trades_stays_on_record_and_keeps_no_other_from_being_compared(
    journal: Journal,
) -> None:
    reference = TradesReference(TRADES, pages_of_trades=1_000)
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of), reference=reference)
    stage.wait(HOUR)

    assert outcomes(stage) == ["stays"]
    assert stage.verified() == WITHOUT_IT
    assert all(bar.epoch == 0 for bar in stage.stored())


@pytest.mark.parametrize("pages_of_trades", [1, 10], ids=["few trades", "too many trades"])
def test_bars_of_a_day_and_a_small_share_keep_nothing_from_being_compared(
    path: Path, pages_of_trades: int
) -> None:
    """A bar of a day is more klines of a second than the share of a minute has room for."""
    symbols = ("BTCUSDT", "ETHUSDT")
    whole = [(START, START + DAY)]
    trades = [trade for symbol in symbols for trade in market(DAY // MINUTE, symbol=symbol)[:200]]

    def mistake(bar: Bar) -> Bar:
        return more_of(bar) if bar.symbol == BTC else bar

    with journal_at(path, DAY) as journal:
        stage = AuditStage(
            journal,
            trades,
            interval_ms=DAY,
            minutes=DAY // MINUTE,
            mistake=mistake,
            share=120,
            reference=TradesReference(trades, pages_of_trades=pages_of_trades),
        )
        stage.wait(2 * MINUTE)
        assert stage.verified("ETHUSDT") == whole

        stage.wait(HOUR)

        is_too_large = pages_of_trades > 1
        assert outcomes(stage) == ["stays" if is_too_large else "repaired"]
        assert stage.verified() == ([] if is_too_large else whole)
        assert stage.audit.snapshot.request_count < 20


def test_a_difference_whose_trades_take_a_key_stays_and_keeps_nothing_from_being_compared(
    journal: Journal,
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    trades = [trade for symbol in symbols for trade in market(5, symbol=symbol)]

    def mistake(bar: Bar) -> Bar:
        return more_of(bar) if bar.symbol == BTC else bar

    reference = TradesReference(trades, is_not_told=True)
    stage = AuditStage(journal, trades, minutes=5, mistake=mistake, reference=reference)

    stage.wait(HOUR)

    assert set(outcomes(stage)) == {"stays"}
    assert stage.verified("ETHUSDT") == [(START, START + 5 * MINUTE)]
    assert stage.audit.snapshot.error is None


def test_a_difference_for_which_others_leave_no_budget_keeps_nothing_from_being_compared(
    journal: Journal,
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    trades = [trade for symbol in symbols for trade in market(symbol=symbol)]

    def mistake(bar: Bar) -> Bar:
        return more_of(bar) if bar.symbol == BTC and bar.open_time_ms == VICTIM else bar

    reference = TradesReference(trades, pages_of_trades=4)
    stage = AuditStage(journal, trades, mistake=mistake, weight=60, reference=reference)
    stage.covered["ETHUSDT"] = []
    stage.wait(7 * MINUTE)
    asked = stage.audit.snapshot.request_count
    stage.covered["ETHUSDT"] = WHOLE
    stage.wait(5 * MINUTE)
    assert stage.verified("ETHUSDT") == WHOLE
    stage.wait(10 * HOUR)
    assert stage.audit.snapshot.request_count < asked + 60, "less and less often"
    assert outcomes(stage) == []

    reference.pages_of_trades = 1
    stage.wait(25 * HOUR)
    assert outcomes(stage) == ["repaired"]
    assert stage.verified() == WHOLE


def test_klines_that_contradict_each_other_stay_on_record(journal: Journal) -> None:
    def invent(kline: Kline) -> Kline:
        is_wrong = (kline.open_time_ms, kline.interval_ms) == (ITS_MINUTE, MINUTE)
        return replace(kline, trade_count=kline.trade_count + 1) if is_wrong else kline

    stage = AuditStage(journal, TRADES, reference=TradesReference(TRADES, revise=invent))
    stage.wait(HOUR)

    (difference,) = stage.reader.differences()
    assert (difference.open_time_ms, difference.interval_ms) == (ITS_MINUTE, MINUTE)
    assert difference.outcome is DifferenceOutcome.STAYS
    assert stage.verified() == WITHOUT_IT
    assert (BTC, 0, ITS_MINUTE, ITS_MINUTE + MINUTE) in stage.reference.asked, "the trades decide"


def test_a_bar_made_again_that_differs_still_stays_on_record(journal: Journal) -> None:
    def invent(kline: Kline) -> Kline:
        is_wrong = kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
        return replace(kline, quantity=kline.quantity + 1) if is_wrong else kline

    reference = TradesReference(TRADES, revise=invent)
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of), reference=reference)
    stage.wait(3 * HOUR)

    assert outcomes(stage) == ["stays"]
    (difference,) = stage.reader.differences()
    assert difference.found_at_ms < difference.changed_at_ms
    right = bars_of(TRADES)[BTC, VICTIM]
    assert difference.ours == f"quantity {right.quantity:f}", "of the bar as it is now"
    assert [bar.epoch for bar in stage.stored() if bar.epoch] == [1], "made again once"
    assert [length for _, length, _, _ in reference.asked].count(0) == 1, "of trades asked for once"
    counts = stage.audit.snapshot.counts
    assert (counts.different, counts.rebuilt, counts.repaired, counts.staying) == (1, 1, 0, 1)


@pytest.mark.parametrize("looks", range(2, 5))
def test_a_bar_that_becomes_right_while_it_is_looked_at_is_no_difference_that_stays(
    journal: Journal, looks: int
) -> None:
    """Late trades may come, or another process repair it."""
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of))
    right = replace(bars_of(TRADES)[BTC, VICTIM], epoch=1)

    def mend() -> None:
        if len(stage.reference.asked) == looks:
            journal.write(WriteBatch(rebuilt=by_key([right])), stage.end)

    stage.reference.on_request = mend
    stage.wait(3 * HOUR)

    assert stage.verified() == WHOLE
    assert set(outcomes(stage)) <= {"repaired"}


def test_a_bar_that_changes_before_it_is_on_record_as_equal_is_compared_again(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)
    late = make_trade(10**6, VICTIM + 1)
    parts = [replace(bar_of([late]), is_closed=True)]

    def amend(_: Event) -> None:
        if parts:
            journal.write(WriteBatch(amendments=by_key([parts.pop()])), stage.clock)

    stage.before_commit = amend
    stage.wait(MINUTE)
    assert stage.verified() == WITHOUT_IT
    stage.wait(HOUR)

    assert stage.verified() == WHOLE
    assert outcomes(stage) == ["repaired"], "the exchange has no such trade"


def test_a_bar_that_changes_before_it_is_on_record_as_one_that_stays_is_compared_again(
    journal: Journal,
) -> None:
    def invent(kline: Kline) -> Kline:
        is_wrong = kline.open_time_ms <= VICTIM < kline.open_time_ms + kline.interval_ms
        is_wrong = is_wrong and stage.now < 10 * MINUTE
        return replace(kline, trade_count=kline.trade_count + 1) if is_wrong else kline

    stage = AuditStage(journal, TRADES, reference=TradesReference(TRADES, revise=invent))
    right = replace(bars_of(TRADES)[BTC, VICTIM], epoch=1)

    def mend(event: Event) -> None:
        if isinstance(event, BarsAudited) and event.differences:
            journal.write(WriteBatch(rebuilt=by_key([right])), stage.clock)

    stage.before_commit = mend
    stage.wait(HOUR)

    assert [bar.epoch for bar in stage.stored() if bar.epoch] == [1]
    assert stage.verified() == WHOLE
    assert stage.reader.differences() == []


def test_a_bar_that_was_made_again_often_enough_is_left_as_it_is(journal: Journal) -> None:
    stage = AuditStage(
        journal, TRADES, mistake=spoiling(lambda bar: replace(more_of(bar), epoch=MAX_EPOCH))
    )
    stage.wait(HOUR)

    assert outcomes(stage) == ["stays"]
    assert {bar.epoch for bar in stage.stored()} == {0, MAX_EPOCH}


def test_what_is_to_be_looked_at_again_is_not_looked_at_by_a_turn_as_well(
    journal: Journal,
) -> None:
    times = AuditTimes(every_ms=MINUTE)
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of), times=times)
    stage.covered[BTC] = [(ITS_MINUTE, ITS_MINUTE + MINUTE)]
    stage.wait(MINUTE)
    stage.covered[BTC] = WHOLE  # the next page has that minute in its midst

    stage.wait(15 * MINUTE)

    assert stage.verified() == WHOLE
    looks = stage.reference.asked.count((BTC, MINUTE, ITS_MINUTE, ITS_MINUTE + MINUTE))
    assert looks == 4, "at its turn, once more, beside its seconds, and after it was made again"


def test_of_two_bars_of_a_minute_one_is_repaired_and_the_other_stays(journal: Journal) -> None:
    times = [time for _, time in bars_of(TRADES)]
    one, other = next(
        (one, other) for one, other in pairwise(times) if one // MINUTE == other // MINUTE
    )
    at = next(trade.time for trade in TRADES if trade.time >= one)

    def invent(kline: Kline) -> Kline:
        is_wrong = kline.open_time_ms <= at < kline.open_time_ms + kline.interval_ms
        return replace(kline, quantity=kline.quantity + 1) if is_wrong else kline

    stage = AuditStage(
        journal,
        TRADES,
        mistake=lambda bar: more_of(bar) if bar.open_time_ms in (one, other) else bar,
        reference=TradesReference(TRADES, revise=invent),
    )
    stage.wait(HOUR)

    found = {each.open_time_ms: each.outcome for each in stage.reader.differences()}
    assert found == {one: DifferenceOutcome.STAYS, other: DifferenceOutcome.REPAIRED}


def test_a_bar_where_the_exchange_has_no_trades_stays_on_record(journal: Journal) -> None:
    """Stores have no way to forget a bar."""
    trades = [trade for trade in TRADES if trade.time // INTERVAL * INTERVAL != VICTIM]
    reference = TradesReference(trades)
    stage = AuditStage(journal, TRADES, reference=reference)
    stage.wait(3 * HOUR)

    (difference,) = stage.reader.differences()
    assert difference.outcome is DifferenceOutcome.STAYS
    assert "trade_count 0" in difference.theirs
    assert len(stage.stored()) == len(bars_of(TRADES))


def test_a_difference_costs_no_more_where_years_of_them_are_on_record(tmp_path: Path) -> None:
    def invent(kline: Kline) -> Kline:
        return replace(kline, quantity=kline.quantity + 1) if kline.interval_ms == MINUTE else kline

    steps = []
    for count in (10, 10_000):
        found = tuple(
            RecordedDifference(
                *(BTC, START - ago * MINUTE, MINUTE, "1", "2", START, START),
                DifferenceOutcome.STAYS,
            )
            for ago in range(1, count + 1)
        )
        verified = tuple((START - n * MINUTE + 1, START - n * MINUTE + 2) for n in range(1, count))
        with journal_at(tmp_path / str(count)) as journal:
            journal.write(WriteBatch(audited=[BarsAudited(BTC, verified, found)]), START)
            reference = TradesReference(TRADES, revise=invent)
            stage = AuditStage(journal, TRADES, mistake=spoiling(more_of), reference=reference)
            with metering() as meter:
                stage.wait(HOUR)
            assert outcomes(stage).count("stays") == count + 10
            steps.append(meter.steps)

    assert steps[1] < 1.2 * steps[0]


def test_klines_that_are_revised_a_moment_later_are_no_difference(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    stage = AuditStage(journal, TRADES)

    def revise(kline: Kline) -> Kline:
        is_early = kline.open_time_ms >= VICTIM // MINUTE * MINUTE and stage.now < MINUTE
        return replace(kline, trade_count=0) if is_early else kline

    stage.reference.revise = revise
    stage.wait(MINUTE)
    assert stage.verified() == [(START, ITS_MINUTE)]
    stage.wait(6 * MINUTE)

    assert stage.verified() == WHOLE
    assert stage.reader.differences() == []
    assert all(bar.epoch == 0 for bar in stage.stored())
    assert not caplog.records


@pytest.mark.parametrize("length", [MINUTE, 1_000], ids=["of a minute", "of a second"])
def test_of_klines_that_are_missing_nothing_is_concluded(journal: Journal, length: int) -> None:
    """The trades decide where klines of a second are missing; else it is compared later."""

    def leave_out(kline: Kline) -> Kline | None:
        is_of_it = ITS_MINUTE <= kline.open_time_ms < ITS_MINUTE + MINUTE
        return None if is_of_it and kline.interval_ms == length and stage.now < HOUR else kline

    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of))
    stage.reference.revise = leave_out
    stage.wait(20 * MINUTE)
    if length == MINUTE:
        assert stage.verified() == WITHOUT_IT
        assert stage.reader.differences() == []
        stage.wait(4 * HOUR)

    assert stage.verified() == WHOLE
    assert outcomes(stage) == ["repaired"]


def test_a_minute_without_a_kline_keeps_none_after_it_from_being_verified(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES, reference=TradesReference(TRADES, revise=lambda _: None))
    stage.wait(24 * HOUR)
    asked = len(stage.reference.asked)
    assert 4 <= asked <= 8, "less and less often"
    stage.reference.revise = lambda kline: kline
    stage.covered[BTC] = [(START, START + 20 * MINUTE)]

    stage.wait(HOUR)

    assert stage.verified() == [(START + 10 * MINUTE, START + 20 * MINUTE)]
    assert stage.audit.snapshot.verified_until == START
    stage.wait(24 * HOUR)
    assert stage.verified() == [(START, START + 20 * MINUTE)]


def test_where_bars_are_not_complete_nothing_is_concluded(journal: Journal) -> None:
    stage = AuditStage(
        journal, TRADES, mistake=spoiling(lambda bar: replace(more_of(bar), is_closed=False))
    )

    stage.wait(HOUR)

    assert stage.verified() == WITHOUT_IT
    assert stage.reader.differences() == []


def test_a_request_that_fails_is_made_again_and_nothing_is_concluded(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    stage = AuditStage(journal, TRADES)
    stage.reference.error = "no answer"
    stage.wait(20 * MINUTE)

    assert stage.verified() == []
    assert stage.audit.snapshot.error == "no answer"
    assert 2 <= len(stage.reference.asked) <= 5
    assert stage.audit.snapshot.failed_count == len(stage.reference.asked)
    assert {vars(r)["event"] for r in caplog.records} == {"audit_failed"}
    stage.reference.error = None
    stage.wait(6 * MINUTE)

    assert stage.verified() == WHOLE
    assert stage.audit.snapshot.error is None
    assert stage.audit.snapshot.failed_count < len(stage.reference.asked)


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_difference_outlives_a_request_that_fails(journal: Journal, fails_at: int) -> None:
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of))
    while len(stage.reference.asked) < fails_at:
        stage.wait(MINUTE)
    stage.reference.error = "no answer"
    stage.wait(12 * MINUTE)
    stage.reference.error = None
    stage.wait(40 * MINUTE)

    assert stage.verified() == WHOLE
    assert outcomes(stage) == ["repaired"]


def test_a_rebuilt_bar_that_the_journal_refuses_is_no_difference_that_stays(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of))
    stage.takes_events = False
    stage.wait(12 * MINUTE)
    assert any(isinstance(event, BarRebuilt) for event in stage.events)
    assert not any(
        isinstance(event, BarsAudited)
        and event.differences
        and event.differences[0].outcome is DifferenceOutcome.STAYS
        for event in stage.events
    )
    stage.takes_events = True
    stage.wait(25 * HOUR)

    assert stage.verified() == WHOLE
    assert outcomes(stage) == ["repaired"]


def test_a_difference_is_repaired_though_the_collector_was_restarted_meanwhile(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES, mistake=spoiling(more_of))
    stage.wait(7 * MINUTE)
    assert outcomes(stage) == ["open"]

    again = AuditStage(journal, TRADES, mistake=lambda _: None)
    again.wait(MINUTE)

    assert again.verified() == WHOLE
    assert outcomes(again) == ["repaired"]


def test_bars_that_have_left_the_journal_are_not_compared(journal: Journal) -> None:
    stage = AuditStage(journal, TRADES)
    journal.prune([], 2**62)
    assert stage.stored() == []

    stage.wait(HOUR)

    through = stage.reader.pruned_through(BTC)
    assert through is not None
    assert through > START + 9 * MINUTE, "there is no whole minute of which all bars are kept"
    assert (stage.reference.asked, stage.verified()) == ([], [])
    assert stage.reader.differences() == []


def test_bars_that_leave_the_journal_while_they_are_compared_are_no_difference(
    journal: Journal,
) -> None:
    stage = AuditStage(journal, TRADES)

    def prune() -> None:
        journal.prune([], 2**62)

    stage.reference.on_request = prune

    stage.wait(HOUR)

    assert stage.reader.differences() == []
    assert not any(isinstance(event, BarRebuilt) for event in stage.events)


def test_a_backlog_is_caught_up_in_large_pages_oldest_first_and_in_turn(
    journal: Journal,
) -> None:
    symbols = ("BTCUSDT", "ETHUSDT")
    trades = [trade for symbol in symbols for trade in market(5_000, symbol=symbol)[:200]]
    stage = AuditStage(journal, trades, minutes=5_000)

    stage.wait(16 * MINUTE)

    pages = [(symbol, (since - START) // MINUTE) for symbol, _, since, _ in stage.reference.asked]
    assert [since for symbol, since in pages if symbol == "BTCUSDT"] == [0, 1000, 2000, 3000, 4000]
    assert [since for symbol, since in pages if symbol == "ETHUSDT"][:3] == [0, 1000, 2000]
    assert stage.verified("BTCUSDT") == [(START, START + 5_000 * MINUTE)]


def test_the_share_of_the_weight_is_never_exceeded(journal: Journal) -> None:
    symbols = [f"S{n:03}USDT" for n in range(60)]
    trades = [trade for symbol in symbols for trade in market(10, symbol=symbol)]
    stage = AuditStage(journal, trades, share=10, times=AuditTimes(every_ms=MINUTE))
    times: list[int] = []
    while len(stage.reference.asked) < 40:
        before = len(stage.reference.asked)
        stage.wait(250)
        times += [stage.now] * (len(stage.reference.asked) - before)

    assert all(sum(at - MINUTE < each <= at for each in times) <= 5 for at in times)
    assert stage.now >= 7 * MINUTE
