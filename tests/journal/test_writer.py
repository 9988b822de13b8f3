"""What the journal writes and gives back: bars, their versions, checkpoints; all or nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import textwrap
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
from bintrades.errors import JournalError
from bintrades.exchange.binance.messages import LARGEST_ID
from bintrades.journal.cursor import Cursor
from bintrades.journal.reader import JournalReader
from bintrades.journal.rows import with_kind
from bintrades.model import (
    Bar,
    Gap,
    GapCause,
)
from bintrades.testing.bars import sample_bar, sample_bars
from tests.checkout import REPOSITORY
from tests.journals import (
    INTERVAL_MS,
    NOW,
    by_key,
    checkpoints,
    damage,
    finished,
    full_disk,
    gap_within,
    journal_at,
    ledger,
    ledgers_of,
    stored,
    with_proof,
)

if TYPE_CHECKING:
    from bintrades.journal.writer import Journal

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

    journal.write(finished(sample_bar(trade_count=4), BTCUSDT=ledger()), NOW)

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


def test_a_trade_for_a_bar_that_was_lost_with_an_earlier_file_makes_no_complete_one(
    path: Path,
) -> None:
    first, second, third = sample_bars(3)
    saved = {"BTCUSDT": with_proof(Checkpoint(ledger(), closed_through=second.open_time_ms))}
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


def test_a_stop_without_a_new_trade_makes_no_new_version(journal: Journal, path: Path) -> None:
    half = sample_bar(is_closed=False)
    for _ in range(3):
        journal.write(finished(half), NOW)
    assert [bar.version for bar in stored(path)] == [1]

    journal.write(finished(replace(half, trade_count=4)), NOW)

    assert [bar.version for bar in stored(path)] == [2]


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


def test_a_ban_is_written_with_the_rest_and_read_after_a_restart(path: Path) -> None:
    with journal_at(path) as journal:
        assert journal.get_ban() == Ban(0, 0)
        journal.write(WriteBatch(ban=Ban(17, 3)), NOW)
        assert journal.get_ban() == Ban(17, 3)
        journal.write(WriteBatch(ban=Ban(18, 4)), NOW)
        journal.write(WriteBatch(), NOW)

    with journal_at(path) as journal:
        assert journal.get_ban() == Ban(18, 4)
