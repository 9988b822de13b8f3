"""Bars that a store had, and is given again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from bintrades.journal.bars import BARS_FROM
from bintrades.journal.connection import connect
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import finished, journal_at, metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bintrades import Bar
    from bintrades.journal.writer import Journal

NOW = OPEN_TIME_MS + 60_000
BARS = [bar for symbol in ("BTCUSDT", "ETHUSDT", "币USDT") for bar in sample_bars(5, symbol=symbol)]


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return a journal whose store has everything."""
    with journal_at(path) as journal:
        journal.write(finished(*BARS), NOW)
        assert len(take(Cursor(path, "store"))) == len(BARS)
        yield journal


def take(cursor: Cursor, limit: int = 1_000) -> list[Bar]:
    """Take batches until nothing is left."""
    taken: list[Bar] = []
    while True:
        bars, sequence = cursor.next_bars(limit)
        if not bars:
            return taken
        assert len(bars) <= limit
        cursor.move(sequence, bars)
        taken += bars


def names(bars: list[Bar]) -> list[tuple[str, int]]:
    return [(bar.symbol, (bar.open_time_ms - OPEN_TIME_MS) // 10_000) for bar in bars]


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 1_000])
def test_every_bar_from_there_on_comes_again_once_in_order_of_time(path: Path, limit: int) -> None:
    cursor = Cursor(path, "store")

    count = cursor.resend_since("store", OPEN_TIME_MS + 30_000)

    expected = [(symbol, index) for index in (3, 4) for symbol in ("BTCUSDT", "ETHUSDT", "币USDT")]
    assert count == 6
    assert names(take(cursor, limit)) == expected
    assert take(cursor) == []
    assert cursor.store("store").waiting_bars == 0


@pytest.mark.usefixtures("journal")
def test_another_store_gets_nothing_again(path: Path) -> None:
    take(Cursor(path, "other"))

    JournalReader(path).resend_since("store", 0)

    assert take(Cursor(path, "other")) == []


def test_new_bars_come_first_and_a_batch_never_mixes_them(journal: Journal, path: Path) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", OPEN_TIME_MS + 40_000)
    new = sample_bar(open_time_ms=OPEN_TIME_MS + 50_000)
    journal.write(finished(new), NOW)

    bars, sequence = cursor.next_bars(100)
    assert names(bars) == [("BTCUSDT", 5)]
    assert not cursor.is_sending_again
    cursor.move(sequence, bars)

    bars, sequence = cursor.next_bars(100)
    assert len(bars) == 4
    assert cursor.is_sending_again
    cursor.move(sequence, bars)
    assert cursor.next_bars(100)[0] == []


def test_a_restart_goes_on_where_sending_again_had_come_to(journal: Journal, path: Path) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", 0)
    bars, sequence = cursor.next_bars(4)
    cursor.move(sequence, bars)
    bars_not_acknowledged, _ = cursor.next_bars(4)

    again = take(Cursor(path, "store"), 4)

    assert names(again)[:4] == names(bars_not_acknowledged)
    assert sorted(names(bars + again)) == sorted(names(BARS))


@pytest.mark.usefixtures("journal")
@pytest.mark.parametrize(("second", "expected"), [(0, 15), (30_000, 9)])
def test_a_second_request_never_makes_less_of_the_first(
    path: Path, second: int, expected: int
) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", OPEN_TIME_MS + 20_000)

    cursor.resend_since("store", OPEN_TIME_MS + second)

    assert len(take(cursor)) == expected


@pytest.mark.usefixtures("journal")
def test_a_request_while_a_batch_is_on_its_way_is_not_forgotten(path: Path) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", OPEN_TIME_MS + 40_000)
    bars, sequence = cursor.next_bars(100)

    JournalReader(path).resend_since("store", OPEN_TIME_MS)
    cursor.move(sequence, bars)

    assert len(take(cursor)) == len(BARS)


@pytest.mark.usefixtures("journal")
def test_refused_bars_of_that_span_are_cleared_when_they_are_taken(path: Path) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", 0)
    bars, sequence = cursor.next_bars(100)
    cursor.move(sequence, bars, [(bar, "ugly") for bar in bars[:2]])
    assert cursor.store("store").rejected_bars == 2

    cursor.resend_since("store", 0)
    take(cursor)

    assert cursor.store("store").rejected_bars == 0


@pytest.mark.usefixtures("journal")
def test_how_far_it_has_come_is_told_until_it_is_done(path: Path) -> None:
    cursor = Cursor(path, "store")
    assert cursor.store("store").resending_from_ms is None
    cursor.resend_since("store", OPEN_TIME_MS + 20_000)
    assert cursor.store("store").resending_from_ms == OPEN_TIME_MS + 20_000

    bars, sequence = cursor.next_bars(4)
    cursor.move(sequence, bars)
    assert cursor.store("store").resending_from_ms == OPEN_TIME_MS + 30_000
    take(cursor)

    assert cursor.store("store").resending_from_ms is None
    assert "resend store" not in metadata(path)


def test_a_bar_that_changes_meanwhile_ends_in_its_newest_version(
    journal: Journal, path: Path
) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", 0)
    bars, sequence = cursor.next_bars(4)
    cursor.move(sequence, bars)

    journal.write(finished(replace(BARS[0], trade_count=4)), NOW)

    versions = {bar.version for bar in take(cursor, 4) if names([bar]) == [("BTCUSDT", 0)]}
    assert versions == {2}


def test_the_count_is_that_of_the_bars_from_there_on(path: Path) -> None:
    bars = [sample_bar(open_time_ms=OPEN_TIME_MS + 400_000 * index) for index in range(19)]
    with journal_at(path) as journal:
        journal.write(finished(*bars), NOW)
    times = [bar.open_time_ms for bar in bars]

    for since in (0, *times, *(time + 1 for time in times), times[-1] + 10**9):
        expected = sum(time >= since for time in times)
        assert JournalReader(path).resend_since("store", since) == expected


def test_bars_that_are_to_be_sent_again_stay_until_they_are(journal: Journal, path: Path) -> None:
    cursor = Cursor(path, "store")
    cursor.resend_since("store", OPEN_TIME_MS + 20_000)

    assert journal.prune(["store"], NOW + 1) == 6
    assert journal.prune(["store"], NOW + 1) == 0
    bars, sequence = cursor.next_bars(4)
    cursor.move(sequence, bars)
    assert journal.prune(["store"], NOW + 1) == 4
    assert names(take(cursor)) == names(sorted(BARS, key=lambda bar: bar.open_time_ms))[10:]
    assert journal.prune(["store"], NOW + 1) == 5


@pytest.mark.usefixtures("journal")
def test_bars_that_a_store_of_old_was_to_get_again_may_leave(journal: Journal, path: Path) -> None:
    Cursor(path, "removed").resend_since("removed", 0)

    assert journal.prune(["store"], NOW + 1) == len(BARS)


@pytest.mark.usefixtures("journal")
def test_the_next_bars_are_found_without_looking_at_others(path: Path) -> None:
    connection = connect(path, is_read_only=True)
    plan = connection.execute(
        f"EXPLAIN QUERY PLAN {BARS_FROM}", (OPEN_TIME_MS, "ETHUSDT", 4)
    ).fetchall()
    connection.close()

    assert [row[3] for row in plan] == ["SEARCH bars USING PRIMARY KEY ((open_time,symbol)>(?,?))"]
