"""What stores and commands see of the journal: order, cursors, refused bars."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import WriteBatch
from bintrades.errors import ConfigError, JournalError
from bintrades.journal.connection import connect
from bintrades.journal.cursor import Cursor
from bintrades.journal.migrations import create_schema
from bintrades.journal.reader import JournalReader, StoreState
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.journals import by_key, checkpoints, finished, journal_at, open_journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

NOW = OPEN_TIME_MS + 60_000


def take(cursor: Cursor, limit: int = 1_000, *refused: int) -> list[Bar]:
    """Take the next bars, refusing those of these positions."""
    bars, sequence = cursor.next_bars(limit)
    if bars:
        cursor.move(sequence, bars, [(bars[index], f"reason {index}") for index in refused])
    return bars


def test_bars_come_oldest_first_in_batches_and_each_once(journal: Journal, path: Path) -> None:
    bars = sample_bars(3) + sample_bars(3, symbol="ETHUSDT")
    journal.write(finished(*reversed(bars)), NOW)
    cursor = Cursor(path, "store")

    batches = [take(cursor, 4), take(cursor, 4), take(cursor, 4)]

    assert list(map(len, batches)) == [4, 2, 0]
    times = [bar.open_time_ms for batch in batches for bar in batch]
    assert times == sorted(bar.open_time_ms for bar in bars)


def test_a_cursor_that_was_not_moved_gives_the_same_bars_again(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(5)), NOW)
    cursor = Cursor(path, "store")

    assert cursor.next_bars(2) == cursor.next_bars(2)
    first = take(cursor, 2)
    assert first == Cursor(path, "other").next_bars(2)[0]
    assert [bar.open_time_ms for bar in Cursor(path, "store").next_bars(9)[0]] == [
        bar.open_time_ms for bar in sample_bars(5)[2:]
    ]


def test_a_store_added_later_begins_with_the_oldest_bar_kept(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(4)), NOW)
    take(Cursor(path, "old"))

    assert len(take(Cursor(path, "new"))) == 4


def test_after_an_outage_only_the_newest_version_of_each_bar_comes(
    journal: Journal, path: Path
) -> None:
    first, second = sample_bars(2)
    journal.write(finished(first, second), NOW)
    for part_id in (100, 200, 300):
        part = replace(first, first_trade_id=part_id, last_trade_id=part_id, trade_count=1)
        journal.write(WriteBatch(amendments=by_key([part])), NOW)

    bars = take(Cursor(path, "store"))

    assert [(bar.open_time_ms, bar.version) for bar in bars] == [
        (second.open_time_ms, 1),
        (first.open_time_ms, 4),
    ]


stores = st.sampled_from(["a", "b"])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sets(st.integers(0, 5), min_size=1)),
        st.tuples(st.just("checkpoint"), st.sets(st.integers(6, 7), min_size=1)),
        st.tuples(st.just("take"), stores),
        st.tuples(st.just("refuse"), stores),
        st.tuples(st.just("resend"), stores),
        st.tuples(st.just("prune"), st.none()),
    ),
    max_size=15,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_every_store_ends_with_the_newest_version_of_every_bar_whatever_happens(
    steps: list[tuple[str, set[int] | str | None]],
) -> None:
    candidates = sample_bars(8)
    newest: dict[int, int] = {}
    holds: dict[str, dict[int, int]] = {"a": {}, "b": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        cursors = {name: Cursor(path, name) for name in holds}
        with journal_at(path) as journal:

            def deliver(name: str, *, limit: int, refuses: bool = False) -> int:
                bars, sequence = cursors[name].next_bars(limit)
                refused = bars[:1] if refuses else []
                if bars:
                    cursors[name].move(sequence, bars, [(bar, "ugly") for bar in refused])
                holds[name].update(
                    (bar.open_time_ms, bar.updated_at_ms) for bar in bars if bar not in refused
                )
                return len(bars)

            for now, (action, argument) in enumerate(steps, NOW):
                if action in ("write", "checkpoint"):
                    assert isinstance(argument, set)
                    bars = by_key(candidates[index] for index in argument)
                    if action == "write":
                        journal.write(WriteBatch(finished=bars), now)
                        newest.update((time, now) for _, time in bars)
                    else:
                        journal.write(WriteBatch(checkpoints=checkpoints(*bars.values())), now)
                elif action == "prune":
                    journal.prune(["a", "b"], now - 2)
                else:
                    assert isinstance(argument, str)
                    if action == "resend":
                        cursors[argument].resend(argument)
                    else:
                        deliver(argument, limit=3, refuses=action == "refuse")

            for name in holds:
                cursors[name].resend(name)
                while deliver(name, limit=3):
                    pass
                assert cursors[name].store(name) == StoreState(0, 0, None)

    assert holds == {"a": newest, "b": newest}


def test_refused_bars_are_counted_with_a_reason_and_do_not_come_again(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(4)), NOW)
    cursor = Cursor(path, "store")

    take(cursor, 2, 1)

    assert cursor.store("store") == StoreState(2, 1, "reason 1")
    assert len(take(cursor)) == 2
    assert cursor.store("store") == StoreState(0, 1, "reason 1")
    assert cursor.store("other") == StoreState(4, 0, None)


@pytest.mark.parametrize("value", ["12x4", b"\xff"])
@pytest.mark.parametrize("limit", [1, 10])
def test_a_row_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    journal: Journal, path: Path, value: str | bytes, limit: int
) -> None:
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "UPDATE bars SET value = CAST(? AS TEXT) WHERE open_time = ?",
            (value, bars[1].open_time_ms),
        )
    cursor = Cursor(path, "store")

    taken = [bar for _ in range(3) for bar in take(cursor, limit)]

    assert [bar.open_time_ms for bar in taken] == [bars[0].open_time_ms, bars[2].open_time_ms]
    state = cursor.store("store")
    assert (state.waiting_bars, state.rejected_bars) == (0, 1)
    assert "cannot be read" in (state.last_reason or "")


def test_refused_bars_are_sent_again_on_request_once(journal: Journal, path: Path) -> None:
    bars = sample_bars(3)
    journal.write(finished(*bars), NOW)
    cursor = Cursor(path, "store")
    take(cursor, 3, 0, 2)
    take(Cursor(path, "other"), 3)

    assert cursor.resend("store") == 2
    assert cursor.resend("store") == 0
    assert cursor.resend("other") == 0
    assert cursor.store("store") == StoreState(2, 0, None)
    assert take(Cursor(path, "other")) == [], "another store has them, and gets nothing"
    again = take(cursor)

    assert [bar.open_time_ms for bar in again] == [bars[0].open_time_ms, bars[2].open_time_ms]
    assert {bar.version for bar in again} == {1}, "the same bars, no amendment"
    assert cursor.store("store") == StoreState(0, 0, None)


def test_the_lag_of_a_store_is_since_its_oldest_bar_that_waits_was_written(
    journal: Journal, path: Path
) -> None:
    first, second, third = sample_bars(3)
    journal.write(finished(first), NOW)
    journal.write(finished(second), NOW + 5_000)
    journal.write(finished(third), NOW + 9_000)
    cursor = Cursor(path, "store")
    assert cursor.waiting_since_ms("never heard of") == NOW

    take(cursor, 1)
    assert cursor.waiting_since_ms("store") == NOW + 5_000

    take(cursor, 1, 0)
    take(cursor, 1)
    assert cursor.waiting_since_ms("store") is None, "what it refused waits for nothing"

    cursor.resend("store")
    assert cursor.waiting_since_ms("store") == NOW + 5_000


def test_what_is_sent_again_comes_before_what_is_written_later(
    journal: Journal, path: Path
) -> None:
    first, second = sample_bars(2)
    journal.write(finished(first), NOW)
    cursor = Cursor(path, "store")
    take(cursor, 1, 0)
    cursor.resend("store")
    journal.write(finished(second), NOW)

    assert [bar.open_time_ms for bar in take(cursor)] == [first.open_time_ms]
    assert [bar.open_time_ms for bar in take(cursor)] == [second.open_time_ms]


def test_a_newer_version_of_a_refused_bar_that_is_taken_clears_it(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    journal.write(finished(bar), NOW)
    cursor, other = Cursor(path, "store"), Cursor(path, "other")
    take(cursor, 1, 0)
    take(other, 1, 0)
    journal.write(finished(replace(bar, trade_count=4)), NOW)

    assert [bar.version for bar in take(cursor)] == [2]

    assert cursor.store("store").rejected_bars == 0
    assert other.store("other").rejected_bars == 1, "each store has its own"


def test_bars_are_chosen_by_symbol_time_and_number_newest_first_to_stay(
    journal: Journal, path: Path
) -> None:
    bars = sample_bars(5)
    journal.write(finished(*bars, *sample_bars(2, symbol="ETHUSDT")), NOW)
    reader = JournalReader(path)

    def opens(since: int, until: int, limit: int = 100) -> list[int]:
        found = reader.bars("BTCUSDT", OPEN_TIME_MS + since, OPEN_TIME_MS + until, limit)
        return [(bar.open_time_ms - OPEN_TIME_MS) // 10_000 for bar in found]

    assert opens(0, 50_000) == [0, 1, 2, 3, 4]
    assert opens(10_000, 30_000) == [1, 2]
    assert opens(0, 50_000, limit=2) == [3, 4]
    assert reader.bars("XRPUSDT", 0, 2**62, 10) == []


bar_times = st.sets(st.integers(0, 60), max_size=20)
"""In tenths of an hour, so that a block has up to ten of them, and some have none."""


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(bar_times, bar_times, st.integers(0, 61), st.integers(0, 61), st.integers(1, 25))
def test_the_newest_bars_of_a_span_are_found_wherever_they_lie(
    closed: set[int], still_open: set[int], since: int, until: int, limit: int
) -> None:
    step = 360_000

    def bars_at(times: set[int], **changes: Any) -> list[Bar]:
        return [
            sample_bar(open_time_ms=OPEN_TIME_MS + step * time, **changes) for time in sorted(times)
        ]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            others = bars_at(set(range(61)), symbol="ETHUSDT")
            half = bars_at(still_open, is_closed=False, trade_count=9)
            journal.write(finished(*bars_at(closed), *others), NOW)
            journal.write(WriteBatch(checkpoints=checkpoints(*half)), NOW)

            span = (OPEN_TIME_MS + step * since, OPEN_TIME_MS + step * until)
            found = JournalReader(path).bars("BTCUSDT", *span, limit)

    wanted = sorted(time for time in closed | still_open if since <= time < until)[-limit:]
    assert [(bar.open_time_ms - OPEN_TIME_MS) // step for bar in found] == wanted
    for bar, time in zip(found, wanted, strict=True):
        assert bar.trade_count == (9 if time in still_open else 3)
        assert bar.version == (2 if time in still_open and time in closed else 1)


def test_the_contents_are_counted(journal: Journal, path: Path) -> None:
    closed, lacking, half = sample_bars(3)
    gap = Gap(5, 6, lacking.open_time_ms, lacking.open_time_ms, GapCause.SKIPPED)
    journal.write(
        WriteBatch(
            finished=by_key([closed, lacking]),
            checkpoints=checkpoints(
                replace(half, is_closed=False),
                BTCUSDT=LedgerState(9, NOW, (gap,)),
                ETHUSDT=LedgerState(1, 1, ()),
            ),
        ),
        NOW,
        status="fine",
    )
    reader = JournalReader(path)

    assert reader.counts() == {"bars": 3, "unclosed": 1, "incomplete": 1}
    assert sorted(reader.symbols()) == ["BTCUSDT", "ETHUSDT"]
    assert reader.gaps() == {"BTCUSDT": [gap]}
    assert reader.get_status() == "fine"
    assert reader.newest_open_time_ms("BTCUSDT") == half.open_time_ms
    assert reader.newest_open_time_ms("XRPUSDT") is None


def test_reading_waits_for_no_writer(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(2)), NOW)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("DELETE FROM bars")

        assert len(Cursor(path, "store").next_bars(10)[0]) == 2


USES: list[Callable[[Cursor], object]] = [
    lambda cursor: cursor.next_bars(1),
    lambda cursor: cursor.move(1, [sample_bar()]),
    lambda cursor: cursor.resend("store"),
    lambda cursor: cursor.counts(),
    lambda cursor: cursor.store("store"),
    lambda cursor: cursor.gaps(),
]


@pytest.mark.parametrize("use", USES)
def test_where_there_is_no_journal_yet_it_is_said_and_none_is_made(
    path: Path, use: Callable[[Cursor], object]
) -> None:
    with pytest.raises(JournalError, match="there is no journal yet; `bintrades run` begins it"):
        use(Cursor(path, "store"))

    assert not path.exists()


def test_a_journal_that_is_just_being_made_has_no_bars(path: Path) -> None:
    with closing(connect(path)) as connection:
        create_schema(connection)

    assert Cursor(path, "store").next_bars(1) == ([], 0)
    assert JournalReader(path).bars("BTCUSDT", 0, NOW, 1) == []


def test_a_file_without_tables_is_told_with_what_to_do(path: Path) -> None:
    path.touch()

    with pytest.raises(JournalError, match=r"cannot be read: .*; let `bintrades run` open it"):
        JournalReader(path).counts()


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_a_file_that_is_no_journal_is_an_error_that_names_it(
    path: Path, use: Callable[[Cursor], object], content: bytes
) -> None:
    path.write_bytes(content)

    with pytest.raises(JournalError, match=str(path)):
        use(Cursor(path, "store"))

    assert path.read_bytes() == content


@pytest.mark.parametrize("use", USES)
def test_a_journal_of_a_newer_version_is_not_touched(
    path: Path, use: Callable[[Cursor], object]
) -> None:
    open_journal(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(ConfigError, match="newer bintrades"):
        use(Cursor(path, "store"))
