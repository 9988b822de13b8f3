"""Series of futures: every id is counted, and only fills of the order book are in bars."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from decimal import Decimal
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.aggregator import Aggregator
from bintrades.core.backfill_result import BackfillResult
from bintrades.core.newest_ids import NewestIds
from bintrades.core.series_with_fillers import SeriesWithFillers
from bintrades.core.write_batch import ALL_IDS, IdsRestart, IdsTakenBack
from bintrades.journal.reader import JournalReader
from bintrades.model import ExcludedId, GapOutcome, IdLaw, SeriesKey, Trade
from tests.core.aggregators import BTC, ETH, GRACE, run_of
from tests.journals import open_journal
from tests.strategies import INTERVAL, START, bars_of, make_trade

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bintrades.core.write_batch import Checkpoint
    from bintrades.model import Bar, GapSet

KEY = SeriesKey("binance", "usdm", BTC, "trade", IdLaw.WITH_FILLERS)
ZERO = Decimal(0)


def filler(trade_id: int, time: int = START) -> ExcludedId:
    """Return an id that is used for nothing, as `X: "NA"` says it."""
    return ExcludedId(BTC, trade_id, time, time, ZERO, ZERO, True)


def started(checkpoints: dict[str, Checkpoint] | None = None, now: int = 0) -> Aggregator:
    """Return an aggregator whose clock is confirmed."""
    aggregator = Aggregator([KEY], interval_ms=INTERVAL, grace_ms=GRACE)
    aggregator.resume(checkpoints or {})
    aggregator.connected([BTC], now)
    for number in (1, 2):  # of a symbol that nobody wants: they confirm the clock, as two must
        aggregator.add([make_trade(number, symbol=ETH)], now)
    return aggregator


def missing(aggregator: Aggregator) -> list[tuple[int, int]]:
    gaps: GapSet = aggregator.series[BTC].gap_set
    return [(gap.first_id, gap.last_id) for gap in gaps.missing if not gap.is_start]


def page(
    line: Sequence[Trade], first_id: int, last_id: int, *, gap_of: Aggregator
) -> BackfillResult:
    """Return what a page of past trades from *first_id* to *last_id* says of the first gap."""
    (gap, *_) = [g for g in gap_of.series[BTC].gap_set.missing if not g.is_start]
    rows = [each for each in line if first_id <= each.trade_id <= last_id]
    fills = [each for each in rows if type(each) is not ExcludedId]
    ids = [each.trade_id for each in fills]
    excluded = [(a + 1, b - 1) for a, b in pairwise(ids) if b > a + 1]
    return BackfillResult(BTC, gap, [run_of(each) for each in fills], excluded=excluded)


def test_ids_that_are_no_fills_make_no_hole_and_are_in_no_sum() -> None:
    aggregator = started()

    aggregator.add([make_trade(5, START), filler(6, START + 1), filler(7, START + 2)], 1)
    aggregator.add([make_trade(8, START + 3)], 2)
    batch = aggregator.collect(is_last=True)

    assert isinstance(aggregator.series[BTC], SeriesWithFillers)
    assert missing(aggregator) == []
    (bar,) = batch.finished.values()
    assert (bar.trade_count, bar.first_trade_id, bar.last_trade_id) == (2, 5, 8)
    assert batch.excluded == {BTC: [(6, 7)]}
    assert (aggregator.excluded_count, aggregator.trade_count) == (2, 2)


def test_an_interval_with_nothing_but_fillers_has_no_bar() -> None:
    aggregator = started()

    aggregator.add([make_trade(5, START)], 1)
    aggregator.add([filler(6, START + INTERVAL), filler(7, START + 2 * INTERVAL)], 2)
    aggregator.add([make_trade(8, START + 3 * INTERVAL)], 3)
    batch = aggregator.collect(is_last=True)

    assert [open_time for _, open_time in batch.finished] == [START, START + 3 * INTERVAL]


def test_a_filler_proves_and_closes_what_lies_before_it_as_a_trade_does() -> None:
    aggregator = started()

    aggregator.add([make_trade(5, START), make_trade(6, START + 10)], 1)
    aggregator.add([filler(7, START + INTERVAL + GRACE)], 2)
    batch = aggregator.collect()

    assert [bar.is_closed for bar in batch.finished.values()] == [True]
    assert batch.checkpoints[BTC].proves(START + INTERVAL)


def test_a_filler_ahead_of_the_next_id_opens_a_gap_that_one_inside_fills() -> None:
    aggregator = started()

    aggregator.add([make_trade(5), filler(8)], 1)
    assert missing(aggregator) == [(6, 7)]
    aggregator.add([filler(6)], 2)
    assert missing(aggregator) == [(7, 7)]
    aggregator.add([filler(6), make_trade(7)], 3)

    assert missing(aggregator) == []
    assert aggregator.duplicate_count == 1
    assert aggregator.collect().excluded == {BTC: [(8, 8), (6, 6)]}


def test_holes_that_a_page_answers_around_are_missing_no_longer() -> None:
    line = [make_trade(5), filler(6), make_trade(7), filler(8), filler(9), make_trade(10)]
    aggregator = started()
    aggregator.add([line[0], line[-1]], 1)

    aggregator.fill(page(line, 5, 10, gap_of=aggregator))
    batch = aggregator.collect(is_last=True)

    assert missing(aggregator) == []
    assert batch.excluded == {BTC: [(6, 6), (8, 9)]}
    assert {each[3].value for each in batch.resolved} == {"excluded"}
    assert [bar.trade_count for bar in batch.finished.values()] == [3]


def test_what_is_no_fill_is_put_on_record_once_however_often_it_is_answered_around() -> None:
    line = [make_trade(5), filler(6), make_trade(7), make_trade(8)]
    aggregator = started()
    aggregator.add([line[0], line[1], line[3]], 1)

    aggregator.fill(page(line, 5, 8, gap_of=aggregator))

    assert aggregator.collect().excluded == {BTC: [(6, 6)]}


def went_around(*fills: Trade, of: Sequence[Trade]) -> Aggregator:
    """Return an aggregator that has the first and last *of* a line, and an answer's *fills*."""
    aggregator = started()
    aggregator.add([of[0], of[-1]], 1)
    begin(aggregator, of[0].trade_id)
    told = [of[0], *fills, of[-1]]
    aggregator.fill(page(told, of[0].trade_id, of[-1].trade_id, gap_of=aggregator))
    assert missing(aggregator) == []
    return aggregator


def test_a_fill_that_comes_after_past_trades_went_around_it_is_counted_once() -> None:
    """As from a second connection, where REST was behind with some trades."""
    line = [make_trade(i, START + i) for i in range(5, 11)]
    aggregator = went_around(line[2], of=line)

    aggregator.add([line[3], line[3], filler(6, START + 6)], 2)

    assert missing(aggregator) == [(9, 9)], "what was held so together is asked for again"
    assert (aggregator.trade_count, aggregator.duplicate_count) == (3, 2)
    batch = aggregator.collect(is_last=True)
    assert batch.excluded == {BTC: [(6, 6), (8, 9), IdsTakenBack(8, 9)]}
    resolved = [each for each in batch.resolved if each[3] is GapOutcome.EXCLUDED]
    assert resolved == [(BTC, 6, 6, GapOutcome.EXCLUDED)]
    assert [bar.trade_count for bar in batch.finished.values()] == [4]


def test_a_fill_of_a_bar_that_was_proven_without_it_amends_that_until_all_is_known_again(
    tmp_path: Path,
) -> None:
    line = [make_trade(i, START + i) for i in range(5, 11)]
    aggregator = went_around(of=[*line, make_trade(11, START + INTERVAL + GRACE)])

    def stored() -> list[tuple[int, int, bool]]:
        journal.write(aggregator.collect(), START)
        bar, *_ = JournalReader(tmp_path / "j").bars(BTC, START, 2**62, 9)
        return [(bar.trade_count, bar.excluded_count, bar.is_complete)]

    journal = open_journal(tmp_path / "j", market="usdm")
    aggregator.add([make_trade(12, START + 2 * INTERVAL)], 1)
    assert stored() == [(1, 0, True)]

    aggregator.add([line[2], line[-1]], 2)  # 6 to 10 were no fills, it was said
    assert missing(aggregator) == [(6, 6), (8, 9)]
    assert stored() == [(3, 0, False)]

    aggregator.fill(page([line[0], line[2], line[4], line[5]], 5, 10, gap_of=aggregator))
    assert stored() == [(4, 2, True)]
    journal.close()
    past = JournalReader(tmp_path / "j").past_gaps()
    assert {(each.gap.first_id, each.gap.last_id): each.outcome for each in past} == {
        (6, 6): GapOutcome.EXCLUDED,
        (7, 7): GapOutcome.REPAIRED,
        (8, 8): GapOutcome.EXCLUDED,
        (9, 9): GapOutcome.REPAIRED,
        (10, 10): GapOutcome.REPAIRED,
    }


def test_a_trade_that_is_newer_than_the_hole_is_none_of_its_fills() -> None:
    line = [make_trade(i, START + i) for i in (5, 6, 7)]
    aggregator = went_around(of=line)

    aggregator.add([make_trade(6, START + INTERVAL)], 2)  # ids have restarted, perhaps

    assert missing(aggregator) == []
    assert aggregator.duplicate_count == 1


def word(trade_id: int | None, said_at: int, at: int) -> NewestIds:
    return NewestIds({BTC: trade_id}, said_at, at)


def settled(aggregator: Aggregator, now: int) -> int | None:
    aggregator.advance(now)
    return aggregator.collect().checkpoints[BTC].proven_ms


@pytest.mark.parametrize("is_restarted", [False, True])
def test_the_exchange_names_the_newest_fill_which_proves_what_fillers_are_behind(
    tmp_path: Path, is_restarted: bool
) -> None:
    aggregator = started()
    aggregator.add([make_trade(5, START), filler(6, START + 1)], 1)
    if is_restarted:
        journal = open_journal(tmp_path / "j", market="usdm")
        journal.write(aggregator.collect(), START)
        journal.close()
        journal = open_journal(tmp_path / "j", market="usdm")
        aggregator = started(journal.checkpoints)
        journal.close()

    assert aggregator.on_newest_ids(word(5, START + 30_000, 30_000))
    proven = settled(aggregator, 30_000)

    assert proven is not None
    assert proven >= START + 20_000
    assert missing(aggregator) == []
    assert not aggregator.suspects


def test_a_fill_that_the_exchange_names_beyond_fillers_is_missing() -> None:
    aggregator = started()
    aggregator.add([make_trade(5, START), filler(6, START + 1)], 1)

    aggregator.on_newest_ids(word(9, START + 30_000, 30_000))
    aggregator.advance(60_000)

    assert missing(aggregator) == [(7, 9)]
    assert aggregator.on_newest_ids(word(9, START + 70_000, 70_000))


def test_a_word_that_lacks_a_fill_of_the_last_minute_proves_nothing() -> None:
    aggregator = started()
    aggregator.add([make_trade(5, START), make_trade(6, START + 10), filler(7, START + 11)], 1)
    aggregator.mark_newest()

    assert not aggregator.on_newest_ids(word(5, START + 30_000, 30_000))


@st.composite
def lines(draw: st.DrawFn) -> list[Trade]:
    """Draw a line of consecutive ids within some intervals, a third of them no fills."""
    size = draw(st.integers(2, 30))
    steps = draw(st.lists(st.sampled_from([0, 1, 40, 4_000]), min_size=size, max_size=size))
    kinds = draw(st.lists(st.sampled_from([0, 0, 1]), min_size=size, max_size=size))
    first_id = draw(st.sampled_from([0, 1, 2**40]))
    times = accumulate(steps, initial=START)
    line: list[Trade] = []
    for number, (kind, time) in enumerate(zip(kinds, times, strict=False)):
        trade_id = first_id + number
        line.append(filler(trade_id, time) if kind else make_trade(trade_id, time, quantity="0.1"))
    line[0] = make_trade(first_id, START)
    line.append(make_trade(first_id + size, max(each.time for each in line) + 1))
    return line


def begin(aggregator: Aggregator, first_id: int) -> None:
    """Have the exchange have said that nothing is wanted before *first_id*."""
    for gap in aggregator.series[BTC].gap_set.missing:
        aggregator.fill(BackfillResult(BTC, gap, begins_at=first_id))


def fills_of(line: Iterable[Trade]) -> list[Trade]:
    return [each for each in line if type(each) is not ExcludedId]


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(lines(), st.data())
def test_every_complete_bar_proves_itself_whatever_is_lost_late_or_crashes(
    line: list[Trade], data: st.DataObject
) -> None:
    """Some of the line comes, at times twice or late; commits happen, and crashes lose the rest;
    what is missing in the end is asked for in pages of any size. They may lack fills, which a
    stream brings after that.
    """
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ended:
        path = Path(folder) / "j"
        journal = open_journal(path, market="usdm")
        # Hypothesis may end it at any draw, and a journal that is never closed is a warning.
        ended.callback(lambda: journal.close())
        aggregator = started()
        come = [each for each in line[1:-1] if data.draw(st.sampled_from([True, True, False]))]
        late = [each for each in line[1:-1] if data.draw(st.sampled_from([False, False, True]))]
        now = 1
        for each in [line[0], *come, line[-1], *late]:
            now += 1
            aggregator.add([replace(each, event_time=max(each.time, line[0].time))], now)
            what = data.draw(st.sampled_from(["", "", "commit", "crash"]))
            if each is line[0]:
                begin(aggregator, each.trade_id)
            if what == "commit" or each is line[0]:
                journal.write(aggregator.collect(), now)
            elif what == "crash":
                journal.close()
                journal = open_journal(path, market="usdm")
                aggregator = started(journal.checkpoints, now)
        aggregator.add([line[-1]], now)
        behind = [each for each in fills_of(line) if data.draw(st.sampled_from([False, True]))]
        while missing(aggregator):
            first_id, last_id = missing(aggregator)[0]
            size = data.draw(st.integers(1, 40))
            start = first_id - 1
            end = min(start + size + 1, last_id + 1)
            ids = [each.trade_id for each in fills_of(line)]
            # A page ends with a fill: what comes after that is answered by the next one.
            end = min([each for each in ids if each >= end] or [last_id + 1])
            lacking = [each for each in behind if start < each.trade_id < end]
            told = [each for each in line if each not in lacking]
            aggregator.fill(page(told, start, end, gap_of=aggregator))
            if data.draw(st.booleans()):
                journal.write(aggregator.collect(), now)
            behind = [each for each in behind if each not in lacking]
            aggregator.add([replace(each, event_time=line[-1].time) for each in lacking], now)
        beyond = line[-1].time + INTERVAL + GRACE
        last = make_trade(line[-1].trade_id + 1, beyond + INTERVAL, quantity="0.1")
        aggregator.add([last], now)
        journal.write(aggregator.collect(), now)
        journal.write(aggregator.collect(is_last=True), now)
        journal.close()
        stored = {bar.open_time_ms: bar for bar in JournalReader(path).bars(BTC, 0, 2**62, 99)}

    expected: dict[int, Bar] = {
        open_time: bar for (_, open_time), bar in bars_of([*fills_of(line), last]).items()
    }
    assert stored.keys() == expected.keys()
    for open_time, bar in stored.items():
        fills = expected[open_time]
        assert (bar.trade_count, bar.quantity, bar.value, bar.open_price, bar.close_price) == (
            *(fills.trade_count, fills.quantity, fills.value),
            *(fills.open_price, fills.close_price),
        )
        assert bar.last_trade_id - bar.first_trade_id + 1 == bar.trade_count + bar.excluded_count
        assert bar.is_complete == (open_time <= line[-1].time)


def test_fillers_that_come_twice_are_no_ids_that_have_restarted() -> None:
    aggregator = started()
    aggregator.add([make_trade(5, START)], 1)
    times = [START + INTERVAL + GRACE + each for each in (0, 2_000, 4_000, 6_000)]

    for trade_id, time in enumerate(times, 6):  # on each of two connections
        aggregator.add([filler(trade_id, time)], trade_id)
        aggregator.add([filler(trade_id, time)], trade_id)

    assert aggregator.renumbered == []
    assert missing(aggregator) == []


def test_ids_that_begin_again_do_not_mix_with_what_is_on_record_of_before() -> None:
    aggregator = started()
    aggregator.add([make_trade(100, START), filler(101, START + 1), make_trade(102, START + 2)], 1)
    later = START + 5 * INTERVAL
    aggregator.add([make_trade(i, later + i) for i in (3, 4, 5)], 2)
    aggregator.add([filler(6, later + 10), make_trade(7, later + 11)], 3)

    assert aggregator.renumbered == [BTC]
    assert aggregator.collect().excluded == {
        BTC: [(101, 101), IdsRestart(START + INTERVAL, ALL_IDS), (6, 6)]
    }


def test_new_ids_behind_the_gap_in_which_they_began_again_stay_on_record() -> None:
    aggregator = started()
    aggregator.add([make_trade(100, START), filler(101, START + 1)], 1)
    later = START + 5 * INTERVAL
    aggregator.add([filler(200, later), filler(201, later + 1)], 2)

    assert aggregator.series[BTC].restart_ids(later - INTERVAL)

    assert aggregator.collect().excluded == {
        BTC: [(101, 101), (200, 201), IdsRestart(START + INTERVAL, 199)]
    }
    assert aggregator.on_newest_ids(word(50, later + 30_000, 30_000)), "that of 100 is of before"
    proven = settled(aggregator, 30_000)
    assert proven is not None
    assert proven >= later + 20_000
