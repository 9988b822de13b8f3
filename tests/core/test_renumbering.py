"""Ids that an exchange restarts, as test networks do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bintrades.core.backfill_result import BackfillResult
from bintrades.core.gap_ranges import DISORDER_MS
from bintrades.core.newest_ids import NewestIds
from bintrades.core.renumbering import RenumberingDetector, contradicted
from bintrades.core.unknown_ids import UnknownIds
from bintrades.model import Gap, GapCause
from tests.core.aggregators import (
    BTC,
    ETH,
    MINUTE,
    new_aggregator,
    repaired,
    resumed,
    run_of,
    start_gap,
    written_after,
)
from tests.strategies import (
    INTERVAL,
    START,
    bar_of,
    make_trade,
)

if TYPE_CHECKING:
    from bintrades.core.aggregator import Aggregator
    from bintrades.model import Trade


def old_and_new(aggregator: Aggregator) -> tuple[list[Trade], list[Trade]]:
    """Have trades come with ids from 100 on, then, in the same interval, from 0 on."""
    old = [make_trade(100 + i, START + i) for i in range(5)]
    new = [make_trade(i, START + 6_000 + 1_000 * i) for i in range(10)]
    aggregator.add(old, 0)
    aggregator.collect()
    aggregator.add(new, 0)
    return old, new


def test_ids_that_restart_are_recorded_from_the_next_interval_on() -> None:
    aggregator = new_aggregator()
    old, new = old_and_new(aggregator)

    assert aggregator.renumbered == [BTC]
    lost, _before, beginning = aggregator.series[BTC].gap_set.missing
    assert (lost.cause, lost.is_abandoned, lost.has_ids) == ("renumbered", True, False)
    assert (lost.since_ms, lost.until_ms) == (old[-1].time - DISORDER_MS, START + INTERVAL - 1)
    assert beginning == start_gap(5, START + INTERVAL, new[6].time)
    repaired(aggregator, *map(run_of, new[4:6]), begins_at=4)

    changes = aggregator.collect(is_last=True)
    assert changes.finished[BTC, START] == bar_of(old), "ids of two numberings do not mix"
    assert changes.finished[BTC, START + INTERVAL] == bar_of(new[4:], is_closed=False)
    assert lost in changes.checkpoints[BTC].ledger.gaps


def test_a_trade_of_the_ids_of_before_is_awaited_no_longer_once_they_restart() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START)], 0)
    aggregator.on_newest_ids(NewestIds({BTC: 105}, START + 4_000, 4_000))

    aggregator.add([make_trade(i, START + 5_000 + 1_000 * i) for i in range(10)], 5_000)
    aggregator.advance(20_000)

    assert aggregator.renumbered == [BTC]
    assert aggregator.series[BTC].gap_set.missing[-1].is_start
    assert aggregator.series[BTC].gap_set.missing[-1].last_id < 10


def test_where_no_bar_was_yet_nothing_is_covered_from_before_the_first_trade() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START + 20_000, symbol=ETH)], 0)
    aggregator.on_newest_ids(NewestIds({BTC: 100}, START + 21_000, 1_000))  # before the beginning
    repaired(aggregator, begins_at=101)

    aggregator.add([make_trade(i, START + 22_000 + 1_000 * i) for i in range(10)], 2_000)

    assert aggregator.renumbered == [BTC]
    assert aggregator.collect().checkpoints[BTC].covered_since_ms == START + 20_000


def test_ids_that_restarted_during_a_restart_are_noticed() -> None:
    before = new_aggregator()
    before.add([make_trade(900, START)], 0)
    after = resumed(written_after(before))

    after.add([make_trade(i, START + 5 * INTERVAL + i) for i in range(9)], 0)

    assert after.renumbered == [BTC]
    assert [(gap.since_ms, gap.cause) for gap in after.series[BTC].gap_set.missing] == [
        (START - DISORDER_MS, "renumbered"),
        (START, "renumbered"),
        (START + INTERVAL, "start"),
    ]


def test_what_was_missing_before_ids_restarted_stays_on_record_without_ids() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START), make_trade(505, START + 2 * INTERVAL)], 0)
    missing = aggregator.series[BTC].gap_set.missing[-1]
    for month in (5, 50):
        times = [START + (month + i) * INTERVAL for i in range(3)]
        aggregator.add([make_trade(i, time) for i, time in enumerate(times)], 0)

    assert aggregator.renumbered == [BTC, BTC]
    lost = [gap for gap in aggregator.series[BTC].gap_set.missing if not gap.has_ids]
    assert [gap.first_id for gap in lost] == list(range(-len(lost), 0))
    assert (missing.since_ms, missing.until_ms) in [(gap.since_ms, gap.until_ms) for gap in lost]
    assert not any(gap.touches(START + 51 * INTERVAL, INTERVAL) for gap in lost)


def test_trades_of_before_may_be_lost_until_the_first_of_those_whose_ids_restart() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START)], 0)
    aggregator.add([make_trade(i, START + 3 * INTERVAL + 100 + i) for i in range(5)], 0)

    (lost, *_) = aggregator.series[BTC].gap_set.missing

    assert (lost.cause, lost.until_ms) == ("renumbered", START + 3 * INTERVAL + 100)


@pytest.mark.parametrize("has_older", [False, True])
def test_a_trade_of_the_new_ids_from_before_the_beginning_shows_that_nothing_after_it_is_lost(
    has_older: bool,
) -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START)], 0)
    new = [make_trade(i, START + 3 * INTERVAL + i) for i in range(3, 6)]
    aggregator.add(new, 0)

    repaired(aggregator, *map(run_of, new[:2]), begins_at=3, has_older=has_older)

    lost = aggregator.series[BTC].gap_set.missing[0]
    assert lost.cause == "renumbered"
    assert lost.until_ms == (START + INTERVAL - 1 if has_older else START + 3 * INTERVAL + 3)


def test_repaired_trades_of_before_do_not_count_once_ids_restarted() -> None:
    aggregator = new_aggregator()
    old, new = old_and_new(aggregator)
    assert new[2].time < START + INTERVAL <= new[4].time
    repaired(aggregator, *map(run_of, new[2:6]), begins_at=2)
    aggregator.add([make_trade(11, new[9].time)], 0)

    repaired(aggregator, run_of(make_trade(10, START + 9_000)))

    assert [gap.cause for gap in aggregator.series[BTC].gap_set.missing] == [
        "renumbered",
        "renumbered",
    ]
    changes = aggregator.collect(is_last=True)
    assert changes.finished[BTC, START] == bar_of(old)
    assert changes.finished[BTC, START + INTERVAL] == bar_of(
        [*new[4:], make_trade(11, new[9].time)], is_closed=False
    )
    assert (BTC, START) not in changes.amendments


def test_an_answer_about_a_gap_of_before_the_ids_restarted_abandons_nothing_of_after() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(500, START), make_trade(505, START + 1_000)], 0)
    asked = aggregator.series[BTC].gap_set.missing[-1]
    aggregator.add([make_trade(i, START + 3 * INTERVAL + i) for i in range(5)], 0)
    before = aggregator.series[BTC].gap_set.missing
    assert asked not in before

    aggregator.fill(
        BackfillResult(
            BTC, asked, abandoned_through=asked.last_id, abandoned_before_ms=START + 5_000
        )
    )

    assert aggregator.series[BTC].gap_set.missing == before
    assert not before[-1].is_abandoned


def test_trades_that_rest_had_before_the_stream_do_not_begin_the_ids_anew() -> None:
    happened = [make_trade(i, START + i * INTERVAL) for i in range(1, 9)]
    aggregator = new_aggregator()
    aggregator.add([make_trade(0, START), make_trade(10**9, START + 5)], 0)
    repaired(aggregator, *map(run_of, happened))

    aggregator.add(happened, 0)

    assert aggregator.renumbered == []
    assert aggregator.duplicate_count == len(happened)


def test_a_bad_message_does_not_begin_the_ids_anew() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START)], 0)
    for number in range(1, 9):  # an old id with a new time, now and then
        aggregator.add([make_trade(50, START + INTERVAL - 1), make_trade(50, START + 9_000)], 0)
        aggregator.add([make_trade(100 + number, START + number)], 0)

    assert aggregator.renumbered == []
    assert aggregator.duplicate_count == 16
    assert [gap.cause for gap in aggregator.series[BTC].gap_set.missing] == ["start"]


def test_real_duplicates_never_begin_the_ids_anew() -> None:
    happened = [make_trade(i, START + 40 * i) for i in range(1, 200)]
    aggregator = new_aggregator()
    aggregator.add(happened, 0)

    aggregator.add(happened, 0)

    assert aggregator.renumbered == []


@pytest.mark.parametrize(
    ("ids", "is_proven"),
    [([1, 2, 3], True), ([1, 2], False), ([1, 1, 1], False), ([1, 2, 9, 10], False)],
)
def test_three_trades_in_a_row_newer_than_all_bars_prove_that_ids_restarted(
    ids: list[int], is_proven: bool
) -> None:
    detector = RenumberingDetector()

    told = [detector.is_proven_by(make_trade(trade_id, START), START) for trade_id in ids]

    assert any(told) == is_proven
    assert not any(detector.is_proven_by(make_trade(20 + n, START), START + 1) for n in range(9))


def contradiction(gap: Gap, *rows: tuple[int, int], missing: tuple[Gap, ...] = ()) -> int | None:
    """Return which id *rows*, ids with their times, have a later trade of than is known."""
    runs = [run_of(make_trade(trade_id, time)) for trade_id, time in rows]
    known = contradicted(gap, runs, UnknownIds((*missing, gap)))
    return None if known is None else known.trade_id


def test_a_later_trade_of_the_id_before_a_gap_may_be_of_other_ids() -> None:
    gap = Gap(10, 20, START - DISORDER_MS, START + MINUTE, GapCause.RESTART)

    assert contradiction(gap, (9, START), (10, START + 1)) is None
    assert contradiction(gap, (9, START + DISORDER_MS)) is None, "`T` may fall back"
    assert contradiction(gap, (10, START + MINUTE), (11, START + MINUTE)) is None
    assert contradiction(gap) is None
    assert contradiction(gap, (9, START + 2 * DISORDER_MS), (10, START + MINUTE)) == 9
    assert contradiction(gap, (0, START + 8_000), (5, START + 9_000)) == 9, "nor of any before it"


def test_ids_that_were_never_had_contradict_nothing() -> None:
    gap = Gap(10, 20, START - DISORDER_MS, START + MINUTE, GapCause.RESTART)
    old = Gap(4, 9, START - MINUTE, START, GapCause.UNUSABLE, is_abandoned=True)
    beginning = Gap.beginning(9, START, START + 1_000)

    assert contradiction(gap, (9, START + MINUTE), missing=(old,)) is None
    assert contradiction(gap, (9, START + MINUTE), missing=(beginning,)) is None
    assert contradiction(gap, (2, START + MINUTE), missing=(old,)) is None, "its time is a guess"
    assert contradiction(beginning, (3, START + MINUTE)) is None


def test_ids_that_past_trades_show_to_have_restarted_are_reported_once() -> None:
    before = new_aggregator()
    before.add([make_trade(i, START + i) for i in range(51)], 0)
    after = resumed(written_after(before))
    behind = [make_trade(1_700 + i, START + 9 * INTERVAL + i) for i in range(3)]
    after.add(behind, 0)
    gap = after.series[BTC].gap_set.missing[-1]

    for _ in range(2):
        after.fill(BackfillResult(BTC, gap, restarted_at=START + 3 * INTERVAL))

    assert after.renumbered == [BTC]
    assert [(each.cause, each.since_ms) for each in after.series[BTC].gap_set.missing] == [
        ("renumbered", START + 50 - DISORDER_MS),
        ("start", START + INTERVAL),
    ]
    assert after.series[BTC].gap_set.missing[0].until_ms == START + 3 * INTERVAL


def test_where_all_that_is_known_is_of_ids_of_before_they_begin_anew() -> None:
    aggregator = new_aggregator()
    aggregator.add([make_trade(100, START), make_trade(105, START + 1_000)], 0)
    gap = aggregator.series[BTC].gap_set.missing[-1]

    aggregator.fill(BackfillResult(BTC, gap, restarted_at=START + 3 * INTERVAL))
    aggregator.add([make_trade(3, START + 4 * INTERVAL)], 0)

    assert aggregator.renumbered == [BTC]
    *_, lost, beginning = aggregator.series[BTC].gap_set.missing
    assert not lost.has_ids
    assert beginning == start_gap(2, START + INTERVAL, START + 4 * INTERVAL)
