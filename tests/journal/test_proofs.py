"""Until when the trades of each symbol are proven to be known, and the bars that wait for it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.reader import JournalReader
from bintrades.journal.spare import read_spare, spare_file
from bintrades.model import Gap, GapCause
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.damaged_journals import remove
from tests.journals import (
    INTERVAL_MS,
    NOW,
    by_key,
    gap_within,
    journal_at,
    pages_of,
    put_metadata,
    spoil_pages,
    stored,
)
from tests.sql_meter import Meter, metering

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal
    from bintrades.model import Bar

BEFORE_END = 1
"""Milliseconds before the end of a bar of which not all is proven."""


def known(
    bars: list[Bar], proven_ms: int | None, *gaps: Gap, covered_since_ms: int | None = None
) -> Checkpoint:
    """Return what is known of a symbol that has had all of *bars*, the newest of them closed."""
    newest = bars[-1]
    state = LedgerState(newest.last_trade_id + 1, newest.last_trade_time_ms, gaps)
    return Checkpoint(
        state,
        closed_through=newest.open_time_ms,
        proven_ms=proven_ms,
        covered_since_ms=covered_since_ms,
    )


def write(journal: Journal, checkpoint: Checkpoint, *bars: Bar, at: int = NOW) -> None:
    """Write *bars* of one symbol, and what is known of it."""
    journal.write(
        WriteBatch(finished=by_key(bars), checkpoints={"BTCUSDT": checkpoint}),
        at,
    )


def proof_of(path: Path) -> tuple[int, int] | None:
    """Return since when whole intervals are collected, and up to when they are proven."""
    found = JournalReader(path).coverage("BTCUSDT")
    return None if found is None else (found.coverage.since_ms, found.proven_ms)


def whole(time_ms: int | None) -> int:
    """Return the beginning of the first interval that does not begin before then."""
    assert time_ms is not None
    return time_ms + -time_ms % INTERVAL_MS


def completeness(path: Path) -> list[tuple[bool, int]]:
    """Return of each stored bar whether it is complete, and its version."""
    return [(bar.is_complete, bar.version) for bar in stored(path)]


def test_a_closed_bar_that_is_not_proven_is_incomplete_and_comes_again_when_it_is(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    cursor = Cursor(path, "store")

    write(journal, known([bar], bar.end_time_ms - BEFORE_END), bar)
    ((first,), sequence) = cursor.next_bars(10)
    cursor.move(sequence, [first])
    write(journal, known([bar], bar.end_time_ms), at=NOW + 1)
    ((second,), _) = cursor.next_bars(10)

    assert (first.is_closed, first.is_complete, first.version) == (True, False, 1)
    assert (second.is_closed, second.is_complete, second.version) == (True, True, 2)
    assert (second.updated_at_ms, second.trade_count) == (NOW + 1, bar.trade_count)


def test_a_bar_that_is_proven_when_it_closes_has_one_version(journal: Journal, path: Path) -> None:
    first, second = sample_bars(2)

    write(journal, known([first], first.end_time_ms), first)
    write(journal, known([first, second], second.end_time_ms), second)
    write(journal, known([first, second], second.end_time_ms + INTERVAL_MS))

    assert completeness(path) == [(True, 1), (True, 1)]


def test_a_symbol_of_which_nothing_is_proven_has_no_complete_bar(
    journal: Journal, path: Path
) -> None:
    bars = sample_bars(2)

    write(journal, known(bars, None), *bars)
    journal.write(WriteBatch(finished=by_key([sample_bar(symbol="ETHUSDT")])), NOW)

    assert completeness(path) == [(False, 1), (False, 1)]
    assert [bar.is_complete for bar in stored(path, "ETHUSDT")] == [False], "nor one unheard of"


def test_a_bar_of_before_the_beginning_is_never_complete(journal: Journal, path: Path) -> None:
    bars = sample_bars(3)
    since = bars[1].open_time_ms + 1  # in the midst of the second

    write(journal, known(bars, bars[2].end_time_ms, covered_since_ms=since), *bars)

    assert completeness(path) == [(False, 1), (False, 1), (True, 1)]


def test_one_proof_may_be_of_many_bars(journal: Journal, path: Path) -> None:
    bars = sample_bars(4)
    for count in range(1, 5):
        write(journal, known(bars[:count], bars[0].open_time_ms), bars[count - 1])

    write(journal, known(bars, bars[2].end_time_ms))

    assert completeness(path) == [(True, 2), (True, 2), (True, 2), (False, 1)]


def test_the_proof_of_one_symbol_is_none_of_another(journal: Journal, path: Path) -> None:
    bar = sample_bar()
    other = replace(bar, symbol="ETHUSDT")
    unproven = known([bar], bar.open_time_ms)

    journal.write(
        WriteBatch(
            finished=by_key([bar, other]), checkpoints={"BTCUSDT": unproven, "ETHUSDT": unproven}
        ),
        NOW,
    )
    write(journal, known([bar], bar.end_time_ms))

    assert completeness(path) == [(True, 2)]
    assert [(each.is_complete, each.version) for each in stored(path, "ETHUSDT")] == [(False, 1)]


def test_a_bar_that_a_gap_touches_stays_incomplete_when_it_is_proven(
    journal: Journal, path: Path
) -> None:
    before, bar = sample_bars(2)
    gap = gap_within(bar)

    write(journal, known([before, bar], before.open_time_ms, gap), before, bar)
    write(journal, known([before, bar], bar.end_time_ms, gap))
    assert completeness(path) == [(True, 2), (False, 1)]

    write(journal, known([before, bar], bar.end_time_ms))
    assert completeness(path) == [(True, 2), (True, 2)]


def test_a_bar_whose_gap_is_filled_before_it_is_proven_waits_for_that(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()

    write(journal, known([bar], bar.open_time_ms, gap_within(bar)), bar)
    write(journal, known([bar], bar.open_time_ms))
    assert completeness(path) == [(False, 1)]

    write(journal, known([bar], bar.end_time_ms))
    assert completeness(path) == [(True, 2)]


def test_late_trades_of_a_bar_that_is_not_proven_leave_it_incomplete(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    late = replace(bar, first_trade_id=4, last_trade_id=4, trade_count=1)
    unproven = known([late], bar.open_time_ms)
    write(journal, known([bar], bar.open_time_ms), bar)

    journal.write(WriteBatch(amendments=by_key([late]), checkpoints={"BTCUSDT": unproven}), NOW)
    assert completeness(path) == [(False, 2)]

    write(journal, known([late], bar.end_time_ms))
    assert [(each.is_complete, each.trade_count) for each in stored(path)] == [(True, 4)]


def test_an_unproven_bar_comes_again_though_the_journal_was_opened_anew(path: Path) -> None:
    bars = sample_bars(3)
    with journal_at(path) as journal:
        write(journal, known(bars, bars[0].end_time_ms), *bars)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].proven_ms == bars[0].end_time_ms
        write(journal, known(bars, bars[1].end_time_ms))
    assert completeness(path) == [(True, 1), (True, 2), (False, 1)]

    with journal_at(path) as journal:
        write(journal, known(bars, bars[2].end_time_ms))
    assert completeness(path) == [(True, 1), (True, 2), (True, 2)]


def test_bars_of_a_symbol_whose_proof_was_given_up_come_again_though_the_journal_was_opened_anew(
    path: Path,
) -> None:
    bars = sample_bars(3)
    with journal_at(path) as journal:
        write(journal, known(bars[:1], bars[0].end_time_ms), *bars[:1])
        write(journal, known(bars, None), *bars[1:])

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].proven_ms is None
        write(journal, known(bars, None))
        write(journal, known(bars, bars[2].end_time_ms))

    assert completeness(path) == [(True, 1), (True, 2), (True, 2)]


@pytest.mark.parametrize("is_last_proven", [False, True])
def test_an_unproven_bar_comes_again_after_the_process_was_killed(
    path: Path, is_last_proven: bool
) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from bintrades.testing.bars import sample_bars
        from tests.journal.test_proofs import known, write
        from tests.journals import open_journal

        journal = open_journal(Path(sys.argv[1]))
        bars = sample_bars(3)
        write(journal, known(bars, bars[0].end_time_ms), *bars)
        if sys.argv[2] == "True":  # a commit that only moves the proof is as durable as another
            write(journal, known(bars, bars[2].end_time_ms))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(is_last_proven)]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == -signal.SIGKILL
    bars = sample_bars(3)

    with journal_at(path) as journal:
        proven = bars[2 if is_last_proven else 0].end_time_ms
        assert journal.checkpoints["BTCUSDT"].proven_ms == proven
        write(journal, known(bars, bars[2].end_time_ms))

    assert completeness(path) == [(True, 1), (True, 2), (True, 2)]


def test_a_bar_that_is_not_proven_stays_until_it_is(journal: Journal, path: Path) -> None:
    first, second = sample_bars(2)
    unproven = known([first, second], first.open_time_ms)
    write(journal, unproven, first, second)
    journal.write(WriteBatch(), NOW + 1)

    assert journal.prune([], NOW + 10**9) == 0

    write(journal, known([first, second], NOW + 10**6))
    assert completeness(path) == [(True, 2), (True, 2)]


proofs = st.one_of(st.none(), st.integers(0, 4 * INTERVAL_MS))
spans = st.tuples(st.integers(0, 39_999), st.integers(0, 15_000))
steps = st.tuples(
    st.sets(st.integers(0, 3)),  # which bars are written
    proofs,  # since the first of them opens
    st.lists(spans, max_size=2, unique_by=lambda span: span[0]),  # gaps: since when and how long
    st.booleans(),  # whether the journal is opened anew
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=1, max_size=6))
def test_a_bar_is_complete_exactly_when_it_was_proven_and_no_gap_touches_it(
    steps: list[tuple[set[int], int | None, list[tuple[int, int]], bool]],
) -> None:
    candidates = sample_bars(4)
    proven: int | None = None
    before: dict[int, Bar] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        path = Path(folder) / "journal"
        journal = opened.enter_context(journal_at(path))
        for chosen, more, places, is_opened_anew in steps:
            if is_opened_anew:
                opened.close()
                journal = opened.enter_context(journal_at(path))
            if more is not None:
                proven = max(proven or 0, OPEN_TIME_MS + more)
            gaps = [
                Gap(at, at, OPEN_TIME_MS + at, OPEN_TIME_MS + at + length, GapCause.SKIPPED)
                for at, length in sorted(places)
            ]
            state = LedgerState(40_000, OPEN_TIME_MS, tuple(gaps))
            newest = candidates[-1].open_time_ms
            checkpoint = Checkpoint(state, closed_through=newest, proven_ms=proven)
            bars = [candidates[index] for index in sorted(chosen)]
            write(journal, checkpoint, *bars)

            after = {bar.open_time_ms: bar for bar in stored(path)}
            for time, bar in after.items():
                is_touched = any(gap.touches(time, INTERVAL_MS) for gap in gaps)
                is_proven = proven is not None and time + INTERVAL_MS <= proven
                assert bar.is_complete == (is_proven and not is_touched)
                was = before.get(time)
                is_written = any(time == each.open_time_ms for each in bars)
                is_new = is_written or was is None or was.is_complete != bar.is_complete
                assert bar.version == (was.version if was else 0) + is_new
            before = after


def asked_while(meter: Meter, journal: Journal, checkpoint: Checkpoint, *bars: Bar) -> list[str]:
    """Return what SQLite is asked while *bars* and what is known of a symbol are written."""
    meter.statements.clear()
    write(journal, checkpoint, *bars)
    return [sql for _, sql in meter.statements]


def test_a_proof_that_moves_costs_a_quiet_symbol_its_own_row_and_no_look_at_its_bars(
    path: Path,
) -> None:
    bars = sample_bars(50)
    with metering() as meter, journal_at(path) as journal:
        write(journal, known(bars, bars[-1].end_time_ms), *bars)
        write(journal, known(bars, bars[-1].end_time_ms + 1))

        asked = asked_while(meter, journal, known(bars, bars[-1].end_time_ms + 60_000))

    assert [sql for sql in asked if "INTO proofs" in sql]
    assert [sql for sql in asked if "checkpoints" in sql] == []
    assert [sql for sql in asked if " bars" in sql or " blocks" in sql] == []


def test_bars_that_wait_for_their_proof_are_not_looked_at_until_it_has_come(path: Path) -> None:
    bars = sample_bars(50)
    since = bars[0].open_time_ms
    with metering() as meter, journal_at(path) as journal:
        write(journal, known(bars, since), *bars)

        waiting = asked_while(meter, journal, known(bars, since + 1))
        proven = asked_while(meter, journal, known(bars, bars[0].end_time_ms))

    assert [sql for sql in waiting if " bars" in sql or " blocks" in sql] == []
    assert [sql for sql in proven if " bars" in sql], "or it is not to be seen here"


def test_unproven_bars_of_a_symbol_without_a_proof_are_found_at_its_end(tmp_path: Path) -> None:
    costs = []
    for count in (500, 4_000):
        path = tmp_path / str(count)
        bars = sample_bars(count)
        with journal_at(path) as journal:
            write(journal, known(bars[:-5], bars[-5].open_time_ms), *bars[:-5])
            write(journal, known(bars, None), *bars[-5:])
        with metering() as meter, journal_at(path) as journal:
            before = meter.steps
            write(journal, known(bars, bars[-1].end_time_ms))
            costs.append(meter.steps - before)

        assert completeness(path)[-6:] == [(True, 1), *[(True, 2)] * 5]

    assert costs[1] < 1.5 * costs[0]


def test_a_busy_symbol_writes_no_proof_but_its_checkpoint(path: Path) -> None:
    bars = sample_bars(3)
    with metering() as meter, journal_at(path) as journal:
        write(journal, known(bars[:1], bars[0].last_trade_time_ms), bars[0])

        asked = [
            asked_while(meter, journal, known(bars[:count], bars[count - 1].last_trade_time_ms))
            for count in (2, 3)
        ]

    for each in asked:
        assert [sql for sql in each if "INTO checkpoints" in sql]
        assert [sql for sql in each if "proofs" in sql] == []


def test_what_nothing_changes_of_is_not_written(path: Path) -> None:
    bars = sample_bars(3)
    same = known(bars, NOW, covered_since_ms=OPEN_TIME_MS)
    with metering() as meter, journal_at(path) as journal:
        write(journal, same)

        asked = asked_while(meter, journal, same)

    assert [sql for sql in asked if "INTO checkpoints" in sql or "INTO proofs" in sql] == []


changes = st.lists(
    st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(-2, 2)), st.integers(0, 2)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(changes)
def test_whatever_is_written_and_left_out_of_a_proof_it_is_read_as_it_was(
    changes: list[tuple[int, int | None, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        time = OPEN_TIME_MS
        for step, beside, since in changes:
            with journal_at(path) as journal:
                for later in range(2):
                    time += step
                    state = LedgerState(7 + time - OPEN_TIME_MS, time, ())
                    proven = None if beside is None else time + beside + later
                    saved = Checkpoint(state, (), None, proven, OPEN_TIME_MS - since)
                    write(journal, saved)

            span = None if proven is None else (whole(OPEN_TIME_MS - since), proven)
            assert proof_of(path) == span
            with journal_at(path) as journal:
                assert journal.checkpoints["BTCUSDT"] == saved


def test_what_was_proven_before_the_first_trade_is_not_taken_for_what_is_proven_by_one(
    path: Path,
) -> None:
    wanted = Checkpoint(LedgerState(None, NOW, ()), covered_since_ms=NOW)
    begun, grown = (
        Checkpoint(LedgerState(7, time, ()), proven_ms=time, covered_since_ms=NOW)
        for time in (NOW - 5_000, NOW)
    )
    with journal_at(path) as journal:
        for checkpoint in (wanted, begun, grown):
            write(journal, checkpoint)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"] == grown


def test_up_to_when_a_busy_symbol_is_proven_is_said_by_its_newest_trade(
    journal: Journal, path: Path
) -> None:
    bars = sample_bars(3)
    for count in (1, 2, 3):
        newest = bars[count - 1].last_trade_time_ms
        write(journal, known(bars[:count], newest, covered_since_ms=OPEN_TIME_MS))

        assert proof_of(path) == (OPEN_TIME_MS, newest)


def with_bars(path: Path, proven_ms: int, count: int = 2_000) -> list[Bar]:
    """Write a journal with bars of a symbol that is proven up to then, and return them."""
    bars = sample_bars(count)
    with journal_at(path) as journal:
        since = bars[0].open_time_ms - 5 * INTERVAL_MS
        write(journal, known(bars, proven_ms, covered_since_ms=since), *bars)
    return bars


def test_a_proof_survives_a_salvage(path: Path) -> None:
    proven = OPEN_TIME_MS + 10**8
    bars = with_bars(path, proven)
    spare_file(path).unlink()
    put_metadata(path, "sequence", "x")
    spoil_pages(path, pages_of(path, "bars")[10:12])

    with journal_at(path) as journal:  # which finds the damage
        checkpoint = journal.checkpoints["BTCUSDT"]

    assert checkpoint.ledger.gaps, "there was something to salvage"
    assert checkpoint.proven_ms == proven
    assert checkpoint.covered_since_ms == bars[0].open_time_ms - 5 * INTERVAL_MS
    for bar in stored(path):
        is_touched = any(
            gap.touches(bar.open_time_ms, INTERVAL_MS) for gap in checkpoint.ledger.gaps
        )
        assert bar.is_complete == (not is_touched)


def test_without_a_proof_that_can_be_read_all_before_the_newest_trade_is_proven(path: Path) -> None:
    bars = with_bars(path, OPEN_TIME_MS + 10**8)
    spoil_pages(path, pages_of(path, "proofs"))

    with journal_at(path) as journal:
        journal.save_readable("a reader says so", identity(path))
        checkpoint = journal.checkpoints["BTCUSDT"]

    assert checkpoint.proven_ms == bars[-1].last_trade_time_ms
    assert checkpoint.covered_since_ms == bars[0].open_time_ms


@pytest.mark.parametrize("column", ["proven", "covered_since"])
def test_a_proof_with_corrupt_values_takes_nothing_else_of_its_symbol_with_it(
    path: Path, column: str
) -> None:
    bars = sample_bars(3)
    still_open = replace(bars[-1], is_closed=False)
    saved = replace(known(bars, NOW, covered_since_ms=OPEN_TIME_MS), open_bars=(still_open,))
    with journal_at(path) as journal:
        write(journal, saved, *bars[:-1])
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE proofs SET {column} = 'x'")  # noqa: S608 - ours

    with journal_at(path) as journal:
        left = journal.checkpoints["BTCUSDT"]
        assert left == replace(saved, proven_ms=bars[-1].last_trade_time_ms, covered_since_ms=None)
        write(journal, saved)

    assert proof_of(path) == (OPEN_TIME_MS, NOW)


def test_of_a_symbol_whose_checkpoint_is_gone_too_its_newest_trade_is_the_proof(path: Path) -> None:
    bars = with_bars(path, OPEN_TIME_MS + 10**8, count=5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM checkpoints")
    spare_file(path).unlink()

    with journal_at(path) as journal:
        checkpoint = journal.checkpoints["BTCUSDT"]

    assert checkpoint.proven_ms == bars[-1].last_trade_time_ms
    assert checkpoint.covered_since_ms == bars[0].open_time_ms


def test_the_spare_has_the_proof_of_each_symbol(path: Path) -> None:
    proven = OPEN_TIME_MS + 10**8
    bars = with_bars(path, proven, count=5)
    since = bars[0].open_time_ms - 5 * INTERVAL_MS
    remove(path)

    with journal_at(path) as journal:
        checkpoint = journal.checkpoints["BTCUSDT"]
        later = replace(bars[-1], open_time_ms=bars[-1].open_time_ms + INTERVAL_MS)
        write(journal, checkpoint, later)

    assert (checkpoint.proven_ms, checkpoint.covered_since_ms) == (proven, since)
    assert completeness(path) == [(True, 1)]


def test_the_spare_proves_nothing_of_the_bars_that_were_open(path: Path) -> None:
    bars = sample_bars(3)
    still_open = replace(bars[-1], is_closed=False)
    with journal_at(path) as journal:
        checkpoint = replace(known(bars, NOW), open_bars=(still_open,))
        write(journal, checkpoint, *bars[:-1])
    spare = read_spare(path)

    assert spare is not None
    assert spare.checkpoints["BTCUSDT"].proven_ms == still_open.open_time_ms


OF_OLD = Path(__file__).with_name("journals_of_old")


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_what_an_earlier_version_has_stored_is_proven_by_its_last_trade_and_covered_since_its_first(
    path: Path, version: int, is_damaged: bool
) -> None:
    script = (OF_OLD / f"version_{version}.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        (since,) = connection.execute(
            "SELECT min(open_time) FROM bars WHERE symbol = 'BTCUSDT'"
        ).fetchone()
        (missing_since,) = connection.execute(
            "SELECT min(since) FROM gaps WHERE symbol = 'BTCUSDT'"
        ).fetchone()
        if is_damaged:
            connection.execute("UPDATE facts SET value = 'x' WHERE name = 'sequence'")
        connection.commit()

    with journal_at(path) as journal:
        checkpoint = journal.checkpoints["BTCUSDT"]

    assert checkpoint.ledger.last_time is not None
    assert checkpoint.proven_ms == checkpoint.ledger.last_time
    assert checkpoint.covered_since_ms == min(since, missing_since)
    assert proof_of(path) == (whole(checkpoint.covered_since_ms), checkpoint.proven_ms)
    assert bool(list(path.parent.glob(f"{path.name}.damaged-*"))) == is_damaged


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_the_newest_bar_of_an_earlier_version_is_complete_again_once_it_is_proven(
    path: Path, version: int, is_damaged: bool
) -> None:
    script = (OF_OLD / f"version_{version}.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        connection.execute("UPDATE bars SET is_complete = 1")
        connection.execute("DELETE FROM gaps WHERE symbol = 'ETHUSDT'")
        connection.commit()
    if is_damaged:  # so that it is salvaged as it was
        spoil_pages(path, pages_of(path, "past_gaps"))

    with journal_at(path) as journal:
        checkpoint = journal.checkpoints["ETHUSDT"]
        *older, newest = stored(path, "ETHUSDT")
        assert checkpoint.ledger.last_time == newest.last_trade_time_ms < newest.end_time_ms
        before = (newest.is_closed, newest.is_complete, newest.version)
        assert JournalReader(path).counts()["incomplete"] == 1
        proven = replace(checkpoint, proven_ms=newest.end_time_ms)
        journal.write(WriteBatch(checkpoints={"ETHUSDT": proven}), NOW + 1)
        *_, again = stored(path, "ETHUSDT")

    assert before == (True, False, newest.version)
    assert all(bar.is_complete for bar in older)
    assert (again.is_complete, again.version) == (True, newest.version + 1)
    assert again.trade_count == newest.trade_count
