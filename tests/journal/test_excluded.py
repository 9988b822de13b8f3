"""Ids that are no fills of the order book: on record, so that each bar of futures proves itself."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.excluded import count_excluded, delete_excluded, put_excluded
from bintrades.journal.reader import JournalReader
from bintrades.model import Bar, Gap, GapCause, GapOutcome
from bintrades.testing.bars import sample_bar
from tests.journals import NOW, by_key, checkpoints, finished, journal_at

if TYPE_CHECKING:
    from pathlib import Path

BAR = sample_bar(market="usdm", first_trade_id=100, last_trade_id=104)
"""Three trades among five ids."""

END = BAR.end_time_ms


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "futures.journal"


def written(bar: Bar, *ranges: tuple[int, int], gaps: tuple[Gap, ...] = ()) -> WriteBatch:
    """Return the changes of a bar, and of ids up to 110 of which some are no fills."""
    batch = finished(bar, BTCUSDT=LedgerState(110, END, gaps))
    batch.excluded["BTCUSDT"] = list(ranges)
    return batch


def stored(path: Path) -> list[Bar]:
    return list(JournalReader(path).bars("BTCUSDT", 0, 2**62, 10))


def on_record(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT first_id, last_id FROM excluded").fetchall()


def test_a_bar_counts_the_ids_between_its_first_and_last_that_are_no_fills(path: Path) -> None:
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (98, 99), (101, 102), (105, 107)), NOW)

    (bar,) = stored(path)
    assert (bar.excluded_count, bar.is_complete) == (2, True)
    assert bar.last_trade_id - bar.first_trade_id + 1 == bar.trade_count + bar.excluded_count


def test_a_bar_is_stored_again_with_the_ids_that_end_its_gap(path: Path) -> None:
    gap = Gap(101, 102, END - 900, END - 800, GapCause.SKIPPED)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, gaps=(gap,)), NOW)
        assert [(bar.excluded_count, bar.is_complete) for bar in stored(path)] == [(0, False)]
        later = WriteBatch(checkpoints=finished(BAR, BTCUSDT=LedgerState(110, END, ())).checkpoints)
        later.exclude("BTCUSDT", 101, 102)
        later.resolved.append(("BTCUSDT", 101, 102, GapOutcome.EXCLUDED))
        journal.write(later, NOW)

    assert [(bar.excluded_count, bar.is_complete, bar.version) for bar in stored(path)] == [
        (2, True, 2)
    ]
    assert [past.outcome for past in JournalReader(path).past_gaps()] == [GapOutcome.EXCLUDED]


def test_ids_of_which_one_is_a_fill_after_all_are_taken_off_the_record(path: Path) -> None:
    gap = Gap(102, 103, END - 900, END - 800, GapCause.SKIPPED)
    bar = replace(BAR, trade_count=2)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(bar, (98, 98), (101, 103), (105, 105)), NOW)
        assert [(bar.excluded_count, bar.is_complete) for bar in stored(path)] == [(3, True)]
        later = written(bar, gaps=(gap,))
        del later.finished[bar.symbol, bar.open_time_ms]
        later.take_back("BTCUSDT", gap)
        journal.write(later, NOW)

    assert on_record(path) == [(98, 98), (101, 101), (105, 105)]
    assert [(bar.excluded_count, bar.is_complete) for bar in stored(path)] == [(1, False)]


def test_an_amendment_counts_anew_what_lies_within_the_longer_bar(path: Path) -> None:
    late = sample_bar(market="usdm", trade_count=1, first_trade_id=108, last_trade_id=108)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (101, 102), (105, 107)), NOW)
        journal.write(WriteBatch(amendments=by_key([late])), NOW)

    (bar,) = stored(path)
    assert (bar.first_trade_id, bar.last_trade_id) == (100, 108)
    assert (bar.trade_count, bar.excluded_count) == (4, 5)


def test_a_spot_journal_asks_nothing_about_them(path: Path) -> None:
    bar = sample_bar(first_trade_id=100, last_trade_id=104)
    with journal_at(path) as journal:
        journal.write(written(bar, (101, 102)), NOW)

    assert [each.excluded_count for each in stored(path)] == [0]


def test_a_rebuilt_bar_keeps_what_it_was_counted_with(path: Path) -> None:
    rebuilt = sample_bar(
        market="usdm", first_trade_id=100, last_trade_id=104, epoch=1, excluded_count=2
    )
    with journal_at(path, market="usdm") as journal:
        journal.write(written(rebuilt), NOW)

    assert [each.excluded_count for each in stored(path)] == [2]


def test_the_newest_fill_is_known_after_a_restart_whatever_is_behind_it(path: Path) -> None:
    gap = Gap(106, 106, END - 900, END - 800, GapCause.SKIPPED)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (105, 105), (107, 108), (109, 109), gaps=(gap,)), NOW)
    with journal_at(path, market="usdm") as journal:
        assert journal.checkpoints["BTCUSDT"].newest_fill_id == 104
        assert journal.checkpoints["BTCUSDT"].ledger.next_id == 110


def test_they_are_forgotten_with_their_bars_but_not_those_of_bars_that_stay(path: Path) -> None:
    stays = sample_bar(market="usdm", first_trade_id=50, last_trade_id=54, is_closed=False)
    goes = sample_bar(
        market="usdm", open_time_ms=BAR.open_time_ms + 10_000, first_trade_id=60, last_trade_id=64
    )
    newest = sample_bar(
        market="usdm", open_time_ms=BAR.open_time_ms + 20_000, first_trade_id=70, last_trade_id=74
    )
    batch = WriteBatch(
        finished=by_key([stays, goes, newest]),
        checkpoints=checkpoints(BTCUSDT=LedgerState(75, newest.end_time_ms, ())),
    )
    batch.excluded["BTCUSDT"] = [(51, 52), (56, 57), (61, 62), (66, 67), (71, 72)]
    with journal_at(path, market="usdm") as journal:
        journal.write(batch, NOW)
        journal.write(WriteBatch(), NOW + 60_000)
        assert journal.prune([], 2**62) == 1

    assert on_record(path) == [(51, 52), (66, 67), (71, 72)]


def test_a_bar_that_stays_may_be_the_only_one_of_its_hour(path: Path) -> None:
    in_its_midst = BAR.open_time_ms + 10_000
    stays = sample_bar(
        market="usdm",
        open_time_ms=in_its_midst,
        first_trade_id=50,
        last_trade_id=54,
        is_closed=False,
    )
    an_hour_later = in_its_midst + 3_600_000
    goes = sample_bar(
        market="usdm", open_time_ms=an_hour_later, first_trade_id=60, last_trade_id=64
    )
    newest = sample_bar(
        market="usdm", open_time_ms=an_hour_later + 10_000, first_trade_id=70, last_trade_id=74
    )
    batch = WriteBatch(
        finished=by_key([stays, goes, newest]),
        checkpoints=checkpoints(BTCUSDT=LedgerState(75, newest.end_time_ms, ())),
    )
    batch.excluded["BTCUSDT"] = [(51, 52), (56, 57), (61, 62), (66, 67), (71, 72)]
    with journal_at(path, market="usdm") as journal:
        journal.write(batch, an_hour_later)
        journal.write(WriteBatch(), an_hour_later + 60_000)
        assert journal.prune([], 2**62) == 1

    assert on_record(path) == [(51, 52), (66, 67), (71, 72)]


def test_what_can_be_read_of_them_is_salvaged(path: Path) -> None:
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (101, 102)), NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO excluded VALUES ('BTCUSDT', 'x', 7)")
        connection.execute("UPDATE counts SET value = 'x'")  # has the whole file salvaged
    with journal_at(path, market="usdm"):
        pass

    assert on_record(path) == [(101, 102)]


def salvaged(path: Path) -> tuple[Gap, ...]:
    """Have the whole file be salvaged; return what is missing then."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE counts SET value = 'x'")
    with journal_at(path, market="usdm") as journal:
        return journal.checkpoints["BTCUSDT"].ledger.gaps


def test_ids_that_are_no_fills_are_not_taken_for_those_of_a_bar_that_was_lost(path: Path) -> None:
    earlier = sample_bar(
        market="usdm", open_time_ms=BAR.open_time_ms - 20_000, first_trade_id=90, last_trade_id=94
    )
    open_bar = sample_bar(
        market="usdm",
        open_time_ms=END + 20_000,
        first_trade_id=107,
        last_trade_id=111,
        is_closed=False,
    )
    state = LedgerState(114, END + 21_000, ())
    batch = WriteBatch(
        finished=by_key([earlier, BAR]),
        checkpoints={"BTCUSDT": Checkpoint(state, (open_bar,), BAR.open_time_ms)},
    )
    batch.excluded["BTCUSDT"] = [
        *((91, 92), (95, 99)),
        *((101, 102), (105, 106)),
        *((108, 109), (112, 113)),
    ]
    with journal_at(path, market="usdm") as journal:
        journal.write(batch, NOW)

    assert salvaged(path) == ()


def test_ids_of_a_bar_that_was_lost_are_missing_with_what_is_no_fill_among_them(
    path: Path,
) -> None:
    lost = sample_bar(
        market="usdm", open_time_ms=END, first_trade_id=105, last_trade_id=107, trade_count=2
    )
    later = sample_bar(
        market="usdm", open_time_ms=END + 10_000, first_trade_id=108, last_trade_id=110
    )
    batch = WriteBatch(
        finished=by_key([BAR, lost, later]),
        checkpoints=checkpoints(BTCUSDT=LedgerState(111, END + 11_000, ())),
    )
    batch.excluded["BTCUSDT"] = [(101, 102), (106, 106)]
    with journal_at(path, market="usdm") as journal:
        journal.write(batch, NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM bars WHERE open_time = ?", (END,))

    (gap,) = salvaged(path)

    assert (gap.first_id, gap.last_id) == (105, 107)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=20),
    st.tuples(st.integers(-1, 50), st.integers(-1, 50)),
)
def test_ranges_are_joined_and_counted_once_in_whatever_order_they_come(
    pairs: list[tuple[int, int]], ends: tuple[int, int]
) -> None:
    ranges = [(first, first + more) for first, more in pairs]
    ids = {each for first, last in ranges for each in range(first, last + 1)}
    first, last = min(ends), max(ends)
    first -= first in ids  # both are ids of fills, which no range holds
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE TABLE excluded (symbol TEXT, first_id INTEGER, last_id INTEGER,"
            " PRIMARY KEY (symbol, first_id)) WITHOUT ROWID"
        )
        put_excluded(connection, "A", ranges)
        put_excluded(connection, "B", [(0, 100)])
        rows = connection.execute("SELECT first_id, last_id FROM excluded WHERE symbol = 'A'")
        found = list(rows)

        assert {each for low, high in found for each in range(low, high + 1)} == ids
        assert sum(high - low + 1 for low, high in found) == len(ids)
        assert all(low > high + 1 for (_, high), (low, _) in pairwise(found))
        if first not in ids and last not in ids:
            assert count_excluded(connection, "A", first, last) == len(
                [each for each in ids if first < each < last]
            )
            delete_excluded(connection, "A", first, last)
            assert count_excluded(connection, "A", first, last) == 0


def at(bar: Bar, number: int, first_id: int, **changes: Any) -> Bar:
    """Return a bar of three trades among five ids, *number* intervals after *bar*."""
    return sample_bar(
        market="usdm",
        open_time_ms=bar.open_time_ms + number * 10_000,
        first_trade_id=first_id,
        last_trade_id=first_id + 4,
        **changes,
    )


def test_ids_that_begin_again_are_not_counted_with_those_of_before(path: Path) -> None:
    old, new = at(BAR, 1, 200), at(BAR, 5, 100)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (101, 102)), NOW)
        batch = finished(old, new, BTCUSDT=LedgerState(110, new.end_time_ms, ()))
        batch.exclude("BTCUSDT", 201, 202)
        batch.restart_ids("BTCUSDT", new.open_time_ms)
        batch.exclude("BTCUSDT", 203, 203)
        batch.exclude("BTCUSDT", 103, 103)
        journal.write(batch, NOW)

    assert [bar.excluded_count for bar in stored(path)] == [2, 2, 1]
    with journal_at(path, market="usdm") as journal:
        late = sample_bar(market="usdm", open_time_ms=new.open_time_ms, trade_count=1)
        late = replace(late, first_trade_id=204, last_trade_id=204)
        older = replace(late, open_time_ms=old.open_time_ms)
        journal.write(WriteBatch(amendments=by_key([late, older])), NOW)

    assert [bar.excluded_count for bar in stored(path)] == [2, 2, 2], "also after a restart"


def test_new_ids_behind_the_gap_in_which_they_began_again_stay_on_record(path: Path) -> None:
    new = at(BAR, 5, 300)
    with journal_at(path, market="usdm") as journal:
        journal.write(written(BAR, (101, 102), (301, 302)), NOW)
        batch = finished(new, BTCUSDT=LedgerState(310, new.end_time_ms, ()))
        batch.restart_ids("BTCUSDT", new.open_time_ms - 10_000, last_id=250)
        journal.write(batch, NOW)

    assert [bar.excluded_count for bar in stored(path)] == [2, 2]
    assert [each for each in on_record(path) if each[0] >= 0] == [(301, 302)]


def test_bars_of_before_ids_began_again_take_no_new_ones_with_them(path: Path) -> None:
    stays, goes = at(BAR, 0, 500, is_closed=False), at(BAR, 1, 600)
    first, second, newest = at(BAR, 3, 100), at(BAR, 4, 110), at(BAR, 5, 120)
    with journal_at(path, market="usdm") as journal:
        batch = WriteBatch(finished=by_key([stays, goes]))
        batch.checkpoints = checkpoints(BTCUSDT=LedgerState(605, goes.end_time_ms, ()))
        batch.exclude("BTCUSDT", 601, 602)
        batch.restart_ids("BTCUSDT", first.open_time_ms)
        batch.exclude("BTCUSDT", 101, 102)
        batch.exclude("BTCUSDT", 111, 112)
        journal.write(batch, NOW)
        state = LedgerState(125, newest.end_time_ms, ())
        journal.write(WriteBatch(checkpoints=checkpoints(BTCUSDT=state)), NOW)
        journal.write(WriteBatch(), NOW + 60_000)
        assert journal.prune([], 2**62) == 1
        assert [each for each in on_record(path) if each[0] >= 0] == [(101, 102), (111, 112)]

        journal.write(WriteBatch(finished=by_key([first, second, newest])), NOW + 60_000)
        journal.write(WriteBatch(), NOW + 120_000)
        assert journal.prune([], 2**62) == 2

    assert [each for each in on_record(path) if each[0] >= 0] == []
