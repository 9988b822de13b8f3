"""What the journal promises: all or nothing, versions, completeness, pruning, and bad disks."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from bintrades.core.ban import Ban
from bintrades.core.ledger import LedgerState
from bintrades.core.write_batch import Checkpoint, WriteBatch
from bintrades.errors import ConfigError, JournalError
from bintrades.exchange.binance.messages import LARGEST_ID
from bintrades.journal.cursor import Cursor
from bintrades.journal.lock import identity
from bintrades.journal.pruning import PRUNE_BATCH
from bintrades.journal.reader import JournalReader
from bintrades.journal.rows import with_kind
from bintrades.journal.writer import Journal
from bintrades.model import (
    ABSENT,
    LATE,
    LOST,
    REPAIRED,
    START,
    UNWANTED,
    Bar,
    Gap,
    GapCause,
    GapOutcome,
)
from bintrades.testing.bars import OPEN_TIME_MS, sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.journals import (
    INTERVAL_MS,
    NOBODY,
    by_key,
    checkpoints,
    damage,
    finished,
    full_disk,
    journal_at,
    ledgers_of,
    metadata,
    open_journal,
    stored,
    unprivileged,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = OPEN_TIME_MS + 60_000


def gap_within(bar: Bar, first_id: int = 7, last_id: int = 9) -> Gap:
    return Gap(first_id, last_id, bar.open_time_ms + 100, bar.open_time_ms + 200, GapCause.SKIPPED)


def ledger(*gaps: Gap) -> LedgerState:
    return LedgerState(next_id=1_000, last_time=NOW, gaps=gaps)


numbers = st.decimals(min_value=0, max_value=10**18, places=18)
ids = st.integers(0, LARGEST_ID)
times = st.integers(0, 10**13)
symbols = st.sampled_from(["BTCUSDT", "ETHUSDT", "币安人生USDT"])
bars = st.builds(
    sample_bar,
    symbol=symbols,
    open_time_ms=st.integers(0, 10**9).map(lambda index: index * INTERVAL_MS),
    trade_count=ids,
    buy_count=ids,
    quantity=numbers,
    buy_quantity=numbers,
    value=numbers,
    buy_value=numbers,
    open_price=numbers,
    close_price=numbers,
    min_price=numbers,
    max_price=numbers,
    first_trade_id=ids,
    last_trade_id=ids,
    first_trade_time_ms=times,
    last_trade_time_ms=times,
    is_closed=st.booleans(),
)


@st.composite
def ledgers(draw: st.DrawFn) -> LedgerState:
    edges = sorted(draw(st.sets(st.integers(0, 2**62), max_size=6)))
    gaps = [
        with_kind(Gap(first, last, since, since + draw(times), draw(st.sampled_from(GapCause))))
        for first, last in zip(edges[::2], edges[1::2], strict=False)
        for since in [draw(times)]
    ]
    return LedgerState(draw(ids), draw(times), tuple(gaps))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(bars, max_size=8, unique_by=lambda bar: (bar.symbol, bar.open_time_ms)),
    st.dictionaries(symbols, ledgers()),
)
def test_bars_ledgers_and_gaps_are_read_back_exactly(
    written: list[Bar], states: dict[str, LedgerState]
) -> None:
    for bar in written:  # whose checkpoint is written whenever a bar is
        states.setdefault(bar.symbol, LedgerState(None, 1, ()))
    for symbol, state in states.items():
        seen = [bar.last_trade_id for bar in written if bar.symbol == symbol]
        seen += [gap.last_id for gap in state.gaps]
        next_id = max([state.next_id or 0, *(last_id + 1 for last_id in seen)])
        states[symbol] = replace(state, next_id=next_id)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            journal.write(finished(*written, **states), NOW)
        with journal_at(path) as journal:
            assert ledgers_of(journal) == states

        read, _ = Cursor(path, "store").next_bars(100)
        gaps = JournalReader(path).gaps()

    assert gaps == {symbol: list(state.gaps) for symbol, state in states.items() if state.gaps}
    assert {(bar.symbol, bar.open_time_ms) for bar in read} == by_key(written).keys()
    for bar in read:
        was = by_key(written)[bar.symbol, bar.open_time_ms]
        state = states.get(bar.symbol, ledger())
        touched = any(gap.touches(bar.open_time_ms, INTERVAL_MS) for gap in state.gaps)
        assert bar == replace(was, version=1, updated_at_ms=NOW, is_complete=not touched)


def test_nothing_of_changes_that_cannot_be_written_whole_is_there(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(sample_bar(), BTCUSDT=ledger()), NOW, "first")
    too_large = sample_bar(open_time_ms=NOW, trade_count=2**63)

    with pytest.raises(OverflowError):
        journal.write(finished(*sample_bars(3), too_large, BTCUSDT=ledger()), NOW, "second")

    assert [bar.version for bar in stored(path)] == [1]
    assert JournalReader(path).get_status() == "first"


def test_what_is_written_is_seen_by_readers_at_once_and_not_before(
    journal: Journal, path: Path
) -> None:
    cursor = Cursor(path, "store")
    assert cursor.next_bars(10) == ([], 0)

    journal.write(finished(*sample_bars(2)), NOW)

    assert len(cursor.next_bars(10)[0]) == 2


def test_the_version_rises_by_one_with_each_amendment(journal: Journal, path: Path) -> None:
    first = sample_bar(first_trade_id=10, last_trade_id=12, trade_count=3)
    late = sample_bar(first_trade_id=8, last_trade_id=8, trade_count=1)
    later = sample_bar(first_trade_id=14, last_trade_id=15, trade_count=2)

    journal.write(finished(first), NOW)
    journal.write(WriteBatch(amendments=by_key([late])), NOW + 1)
    journal.write(WriteBatch(amendments=by_key([later])), NOW + 2)

    (bar,) = stored(path)
    assert (bar.version, bar.trade_count, bar.updated_at_ms) == (3, 6, NOW + 2)
    assert (bar.first_trade_id, bar.last_trade_id) == (8, 15)


def test_an_amendment_adds_to_what_is_stored_and_replaces_nothing(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar(first_trade_id=10, last_trade_id=12)
    late = sample_bar(
        first_trade_id=14,
        last_trade_id=14,
        trade_count=1,
        buy_count=1,
        quantity=Decimal("0.1"),
        buy_quantity=Decimal("0.1"),
        value=Decimal("5000.00000000000000000001"),
        buy_value=Decimal("5000.00000000000000000001"),
        open_price=Decimal(50_000),
        close_price=Decimal(50_000),
        min_price=Decimal(50_000),
        max_price=Decimal(50_000),
        is_closed=True,
    )

    journal.write(finished(bar), NOW)
    journal.write(WriteBatch(amendments=by_key([late])), NOW)

    (amended,) = stored(path)
    assert amended.trade_count == 4
    assert amended.sell_count == 2
    assert amended.quantity == Decimal("0.103")
    assert amended.value == Decimal("5165.30000000000000010001")
    assert (amended.open_price, amended.close_price) == (Decimal("55000.01"), Decimal(50_000))
    assert (amended.min_price, amended.max_price) == (Decimal(50_000), Decimal(55200))


def test_a_late_trade_of_an_interval_without_a_bar_makes_one(journal: Journal, path: Path) -> None:
    late = sample_bar(trade_count=1)

    journal.write(WriteBatch(amendments=by_key([late])), NOW)

    assert [(bar.trade_count, bar.version) for bar in stored(path)] == [(1, 1)]


def test_checkpoints_raise_no_version_and_reach_no_store(journal: Journal, path: Path) -> None:
    for count in (1, 2, 3):
        half = sample_bar(trade_count=count, is_closed=False)
        journal.write(WriteBatch(checkpoints=checkpoints(half)), NOW)
        assert Cursor(path, "store").next_bars(10) == ([], 0)
        assert [(bar.version, bar.is_complete) for bar in stored(path)] == [(1, False)]

    journal.write(finished(sample_bar(trade_count=4)), NOW)

    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.version, bar.trade_count, bar.is_closed, bar.is_complete) == (1, 4, True, True)


def test_a_bar_cut_short_by_a_shutdown_is_version_two_once_it_is_whole(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(sample_bar(trade_count=3, is_closed=False)), NOW)
    journal.write(
        WriteBatch(checkpoints=checkpoints(sample_bar(trade_count=4, is_closed=False))), NOW
    )
    journal.write(finished(sample_bar(trade_count=5)), NOW)

    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.version, bar.trade_count, bar.is_closed) == (2, 5, True)


def test_a_bar_that_is_continued_after_a_shutdown_comes_again_when_a_gap_touches_it(
    journal: Journal, path: Path
) -> None:
    half = sample_bar(trade_count=3, is_closed=False)
    more = sample_bar(trade_count=4, is_closed=False)
    state = ledger(gap_within(half))
    journal.write(finished(half, BTCUSDT=ledger()), NOW)

    journal.write(WriteBatch(checkpoints=checkpoints(more, BTCUSDT=state)), NOW)
    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.trade_count, bar.is_closed, bar.is_complete) == (4, False, False)

    journal.write(WriteBatch(checkpoints=checkpoints(more, BTCUSDT=ledger())), NOW)
    ((bar,), _) = Cursor(path, "store").next_bars(10)
    assert (bar.trade_count, bar.is_closed, bar.is_complete) == (4, False, True)


def test_a_gap_that_opens_later_makes_a_stored_bar_incomplete_and_filling_it_whole_again(
    journal: Journal, path: Path
) -> None:
    before, bar, after = sample_bars(3)
    gap = gap_within(bar)

    journal.write(finished(before, bar, after, BTCUSDT=ledger()), NOW)
    journal.write(finished(BTCUSDT=ledger(gap)), NOW + 1)
    opened = [(bar.is_complete, bar.version) for bar in stored(path)]
    journal.write(finished(BTCUSDT=ledger()), NOW + 2)
    filled = [(bar.is_complete, bar.version, bar.updated_at_ms) for bar in stored(path)]

    assert opened == [(True, 1), (False, 2), (True, 1)]
    assert filled == [(True, 1, NOW), (True, 3, NOW + 2), (True, 1, NOW)]


def test_a_gap_concerns_no_other_symbol(journal: Journal, path: Path) -> None:
    bar = sample_bar()

    journal.write(finished(bar, replace(bar, symbol="ETHUSDT"), BTCUSDT=ledger()), NOW)
    journal.write(finished(ETHUSDT=ledger(gap_within(bar))), NOW)

    assert stored(path, "BTCUSDT")[0].is_complete
    assert not stored(path, "ETHUSDT")[0].is_complete


def test_a_gap_that_grows_smaller_frees_the_bars_it_no_longer_touches(
    journal: Journal, path: Path
) -> None:
    first, second = sample_bars(2)
    wide = Gap(7, 9, first.open_time_ms + 5, second.open_time_ms + 5, GapCause.SKIPPED)
    narrow = replace(wide, first_id=9, since_ms=second.open_time_ms)

    journal.write(finished(first, second, BTCUSDT=ledger(wide)), NOW)
    journal.write(finished(BTCUSDT=ledger(narrow)), NOW)

    assert [(bar.is_complete, bar.version) for bar in stored(path)] == [(True, 2), (False, 1)]


def test_what_a_reopened_journal_knows_of_gaps_still_counts(path: Path) -> None:
    bar = sample_bar()
    with journal_at(path) as journal:
        journal.write(finished(bar, BTCUSDT=ledger(gap_within(bar))), NOW)

    with journal_at(path) as journal:
        journal.write(finished(BTCUSDT=ledger()), NOW)

    assert [(bar.is_complete, bar.version) for bar in stored(path)] == [(True, 2)]


gap_lists = st.lists(
    st.tuples(st.integers(0, 39_999), st.integers(0, 15_000)).map(
        lambda pair: Gap(
            pair[0], pair[0], OPEN_TIME_MS + pair[0], OPEN_TIME_MS + sum(pair), GapCause.SKIPPED
        )
    ),
    max_size=3,
    unique_by=lambda gap: gap.first_id,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sets(st.integers(0, 3)), gap_lists), min_size=1, max_size=6))
def test_a_bar_is_complete_exactly_when_no_gap_touches_it(
    steps: list[tuple[set[int], list[Gap]]],
) -> None:
    candidates = sample_bars(4)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            before: dict[int, Bar] = {}
            for written, gaps in steps:
                chosen = {candidates[index].open_time_ms for index in written}
                bars = [bar for bar in candidates if bar.open_time_ms in chosen]
                journal.write(finished(*bars, BTCUSDT=ledger(*gaps)), NOW)

                after = {bar.open_time_ms: bar for bar in stored(path)}
                assert after.keys() == before.keys() | chosen
                for time, bar in after.items():
                    is_touched = any(gap.touches(time, INTERVAL_MS) for gap in gaps)
                    assert bar.is_complete == (not is_touched)
                    was = before.get(time)
                    is_new = time in chosen or was is None or was.is_complete != bar.is_complete
                    assert bar.version == (was.version if was else 0) + is_new
                before = after


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(bars, max_size=5, unique_by=lambda bar: (bar.symbol, bar.open_time_ms)))
def test_open_bars_are_given_back_exactly_to_be_continued(still_open: list[Bar]) -> None:
    saved = checkpoints(*still_open)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with journal_at(path) as journal:
            journal.write(WriteBatch(checkpoints=saved), NOW)

        with journal_at(path) as journal:
            assert journal.checkpoints == saved


def test_open_bars_of_symbols_no_longer_configured_go_to_the_stores_as_they_are(
    path: Path,
) -> None:
    kept = sample_bar(is_closed=False)
    gone = replace(kept, symbol="LUNAUSDT")
    with journal_at(path) as journal:
        journal.write(WriteBatch(checkpoints=checkpoints(kept, gone)), NOW)

    with journal_at(path) as journal:
        journal.flush_removed_symbols(["BTCUSDT"], NOW)
        delivered, sequence = Cursor(path, "store").next_bars(10)
        Cursor(path, "store").move(sequence, delivered)
        journal.flush_removed_symbols(["BTCUSDT"], NOW)
        assert journal.checkpoints["LUNAUSDT"].open_bars == (gone,), "it may be continued one day"

    assert [(bar.symbol, bar.is_closed) for bar in delivered] == [("LUNAUSDT", False)]
    assert Cursor(path, "store").next_bars(10) == ([], 0), "released once, not at every start"


def test_an_open_bar_that_the_stores_have_is_not_given_to_them_again(path: Path) -> None:
    half = sample_bar(is_closed=False)
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key([half]), checkpoints=checkpoints(half)), NOW)

        journal.flush_removed_symbols([], NOW)

    assert [bar.version for bar in stored(path)] == [1]


def test_what_was_remembered_is_there_after_a_restart(path: Path) -> None:
    with journal_at(path) as journal:
        assert journal.get_symbol_list() is None
        journal.set_symbol_list("BTCUSDT 币安人生USDT")

    with journal_at(path) as journal:
        assert journal.get_symbol_list() == "BTCUSDT 币安人生USDT"


@pytest.mark.parametrize("round_number", range(3))
def test_a_process_killed_while_writing_loses_nothing_it_had_committed(
    path: Path, round_number: int
) -> None:
    code = """
        import itertools, sys
        from pathlib import Path
        from bintrades.core.ledger import LedgerState
        from bintrades.testing.bars import sample_bars
        from tests.journals import finished, open_journal

        journal = open_journal(Path(sys.argv[1]))
        bars = sample_bars(100_000)
        for number in itertools.count():
            batch = bars[number * 20 : number * 20 + 20]
            state = LedgerState(batch[-1].last_trade_id + 1, 5, ())
            journal.write(finished(*batch, BTCUSDT=state), 1)
            print(number, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), path],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    ) as process:
        assert process.stdout
        for number, line in enumerate(process.stdout):  # noqa: B007 - the last one counts
            if int(line) == 20 + 7 * round_number:
                process.send_signal(signal.SIGKILL)
    committed = 20 * (number + 1)

    with journal_at(path) as journal:
        bars = stored(path)
        assert len(bars) in (committed, committed + 20), "all or nothing of the last"
        assert journal.checkpoints["BTCUSDT"].ledger.next_id == bars[-1].last_trade_id + 1
        journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)


def test_a_second_collector_on_the_same_journal_is_refused_with_the_number_of_the_first(
    journal: Journal, path: Path
) -> None:
    with pytest.raises(JournalError) as refused:
        open_journal(path)

    assert f"in use by another collector (process {os.getpid()})" in str(refused.value)
    assert str(path) in str(refused.value)
    journal.close()
    open_journal(path).close()


def test_a_journal_of_a_newer_version_is_refused_and_left_as_it_is(path: Path) -> None:
    open_journal(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"newer bintrades.*journal version 99.*upgrade"):
        open_journal(path)

    assert path.read_bytes() == before


def test_a_stranger_s_database_is_refused_and_left_as_it_is(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bars (mine)")
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=r"not a journal of bintrades.*another file"):
        open_journal(path)

    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("market", "interval_ms", "said"),
    [
        ("usdm", INTERVAL_MS, "market spot, the configuration says usdm"),
        ("spot", 60_000, "interval_ms 10000, the configuration says 60000"),
    ],
)
def test_a_journal_of_another_market_or_interval_is_refused(
    path: Path, market: str, interval_ms: int, said: str
) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)

    with pytest.raises(ConfigError, match=said):
        Journal(path, market=market, interval_ms=interval_ms)

    open_journal(path).close()
    assert len(stored(path)) == 1


def aside(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}.damaged-*"))


def files_aside(path: Path) -> list[Path]:
    """Return the damaged files without what SQLite keeps beside them."""
    return [file for file in aside(path) if not file.name.endswith(("-wal", "-shm"))]


def ledger_through(bars: list[Bar]) -> LedgerState:
    """Return what is known when all trades of *bars* were had."""
    return LedgerState(bars[-1].last_trade_id + 1, bars[-1].last_trade_time_ms, ())


@pytest.mark.parametrize("content", [b"\x00" * 5_000, b"no database at all" * 300, b"x", b""])
def test_a_file_of_garbage_is_set_aside_with_its_companions_and_a_new_one_begun(
    path: Path, content: bytes
) -> None:
    path.write_bytes(content)
    wal = path.with_name(path.name + "-wal")
    wal.write_bytes(b"its log")

    with journal_at(path) as journal:
        journal.write(finished(sample_bar()), NOW)

    assert [file.read_bytes() for file in aside(path)] == [content, b"its log"]
    assert len(stored(path)) == 1


def test_a_journal_cut_short_is_set_aside_and_a_new_one_begun_with_what_it_still_holds(
    path: Path,
) -> None:
    bars = sample_bars(2_000)
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=ledger_through(bars)), NOW)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 9 // 10])
    file = identity(path)

    with journal_at(path) as journal:
        for index in range(3):
            journal.write(finished(*sample_bars(1_000, symbol=f"S{index}")), NOW)
        journal.save_readable("it is too short", file)
        gaps = ledgers_of(journal)["BTCUSDT"].gaps

    assert len(files_aside(path)) == 1
    kept = stored(path)
    assert 100 < len(kept) < 2_000
    assert sum(gap.size for gap in gaps) == 3 * (2_000 - len(kept))
    assert len(stored(path, "S2")) == 1_000


@pytest.mark.parametrize("use", ["write", "prune"])
def test_damage_that_shows_while_running_stops_nothing(path: Path, use: str) -> None:
    gap = gap_within(sample_bar(), first_id=20_001, last_id=20_002)
    old = sample_bars(2_000)
    with journal_at(path) as journal:
        state = replace(ledger_through(old), next_id=30_000, gaps=(gap,))
        saved = {"BTCUSDT": Checkpoint(state, closed_through=old[-1].open_time_ms)}
        journal.write(WriteBatch(finished=by_key(old), checkpoints=saved), NOW)
        damage(path)
        if use == "prune":
            assert journal.prune([], NOW + 1) == 0
        bars = sample_bars(3, symbol="ETHUSDT")
        journal.write(finished(*bars), NOW + 5)

    (damaged,) = files_aside(path)
    assert damaged.stat().st_size > 100_000
    assert [bar.updated_at_ms for bar in stored(path, "ETHUSDT")] == [NOW + 5] * 3
    with journal_at(path) as journal:
        gaps = ledgers_of(journal)["BTCUSDT"].gaps
        assert gap in gaps, "what is missing is still known"
        assert LOST in {gap.cause for gap in gaps}, "and so is what the bars held"


def spoil(path: Path, statement: str, *values: object) -> None:
    """Change what is in a row, as a bad disk may, so that SQLite finds nothing wrong with it."""
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement, values).rowcount == 1


@pytest.mark.parametrize("text", ["[}", "[[1]]", b"\xff\xfe"])
def test_a_checkpoint_that_cannot_be_read_is_made_again_of_the_bars(
    path: Path, text: str | bytes
) -> None:
    bars = sample_bars(3)
    open_bar = sample_bar(first_trade_id=10, last_trade_id=12, is_closed=False)
    state = replace(ledger_through(bars), next_id=13)
    with journal_at(path) as journal:
        journal.write(
            WriteBatch(finished=by_key(bars), checkpoints=checkpoints(open_bar, BTCUSDT=state)), NOW
        )
    spoil(path, "UPDATE checkpoints SET open_bars = CAST(? AS TEXT)", text)

    with journal_at(path) as journal:
        (checkpoint,) = journal.checkpoints.values()
        assert checkpoint.ledger.next_id == 10, "what the open bar held is asked for again"
        assert checkpoint.closed_through == bars[-1].open_time_ms
        journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)

    assert aside(path) == []
    assert len(stored(path)) == 3


@pytest.mark.parametrize(
    "statement", ["UPDATE gaps SET since = 'x'", "UPDATE checkpoints SET last_time = 'x'"]
)
def test_a_spoilt_number_of_one_row_sets_nothing_aside(path: Path, statement: str) -> None:
    bars = sample_bars(3)
    state = replace(ledger_through(bars), gaps=(gap_within(bars[1], 4, 4),))
    with journal_at(path) as journal:
        journal.write(finished(*bars, BTCUSDT=state), NOW)
    spoil(path, statement)

    with journal_at(path) as journal:
        assert ledgers_of(journal)["BTCUSDT"].next_id == 10

    assert aside(path) == []
    assert len(stored(path)) == 3


def test_a_bar_that_cannot_be_read_when_it_is_amended_is_missing_again_whole(path: Path) -> None:
    before, bar, after = sample_bars(3)
    state = ledger_through([after])
    late = replace(bar, first_trade_id=6, last_trade_id=6, trade_count=1)
    with journal_at(path) as journal:
        saved = {"BTCUSDT": Checkpoint(state, closed_through=after.open_time_ms)}
        journal.write(WriteBatch(finished=by_key([before, bar, after]), checkpoints=saved), NOW)
        spoil(path, "UPDATE bars SET value = '12x4' WHERE open_time = ?", bar.open_time_ms)

        journal.write(WriteBatch(amendments=by_key([late]), checkpoints=saved), NOW + 1)

        (gap,) = ledgers_of(journal)["BTCUSDT"].gaps
        assert (gap.first_id, gap.last_id, gap.cause) == (4, 6, LOST)
        assert gap.touches(bar.open_time_ms, INTERVAL_MS)
        assert not gap.touches(before.open_time_ms, INTERVAL_MS)
        assert not gap.touches(after.open_time_ms, INTERVAL_MS)
        assert journal.take_lost() == {"BTCUSDT": [gap]}
    assert aside(path) == []
    assert [each.open_time_ms for each in stored(path)] == [
        before.open_time_ms,
        after.open_time_ms,
    ]
    assert all(each.is_complete for each in stored(path))


def test_a_trade_for_a_bar_that_was_lost_with_an_earlier_file_makes_no_complete_one(
    path: Path,
) -> None:
    first, second, third = sample_bars(3)
    saved = {"BTCUSDT": Checkpoint(ledger(), closed_through=second.open_time_ms)}
    with journal_at(path) as journal:
        journal.write(WriteBatch(finished=by_key([first, second]), checkpoints=saved), NOW)
        journal.write(finished(*sample_bars(2_000, symbol="ETHUSDT")), NOW)
        damage(path)
        journal.write(WriteBatch(amendments=by_key([second, third])), NOW)
    with journal_at(path) as journal:
        more = replace(first, first_trade_id=9, last_trade_id=9)
        gap = gap_within(first)
        journal.write(WriteBatch(amendments=by_key([first])), NOW)
        journal.write(
            WriteBatch(amendments=by_key([more]), checkpoints=checkpoints(BTCUSDT=ledger(gap))), NOW
        )
        journal.write(finished(BTCUSDT=ledger()), NOW)

    assert [bar.is_complete for bar in stored(path)] == [False, False, True]


def test_a_journal_that_was_removed_is_begun_anew_with_what_is_known(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(sample_bar(), BTCUSDT=ledger()), NOW)
        for file in path.parent.glob(f"{path.name}*"):
            if file.suffix != ".lock":
                file.unlink()

        bar = sample_bar(open_time_ms=NOW, first_trade_id=997, last_trade_id=999)
        journal.write(finished(bar), NOW)

    assert [bar.open_time_ms for bar in stored(path)] == [NOW]
    with journal_at(path) as journal:
        assert ledgers_of(journal) == {"BTCUSDT": ledger()}


def test_a_stop_without_a_new_trade_makes_no_new_version(journal: Journal, path: Path) -> None:
    half = sample_bar(is_closed=False)
    for _ in range(3):
        journal.write(finished(half), NOW)
    assert [bar.version for bar in stored(path)] == [1]

    journal.write(finished(replace(half, trade_count=4)), NOW)

    assert [bar.version for bar in stored(path)] == [2]


def test_a_lock_that_somebody_else_holds_is_waited_for_only_shortly(
    journal: Journal, path: Path
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        started = time.monotonic()

        with pytest.raises(JournalError, match="locked"):
            journal.write(finished(sample_bar()), NOW)

        assert time.monotonic() - started < 5, "bars wait in memory, not the thread on the file"


def test_a_journal_has_one_lock_by_whatever_name_it_is_known(journal: Journal, path: Path) -> None:
    other_name = path.with_name("link")
    other_name.symlink_to(path)

    with pytest.raises(JournalError, match="another collector"):
        open_journal(other_name)


def test_a_store_that_held_bars_of_the_damaged_file_misses_none_of_the_new_one(
    path: Path,
) -> None:
    cursor = Cursor(path, "store")
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000)), NOW)
        bars, sequence = cursor.next_bars(1_000)
        damage(path)
        journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)
        cursor.move(sequence, bars)

    ((bar,), _) = cursor.next_bars(10)
    assert bar.symbol == "ETHUSDT"


def test_a_disk_that_is_full_when_the_new_file_is_begun_is_tried_again(path: Path) -> None:
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(2_000), BTCUSDT=ledger()), NOW)
        damage(path)
        changes = finished(*sample_bars(3))
        with full_disk(path):
            for _ in range(2):
                with pytest.raises(JournalError):
                    journal.write(changes, NOW)
        journal.write(changes, NOW)

    assert len(files_aside(path)) == 1
    assert len(stored(path)) >= 3
    with journal_at(path) as journal:
        assert ledgers_of(journal) == {"BTCUSDT": ledger()}


def test_a_full_disk_is_an_error_and_the_same_changes_are_written_once_there_is_room(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar(first_trade_id=1, last_trade_id=3)
    late = sample_bar(first_trade_id=4, last_trade_id=4, trade_count=1)
    journal.write(finished(bar, BTCUSDT=ledger()), NOW)
    gap = gap_within(sample_bar(open_time_ms=NOW))
    changes = finished(*sample_bars(500, symbol="ETHUSDT"), BTCUSDT=ledger(gap))
    changes.amendments = by_key([late])

    with full_disk(path):
        for _ in range(2):
            with pytest.raises(JournalError, match=r"bars\.journal"):
                journal.write(changes, NOW + 1)
        assert [bar.trade_count for bar in stored(path)] == [3]
        assert stored(path, "ETHUSDT") == []
        assert ledgers_of(journal) == {"BTCUSDT": ledger()}
    journal.write(changes, NOW + 2)

    assert [(bar.trade_count, bar.version) for bar in stored(path)] == [(4, 2)]
    assert len(stored(path, "ETHUSDT")) == 500
    assert ledgers_of(journal) == {"BTCUSDT": ledger(gap)}


def test_a_full_disk_keeps_pruning_and_remembering_from_nothing_but_their_own_work(
    journal: Journal, path: Path
) -> None:
    journal.write(finished(*sample_bars(500)), NOW)

    with full_disk(path):
        with pytest.raises(JournalError):
            journal.set_symbol_list("x" * 10_000)
        with pytest.raises(JournalError):
            journal.prune([], NOW + 1)

    assert len(stored(path)) == 500
    assert journal.prune([], NOW + 1) == 500


@pytest.mark.parametrize(
    "spoilt", ["open_time = 'x'", "open_time = open_time + 0.5", "symbol = x'00'"]
)
def test_a_bar_of_which_nobody_can_tell_whose_it_is_is_damage_to_pruning(
    path: Path, spoilt: str
) -> None:
    *bars, newest = sample_bars(10)
    with journal_at(path) as journal:
        journal.write(finished(*bars, newest, BTCUSDT=ledger_through([newest])), NOW)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"UPDATE bars SET {spoilt} WHERE open_time = ?",  # noqa: S608 - ours
            (bars[3].open_time_ms,),
        )
    with journal_at(path) as journal:
        pruned = 0
        for _ in range(100):
            with suppress(JournalError):  # for as long as what can be read is being saved
                pruned += journal.prune([], NOW + 1)
                break
        (gap,) = ledgers_of(journal)["BTCUSDT"].gaps

    assert (gap.first_id, gap.last_id, gap.cause) == (
        bars[3].first_trade_id,
        bars[3].last_trade_id,
        LOST,
    )
    assert pruned + len(stored(path)) == 9
    assert len(files_aside(path)) == 1


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """Return a folder that an unprivileged user can reach and owns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield folder
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_is_said_with_what_to_do(nobodys_folder: Path) -> None:
    nobodys_folder.chmod(0o555)

    with unprivileged(), pytest.raises(JournalError) as refused:
        open_journal(nobodys_folder / "journal")

    assert "Permission denied" in str(refused.value)
    assert "make the folder writable, or set [journal] path" in str(refused.value)


def test_a_file_that_may_not_be_written_is_an_error_and_keeps_its_content(
    nobodys_folder: Path,
) -> None:
    path = nobodys_folder / "journal"
    with unprivileged():
        with journal_at(path) as journal:
            journal.write(finished(sample_bar()), NOW)
        path.chmod(0o444)
        with pytest.raises(JournalError, match=r"journal: .*readonly database"):
            open_journal(path)
        for file in nobodys_folder.iterdir():
            file.chmod(0o644)  # SQLite gives its log the rights of the file
        with journal_at(path) as journal:
            journal.write(finished(sample_bar(symbol="ETHUSDT")), NOW)

        assert [len(stored(path, symbol)) for symbol in ("BTCUSDT", "ETHUSDT")] == [1, 1]


def test_a_folder_in_the_place_of_the_file_is_an_error(path: Path) -> None:
    path.mkdir()

    with pytest.raises(JournalError, match="Is a directory"):
        open_journal(path)


def test_only_bars_older_than_the_retention_since_they_were_last_written_are_deleted(
    journal: Journal, path: Path
) -> None:
    first, second, third = sample_bars(3)
    journal.write(finished(first, second), NOW)
    journal.write(finished(third), NOW + 5)
    journal.write(finished(first), NOW + 10)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 6) == 2
    assert [bar.open_time_ms for bar in stored(path)] == [first.open_time_ms]


def test_a_bar_stays_until_every_store_has_it(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(5)), NOW)
    for store, limit in (("fast", 5), ("slow", 2)):
        cursor = Cursor(path, store)
        bars, sequence = cursor.next_bars(limit)
        cursor.move(sequence, bars)

    assert journal.prune(["fast", "slow", "new"], NOW + 1) == 0
    assert journal.prune(["fast", "slow"], NOW + 1) == 2
    assert journal.prune(["fast"], NOW + 1) == 3


def test_a_bar_that_a_store_refused_stays_until_it_is_taken(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(3)), NOW)
    cursor = Cursor(path, "store")
    bars, sequence = cursor.next_bars(10)
    cursor.move(sequence, bars, [(bars[1], "ugly")])

    assert journal.prune(["store"], NOW + 1) == 2
    assert stored(path) == [bars[1]]
    cursor.resend("store")
    bars, sequence = cursor.next_bars(10)
    cursor.move(sequence, bars)
    assert journal.prune(["store"], NOW + 1) == 1


def test_age_goes_by_the_exchanges_clock_whatever_the_local_one_says(
    journal: Journal, path: Path
) -> None:
    first, second, third = sample_bars(3)
    day = 86_400_000
    journal.write(finished(first), NOW - 365 * day, exchange_ms=NOW)  # a local clock far behind
    journal.write(finished(second), NOW + 4 * day, exchange_ms=NOW + 1)  # and far ahead
    journal.write(finished(third), NOW, exchange_ms=NOW + 2)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 2) == 2
    assert [bar.open_time_ms for bar in stored(path)] == [third.open_time_ms]


def test_nothing_is_deleted_before_the_exchanges_clock_is_known(journal: Journal) -> None:
    journal.write(finished(*sample_bars(3)), NOW, exchange_ms=0)

    assert journal.prune([], NOW + 10**9) == 0


def test_a_clock_that_was_wrong_for_a_while_only_has_bars_stay_longer(journal: Journal) -> None:
    first, second = sample_bars(2)
    journal.write(finished(first), NOW, exchange_ms=NOW + 10**10)
    journal.write(finished(second), NOW, exchange_ms=NOW)

    assert journal.prune([], NOW) == 0
    assert journal.prune([], NOW + 1) == 2


def test_how_far_the_sequence_had_come_is_noted_now_and_then_only(path: Path) -> None:
    with closing(Journal(path, market="spot", interval_ms=INTERVAL_MS)) as journal:
        for second, bar in enumerate(sample_bars(100)):
            journal.write(finished(bar), NOW, exchange_ms=NOW + 1_000 * second)

        assert journal.prune([], NOW + 59_000) == 1
        assert journal.prune([], NOW + 99_000) == 60


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_trade_that_comes_when_its_bar_has_left_makes_no_lesser_one_but_is_on_record(
    path: Path, is_reopened: bool
) -> None:
    bar, newer = sample_bars(2)
    late = replace(bar, first_trade_id=2, last_trade_id=2, trade_count=1)
    missing = Gap(2, 2, newer.open_time_ms + 1, newer.open_time_ms + 2, GapCause.SKIPPED)
    state = replace(ledger_through([newer]), last_time=NOW, gaps=(missing,))
    journal = open_journal(path)
    journal.write(finished(bar, newer, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 1
    if is_reopened:
        journal.close()
        journal = open_journal(path)

    changes = WriteBatch(
        amendments=by_key([late]), checkpoints=finished(BTCUSDT=ledger()).checkpoints
    )
    journal.write(changes, NOW + 2)
    journal.prune([], NOW + 10**9)
    journal.close()

    assert bar.open_time_ms not in {each.open_time_ms for each in stored(path)}
    assert past(path) == [(2, 2, LATE)]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_ids_that_turn_out_to_exist_when_their_bars_have_left_are_late_one_after_the_other(
    path: Path, is_reopened: bool
) -> None:
    first, second = sample_bars(2)
    span = (first.open_time_ms + 1, second.open_time_ms + 9)
    absent = Gap(61, 64, *span, GapCause.SKIPPED, absent_at=NOW)
    state = replace(ledger_through([second]), next_id=1_000, last_time=NOW, absent=(absent,))
    journal = open_journal(path)
    journal.write(finished(first, second, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 2

    reopened = [("BTCUSDT", absent)]
    for trade_id, bar in ((61, first), (62, first), (63, second), (64, second)):
        part = replace(bar, first_trade_id=trade_id, last_trade_id=trade_id, trade_count=1)
        left = (Gap(trade_id + 1, 64, *span, GapCause.SKIPPED),) if trade_id < 64 else ()
        ledgers = checkpoints(BTCUSDT=replace(state, absent=(), gaps=left))
        journal.write(
            WriteBatch(amendments=by_key([part]), checkpoints=ledgers, reopened=reopened), NOW + 2
        )
        reopened = []
        if is_reopened:
            journal.close()
            journal = open_journal(path)

    assert stored(path) == []
    assert past(path) == [(61, 64, LATE)]
    assert metadata(path)["reopened"] == "{}", "nothing of them is missing any more"
    journal.close()


def test_ids_that_turn_out_to_exist_make_a_bar_where_another_gap_shows_that_there_was_none(
    journal: Journal, path: Path
) -> None:
    quiet, bar = sample_bars(2)
    span = (quiet.open_time_ms + 1, bar.open_time_ms + 9)
    absent = Gap(61, 62, *span, GapCause.SKIPPED, absent_at=NOW)
    missing = gap_within(quiet, 71, 72)
    state = replace(ledger_through([bar]), next_id=1_000, last_time=NOW, gaps=(missing,))
    journal.write(finished(bar, BTCUSDT=replace(state, absent=(absent,))), NOW)
    assert journal.prune([], NOW + 1) == 1

    reopened = [("BTCUSDT", absent)]
    for trade_id, its_bar in ((61, bar), (62, quiet)):
        part = replace(its_bar, first_trade_id=trade_id, last_trade_id=trade_id, trade_count=1)
        left = (Gap(62, 62, *span, GapCause.SKIPPED),) if trade_id == 61 else ()
        ledgers = checkpoints(BTCUSDT=replace(state, gaps=(*left, missing)))
        journal.write(
            WriteBatch(amendments=by_key([part]), checkpoints=ledgers, reopened=reopened), NOW + 2
        )
        reopened = []

    (made,) = stored(path)
    assert (made.open_time_ms, made.trade_count, made.is_complete) == (quiet.open_time_ms, 1, False)
    assert (61, 61, LATE) in past(path)


def test_a_first_trade_for_an_interval_older_than_what_has_left_makes_a_bar_where_it_was_missing(
    journal: Journal, path: Path
) -> None:
    quiet, bar, newest = sample_bars(3)
    missing = gap_within(quiet, 1, 3)
    state = replace(ledger_through([newest]), last_time=NOW, gaps=(missing,))
    journal.write(finished(bar, newest, BTCUSDT=state), NOW)
    assert journal.prune([], NOW + 1) == 2

    changes = WriteBatch(
        amendments=by_key([quiet]), checkpoints=finished(BTCUSDT=ledger()).checkpoints
    )
    journal.write(changes, NOW + 2)

    assert [(each.open_time_ms, each.trade_count) for each in stored(path)] == [
        (quiet.open_time_ms, 3)
    ]


@pytest.mark.parametrize(
    "lesser", [{"trade_count": 2}, {"is_closed": False}, {"trade_count": 2, "is_closed": False}]
)
def test_a_bar_never_goes_back(journal: Journal, path: Path, lesser: dict[str, int]) -> None:
    bar = sample_bar(version=1)
    journal.write(finished(bar, BTCUSDT=ledger()), NOW)

    journal.write(finished(sample_bar(**lesser)), NOW + 1)
    gap = gap_within(bar)
    half = replace(bar, trade_count=1, is_closed=False)
    journal.write(WriteBatch(checkpoints=checkpoints(half, BTCUSDT=ledger(gap))), NOW + 2)

    (kept,) = stored(path)
    assert (kept.trade_count, kept.is_closed, kept.is_complete) == (3, True, False)
    assert Cursor(path, "store").next_bars(10)[0] == [kept]


def test_a_bar_that_is_not_closed_is_never_deleted(journal: Journal, path: Path) -> None:
    half = sample_bar(is_closed=False)
    journal.write(finished(half, BTCUSDT=replace(ledger(), last_time=NOW)), NOW)

    assert journal.prune([], NOW + 10**9) == 0
    assert len(stored(path)) == 1


def test_an_open_bar_is_never_deleted(journal: Journal, path: Path) -> None:
    journal.write(WriteBatch(checkpoints=checkpoints(sample_bar(is_closed=False))), NOW)

    assert journal.prune([], NOW + 10**9) == 0


@pytest.mark.parametrize(("later_ms", "pruned"), [(998, 0), (999, 1)])
def test_a_bar_that_the_next_gap_may_touch_stays_though_the_newest_trade_is_of_the_next_one(
    journal: Journal, later_ms: int, pruned: int
) -> None:
    bar = sample_bar()
    newest = LedgerState(next_id=1_000, last_time=bar.end_time_ms + later_ms, gaps=())
    journal.write(finished(bar, BTCUSDT=newest), NOW)

    assert journal.prune([], NOW + 1) == pruned


def test_pruning_goes_on_where_it_stopped_when_there_is_much(journal: Journal, path: Path) -> None:
    journal.write(finished(*sample_bars(PRUNE_BATCH + 10)), NOW)

    assert journal.prune([], NOW + 1) == PRUNE_BATCH
    assert journal.has_more_to_prune
    assert journal.prune([], NOW + 1) == 10
    assert not journal.has_more_to_prune
    assert journal.prune([], NOW + 1) == 0


def test_bars_that_must_stay_are_looked_at_again_a_few_at_a_time(
    journal: Journal, path: Path
) -> None:
    count = PRUNE_BATCH + 100
    journal.write(finished(*sample_bars(count)), NOW)
    cursor = Cursor(path, "store")
    bars, sequence = cursor.next_bars(count)
    cursor.move(sequence, bars, [(bar, "ugly") for bar in bars])
    assert [journal.prune(["store"], NOW + 1) for _ in range(3)] == [0, 0, 0]
    assert not journal.has_more_to_prune

    cursor.resend("store")
    bars, _ = cursor.next_bars(count)
    cursor.move(sequence, bars)
    deleted = [journal.prune(["store"], NOW + 1)]
    while journal.has_more_to_prune:
        deleted.append(journal.prune(["store"], NOW + 1))
    deleted += [journal.prune(["store"], NOW + 1) for _ in range(2)]

    assert max(deleted) < PRUNE_BATCH / 2
    assert sum(deleted) == count
    assert stored(path) == []


def test_stores_miss_nothing_after_everything_was_pruned(path: Path) -> None:
    cursor = Cursor(path, "store")
    with journal_at(path) as journal:
        journal.write(finished(*sample_bars(5)), NOW)
        bars, sequence = cursor.next_bars(10)
        cursor.move(sequence, bars)
        assert journal.prune(["store"], NOW + 1) == 5

    with journal_at(path) as journal:
        journal.write(finished(sample_bar(open_time_ms=NOW)), NOW)

    assert [bar.open_time_ms for bar in cursor.next_bars(10)[0]] == [NOW]


def past(path: Path) -> list[tuple[int, int, str]]:
    """Return the gaps that have ended: ids and how."""
    return [
        (each.gap.first_id, each.gap.last_id, each.outcome)
        for each in JournalReader(path).past_gaps()
    ]


def write_gaps(journal: Journal, *gaps: Gap, now: int = NOW, **resolved: tuple[int, int]) -> None:
    """Write what is missing of one symbol now, and why ids are missing no longer."""
    changes = finished(BTCUSDT=ledger(*gaps))
    changes.resolved = [("BTCUSDT", *span, GapOutcome(why)) for why, span in resolved.items()]
    journal.write(changes, now)


GAP = Gap(10, 29, NOW, NOW + 500, GapCause.RECONNECT, attempts=2, last_error="no answer")


def test_a_gap_that_has_filled_stays_on_record_as_repaired(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    assert past(path) == []

    write_gaps(journal, now=NOW + 7)

    (ended,) = JournalReader(path).past_gaps()
    assert (ended.symbol, ended.gap, ended.outcome) == ("BTCUSDT", GAP, REPAIRED)
    assert ended.closed_at_ms == NOW + 7


def test_a_range_that_was_repaired_is_on_record_with_the_requests_that_it_took(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    changes = finished(BTCUSDT=ledger())
    changes.attempts = {("BTCUSDT", 29): 3, ("BTCUSDT", 28): 9, ("ETHUSDT", 29): 9}
    journal.write(changes, NOW)

    (ended,) = JournalReader(path).past_gaps()
    assert ended.gap.attempts == 3


def test_ids_that_the_exchange_does_not_have_stay_on_record_as_absent(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, absent=(15, 19))

    assert past(path) == [(10, 14, REPAIRED), (15, 19, ABSENT), (20, 29, REPAIRED)]


def test_absent_ids_are_kept_over_a_restart_and_are_on_record_as_such(path: Path) -> None:
    absent = replace(GAP, absent_at=NOW + 700_000, looks=1)
    state = LedgerState(next_id=1_000, last_time=NOW, gaps=(), absent=(absent,))
    with journal_at(path) as journal:
        write_gaps(journal, GAP)
        changes = finished(BTCUSDT=state)
        changes.resolved = [("BTCUSDT", 10, 29, ABSENT)]
        journal.write(changes, NOW)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger == state
        journal.write(finished(BTCUSDT=replace(state, absent=(replace(absent, looks=2),))), NOW)
    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger.absent[0].looks == 2
    assert past(path) == [(10, 29, ABSENT)]


def test_the_record_says_what_became_of_absent_ids_that_exist_after_all(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar(open_time_ms=NOW)
    absent = replace(GAP, first_id=12, last_id=15, absent_at=NOW + 700_000)
    write_gaps(journal, GAP)
    changes = finished(bar, BTCUSDT=LedgerState(1_000, NOW, (), (absent,)))
    changes.resolved = [("BTCUSDT", 10, 17, ABSENT)]
    journal.write(changes, NOW)
    assert past(path) == [(10, 17, ABSENT), (18, 29, REPAIRED)]
    assert [each.is_complete for each in stored(path)] == [True]

    changes = finished(BTCUSDT=LedgerState(1_000, NOW, (replace(absent, last_id=14, absent_at=0),)))
    changes.reopened = [("BTCUSDT", absent)]
    journal.write(changes, NOW)

    assert sorted(past(path)) == [
        (10, 11, ABSENT),
        (15, 15, REPAIRED),
        (16, 17, ABSENT),
        (18, 29, REPAIRED),
    ]
    assert [each.is_complete for each in stored(path)] == [False], "the others are missing again"


def test_the_record_says_repaired_where_every_absent_id_came_at_once(
    journal: Journal, path: Path
) -> None:
    absent = replace(GAP, absent_at=NOW + 700_000)
    write_gaps(journal, GAP)
    changes = finished(BTCUSDT=LedgerState(1_000, NOW, (), (absent,)))
    changes.resolved = [("BTCUSDT", 10, 29, ABSENT)]
    journal.write(changes, NOW)

    changes = finished(BTCUSDT=LedgerState(1_000, NOW, ()))
    changes.reopened = [("BTCUSDT", absent)]
    journal.write(changes, NOW)

    assert past(path) == [(10, 29, REPAIRED)]


def test_what_was_before_the_beginning_was_never_missing(journal: Journal, path: Path) -> None:
    write_gaps(journal, replace(GAP, first_id=0, cause=START))
    write_gaps(journal, replace(GAP, first_id=25, cause=START), unwanted=(0, 24))
    write_gaps(journal)

    assert past(path) == [(25, 29, REPAIRED)]


def test_a_range_that_was_repaired_page_by_page_is_one_on_record(
    journal: Journal, path: Path
) -> None:
    for first_id in range(10, 30, 4):
        write_gaps(journal, replace(GAP, first_id=first_id, since_ms=NOW + first_id))
    write_gaps(journal, now=NOW + 9)

    (ended,) = JournalReader(path).past_gaps()
    assert (ended.gap.first_id, ended.gap.last_id, ended.gap.since_ms) == (10, 29, NOW + 10)
    assert ended.closed_at_ms == NOW + 9


def test_ranges_that_ended_differently_or_came_from_different_causes_stay_apart(
    journal: Journal, path: Path
) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, replace(GAP, first_id=15))
    write_gaps(journal, replace(GAP, first_id=20), absent=(15, 19))
    write_gaps(journal)
    write_gaps(journal, replace(GAP, first_id=30, last_id=31, cause="skipped"))
    write_gaps(journal)

    assert past(path) == [
        (10, 14, REPAIRED),
        (15, 19, ABSENT),
        (20, 29, REPAIRED),
        (30, 31, REPAIRED),
    ]


def test_an_abandoned_gap_stays_among_those_that_are_missing(path: Path) -> None:
    abandoned = replace(GAP, is_abandoned=True)
    with journal_at(path) as journal:
        write_gaps(journal, GAP)
        write_gaps(journal, abandoned)

    with journal_at(path) as journal:
        assert journal.checkpoints["BTCUSDT"].ledger.gaps == (abandoned,)
    assert JournalReader(path).gaps() == {"BTCUSDT": [abandoned]}
    assert past(path) == []


def test_a_bar_that_an_abandoned_gap_touches_is_incomplete_and_stays_for_a_trade_to_come(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    gap = replace(gap_within(bar), is_abandoned=True)
    journal.write(finished(bar, BTCUSDT=ledger(gap)), NOW)

    assert not stored(path)[0].is_complete
    assert journal.prune([], NOW + 10**9) == 0


def test_a_bar_whose_gap_may_still_be_repaired_is_kept_for_the_trades_to_come(
    journal: Journal, path: Path
) -> None:
    bar = sample_bar()
    journal.write(finished(bar, BTCUSDT=ledger(gap_within(bar))), NOW)

    assert journal.prune([], NOW + 10**9) == 0


def test_old_records_of_ended_gaps_go_with_the_bars(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    write_gaps(journal, now=NOW)

    journal.prune([], NOW)
    assert len(past(path)) == 1
    journal.prune([], NOW + 1)
    assert past(path) == []


def test_a_refused_write_leaves_nothing_of_ended_gaps_behind(journal: Journal, path: Path) -> None:
    write_gaps(journal, GAP)
    with full_disk(path), pytest.raises(JournalError):
        write_gaps(journal)
    assert past(path) == []

    write_gaps(journal)
    assert past(path) == [(10, 29, REPAIRED)]


def test_a_ban_is_written_with_the_rest_and_read_after_a_restart(path: Path) -> None:
    with journal_at(path) as journal:
        assert journal.get_ban() == Ban(0, 0)
        journal.write(WriteBatch(ban=Ban(17, 3)), NOW)
        assert journal.get_ban() == Ban(17, 3)
        journal.write(WriteBatch(ban=Ban(18, 4)), NOW)
        journal.write(WriteBatch(), NOW)

    with journal_at(path) as journal:
        assert journal.get_ban() == Ban(18, 4)


missing_sets = st.lists(st.sets(st.integers(0, 20)), min_size=2, max_size=6)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(missing_sets, st.data())
def test_every_id_that_ceased_to_be_missing_is_on_record_with_its_reason(
    missing: list[set[int]], data: st.DataObject
) -> None:
    still = missing[0]
    outcomes: dict[int, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.journal"
        with journal_at(path) as journal:
            for wanted in [*missing, set()]:
                closed = still - wanted
                still = still & wanted
                why = {
                    trade_id: data.draw(st.sampled_from([REPAIRED, ABSENT, UNWANTED]))
                    for trade_id in sorted(closed)
                }
                outcomes |= why
                changes = finished(BTCUSDT=ledger(*as_gaps(still)))
                changes.resolved = [
                    ("BTCUSDT", each, each, reason)
                    for each, reason in why.items()
                    if reason != REPAIRED
                ]
                if wanted is missing[0]:
                    changes.resolved = []
                journal.write(changes, NOW)
        recorded = {
            trade_id: outcome
            for first_id, last_id, outcome in past(path)
            for trade_id in range(first_id, last_id + 1)
        }

    assert recorded == {each: why for each, why in outcomes.items() if why != UNWANTED}


def as_gaps(missing: set[int]) -> list[Gap]:
    """Return ids as the gaps that hold them."""
    gaps: list[Gap] = []
    for trade_id in sorted(missing):
        if gaps and gaps[-1].last_id == trade_id - 1:
            gaps[-1] = replace(gaps[-1], last_id=trade_id)
        else:
            gaps.append(replace(GAP, first_id=trade_id, last_id=trade_id))
    return gaps
